//! Routes that can't be told apart, and routes that never win.
//!
//! Specificity is settled by host, path, method list and number of conditions, in this order; then
//! `priority` breaks the tie. Two routes that agree in all of it fight for the same requests. All
//! look-ups go through hash maps: ten thousand routes cost ten thousand look-ups, not their square.

use std::collections::{HashMap, HashSet};

use http::Method;

use super::{
    HostPattern, Route, ValueMatch,
    diagnostic::Finding,
    routes::{Built, shape},
};

/// What two routes have in common when no request can tell them apart.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Claim<'r> {
    host: Option<&'r HostPattern>,
    path: String,
    conditions: std::rc::Rc<str>,
    method: Option<&'r Method>,
    ignore_case: bool,
}

/// The routes with one claim, by priority.
type Claims<'r> = HashMap<Claim<'r>, HashMap<i32, usize>>;

/// Reports what is ambiguous or can never match.
pub(super) fn check(built: &[Built], findings: &mut Vec<Finding>) {
    let hosts: Vec<Vec<HostPattern>> = built.iter().map(|one| host_shapes(&one.route)).collect();
    let claims: Vec<Vec<Claim<'_>>> = built
        .iter()
        .zip(&hosts)
        .map(|(one, hosts)| match one.matchable {
            true => claims_of(&one.route, hosts),
            false => Vec::new(),
        })
        .collect();
    let mut all = Claims::new();
    let mut reported = HashSet::new();
    for (at, claim) in in_order(built, &claims) {
        let priority = built[at].route.priority;
        let rival = all
            .get(claim)
            .and_then(|by_priority| by_priority.get(&priority))
            .copied();
        let rival = rival.or_else(|| rival_ignoring_case(claim, priority, &all));
        match rival {
            Some(rival) if rival != at && reported.insert((rival.min(at), rival.max(at))) => {
                findings.push(ambiguous(&built[rival.min(at)], &built[rival.max(at)]));
            }
            _ => {
                all.entry(claim.clone()).or_default().insert(priority, at);
            }
        }
    }
    for (at, claims) in claims.iter().enumerate() {
        if let Some(winner) = shadowed_by(built[at].route.priority, claims, &all) {
            findings.push(never(&built[at], &built[winner]));
        }
    }
}

/// Those that ignore case come first, so that the others can be compared with them.
fn in_order<'c, 'r>(
    built: &'c [Built],
    claims: &'c [Vec<Claim<'r>>],
) -> impl Iterator<Item = (usize, &'c Claim<'r>)> {
    let half = move |ignore_case: bool| {
        let routes = claims.iter().enumerate();
        routes
            .filter(move |(at, _)| built[*at].route.ignore_case == ignore_case)
            .flat_map(|(at, claims)| claims.iter().map(move |claim| (at, claim)))
    };
    half(true).chain(half(false))
}

fn rival_ignoring_case(claim: &Claim<'_>, priority: i32, all: &Claims<'_>) -> Option<usize> {
    let ignoring = Claim {
        path: claim.path.to_ascii_lowercase(),
        ignore_case: true,
        ..claim.clone()
    };
    all.get(&ignoring)?.get(&priority).copied()
}

/// The route that wins wherever another claims, if there is one claim at least.
fn shadowed_by(priority: i32, claims: &[Claim<'_>], all: &Claims<'_>) -> Option<usize> {
    let winner = |claim: &Claim<'_>| {
        let (best, at) = all
            .get(claim)?
            .iter()
            .max_by_key(|(priority, _)| **priority)?;
        (*best > priority).then_some(*at)
    };
    let first = winner(claims.first()?)?;
    claims
        .iter()
        .all(|claim| winner(claim).is_some())
        .then_some(first)
}

fn claims_of<'r>(route: &'r Route, hosts: &'r [HostPattern]) -> Vec<Claim<'r>> {
    let hosts: Vec<_> = match hosts {
        [] => vec![None],
        hosts => hosts.iter().map(Some).collect(),
    };
    let methods: Vec<_> = match &route.methods {
        None => vec![None],
        Some(methods) => methods.iter().map(Some).collect(),
    };
    let conditions: std::rc::Rc<str> = conditions(route).into();
    let mut claims = Vec::with_capacity(hosts.len() * route.paths.len() * methods.len());
    for path in &route.paths {
        let path = shape(path, route.ignore_case);
        for host in &hosts {
            claims.extend(methods.iter().map(|method| Claim {
                host: *host,
                path: path.clone(),
                conditions: std::rc::Rc::clone(&conditions),
                method: *method,
                ignore_case: route.ignore_case,
            }));
        }
    }
    claims
}

/// A captured label takes the same hosts as `*`.
fn host_shapes(route: &Route) -> Vec<HostPattern> {
    let shape = |host: &HostPattern| match host {
        HostPattern::Capture { suffix, .. } => HostPattern::OneLabel(suffix.clone()),
        host => host.clone(),
    };
    route.hosts.iter().map(shape).collect()
}

/// All conditions in an order of their own.
fn conditions(route: &Route) -> String {
    let headers = route
        .match_headers
        .iter()
        .map(|(name, value)| ("header", name.as_str(), value));
    let query = route
        .match_query
        .iter()
        .map(|(name, value)| ("query", &**name, value));
    let mut all: Vec<_> = headers
        .chain(query)
        .map(|(kind, name, value)| format!("{kind} {name:?} {}", condition(value)))
        .collect();
    all.sort();
    all.join("\n")
}

fn condition(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("is {text:?}"),
        ValueMatch::Prefix(text) => format!("begins {text:?}"),
        ValueMatch::Regex(regex) => format!("matches {:?}", regex.as_str()),
        ValueMatch::Present(present) => format!("present {present}"),
        ValueMatch::MediaType(text) => format!("type {text:?}"),
    }
}

fn ambiguous(first: &Built, second: &Built) -> Finding {
    let (one, other) = (&first.route.name, &second.route.name);
    let message = format!("the routes `{one}` and `{other}` can't be told apart");
    Finding::error(second.place, message)
        .label("the same host, path, methods and conditions")
        .related(first.place, "as here")
        .help("make one more specific, or give one a higher `priority`")
}

fn never(loser: &Built, winner: &Built) -> Finding {
    let (one, other) = (&loser.route.name, &winner.route.name);
    let message = format!("the route `{one}` can never match: `{other}` takes all of its requests");
    Finding::error(loser.place, message)
        .related(winner.place, "the same requests, with a higher `priority`")
        .help("remove it, or make it more specific")
}
