//! The router against a slow reference: it looks at every route and orders what matches by a key.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{Found, Lookup, Router, host, pattern, route};
use crate::config::{HostPattern, PathPattern, PathSegment, Route, ValueMatch};

/// How specific a host pattern is.
type HostKey = (u8, usize, u8);

/// How specific each step of a path pattern is; compared from the left.
type PathKey = Vec<u8>;

#[derive(Debug)]
struct Asked {
    host: &'static str,
    path: String,
    query: Option<&'static str>,
    method: Method,
    canary: Option<&'static str>,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Route(usize, Vec<&'static str>),
    MethodNotAllowed(Vec<String>),
    NotFound,
}

fn host_key(on: &HostPattern, asked: &str) -> Option<HostKey> {
    let label_before = |suffix: &str| asked.strip_suffix(suffix)?.strip_suffix('.');
    match on {
        HostPattern::Exact(text) => (**text == *asked).then_some((2, 0, 0)),
        HostPattern::OneLabel(suffix) | HostPattern::Capture { suffix, .. } => {
            let label = label_before(suffix)?;
            (!label.is_empty() && !label.contains('.')).then_some((1, suffix.len(), 1))
        }
        HostPattern::AnyDepth(suffix) => {
            (!label_before(suffix)?.is_empty()).then_some((1, suffix.len(), 0))
        }
    }
}

fn path_key(pattern: &PathPattern, ignore_case: bool, asked: &str) -> Option<PathKey> {
    let segments: Vec<&str> = asked[1..].split('/').collect();
    let fits = match pattern.rest {
        Some(_) => segments.len() >= pattern.segments.len(),
        None => segments.len() == pattern.segments.len(),
    };
    if !fits {
        return None;
    }
    let pairs = pattern.segments.iter().zip(&segments);
    let mut key = pairs
        .map(|(wanted, segment)| match wanted {
            PathSegment::Literal(text) if ignore_case => {
                text.eq_ignore_ascii_case(segment).then_some(3)
            }
            PathSegment::Literal(text) => (**text == **segment).then_some(4),
            PathSegment::Capture(_) => (!segment.is_empty()).then_some(2),
        })
        .collect::<Option<PathKey>>()?;
    key.push(u8::from(pattern.rest.is_none()));
    Some(key)
}

fn conditions_hold(route: &Route, asked: &Asked) -> bool {
    let holds = |condition: &ValueMatch, value: Option<&str>| match condition {
        ValueMatch::Exact(text) => value == Some(text),
        ValueMatch::Present(wanted) => value.is_some() == *wanted,
        other => panic!("not generated: {other:?}"),
    };
    let query = asked.query.and_then(|query| query.strip_prefix("v="));
    route
        .match_headers
        .iter()
        .all(|(_, it)| holds(it, asked.canary))
        && route.match_query.iter().all(|(_, it)| holds(it, query))
}

fn serves(route: &Route, method: &Method) -> bool {
    route.methods.as_ref().is_none_or(|methods| {
        let followed = *method == Method::HEAD && methods.contains(&Method::GET);
        methods.contains(method) || followed
    })
}

/// All places at which a route matches by host and path.
fn places(route: &Route, asked: &Asked) -> Vec<(HostKey, PathKey)> {
    let hosts: Vec<HostKey> = if route.hosts.is_empty() {
        vec![(0, 0, 0)]
    } else {
        route
            .hosts
            .iter()
            .filter_map(|on| host_key(on, asked.host))
            .collect()
    };
    let paths = route.paths.iter();
    let paths: Vec<PathKey> = paths
        .filter_map(|path| path_key(path, route.ignore_case, &asked.path))
        .collect();
    let pair = |host: &HostKey| {
        paths
            .iter()
            .map(|path| (*host, path.clone()))
            .collect::<Vec<_>>()
    };
    hosts.iter().flat_map(pair).collect()
}

fn reference(routes: &[Route], asked: &Asked) -> Outcome {
    let at = |(index, route)| {
        places(route, asked)
            .into_iter()
            .map(move |key| (key, index))
    };
    let matching: Vec<_> = routes.iter().enumerate().flat_map(at).collect();
    let holding = |(_, index): &&(_, usize)| conditions_hold(&routes[*index], asked);
    let Some(best) = matching.iter().filter(holding).map(|(key, _)| key).max() else {
        return Outcome::NotFound;
    };
    let consulted = matching.iter().filter(|(key, _)| key >= best);
    let varies = consulted
        .clone()
        .any(|(_, index)| !routes[*index].match_headers.is_empty());
    let at_best = consulted.filter(|(key, _)| key == best).filter(holding);
    let rank = |index: usize| {
        let route = &routes[index];
        let by_name = asked.method != Method::HEAD
            || route
                .methods
                .as_ref()
                .is_none_or(|it| it.contains(&Method::HEAD));
        let conditions = route.match_headers.len() + route.match_query.len();
        let earlier = std::cmp::Reverse(index);
        (
            route.methods.is_some(),
            conditions,
            route.priority,
            by_name,
            earlier,
        )
    };
    let served = at_best
        .clone()
        .filter(|(_, index)| serves(&routes[*index], &asked.method));
    if let Some(index) = served
        .map(|(_, index)| *index)
        .max_by_key(|index| rank(*index))
    {
        let vary = varies.then_some("x-canary");
        return Outcome::Route(index, vary.into_iter().collect());
    }
    let methods = at_best.flat_map(|(_, index)| routes[*index].methods.iter().flatten());
    let mut allow: Vec<String> = methods.map(ToString::to_string).collect();
    if allow.iter().any(|method| method == "GET") {
        allow.push("HEAD".to_owned());
    }
    allow.sort();
    allow.dedup();
    Outcome::MethodNotAllowed(allow)
}

fn routed(routes: &[Route], asked: &Asked) -> Outcome {
    let router = Router::build(routes.iter().zip(0_usize..));
    let mut headers = HeaderMap::new();
    if let Some(value) = asked.canary {
        headers.insert("x-canary", HeaderValue::from_static(value));
    }
    let found = router.find(&Lookup {
        host: asked.host,
        path: &asked.path,
        query: asked.query,
        method: &asked.method,
        headers: &headers,
        preflight: None,
    });
    match found {
        Found::Route { payload, vary, .. } => {
            let vary = vary.map(|vary| {
                assert_eq!(vary, "x-canary");
                "x-canary"
            });
            Outcome::Route(*payload, vary.into_iter().collect())
        }
        Found::MethodNotAllowed { allow, .. } => {
            let allow = allow.to_str().unwrap().split(", ");
            Outcome::MethodNotAllowed(allow.map(ToOwned::to_owned).collect())
        }
        Found::NotFound => Outcome::NotFound,
    }
}

const HOSTS: &[&str] = &["b.c", "a.b.c", "*.b.c", "{x}.b.c", "**.b.c", "*.c", "**.c"];
const METHODS: &[Method] = &[Method::GET, Method::HEAD, Method::POST];

fn a_pattern() -> impl Strategy<Value = PathPattern> {
    let segments = vec(select(&["a", "A", "b", "{x}"]), 0..4);
    let end = select(&["", "", "/", "/**", "/{*rest}"]);
    (segments, end).prop_map(|(segments, end)| {
        let path: String = segments
            .iter()
            .map(|segment| format!("/{segment}"))
            .collect();
        let path = path + end;
        pattern(if path.is_empty() { "/" } else { &path })
    })
}

fn a_condition() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        Just(ValueMatch::Exact("1".into())),
        any::<bool>().prop_map(ValueMatch::Present),
    ]
}

prop_compose! {
    fn a_route()(
        hosts in vec(select(HOSTS), 0..3),
        paths in vec(a_pattern(), 1..3),
        ignore_case in prop::bool::weighted(0.3),
        methods in option::weighted(0.4, vec(select(METHODS), 1..3)),
        header in option::weighted(0.3, a_condition()),
        query in option::weighted(0.3, a_condition()),
        priority in 0..2,
    ) -> Route {
        Route {
            hosts: hosts.into_iter().map(host).collect(),
            paths,
            ignore_case,
            methods,
            match_headers: header
                .map(|it| (HeaderName::from_static("x-canary"), it))
                .into_iter()
                .collect(),
            match_query: query.map(|it| ("v".into(), it)).into_iter().collect(),
            priority,
            ..route("generated", "/")
        }
    }
}

prop_compose! {
    fn a_request()(
        host in select(&["b.c", "a.b.c", "x.b.c", "x.y.b.c", "c", "d"]),
        segments in vec(select(&["a", "A", "b", "c"]), 0..5),
        slash in any::<bool>(),
        query in select(&[None, Some("v=1"), Some("v=2")]),
        method in select(&[Method::GET, Method::HEAD, Method::POST, Method::PUT]),
        canary in select(&[None, Some("1"), Some("2")]),
    ) -> Asked {
        let mut path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if slash || path.is_empty() {
            path.push('/');
        }
        Asked { host, path, query, method, canary }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_finds_what_a_scan_of_all_routes_finds(
        routes in vec(a_route(), 0..12),
        requests in vec(a_request(), 1..20),
    ) {
        for asked in &requests {
            prop_assert_eq!(routed(&routes, asked), reference(&routes, asked), "{:?}", asked);
        }
    }
}
