//! `cors`, header edits, security headers and validation: what is refused, and what is said.

use super::{error, error_in, error_in_route, findings, only, parse, valid, warning};
use tollgate::config::{Config, Origin, Severity};

fn cors(lines: &str) -> String {
    format!("[cors.web]\n{lines}\n[routes.all]\nupstream = \"http://a\"\ncors = \"web\"\n")
}

#[test]
fn any_origin_with_credentials_is_an_error() {
    let (message, help) = error(&cors("origins = \"*\"\ncredentials = true"));
    assert_eq!(
        message,
        "2:11 `credentials` and any origin: every page on the web could act as its reader"
    );
    assert_eq!(help, "name the origins, or leave `credentials` out");
    valid(&cors("origins = \"*\""));
    let (message, _) = error(&cors(
        "origins = \"https://a.test\"\ncredentials = true\nexpose_headers = \"*\"",
    ));
    assert!(
        message.starts_with("4:18 with `credentials` browsers take `*`"),
        "{message}"
    );
}

#[test]
fn wildcards_and_null_with_credentials_are_warned_of() {
    for (origin, said) in [
        ("https://*.a.test", "any host below `a.test` can act"),
        ("https://**.a.test", "any host below `a.test` can act"),
        ("null", "by a sandboxed frame"),
    ] {
        let lines = format!("origins = [\"{origin}\"]");
        let (message, _) = warning(&cors(&format!("{lines}\ncredentials = true")));
        assert!(message.contains(said), "{message}");
        valid(&cors(&lines));
    }
}

#[test]
fn an_origin_is_refused_with_what_to_write() {
    for (wrong, right) in [
        ("https://a.test/", "https://a.test"),
        ("a.test", "https://a.test"),
        ("HTTPS://A.test", "https://a.test"),
        ("https://a.test:443", "https://a.test"),
    ] {
        let (_, help) = error_in("cors.web", &format!("origins = \"{wrong}\""));
        assert_eq!(help, format!("write `\"{right}\"`"), "{wrong}");
    }
    assert!(
        error_in("cors.web", "max_age = \"1h\"")
            .0
            .contains("needs `origins`")
    );
}

#[test]
fn a_route_names_a_policy_or_writes_its_own() {
    let (message, help) =
        error("[cors.web]\norigins = \"*\"\n[routes.a]\nupstream = \"http://a\"\ncors = \"wep\"\n");
    assert_eq!(message, "5:8 there is no `cors` table `wep`");
    assert_eq!(help, "write `\"web\"`");
    // A misspelt key of a value that may be a string or a table is named.
    let (message, help) = error_in_route("cors = { origins = \"*\", method = \"GET\" }");
    assert_eq!(message, "3:25 unknown key `method` in `[routes.a.cors]`");
    assert_eq!(help, "write `methods`");
    let (message, _) = error_in_route("cors = 1");
    assert!(message.contains("the name of a `[cors.*]` table, or a table like it"));
}

#[test]
fn a_policy_that_no_route_uses_is_warned_of() {
    let text = "[cors.web]\norigins = \"*\"\n[routes.a]\nupstream = \"http://a\"\n";
    assert_eq!(warning(text).0, "1:7 no route uses the `cors` table `web`");
}

#[test]
fn groups_and_defaults_share_policies() {
    let config = valid(
        "[cors.web]\norigins = \"https://a.test\"\n[defaults]\ncors = \"web\"\n\
         [routes.a]\nupstream = \"http://a\"\n[routes.b]\npath = \"/b\"\nupstream = \"http://a\"\ncors = \"off\"\n",
    );
    let origins = |index: usize| {
        let cors = config.routes[index].cors.as_ref();
        cors.map(|cors| cors.origins.clone())
    };
    assert_eq!(
        origins(0),
        Some(vec![Origin::Exact("https://a.test".into())])
    );
    assert_eq!(origins(1), None);
}

#[test]
fn fields_that_the_gateway_writes_itself_are_refused() {
    for (key, name) in [
        ("request_headers", "host"),
        ("request_headers", "Content-Length"),
        ("request_headers", "transfer-encoding"),
        ("request_headers", "connection"),
        ("request_headers", "x-forwarded-for"),
        ("request_headers", "forwarded"),
        ("request_headers", "x-request-id"),
        ("request_headers", "traceparent"),
        ("response_headers", "content-length"),
        ("response_headers", "keep-alive"),
        ("response_headers", "x-request-id"),
    ] {
        for line in [
            format!("{key} = {{ set = {{ {name} = \"a\" }} }}"),
            format!("{key} = {{ remove = [\"{name}\"] }}"),
        ] {
            let (message, help) = error_in_route(&line);
            assert!(message.ends_with("can't be changed here"), "{message}");
            assert!(!help.is_empty());
        }
    }
}

#[test]
fn templates_of_fields_are_checked() {
    let (message, _) = error_in_route("request_headers = { set = { x-a = \"${path.id}\" } }");
    assert!(
        message.contains("is not captured by every pattern"),
        "{message}"
    );
    let (message, _) = error_in_route("response_headers = { add = { x-a = \"${nothing}\" } }");
    assert!(message.contains("unknown name `${nothing}`"), "{message}");
    let (message, _) = error_in_route("request_headers = { set = { x-a = \"a\\nb\" } }");
    assert!(message.contains("only visible ASCII"), "{message}");
    let (message, _) = error_in_route("request_headers = { set = { x-a = \"a\", X-A = \"b\" } }");
    assert!(message.contains("stands here twice"), "{message}");
    let (message, help) = error_in_route("rewrite = { path = \"/of/${principal}\" }");
    assert_eq!(message, "3:20 `path`: `${principal}` can't stand here");
    assert_eq!(help, "write it in `request_headers`");
    let (message, _) = error_in_route("rewrite = { path = \"/of/${caller}\" }");
    assert_eq!(message, "3:20 `path`: `${caller}` can't stand here");
}

/// Only where the caller may be named by one of several does a name alone not say who it is.
#[test]
fn a_principal_that_several_methods_may_name_is_warned_of() {
    let text = |auth: &str, edits: &str| {
        format!(
            "[routes.a]\nupstream = \"http://a\"\nauth = {auth}\nrequest_headers = {{ {edits} }}\n\
             [auth.jwt.app]\nsecret = \"a secret of the tests with 32 bytes\"\n\
             [auth.jwt.other]\nsecret = \"a secret of the tests with 32 bytes\"\n\
             [routes.b]\npath = \"/b\"\nrespond = {{}}\nauth = [\"jwt.app\", \"jwt.other\"]\n"
        )
    };
    let (several, name) = (
        "[\"jwt.app\", \"jwt.other\"]",
        "set = { x-user = \"${principal}\" }",
    );
    let (message, help) = warning(&text(several, name));
    assert_eq!(
        message,
        "4:19 `x-user` of the route `a` can't tell callers of `jwt.app` from those of `jwt.other`: \
         `${principal}` is a name within one of them"
    );
    assert_eq!(
        help,
        "write `${caller}`, which tells the method too: `jwt.app:alice`"
    );
    for auth in [
        "\"jwt.app\"",
        "[\"jwt.app\", \"anonymous\"]",
        "{ all = [\"jwt.app\", \"jwt.other\"] }",
    ] {
        valid(&text(auth, name));
    }
    valid(&text(several, "set = { x-user = \"${caller}\" }"));
    let both = "set = { x-user = \"${principal}\" }, add = { x-caller = \"${caller}\" }";
    valid(&text(several, both));
}

#[test]
fn headers_that_name_the_caller_are_known_for_all_routes() {
    let config = valid(
        "[routes.a]\nupstream = \"http://a\"\n\
         request_headers = { set = { x_user = \"${principal}\", x-b = \"b\" } }\n\
         [routes.b]\npath = \"/b\"\nupstream = \"http://a\"\n\
         request_headers = { add = { x-caller = \"by ${principal}\", x-who = \"${caller}\" } }\n",
    );
    assert_eq!(config.identity_headers(), ["x-caller", "x-user", "x-who"]);
}

#[test]
fn cors_decides_its_own_fields() {
    let text = "[routes.a]\nupstream = \"http://a\"\ncors = { origins = \"*\" }\n\
                response_headers = { set = { access-control-allow-origin = \"*\" } }\n";
    assert!(warning(text).0.contains("`cors` of the route decides it"));
    valid(
        "[routes.a]\nupstream = \"http://a\"\nresponse_headers = { set = { access-control-allow-origin = \"*\" } }\n",
    );
}

#[test]
fn strictness_is_a_word_or_a_table() {
    let (message, _) = error_in_route("security_headers = \"strickt\"");
    assert!(
        message.contains("expected \"strict\", \"off\", or a table"),
        "{message}"
    );
    let (message, help) = error_in_route("security_headers = { frames = \"deny\" }");
    assert!(message.contains("unknown key `frames`"), "{message}");
    assert_eq!(help, "write `frame`");
    let (message, _) = error_in_route("security_headers = { hsts = \"includeSubDomains\" }");
    assert!(message.contains("it needs `max-age`"), "{message}");
}

#[test]
fn a_schema_must_be_readable_and_valid() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let said = |path: &str| error_in_route(&format!("validation = {{ body_schema = \"{path}\" }}"));
    let (message, _) = said("nowhere.json");
    assert!(
        message.starts_with("3:30 `body_schema`: the file `nowhere.json` can't be read"),
        "{message}"
    );
    let (message, _) = said(&file("a.json", "{"));
    assert!(message.contains("is not JSON"), "{message}");
    let (message, help) = said(&file(
        "b.json",
        r#"{ "properties": { "a": { "type": "strin" } } }"#,
    ));
    assert!(
        message.contains("is no JSON Schema that can be used"),
        "{message}"
    );
    assert!(help.contains("/properties/a/type"), "{help}");
    let (_, help) = said(&file(
        "c.json",
        r#"{ "$ref": "http://127.0.0.1:1/x.json" }"#,
    ));
    assert!(!help.is_empty());
    let right = file("d.json", r#"{ "type": "object" }"#);
    let line = format!("validation = {{ body_schema = \"{right}\" }}");
    let loaded = parse(&format!("[routes.a]\nupstream = \"http://a\"\n{line}\n")).unwrap();
    let watched = loaded.files.iter().any(|known| known.ends_with("d.json"));
    assert!(watched, "a changed schema has to be noticed");
    let (message, help) = error_in_route(&format!("max_body = \"unlimited\"\n{line}"));
    assert!(message.contains("holds bodies in memory"), "{message}");
    assert!(help.contains("max_body"));
    let (message, _) = error_in_route(&format!(
        "validation = {{ body_schema = \"{right}\", content_types = [\"text/plain\"] }}"
    ));
    assert!(message.contains("`body_schema` reads JSON"), "{message}");
}

#[test]
fn a_schema_is_found_beside_the_file_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("order.json"), "true").unwrap();
    let main = directory.path().join("gateway.toml");
    let text =
        "[routes.a]\nupstream = \"http://a\"\nvalidation = { body_schema = \"order.json\" }\n";
    std::fs::write(&main, text).unwrap();
    assert!(Config::load(&main).is_ok());
}

#[test]
fn required_parameters_are_names_or_conditions() {
    valid(
        "[routes.a]\nupstream = \"http://a\"\nvalidation = { headers = [\"x-a\"], query = { page = { regex = \"[0-9]+\" } } }\n",
    );
    let (message, _) = error_in_route("validation = { headers = [\"x a\"] }");
    assert!(message.contains("`headers`: expected a name"), "{message}");
    assert!(
        parse("[routes.a]\nupstream = \"http://a\"\nvalidation = { headers = [\"te\"] }\n")
            .is_err()
    );
    let (message, _) = error_in_route("validation = { query = { a = { prefx = \"b\" } } }");
    assert!(message.contains("unknown key `prefx`"), "{message}");
    let (message, _) =
        error_in_route("validation = { headers = { accept = { media_type = \"a/b\" } } }");
    assert!(message.contains("it is no check"), "{message}");
    let (message, _) = error_in_route("validation = { content_types = [\"*/*\"] }");
    assert!(message.contains("expected a media type"), "{message}");
}

#[test]
fn what_an_answering_route_never_does_is_warned_of() {
    let text = "[routes.a]\nrespond = { body = \"here\" }\nvalidation = { headers = [\"x-a\"] }\nrequest_headers = { remove = [\"x-a\"] }\n";
    let all = findings(text);
    assert_eq!(all.len(), 2, "{all}");
    assert!(all.iter().all(|one| one.severity == Severity::Warning));
    let shared = "[defaults]\nvalidation = { headers = [\"x-a\"] }\n[routes.a]\nrespond = { body = \"here\" }\n";
    valid(shared);
    let _ = only(&format!("{shared}nothing = 1\n"));
}
