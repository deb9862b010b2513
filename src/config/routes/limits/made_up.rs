//! Limits by what a client can make up: another limit beside them must hold who makes up a new key for each
//! request.

use std::sync::Arc;

use super::Builder;
use crate::config::{HostPattern, LimitKey, RateLimit, Route, diagnostic::Finding, source::Place};

impl Builder<'_> {
    /// A key that anybody can make up anew for each request limits nobody: another limit beside it
    /// must hold who does so.
    pub(super) fn check_made_up(&mut self, route: &Route, limits: &[Arc<str>], place: Place) {
        let of_route = |name: &Arc<str>| self.rate_limits.get(name);
        let limits: Vec<&RateLimit> = limits.iter().filter_map(of_route).collect();
        let made_up = |key: &LimitKey| key.is_made_up() && !is_fixed_host(key, route);
        for limit in &limits {
            if limits.iter().any(|other| holds_for(other, limit)) {
                continue;
            }
            let invented = |key: &LimitKey| made_up(key) || is_open(key);
            let name = &limit.name;
            if limit.key.iter().any(made_up) && limit.key.iter().all(invented) {
                let message = format!(
                    "the limit `{name}` is no limit for the route `{}`: whoever makes up a new key for each request is never refused",
                    route.name
                );
                let help = help("`key = \"client_ip\"`", &limits);
                self.findings
                    .push(Finding::error(place, message).help(help));
            } else if limit.key.iter().any(made_up) {
                let message = format!(
                    "whoever makes up a new key for each request is never refused by the limit `{name}` of the route `{}`",
                    route.name
                );
                let help = help("`key = \"client_ip\"` or `key = \"caller\"`", &limits);
                self.findings
                    .push(Finding::warning(place, message).help(help));
            }
        }
    }
}

/// Whether a limit holds everybody who gets round another by what it makes up. One of concurrency counts
/// nothing that has ended: it stands in for no quota over a time.
fn holds_for(holding: &RateLimit, limit: &RateLimit) -> bool {
    let is_held = |limit: &RateLimit| limit.algorithm.is_held();
    counts_everybody(holding)
        // Two may be tried out together.
        && (holding.enforce || !limit.enforce)
        && !holding.spares_a_family()
        && (is_held(limit) || !is_held(holding))
}

/// Whether nobody gets round the key by what it makes up.
fn counts_everybody(limit: &RateLimit) -> bool {
    let counted = |key: &LimitKey| {
        matches!(
            key,
            LimitKey::ClientIp | LimitKey::Caller | LimitKey::Route | LimitKey::Method
        )
    };
    limit.key.iter().all(counted)
}

/// What to put beside the limit, and why one that seems to be that is not.
fn help(key: &str, limits: &[&RateLimit]) -> String {
    let weak = limits
        .iter()
        .find_map(|limit| Some((&limit.name, weakness(limit)?)));
    match weak {
        Some((name, why)) => {
            format!("put a limit with {key} beside it; `{name}` does not do: {why}")
        }
        None => format!("put a limit with {key} beside it"),
    }
}

/// Why a limit that counts everybody does not hold everybody over some time.
fn weakness(limit: &RateLimit) -> Option<&'static str> {
    if !counts_everybody(limit) {
        return None;
    }
    if !limit.enforce {
        return Some("it only watches");
    }
    if limit.spares_a_family() {
        return Some("it exempts all of IPv4 or all of IPv6");
    }
    let is_held = limit.algorithm.is_held();
    is_held.then_some("it counts only what is in flight")
}

/// The same for every caller, so it holds nobody by itself.
fn is_open(key: &LimitKey) -> bool {
    matches!(key, LimitKey::Route | LimitKey::Method)
}

/// The hosts of a route that names them are as many as it names.
fn is_fixed_host(key: &LimitKey, route: &Route) -> bool {
    let exact = |host: &HostPattern| matches!(host, HostPattern::Exact(_));
    *key == LimitKey::Host && !route.hosts.is_empty() && route.hosts.iter().all(exact)
}
