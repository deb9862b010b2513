//! Limits by what nobody has on a route: no pattern captures it, or no credential carries it.

use std::fs;

use tempfile::TempDir;
use tollgate::config::{Config, Diagnostics, Severity};

use super::{error, findings, only, said, valid, warning};

/// A route with a limit, and one by address beside it.
fn limited(keys: &str, route: &str) -> String {
    format!(
        "{}[routes.all]\nrespond = {{}}\nrate_limits = [\"one\", \"two\"]\n{route}\n",
        limits(keys)
    )
}

fn limits(keys: &str) -> String {
    format!(
        "[rate_limits.one]\n{keys}\nquota = \"5/s\"\n[rate_limits.two]\nkey = \"client_ip\"\nquota = \"50/s\"\n"
    )
}

/// Two routes that have the limits from `[defaults]`, the first of them with this path.
fn inherited(keys: &str, path: &str) -> String {
    format!(
        "{}[defaults]\nrate_limits = [\"one\", \"two\"]\n\
         [routes.shops]\npath = \"{path}\"\nrespond = {{}}\n[routes.other]\npath = \"/other\"\nrespond = {{}}\n",
        limits(keys)
    )
}

const SKIP: &str = "on_missing_key = \"skip\"";
const REFUSE: &str = "on_missing_key = \"refuse\"";

#[test]
fn a_key_that_no_pattern_captures_is_refused_with_the_nearest_that_one_does() {
    let text = limited(
        &format!("key = \"path.shp\"\n{SKIP}"),
        "hosts = \"{site}.test\"\npath = \"/shops/{shop}/**\"",
    );
    let finding = only(&text);
    assert_eq!(finding.severity, Severity::Error);
    let (message, help) = said(&finding);
    assert_eq!(
        message,
        "10:16 the limit `one` counts by `path.shp`, which nobody has on the route `all`: no `path` of it captures it"
    );
    assert_eq!(help, "it limits nobody there: write `key = \"path.shop\"`");
    let related = &finding.related[0];
    assert_eq!((related.line, related.column), (2, 7));
    assert_eq!(related.label, "did you mean `path.shop`?");

    let refusing = text
        .replace("path.shp", "host.unheard")
        .replace("skip", "refuse");
    let (message, help) = error(&refusing);
    assert!(
        message.ends_with("none of its `hosts` captures it"),
        "{message}"
    );
    assert_eq!(
        help,
        "it refuses everybody there: write `{unheard}.example.com` in `hosts`, or leave the limit out"
    );
    // By the client's address it still is a limit.
    let (_, help) = warning(&text.replace(SKIP, "").replace("path.shp", "path.unheard"));
    assert_eq!(
        help,
        "it counts by the client's address there: write `{unheard}` in `path`, or leave the limit out"
    );
    let both = text.replace(
        "\"path.shp\"",
        "[\"path.shp\", \"host.sit\", \"path.shop\"]",
    );
    assert_eq!(findings(&both).len(), 2);
}

#[test]
fn one_of_several_patterns_that_captures_a_key_is_enough() {
    for (key, route) in [
        (
            "\"host.tenant\"",
            "hosts = [\"{tenant}.test\", \"www.test\"]",
        ),
        ("\"path.item\"", "path = [\"/a/{item}\", \"/b\"]"),
        (
            "[\"path.rest\", \"host.a\"]",
            "hosts = [\"{b}.test\", \"{a}.example.com\"]\npath = \"/x/{*rest}\"",
        ),
    ] {
        for missing in ["", SKIP, REFUSE] {
            valid(&limited(&format!("key = {key}\n{missing}"), route));
        }
    }
}

#[test]
fn a_limit_of_all_routes_may_count_by_what_one_of_them_captures() {
    let key = |missing: &str| format!("key = \"path.shop\"\n{missing}");
    for missing in ["", SKIP] {
        valid(&inherited(&key(missing), "/shops/{shop}/**"));
    }
    // It refuses everybody on the other one.
    let (message, _) = error(&inherited(&key(REFUSE), "/shops/{shop}/**"));
    assert!(message.contains("on the route `other`"), "{message}");
    // No route has it, and one that names the limit itself means it.
    assert_eq!(findings(&inherited(&key(SKIP), "/shops/**")).len(), 2);
    let own = inherited(&key(SKIP), "/shops/{shop}/**") + "rate_limits = [\"inherit\", \"one\"]\n";
    let (message, _) = error(&own);
    assert!(message.contains("on the route `other`"), "{message}");
}

/// The findings of a limit by what some callers have, on a route that asks for these credentials.
fn of_callers(key: &str, missing: &str, auth: &str) -> Diagnostics {
    let folder = TempDir::new().unwrap();
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let keys = format!("[keys.x]\nhash = \"sha256:{hash}\"\n");
    fs::write(folder.path().join("keys.toml"), keys).unwrap();
    let secret = "secret = \"a secret of thirty-two bytes or more\"";
    let text = format!(
        "[rate_limits.one]\nkey = \"{key}\"\nquota = \"5/s\"\n{missing}\n\
         [routes.all]\nrespond = {{}}\nrate_limits = \"one\"\nauth = {auth}\n\
         [routes.used]\npath = \"/used\"\nrespond = {{}}\n\
         auth = [\"jwt.plain\", \"jwt.roles\", \"api_keys.partners\", \"external.sso\"]\n\
         [auth.jwt.plain]\n{secret}\n[auth.jwt.roles]\n{secret}\nroles_claim = \"roles\"\n\
         [auth.api_keys.partners]\nkeys_file = \"keys.toml\"\n\
         [auth.external.sso]\nurl = \"http://127.0.0.1:4180/auth\"\n"
    );
    let main = folder.path().join("gateway.toml");
    fs::write(&main, text).unwrap();
    match Config::load(&main) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    }
}

/// What is said of the limit, and whether it is refused.
fn told(key: &str, missing: &str, auth: &str) -> Option<(String, bool)> {
    let findings = of_callers(key, missing, auth);
    let of_limit = |message: &str| message.contains("the limit `one` counts by");
    let mut told = findings.iter().filter(|it| of_limit(&it.message));
    told.next().map(|finding| {
        let (message, help) = said(finding);
        let refused = finding.severity == Severity::Error;
        (format!("{message}; {help}"), refused)
    })
}

#[test]
fn a_key_that_no_credential_of_the_route_carries_is_told() {
    for (key, auth, why) in [
        (
            "api_key",
            "[\"jwt.plain\", \"anonymous\"]",
            "no API key names a caller there",
        ),
        (
            "api_key",
            "{ all = [\"jwt.plain\", \"api_keys.partners\"] }",
            "put `\"api_keys.partners\"` in front",
        ),
        (
            "role",
            "[\"jwt.plain\", \"external.sso\"]",
            "no credential that `auth` takes carries roles",
        ),
        (
            "claim:tenant",
            "[\"api_keys.partners\", \"external.sso\"]",
            "no credential that `auth` takes has claims",
        ),
    ] {
        for (missing, effect, refused) in [
            (SKIP, "it limits nobody there", true),
            (REFUSE, "it refuses everybody there", true),
            ("", "it counts by the client's address there", false),
        ] {
            let (told, is_refused) = told(key, missing, auth).unwrap();
            assert!(told.contains(why) && told.contains(effect), "{told}");
            assert_eq!(is_refused, refused, "{told}");
        }
    }
}

#[test]
fn a_key_that_some_callers_of_the_route_have_is_good() {
    for (key, auth) in [
        ("api_key", "[\"jwt.plain\", \"api_keys.partners\"]"),
        (
            "api_key",
            "{ all = [\"api_keys.partners\", \"jwt.plain\"] }",
        ),
        (
            "api_key",
            "[\"jwt.plain\", { all = [\"api_keys.partners\", \"jwt.roles\"] }, \"anonymous\"]",
        ),
        ("role", "[\"jwt.plain\", \"jwt.roles\"]"),
        ("role", "\"api_keys.partners\""),
        ("claim:tenant", "[\"external.sso\", \"jwt.plain\"]"),
        ("principal", "\"external.sso\""),
    ] {
        for missing in ["", SKIP, REFUSE] {
            let told = told(key, missing, auth);
            assert!(told.is_none(), "{key} {auth}: {told:?}");
        }
    }
}

#[test]
fn what_could_not_be_read_of_a_route_is_told_once() {
    let by_key = "[rate_limits.one]\nkey = \"api_key\"\nquota = \"5/s\"\non_missing_key = \"skip\"\n\
         [auth.jwt.main]\nsecret = \"a secret of thirty-two bytes or more\"\n\
         [routes.all]\nrespond = {}\nrate_limits = \"one\"\n";
    for auth in ["auth = [\"jwt.main\", \"jwt.mian\"]", "auth = 5", ""] {
        let (message, _) = error(&format!("{by_key}{auth}\n"));
        assert!(!message.contains("counts by"), "{message}");
    }
    let key = format!("key = \"path.shop\"\n{SKIP}");
    let (message, _) = error(&limited(&key, "path = 5"));
    assert!(message.contains("`path`"), "{message}");
}
