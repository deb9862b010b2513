//! Which request fields with odd names a route lets pass: the frame does it to heads, the body's layer to
//! trailers.

use http::HeaderName;

use super::Policies;
use crate::{
    config::{OddHeaderNames, OverrideHeaders, Route},
    exchange::{
        KeptNames, OddNames,
        fields::{OVERRIDES, is_ambiguous},
    },
};

/// What becomes of fields with odd names on a route.
#[must_use]
pub fn odd_names(route: &Route, policies: &Policies) -> OddNames {
    match route.odd_header_names {
        OddHeaderNames::Drop => OddNames::Drop,
        OddHeaderNames::Keep => {
            let keyed = keyed(route);
            let named = named(route, policies).chain(&keyed).cloned().collect();
            OddNames::Keep(KeptNames::new(reserved(route, policies), named, keyed))
        }
    }
}

/// What no odd name may be read as: what the gateway alone says, what it has looked at, and what the
/// route sets or takes out. A client could else say twice what was judged once.
fn reserved(route: &Route, policies: &Policies) -> Vec<HeaderName> {
    let edits = &route.request_headers;
    let set = edits.set.iter().map(|(name, _)| name);
    // By a field that is no match here, but is one for the server, a request would get past a guarded
    // route to this one: so what any route's condition is about counts.
    let looked_at = policies.credentials().iter().chain(policies.matched());
    // What a limit counts by: the server would serve one, and the limit count another.
    let limits = route.rate_limits.iter();
    let limits = limits.filter_map(|name| policies.limits.get(name));
    let looked_at = looked_at.chain(limits.flat_map(|limit| limit.header_names()));
    // An odd name that a rule itself asks for is meant as it is.
    let plain = looked_at.filter(|name| !is_ambiguous(name.as_str()));
    let overrides: &[HeaderName] = match route.override_headers {
        OverrideHeaders::Strip => &OVERRIDES,
        OverrideHeaders::Keep => &[],
    };
    let names = policies.identity().iter().chain(set).chain(&edits.remove);
    names.chain(plain).chain(overrides).cloned().collect()
}

/// What is asked for by the route, or under an odd name by external auth: a client says it under this
/// name, and under no other one.
fn named<'a>(route: &'a Route, policies: &'a Policies) -> impl Iterator<Item = &'a HeaderName> {
    let validation = route.validation.iter();
    let asked = validation.flat_map(|validation| &validation.headers);
    let credentials = policies.credentials().iter();
    let odd = credentials.filter(|name| is_ambiguous(name.as_str()));
    asked.map(|(name, _)| name).chain(odd)
}

/// What tells stored answers apart.
fn keyed(route: &Route) -> Vec<HeaderName> {
    let rule = route.cache.as_ref();
    rule.map(|rule| rule.key_headers.clone())
        .unwrap_or_default()
}
