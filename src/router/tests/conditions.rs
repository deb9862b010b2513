//! Conditions on headers and queries, and what answers vary by.

use regex::Regex;

use super::{Asked, exact, get, route, with_header, with_query};
use crate::config::ValueMatch;

#[test]
fn every_kind_of_value_condition_is_asked() {
    let regex = ValueMatch::Regex(Regex::new("a|ab").unwrap());
    let cases = [
        (exact("1"), "1", true),
        (exact("1"), "11", false),
        (exact("A"), "a", false),
        (ValueMatch::Prefix("ab".into()), "abc", true),
        (ValueMatch::Prefix("ab".into()), "xab", false),
        (regex.clone(), "ab", true),
        (regex.clone(), "abc", false),
        (regex, "xa", false),
        (ValueMatch::Present(true), "", true),
        (ValueMatch::Present(false), "", false),
        (ValueMatch::MediaType("a/b".into()), "x/y, A/B;q=0.1", true),
        (ValueMatch::MediaType("a/b".into()), "*/*", false),
    ];
    for (condition, value, holds) in cases {
        let routes = [
            with_header("yes", "/", "x-test", condition),
            route("no", "/"),
        ];
        let expected = if holds { "yes" } else { "no" };
        let outcome = get("/").header("x-test", value).outcome(&routes);
        assert_eq!(outcome, expected, "{:?} {value}", routes[0].match_headers);
    }
}

#[test]
fn an_absent_header_meets_only_absence() {
    let absent = [with_header(
        "absent",
        "/",
        "x-test",
        ValueMatch::Present(false),
    )];
    assert_eq!(get("/").outcome(&absent), "absent");
    let prefix = [with_header(
        "p",
        "/",
        "x-test",
        ValueMatch::Prefix("".into()),
    )];
    assert_eq!(get("/").outcome(&prefix), "404");
}

#[test]
fn one_value_of_several_is_enough() {
    let routes = [
        with_query("query", "/", "v", exact("2")),
        with_header("header", "/", "x-v", exact("2")),
    ];
    assert_eq!(get("/").query("v=1&v=2").outcome(&routes), "query");
    let asked = get("/").header("x-v", "1").header("x-v", "2");
    assert_eq!(asked.outcome(&routes), "header");
}

#[test]
fn query_names_and_values_are_decoded() {
    let routes = [with_query("yes", "/", "my name", exact("a b&c"))];
    for query in [
        "my+name=a+b%26c",
        "x&my%20name=a%20b%26c&y",
        "%6dy+name=%61+b%26c",
    ] {
        assert_eq!(get("/").query(query).outcome(&routes), "yes", "{query}");
    }
    for query in ["", "my+name", "my+name=a+b&c", "my%2Bname=a+b%26c"] {
        assert_eq!(get("/").query(query).outcome(&routes), "404", "{query}");
    }
    let flag = [with_query("flag", "/", "debug", ValueMatch::Present(true))];
    assert_eq!(get("/").query("debug").outcome(&flag), "flag");
    assert_eq!(get("/").query("debugger=1").outcome(&flag), "404");
}

#[test]
fn a_query_that_is_not_utf8_does_not_match_an_expression() {
    let any = ValueMatch::Regex(Regex::new(".*").unwrap());
    let routes = [with_query("yes", "/", "v", any)];
    assert_eq!(get("/").query("v=%FF").outcome(&routes), "404");
    assert_eq!(get("/").query("v=%C3%A9").outcome(&routes), "yes");
}

#[test]
fn versions_by_media_type_follow_the_client_s_weights() {
    let version = |name, media: &str| {
        with_header(
            name,
            "/api/**",
            "accept",
            ValueMatch::MediaType(media.into()),
        )
    };
    let routes = [
        version("v1", "application/vnd.x.v1+json"),
        version("v2", "application/vnd.x.v2+json"),
        route("latest", "/api/**"),
    ];
    let accept = |accept| get("/api/a").header("accept", accept).outcome(&routes);
    assert_eq!(accept("application/vnd.x.v1+json"), "v1");
    assert_eq!(
        accept("application/vnd.x.v1+json;q=0.5, application/vnd.x.v2+json"),
        "v2"
    );
    assert_eq!(
        accept("application/vnd.x.v2+json;q=0.5, application/vnd.x.v1+json"),
        "v1"
    );
    assert_eq!(accept("application/vnd.x.v1+json;q=0, */*"), "latest");
    assert_eq!(get("/api/a").outcome(&routes), "latest");
}

#[test]
fn an_answer_varies_by_every_header_that_was_asked_about() {
    let routes = [
        with_header("canary", "/a/b", "x-canary", exact("1")),
        with_header("beta", "/a/**", "x-beta", exact("1")),
        route("plain", "/a/**"),
        route("all", "/**"),
    ];
    let vary = |asked: Asked| asked.vary(&routes);
    assert_eq!(
        vary(get("/a/b").header("x-canary", "1")).unwrap(),
        "x-canary"
    );
    assert_eq!(
        vary(get("/a/b").header("x-beta", "1")).unwrap(),
        "x-beta, x-canary"
    );
    assert_eq!(vary(get("/a/b")).unwrap(), "x-beta, x-canary");
    assert_eq!(vary(get("/a/c")).unwrap(), "x-beta");
    assert_eq!(vary(get("/c")), None);
}
