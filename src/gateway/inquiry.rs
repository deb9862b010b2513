//! Which route a request would take, by the configuration alone: the checks and the router of a
//! running gateway, without one.

use http::{HeaderMap, Method, uri::PathAndQuery};

use crate::{
    config::{Config, EncodedSlash, Route},
    exchange::{Reason, host::Host, target::normalise},
    router::{Found, Lookup, Router},
};

/// What would be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host, with or without a port.
    pub host: &'a str,
    /// Path and query as a client sends them.
    pub target: &'a PathAndQuery,
    /// Header fields, for routes that depend on them.
    pub headers: &'a HeaderMap,
}

/// What a request would meet.
#[derive(Debug)]
pub enum Outcome<'c> {
    /// A route.
    Route {
        /// The route.
        route: &'c Route,
        /// The path in its normal form.
        path: String,
    },
    /// A refusal before any route.
    Refused(Reason),
}

/// Finds the route that would serve a request.
#[must_use]
pub fn route_of<'c>(config: &'c Config, inquiry: &Inquiry<'_>) -> Outcome<'c> {
    find(config, inquiry).unwrap_or_else(Outcome::Refused)
}

fn find<'c>(config: &'c Config, inquiry: &Inquiry<'_>) -> Result<Outcome<'c>, Reason> {
    if matches!(*inquiry.method, Method::TRACE | Method::CONNECT) {
        return Err(Reason::MethodRefused);
    }
    let host = Host::parse(inquiry.host).map_err(|_| Reason::HostInvalid)?;
    let normalised = normalise(inquiry.target).map_err(|_| Reason::TargetInvalid)?;
    let target = normalised.changed.as_ref().unwrap_or(inquiry.target);
    let router = Router::build(config.routes.iter().map(|route| (route, route)));
    let lookup = Lookup {
        host: &host.name,
        path: target.path(),
        query: target.query(),
        method: inquiry.method,
        headers: inquiry.headers,
        preflight: None,
    };
    let route = match router.find(&lookup) {
        Found::Route { payload, .. } => *payload,
        Found::MethodNotAllowed { .. } => return Err(Reason::MethodNotAllowed),
        Found::NotFound => return Err(Reason::RouteNotFound),
    };
    let hides_slash = normalised.encoded_slash && route.encoded_slash == EncodedSlash::Refuse;
    if hides_slash || router.hides_another_route(&lookup) {
        return Err(Reason::TargetInvalid);
    }
    let path = target.path().to_owned();
    Ok(Outcome::Route { route, path })
}
