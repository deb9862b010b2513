//! What the router promises, by example; [`reference`] has the same by property.

mod reference;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Regex;

use super::{Found, Lookup, Router, spelling::Spelled, tree::Tree};
use crate::config::{
    EncodedSlash, HostPattern, PathPattern, PathSegment, Respond, Rewrite, Route, Target, Timeouts,
    ValueMatch,
};

/// A route with one path on any host.
pub(super) fn route(name: &str, path: &str) -> Route {
    Route {
        name: name.into(),
        hosts: Vec::new(),
        paths: vec![pattern(path)],
        ignore_case: false,
        methods: None,
        match_headers: Vec::new(),
        match_query: Vec::new(),
        priority: 0,
        target: Target::Respond(Respond {
            status: http::StatusCode::OK,
            headers: Vec::new(),
            body: bytes::Bytes::new(),
        }),
        rewrite: Rewrite::default(),
        max_body: None,
        max_body_is_own: false,
        timeouts: Timeouts::default(),
        encoded_slash: EncodedSlash::Refuse,
        upgrade: true,
    }
}

fn braced(text: &str) -> Option<&str> {
    text.strip_prefix('{')?.strip_suffix('}')
}

/// Reads a path pattern, as the configuration does for valid ones.
pub(super) fn pattern(text: &str) -> PathPattern {
    let mut segments: Vec<&str> = text.split('/').skip(1).collect();
    let rest = match segments.last() {
        Some(&"**") => Some(None),
        Some(last) => braced(last)
            .and_then(|name| name.strip_prefix('*'))
            .map(|name| Some(name.into())),
        None => None,
    };
    if rest.is_some() {
        segments.pop();
    }
    let segment = |text: &str| match braced(text) {
        Some(name) => PathSegment::Capture(name.into()),
        None => PathSegment::Literal(text.into()),
    };
    PathPattern {
        text: text.into(),
        segments: segments.into_iter().map(segment).collect(),
        rest,
    }
}

/// Reads a host pattern.
pub(super) fn host(text: &str) -> HostPattern {
    if let Some(suffix) = text.strip_prefix("**.") {
        return HostPattern::AnyDepth(suffix.into());
    }
    if let Some(suffix) = text.strip_prefix("*.") {
        return HostPattern::OneLabel(suffix.into());
    }
    match text.strip_prefix('{').and_then(|it| it.split_once("}.")) {
        Some((name, suffix)) => HostPattern::Capture {
            name: name.into(),
            suffix: suffix.into(),
        },
        None => HostPattern::Exact(text.into()),
    }
}

fn on_host(name: &str, on: &str, path: &str) -> Route {
    Route {
        hosts: vec![host(on)],
        ..route(name, path)
    }
}

fn with_methods(name: &str, path: &str, methods: &[Method]) -> Route {
    Route {
        methods: Some(methods.to_vec()),
        ..route(name, path)
    }
}

fn with_header(name: &str, path: &str, header: &'static str, value: ValueMatch) -> Route {
    Route {
        match_headers: vec![(HeaderName::from_static(header), value)],
        ..route(name, path)
    }
}

fn with_query(name: &str, path: &str, parameter: &str, value: ValueMatch) -> Route {
    Route {
        match_query: vec![(parameter.into(), value)],
        ..route(name, path)
    }
}

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.into())
}

fn router(routes: &[Route]) -> Router<Arc<str>> {
    Router::build(routes.iter().map(|route| (route, Arc::clone(&route.name))))
}

/// A request to be looked up.
struct Asked {
    host: &'static str,
    path: String,
    query: Option<&'static str>,
    method: Method,
    headers: HeaderMap,
    preflight: Option<Method>,
}

fn get(path: &str) -> Asked {
    Asked {
        host: "example.com",
        path: path.to_owned(),
        query: None,
        method: Method::GET,
        headers: HeaderMap::new(),
        preflight: None,
    }
}

impl Asked {
    fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    fn query(self, query: &'static str) -> Self {
        Self {
            query: Some(query),
            ..self
        }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    fn preflight(self, method: Method) -> Self {
        Self {
            preflight: Some(method),
            method: Method::OPTIONS,
            ..self
        }
    }

    fn find<'r, T>(&self, router: &'r Router<T>) -> Found<'r, T> {
        router.find(&Lookup {
            host: self.host,
            path: &self.path,
            query: self.query,
            method: &self.method,
            headers: &self.headers,
            preflight: self.preflight.as_ref(),
        })
    }

    /// The route's name, `405 ALLOW` or `404`.
    fn outcome(&self, routes: &[Route]) -> String {
        match self.find(&router(routes)) {
            Found::Route { payload, .. } => payload.to_string(),
            Found::MethodNotAllowed { allow } => format!("405 {}", allow.to_str().unwrap()),
            Found::NotFound => "404".to_owned(),
        }
    }

    fn vary(&self, routes: &[Route]) -> Option<String> {
        match self.find(&router(routes)) {
            Found::Route { vary, .. } => vary.map(|it| it.to_str().unwrap().to_owned()),
            other => panic!("not a route: {other:?}"),
        }
    }

    fn captures(&self, routes: &[Route]) -> Vec<(String, String)> {
        match self.find(&router(routes)) {
            Found::Route { captures, .. } => captures
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            other => panic!("not a route: {other:?}"),
        }
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

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

/// Every combination of a literal and a capture over some segments: the worst that can be written.
fn tangle(depth: u32) -> Vec<Route> {
    let path = |choice: u32| {
        let segments = (0..depth).map(|level| ["/a", "/{x}"][(choice >> level & 1) as usize]);
        segments.chain(["/end"]).collect::<String>()
    };
    (0..1 << depth)
        .map(|choice| route("end", &path(choice)))
        .collect()
}

#[test]
fn no_path_makes_the_search_visit_a_node_twice() {
    let routes = tangle(8);
    let mut tree = Tree::default();
    let root = tree.plant();
    for route in &routes {
        let candidate = super::Candidate::new(0, None, &route.paths[0]);
        tree.add(root, &route.paths[0], false, candidate);
    }
    // A complete binary tree of 9 levels, and an end below each of its leaves.
    let nodes = (1 << 9) - 1 + (1 << 8);
    for path in [
        "/a".repeat(9),
        "/a".repeat(5_000),
        "/a".repeat(8) + "/end/x",
    ] {
        let mut visits = 0;
        let answer: Option<()> = tree.walk(root, &Spelled::new(&path, false), |_| {
            visits += 1;
            None
        });
        assert_eq!(answer, None);
        assert!(visits <= nodes, "{visits} visits for {} bytes", path.len());
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = "/a".repeat(100_000);
    let routes = [
        route("deep", &deep),
        route("other", &format!("{deep}/{{x}}/b")),
    ];
    assert_eq!(get(&deep).outcome(&routes), "deep");
    assert_eq!(get(&format!("{deep}/x/c")).outcome(&routes), "404");
}
