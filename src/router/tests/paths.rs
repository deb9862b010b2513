//! Which path patterns take which paths.

use http::Method;

use super::{get, on_host, pairs, route, with_methods};
use crate::config::Route;

#[test]
fn a_prefix_takes_itself_its_slash_and_all_below() {
    let routes = [route("admin", "/admin/**"), route("all", "/**")];
    for path in ["/admin", "/admin/", "/admin/users", "/admin/users/"] {
        assert_eq!(get(path).outcome(&routes), "admin", "{path}");
    }
    for path in ["/administrator", "/admi", "/", "/x/admin", "/Admin"] {
        assert_eq!(get(path).outcome(&routes), "all", "{path}");
    }
}

#[test]
fn an_exact_path_takes_only_itself() {
    let routes = [
        route("login", "/login"),
        route("root", "/"),
        route("slash", "/items/"),
    ];
    assert_eq!(get("/login").outcome(&routes), "login");
    assert_eq!(get("/login/").outcome(&routes), "404");
    assert_eq!(get("/").outcome(&routes), "root");
    assert_eq!(get("/items/").outcome(&routes), "slash");
    assert_eq!(get("/items").outcome(&routes), "404");
}

#[test]
fn segments_decide_from_the_left() {
    let routes = [
        route("rest", "/**"),
        route("capture then literal", "/{kind}/new"),
        route("literal then capture", "/items/{id}"),
        route("literal then rest", "/items/**"),
        route("exact", "/items"),
    ];
    assert_eq!(get("/items/new").outcome(&routes), "literal then capture");
    assert_eq!(get("/users/new").outcome(&routes), "capture then literal");
    assert_eq!(get("/items/a/b").outcome(&routes), "literal then rest");
    assert_eq!(get("/items/").outcome(&routes), "literal then rest");
    assert_eq!(get("/items").outcome(&routes), "exact");
    assert_eq!(get("/users/old").outcome(&routes), "rest");
}

#[test]
fn a_dead_end_is_left_again() {
    let routes = [
        route("deep", "/a/b/c/d"),
        route("middle", "/a/{x}/c/e"),
        route("outer", "/{x}/b/c/f"),
        route("rest", "/a/{*rest}"),
    ];
    assert_eq!(get("/a/b/c/d").outcome(&routes), "deep");
    assert_eq!(get("/a/b/c/e").outcome(&routes), "middle");
    assert_eq!(get("/a/b/c/g").outcome(&routes), "rest");
    assert_eq!(get("/x/b/c/f").outcome(&routes), "outer");
    // The rest of the literal branch wins over the captured one, though that goes on in literals.
    assert_eq!(get("/a/b/c/f").outcome(&routes), "rest");
}

#[test]
fn captures_come_with_their_names_as_they_were_spelt() {
    let routes = [
        on_host("tenant", "{tenant}.example.com", "/{a}/x/{b}/{*rest}"),
        route("none", "/plain"),
    ];
    let asked = get("/1%3A/x/%C3%A9/p/q/").host("acme.example.com");
    let expected = [
        ("host.tenant", "acme"),
        ("path.a", "1%3A"),
        ("path.b", "%C3%A9"),
        ("path.rest", "p/q/"),
    ];
    assert_eq!(asked.captures(&routes), pairs(&expected));
    assert_eq!(get("/plain").captures(&routes), []);
}

#[test]
fn an_empty_rest_is_captured_and_an_empty_segment_is_not() {
    let routes = [route("rest", "/a/{*rest}"), route("one", "/b/{x}")];
    assert_eq!(get("/a").captures(&routes), pairs(&[("path.rest", "")]));
    assert_eq!(get("/a/").captures(&routes), pairs(&[("path.rest", "")]));
    assert_eq!(get("/b/").outcome(&routes), "404");
}

#[test]
fn case_is_ignored_only_where_a_route_says_so() {
    let ignoring = Route {
        ignore_case: true,
        ..route("ignoring", "/Files/{name}/Raw")
    };
    let routes = [
        ignoring,
        route("exact", "/files/{name}/raw"),
        route("all", "/**"),
    ];
    assert_eq!(get("/files/A/raw").outcome(&routes), "exact");
    assert_eq!(get("/FILES/A/raw").outcome(&routes), "ignoring");
    assert_eq!(get("/files/A/RAW").outcome(&routes), "ignoring");
    assert_eq!(get("/files/A/rare").outcome(&routes), "all");
    let captured = get("/FILES/MiXed/raw").captures(&routes);
    assert_eq!(captured, pairs(&[("path.name", "MiXed")]));
}

#[test]
fn a_literal_is_found_in_every_spelling_of_its_characters() {
    let routes = [
        route("guarded", "/items:export"),
        route("space", "/a%20b/%5Bx%5D"),
        route("all", "/**"),
    ];
    assert_eq!(get("/items%3Aexport").outcome(&routes), "guarded");
    assert_eq!(get("/items:export").outcome(&routes), "guarded");
    assert_eq!(get("/a%20b/%5Bx%5D").outcome(&routes), "space");
    // Encoded twice is another name.
    assert_eq!(get("/items%253Aexport").outcome(&routes), "all");
}

#[test]
fn an_encoded_slash_belongs_to_its_segment() {
    let routes = [
        route("one", "/repos/{name}"),
        route("two", "/repos/{a}/{b}"),
    ];
    assert_eq!(
        get("/repos/a%2Fb").captures(&routes),
        pairs(&[("path.name", "a%2Fb")])
    );
    assert_eq!(get("/repos/a/b").outcome(&routes), "two");
}

#[test]
fn a_parameter_hides_no_other_route() {
    let routes = [
        route("admin", "/admin/**"),
        on_host("tenant", "t.example.com", "/admin/**"),
        with_methods("get", "/only/get", &[Method::GET]),
        route("map", "/map;v=2/**"),
        route("old map", "/map/**"),
        route("all", "/**"),
    ];
    for path in [
        "/admin;x",
        "/admin;x=1/users",
        "/admin;",
        "/;/admin",
        "/;x/admin/users",
        "/admin%3Bx",
        "/admin/users;x",
        "/map;v=1/a",
    ] {
        let asked = get(path);
        let expected = asked.outcome(&routes) == "all";
        assert_eq!(asked.hides_another(&routes), expected, "{path}");
    }
    // A refusal of the method is a rule too.
    let post = get("/only/get;x").method(Method::POST);
    assert!(post.hides_another(&routes));
    for path in [
        "/other;x",
        "/a;b/c;d",
        "/map;v=2/a",
        "/map/a;x",
        "/admin",
        "/%3B",
    ] {
        assert!(!get(path).hides_another(&routes), "{path}");
    }
    assert!(get("/admin;x").host("t.example.com").hides_another(&routes));
}
