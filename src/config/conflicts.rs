//! Routes that can't be told apart, and routes that never win.
//!
//! Specificity is settled by host, path, method list and number of conditions, in this order; then
//! `priority` breaks the tie. Two routes that agree in all of it fight for the same requests. All
//! look-ups go through hash maps: ten thousand routes cost ten thousand look-ups, not their square.

mod ties;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    rc::Rc,
};

use http::Method;

use super::{
    HostPattern, PathPattern, PathSegment, Route, ValueMatch,
    diagnostic::Finding,
    routes::{Built, shape},
};

/// What two routes have in common when no request can tell them apart.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Claim<'r> {
    host: Option<&'r HostPattern>,
    path: String,
    conditions: Rc<str>,
    method: Option<&'r Method>,
    /// Whether the path's literals match in any case; `false` for a path without.
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
    let mut pairs = HashSet::new();
    let all = collect(built, &claims, &mut pairs, findings);
    check_ties(built, &claims, &mut pairs, findings);
    for (at, claims) in claims.iter().enumerate() {
        if let Some(winner) = shadowed_by(built[at].route.priority, claims, &all) {
            findings.push(never(&built[at], &built[winner]));
        }
    }
}

/// Pairs of routes that have been reported, the smaller index first.
type Pairs = HashSet<(usize, usize)>;

/// Collects all claims and reports those that are made twice.
fn collect<'r>(
    built: &[Built],
    claims: &[Vec<Claim<'r>>],
    pairs: &mut Pairs,
    findings: &mut Vec<Finding>,
) -> Claims<'r> {
    let mut all = Claims::new();
    for (at, claim) in in_order(built, claims) {
        let priority = built[at].route.priority;
        let same = all
            .get(claim)
            .and_then(|by_priority| by_priority.get(&priority));
        let rival = same
            .copied()
            .or_else(|| rival_ignoring_case(claim, priority, &all));
        let Some(rival) = rival.filter(|rival| *rival != at) else {
            all.entry(claim.clone()).or_default().insert(priority, at);
            continue;
        };
        let pair = (rival.min(at), rival.max(at));
        if pairs.insert(pair) {
            findings.push(ambiguous(&built[pair.0], &built[pair.1]));
        }
    }
    all
}

/// Reports routes whose conditions differ and may still hold together.
fn check_ties(
    built: &[Built],
    claims: &[Vec<Claim<'_>>],
    pairs: &mut Pairs,
    findings: &mut Vec<Finding>,
) {
    let mut groups: HashMap<(Claim<'_>, usize, i32), Vec<usize>> = HashMap::new();
    let none: Rc<str> = "".into();
    for (at, claim) in in_order(built, claims) {
        let route = &built[at].route;
        let count = route.match_headers.len() + route.match_query.len();
        if count == 0 {
            continue;
        }
        let conditions = Rc::clone(&none);
        let claim = Claim {
            conditions,
            ..claim.clone()
        };
        groups
            .entry((claim, count, route.priority))
            .or_default()
            .push(at);
    }
    let mut unchecked = BTreeSet::new();
    for group in groups.values().filter(|group| group.len() > 1) {
        let complete = ties::check(built, group, |one, other| {
            let pair = (one.min(other), one.max(other));
            if pairs.insert(pair) {
                findings.push(ties::finding(&built[pair.0], &built[pair.1]));
            }
        });
        if !complete {
            unchecked.extend(group.iter().min().copied());
        }
    }
    findings.extend(unchecked.into_iter().map(|at| ties::unchecked(&built[at])));
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
    let conditions: Rc<str> = conditions(route).into();
    let mut claims = Vec::with_capacity(hosts.len() * route.paths.len() * methods.len());
    for path in &route.paths {
        // The router keeps literals with and without case apart, and has one place for the rest.
        let ignore_case = route.ignore_case && has_literal(path);
        let path = shape(path, route.ignore_case);
        for host in &hosts {
            claims.extend(methods.iter().map(|method| Claim {
                host: *host,
                path: path.clone(),
                conditions: Rc::clone(&conditions),
                method: *method,
                ignore_case,
            }));
        }
    }
    claims
}

fn has_literal(path: &PathPattern) -> bool {
    path.segments
        .iter()
        .any(|segment| matches!(segment, PathSegment::Literal(_)))
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
