//! `[subrequests]`, `[auth.external.*]` and where keys are fetched: what is refused, and why.

use super::{error, error_in, findings, valid, warning};

const ROUTE: &str = "\n[routes.all]\nauth = 'external.sso'\nrespond = {}\n";

fn external(keys: &str) -> String {
    format!("[auth.external.sso]\n{keys}\n{ROUTE}")
}

fn external_error(keys: &str) -> (String, String) {
    error(&external(&format!("url = 'http://127.0.0.1:1'\n{keys}")))
}

fn jwt(keys: &str) -> String {
    let route = ROUTE.replace("external.sso", "jwt.main");
    format!("[auth.jwt.main]\n{keys}\n{route}")
}

#[test]
fn a_service_of_external_auth_needs_a_url() {
    let (message, help) = error(&external(""));
    assert_eq!(message, "1:16 `[auth.external.sso]` has no `url`");
    assert_eq!(help, "write `url = \"http://127.0.0.1:4180/auth\"`");
    for url in [
        "127.0.0.1:4180",
        "/auth",
        "ftp://a/b",
        "",
        "unix:/run/a.sock",
    ] {
        let (message, _) = error(&external(&format!("url = '{url}'")));
        assert!(
            message.starts_with("2:7 `url`: expected a URL such as"),
            "{message}"
        );
    }
    let (message, _) = error(&external("url = 'http://me:pw@127.0.0.1/'"));
    assert!(message.ends_with("has no user or password"), "{message}");
    valid(&external(
        "url = 'https://auth.example.com/decide?from=tollgate'",
    ));
}

#[test]
fn misspelt_keys_and_words_of_external_auth_get_a_suggestion() {
    let (message, help) = external_error("tiemout = '1s'");
    assert!(message.contains("tiemout"), "{message}");
    assert!(help.contains("`timeout`"), "{help}");
    let (_, help) = external_error("send = ['method', 'ip']");
    assert_eq!(help, "");
    let (_, help) = external_error("send = ['methods']");
    assert_eq!(help, "did you mean `\"method\"`?");
    let (message, _) = external_error("method = 'PUT'");
    assert!(
        message.contains("expected \"GET\" or \"HEAD\" or \"POST\""),
        "{message}"
    );
}

#[test]
fn the_service_gets_no_headers_that_the_gateway_makes() {
    for name in [
        "host",
        "Connection",
        "content-length",
        "x-forwarded-for",
        "expect",
    ] {
        let (message, help) = external_error(&format!("request_headers = ['{name}']"));
        assert!(message.ends_with("the gateway sets it itself"), "{message}");
        assert!(help.contains("`send`"), "{help}");
    }
    let (message, _) = external_error("request_headers = []\nsend = []");
    assert!(message.contains("the service is told nothing"), "{message}");
}

#[test]
fn what_the_service_says_does_not_go_into_headers_with_a_meaning() {
    for name in [
        "authorization",
        "cookie",
        "x-forwarded-user",
        "x_user_id",
        "host",
    ] {
        let (message, _) = external_error(&format!("forward_headers = '{name}'"));
        assert!(message.starts_with("3:19 "), "{message}");
    }
    let config = valid(&external(
        "url = 'http://127.0.0.1:1'\nforward_headers = ['x-b', 'x-a']",
    ));
    let names = config.auth.identity_headers();
    assert_eq!(
        names.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["x-a", "x-b"]
    );
}

#[test]
fn certificates_are_read_with_the_configuration() {
    let (message, _) = error_in("subrequests", "ca_file = '/nowhere/ca.pem'");
    assert!(
        message.starts_with("2:11 `ca_file`: the file can't be read"),
        "{message}"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let (message, help) = error_in("subrequests", &format!("ca_file = '{}'", file.display()));
    assert_eq!(
        message,
        "2:11 `ca_file`: there is no certificate in the file"
    );
    assert!(help.contains("BEGIN CERTIFICATE"), "{help}");
    let (message, help) = error_in("subrequests", "public_roots = false");
    assert!(message.contains("nobody is trusted"), "{message}");
    assert!(help.contains("ca_file"), "{help}");
}

#[test]
fn times_of_a_refresh_must_make_sense_together() {
    let keys = "jwks_url = 'https://id.example.com/keys'\nrefresh = ";
    let (message, _) = error(&jwt(&format!("{keys}{{ min_interval = '2h' }}")));
    assert!(
        message.ends_with("`min_interval` is longer than `max_interval`"),
        "{message}"
    );
    let (message, _) = error(&jwt(&format!("{keys}{{ max_stale = '5m' }}")));
    assert!(
        message.contains("`max_stale` is shorter than `max_interval`"),
        "{message}"
    );
    let (_, help) = error(&jwt(&format!("{keys}{{ cooldwon = '5m' }}")));
    assert!(help.contains("`cooldown`"), "{help}");
}

#[test]
fn keys_that_could_be_forged_on_the_way_are_a_warning() {
    for keys in [
        "jwks_url = 'http://id.example.com/keys'",
        "issuer = 'http://id.example.com'",
    ] {
        let message = warning(&jwt(keys)).0;
        assert!(message.ends_with("can be forged on the way"), "{message}");
    }
    for keys in [
        "jwks_url = 'http://127.0.0.1:1/keys'",
        "jwks_url = 'http://[::1]:1/keys'",
        "issuer = 'http://localhost:1'",
        "issuer = 'https://id.example.com'",
        "issuer = 'http://id.example.com'\nsecret = '01234567890123456789012345678901'",
    ] {
        valid(&jwt(keys));
    }
}

#[test]
fn a_list_of_revoked_tokens_that_is_not_there_is_a_warning() {
    let keys = "issuer = 'https://id.example.com'\n";
    let text = jwt(&format!(
        "{keys}revocation = {{ file = '/nowhere/revoked.txt' }}"
    ));
    let message = warning(&text).0;
    assert!(
        message.contains("`file`: the file can't be read"),
        "{message}"
    );
    let findings = findings(&jwt(&format!("{keys}revocation = {{}}")));
    let message = &findings.iter().next().unwrap().message;
    assert_eq!(
        message,
        "a list of revoked tokens needs a `file` or a `redis_set`"
    );
}
