//! What the router promises: by example, and in [`reference`] by property.

mod conditions;
mod cost;
mod paths;
mod precedence;
mod reference;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Found, Lookup, Router};
use crate::config::{Config, HostPattern, PathPattern, PathSegment, Route, ValueMatch};

/// A route with one path on any host.
fn route(name: &str, path: &str) -> Route {
    Route {
        name: name.into(),
        paths: vec![pattern(path)],
        ..blank()
    }
}

/// A route with every default.
fn blank() -> Route {
    let loaded = Config::parse("test.toml", "[routes.x]\nrespond = {}");
    loaded.unwrap().config.routes.remove(0)
}

fn braced(text: &str) -> Option<&str> {
    text.strip_prefix('{')?.strip_suffix('}')
}

/// Reads a path pattern, as the configuration does for valid ones.
fn pattern(text: &str) -> PathPattern {
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
fn host(text: &str) -> HostPattern {
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

    fn lookup(&self) -> Lookup<'_> {
        Lookup {
            host: self.host,
            path: &self.path,
            query: self.query,
            method: &self.method,
            headers: &self.headers,
            preflight: self.preflight.as_ref(),
        }
    }

    fn find<'r, T>(&self, router: &'r Router<T>) -> Found<'r, T> {
        router.find(&self.lookup())
    }

    /// Whether it is for another route where servers cut parameters off.
    fn hides_another(&self, routes: &[Route]) -> bool {
        router(routes).hides_another_route(&self.lookup())
    }

    /// The route's name, `405 ALLOW` or `404`.
    fn outcome(&self, routes: &[Route]) -> String {
        match self.find(&router(routes)) {
            Found::Route { payload, .. } => payload.to_string(),
            Found::MethodNotAllowed { allow, .. } => format!("405 {}", allow.to_str().unwrap()),
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
