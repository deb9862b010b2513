//! `odd_header_names`, and rules that name a field which the route drops.

use super::{error, error_in_route, findings, valid, warning};
use tollgate::config::OddHeaderNames;

const HELP: &str =
    "write `odd_header_names = \"keep\"` in the route, or let clients send `my-key` instead";

/// A route with these keys; they begin in line 3.
fn route(keys: &str) -> String {
    format!("[routes.a]\nupstream = \"http://a\"\n{keys}\n")
}

/// The same where odd names are kept; they begin in line 4.
fn keeping(keys: &str) -> String {
    route(&format!("odd_header_names = \"keep\"\n{keys}"))
}

#[test]
fn odd_names_are_dropped_unless_route_group_or_defaults_keep_them() {
    let config = valid(
        "[defaults]\nodd_header_names = \"keep\"\n[groups.g]\nodd_header_names = \"drop\"\n\
         [routes.a]\npath = \"/a\"\nupstream = \"http://a\"\n\
         [routes.b]\npath = \"/b\"\ngroup = \"g\"\nupstream = \"http://a\"\n",
    );
    let odd = |route: usize| config.routes[route].odd_header_names;
    assert_eq!(
        (odd(0), odd(1)),
        (OddHeaderNames::Keep, OddHeaderNames::Drop)
    );
    let config = valid(&route(""));
    assert_eq!(config.routes[0].odd_header_names, OddHeaderNames::Drop);
}

#[test]
fn no_route_depends_on_an_odd_name() {
    let line = "match_headers = { my_key = \"1\" }";
    let (message, help) = error_in_route(line);
    assert_eq!(
        message,
        "3:17 route `a`: `match_headers` can't depend on `my_key`: servers read its signs in different ways"
    );
    assert_eq!(help, "let clients send `my-key`, and match that");
    assert!(error(&keeping(line)).0.starts_with("4:17 "));
}

#[test]
fn a_required_field_that_never_arrives_is_an_error() {
    let line = "validation = { headers = [\"my_key\"] }";
    let (message, help) = error_in_route(line);
    assert_eq!(
        message,
        "3:14 route `a`: `validation` asks for `my_key`, which is dropped: servers read its signs in different ways"
    );
    assert_eq!(help, HELP);
    valid(&keeping(line));
    let watching = route("validation = { headers = [\"my_key\"], enforce = false }");
    assert_eq!(warning(&watching).1, HELP);
    valid(&route(
        "validation = { headers = { my_key = { present = false } } }",
    ));
}

#[test]
fn a_limit_by_a_field_that_never_arrives_is_told() {
    let text = |limit: &str, keys: &str| {
        format!(
            "[rate_limits.one]\nkey = \"header:my_key\"\nquota = \"5/s\"\n{limit}\n\
             [rate_limits.two]\nkey = \"client_ip\"\nquota = \"50/s\"\n\
             [routes.a]\nrespond = {{}}\nrate_limits = [\"one\", \"two\"]\n{keys}\n"
        )
    };
    let told = "the limit `one` counts by `my_key`, which is dropped";
    let (message, help) = warning(&text("", ""));
    assert!(message.contains(told), "{message}");
    assert_eq!(help, HELP);
    for missing in ["skip", "refuse"] {
        let (message, _) = error(&text(&format!("on_missing_key = \"{missing}\""), ""));
        assert!(message.contains(told), "{missing}: {message}");
    }
    valid(&text("", "odd_header_names = \"keep\""));
}

#[test]
fn a_cache_key_or_a_question_with_a_field_that_never_arrives_is_warned_of() {
    let cache = "cache = { key_headers = [\"my_key\"] }";
    let (message, help) = warning(&route(cache));
    assert_eq!(
        message,
        "3:9 route `a`: `key_headers` of its cache rule has `my_key`, which is dropped: servers read its signs in different ways"
    );
    assert_eq!(help, HELP);
    valid(&keeping(cache));
    let asking = "auth = \"external.sso\"\n[auth.external.sso]\nurl = \"http://127.0.0.1:4180/auth\"\n\
                  request_headers = [\"authorization\", \"my_key\"]";
    let told = "`request_headers` of `[auth.external.sso]` has `my_key`, which is dropped";
    let is_told = |text: &str| {
        let all = findings(text);
        all.iter().any(|finding| finding.message.contains(told))
    };
    assert!(is_told(&route(asking)));
    assert!(!is_told(&keeping(asking)));
}
