//! Routes whose conditions differ and may still hold together.
//!
//! `x-canary = "1"` and `x-beta = "1"` on the same path have the same weight, and a request may meet
//! both. Conditions on the same names with different values tell two routes apart; so two routes
//! tie when they agree on every name that both ask for, and each asks for another name too.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Built, condition};
use crate::config::{Route, diagnostic::Finding};

/// The conditions of a route by their names.
type Conditions = BTreeMap<String, String>;

/// The routes of one group by the names that they ask for.
type ByNames = HashMap<BTreeSet<String>, Vec<usize>>;

/// Looks for ties among routes that agree in everything but their conditions, and in the number of
/// these.
pub(super) fn check(built: &[Built], group: &[usize], mut report: impl FnMut(usize, usize)) {
    let conditions: HashMap<usize, Conditions> = group
        .iter()
        .map(|at| (*at, conditions(&built[*at].route)))
        .collect();
    let mut by_names = ByNames::new();
    for at in group {
        let names = conditions[at].keys().cloned().collect();
        by_names.entry(names).or_default().push(*at);
    }
    // The pairs are looked at one by one: a file that asks for more kinds of conditions on one path
    // was generated, and its ties go by the order of names.
    if by_names.len() > MOST_KINDS {
        return;
    }
    let mut kinds: Vec<_> = by_names.iter().collect();
    kinds.sort();
    for (at, (names, routes)) in kinds.iter().enumerate() {
        for (other_names, others) in &kinds[at + 1..] {
            let shared: Vec<_> = names.intersection(other_names).collect();
            if let Some((one, other)) = first_tie(&conditions, &shared, routes, others) {
                report(one, other);
            }
        }
    }
}

/// The first pair that agrees on the shared names.
fn first_tie(
    conditions: &HashMap<usize, Conditions>,
    shared: &[&String],
    routes: &[usize],
    others: &[usize],
) -> Option<(usize, usize)> {
    let project = |at: &usize| -> Vec<&str> {
        let of = &conditions[at];
        shared.iter().map(|name| of[*name].as_str()).collect()
    };
    let seen: HashMap<_, _> = routes.iter().map(|at| (project(at), *at)).collect();
    others
        .iter()
        .find_map(|other| Some((*seen.get(&project(other))?, *other)))
}

fn conditions(route: &Route) -> Conditions {
    let headers = route
        .match_headers
        .iter()
        .map(|(name, value)| (format!("header {name}"), value));
    let query = route
        .match_query
        .iter()
        .map(|(name, value)| (format!("query {name}"), value));
    headers
        .chain(query)
        .map(|(name, value)| (name, condition(value)))
        .collect()
}

/// What to say about a tie.
pub(super) fn finding(first: &Built, second: &Built) -> Finding {
    let (one, other) = (&first.route.name, &second.route.name);
    let message = format!("a request may meet the conditions of both `{one}` and `{other}`");
    Finding::error(second.place, message)
        .label("the same host, path, methods and number of conditions")
        .related(first.place, "as here")
        .help("give one a higher `priority`, or more conditions")
}

const MOST_KINDS: usize = 64;
