//! Which of several matching routes serves, and what is refused.

use http::Method;

use super::{
    exact, get, host, on_host, pairs, pattern, route, router, with_header, with_methods, with_query,
};
use crate::config::{Route, ValueMatch};

#[test]
fn a_router_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&router(&[]));
}

#[test]
fn no_route_is_not_found() {
    assert_eq!(get("/").outcome(&[]), "404");
    assert_eq!(get("/b").outcome(&[route("a", "/a")]), "404");
}

#[test]
fn hosts_decide_before_paths() {
    let routes = [
        route("any", "/a/b"),
        on_host("any depth", "**.example.com", "/**"),
        on_host("one label", "*.example.com", "/**"),
        on_host("longer", "**.eu.example.com", "/**"),
        on_host("exact", "api.eu.example.com", "/**"),
    ];
    let outcome = |host| get("/a/b").host(host).outcome(&routes);
    assert_eq!(outcome("api.eu.example.com"), "exact");
    assert_eq!(outcome("x.api.eu.example.com"), "longer");
    assert_eq!(outcome("www.eu.example.com"), "longer");
    assert_eq!(outcome("eu.example.com"), "one label");
    assert_eq!(outcome("a.b.example.com"), "any depth");
    assert_eq!(outcome("example.com"), "any");
    assert_eq!(outcome("notexample.com"), "any");
    assert_eq!(outcome(".example.com"), "any");
    assert_eq!(outcome("[::1]"), "any");
}

#[test]
fn a_host_without_a_fitting_path_falls_back() {
    let routes = [
        on_host("exact", "a.example.com", "/exact"),
        on_host("wild", "*.example.com", "/wild"),
        route("any", "/any"),
    ];
    let outcome = |path| get(path).host("a.example.com").outcome(&routes);
    assert_eq!(outcome("/exact"), "exact");
    assert_eq!(outcome("/wild"), "wild");
    assert_eq!(outcome("/any"), "any");
    assert_eq!(outcome("/none"), "404");
}

#[test]
fn a_wrong_method_on_the_best_path_never_falls_through() {
    let routes = [
        with_methods("guarded", "/admin/**", &[Method::POST, Method::GET]),
        route("all", "/**"),
    ];
    let delete = |path| get(path).method(Method::DELETE).outcome(&routes);
    assert_eq!(delete("/admin/users"), "405 GET, HEAD, POST");
    assert_eq!(delete("/other"), "all");
}

#[test]
fn a_wrong_method_on_the_best_host_never_falls_through() {
    let guarded = Route {
        methods: Some(vec![Method::PUT]),
        ..on_host("guarded", "a.example.com", "/x")
    };
    let routes = [
        guarded,
        on_host("wild", "*.example.com", "/x"),
        route("any", "/**"),
    ];
    let asked = get("/x").host("a.example.com");
    assert_eq!(asked.outcome(&routes), "405 PUT");
}

#[test]
fn head_follows_get_unless_listed_itself() {
    let reads = with_methods("get", "/a", &[Method::GET]);
    let writes = with_methods("post", "/a", &[Method::POST]);
    let heads = with_methods("head", "/a", &[Method::HEAD]);
    let head = get("/a").method(Method::HEAD);
    assert_eq!(head.outcome(std::slice::from_ref(&reads)), "get");
    assert_eq!(head.outcome(std::slice::from_ref(&writes)), "405 POST");
    assert_eq!(head.outcome(&[reads, heads, writes]), "head");
}

#[test]
fn a_method_list_wins_over_none_and_over_conditions() {
    let routes = [
        with_header("condition", "/a", "x-canary", exact("1")),
        with_methods("listed", "/a", &[Method::GET]),
        route("plain", "/a"),
    ];
    let asked = get("/a").header("x-canary", "1");
    assert_eq!(asked.outcome(&routes), "listed");
    let asked = get("/a").header("x-canary", "1").method(Method::PUT);
    assert_eq!(asked.outcome(&routes), "condition");
    assert_eq!(get("/a").method(Method::PUT).outcome(&routes), "plain");
}

#[test]
fn more_conditions_win_then_priority() {
    let mut both = with_header("both", "/a", "x-canary", exact("1"));
    both.match_query.push(("v".into(), exact("2")));
    let mut preferred = with_query("preferred", "/a", "v", ValueMatch::Present(true));
    preferred.priority = 1;
    let routes = [
        with_header("header", "/a", "x-canary", exact("1")),
        preferred,
        both,
        route("plain", "/a"),
    ];
    let canary = || get("/a").header("x-canary", "1");
    assert_eq!(canary().query("v=2").outcome(&routes), "both");
    assert_eq!(canary().query("v=3").outcome(&routes), "preferred");
    assert_eq!(canary().outcome(&routes), "header");
    assert_eq!(get("/a").outcome(&routes), "plain");
}

#[test]
fn conditions_that_do_not_hold_fall_to_a_less_specific_path_and_host() {
    let only_canary = Route {
        hosts: vec![host("a.example.com")],
        methods: Some(vec![Method::POST]),
        ..with_header("canary", "/a/b", "x-canary", exact("1"))
    };
    let routes = [only_canary, route("any", "/a/**")];
    let asked = || get("/a/b").host("a.example.com");
    assert_eq!(asked().outcome(&routes), "any");
    // Once the conditions hold, the method is no way out.
    assert_eq!(asked().header("x-canary", "1").outcome(&routes), "405 POST");
}

#[test]
fn allow_lists_only_routes_whose_conditions_hold() {
    let hidden = Route {
        methods: Some(vec![Method::DELETE]),
        ..with_header("hidden", "/a", "x-secret", exact("1"))
    };
    let routes = [hidden, with_methods("put", "/a", &[Method::PUT])];
    assert_eq!(get("/a").outcome(&routes), "405 PUT");
    let asked = get("/a").header("x-secret", "1");
    assert_eq!(asked.outcome(&routes), "405 DELETE, PUT");
}

#[test]
fn a_route_has_all_its_paths_on_all_its_hosts() {
    let several = Route {
        hosts: vec![host("a.example.com"), host("{x}.example.org")],
        paths: vec![pattern("/a"), pattern("/b/{id}")],
        ..route("several", "/")
    };
    let routes = [several];
    for (on, path) in [
        ("a.example.com", "/a"),
        ("z.example.org", "/a"),
        ("a.example.com", "/b/1"),
    ] {
        assert_eq!(get(path).host(on).outcome(&routes), "several", "{on}{path}");
    }
    let captured = get("/b/1").host("z.example.org").captures(&routes);
    assert_eq!(captured, pairs(&[("host.x", "z"), ("path.id", "1")]));
    let captured = get("/b/1").host("a.example.com").captures(&routes);
    assert_eq!(captured, pairs(&[("path.id", "1")]));
}

#[test]
fn a_preflight_is_routed_like_the_request_it_announces() {
    let canary = Route {
        methods: Some(vec![Method::PUT]),
        ..with_header("canary", "/a", "x-canary", exact("1"))
    };
    let routes = [
        canary,
        with_methods("get", "/a", &[Method::GET]),
        with_methods("options", "/a", &[Method::OPTIONS]),
    ];
    assert_eq!(get("/a").preflight(Method::PUT).outcome(&routes), "canary");
    assert_eq!(get("/a").preflight(Method::GET).outcome(&routes), "get");
    assert_eq!(get("/a").preflight(Method::GET).vary(&routes), None);
    assert_eq!(
        get("/a").method(Method::OPTIONS).outcome(&routes),
        "options"
    );
    let refused = get("/a").preflight(Method::DELETE).outcome(&routes);
    assert_eq!(refused, "405 GET, HEAD, OPTIONS, PUT");
}
