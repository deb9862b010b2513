//! Routes whose conditions differ and may still hold together.
//!
//! `x-canary = "1"` and `x-beta = "1"` on the same path have the same weight, and a request may meet
//! both; so it may meet `x-a = "1"` and `x-a = { present = true }`. The router counts conditions, it
//! does not weigh them: to it a whole value is worth no more than its beginning. So two routes tie
//! when one value can meet both of their conditions on every name that both ask for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Built, condition};
use crate::config::{Route, ValueMatch, diagnostic::Finding};

/// A condition, and what it says as text: two with the same text are the same.
struct Asked<'r> {
    value: &'r ValueMatch,
    text: String,
}

/// The conditions of a route by their names.
type Conditions<'r> = BTreeMap<String, Asked<'r>>;

/// The routes of one group by the names that they ask for.
type ByNames<'c> = BTreeMap<BTreeSet<&'c str>, BTreeSet<usize>>;

/// A route, and what it asks of the names that are looked at.
struct Projected<'c> {
    at: usize,
    asked: Vec<&'c Asked<'c>>,
}

/// Looks for ties among routes that agree in everything but their conditions, and in the number of
/// these. Says whether it looked at all of them.
pub(super) fn check(
    built: &[Built],
    group: &[usize],
    mut report: impl FnMut(usize, usize),
) -> bool {
    let conditions: HashMap<usize, Conditions<'_>> = group
        .iter()
        .map(|at| (*at, conditions(&built[*at].route)))
        .collect();
    let kinds = by_names(&conditions);
    // The kinds are compared pair by pair: that must not take minutes for a file that was generated.
    if kinds.len() > MOST_KINDS {
        return false;
    }
    let kinds: Vec<_> = kinds.into_iter().collect();
    let mut left = MOST_COMPARISONS;
    let mut complete = true;
    for (at, (names, routes)) in kinds.iter().enumerate() {
        let own = project(&conditions, names, routes);
        complete &= report_overlaps(&own, &own, &mut left, &mut report);
        for (other_names, others) in &kinds[at + 1..] {
            let shared: BTreeSet<&str> = names.intersection(other_names).copied().collect();
            let routes = project(&conditions, &shared, routes);
            let others = project(&conditions, &shared, others);
            if let Some((one, other)) = first_equal(&routes, &others) {
                report(one, other);
            }
            complete &= report_overlaps(&routes, &others, &mut left, &mut report);
            complete &= report_overlaps(&others, &routes, &mut left, &mut report);
        }
    }
    complete
}

fn by_names<'c>(conditions: &'c HashMap<usize, Conditions<'_>>) -> ByNames<'c> {
    let mut kinds = ByNames::new();
    for (at, conditions) in conditions {
        let names = conditions.keys().map(String::as_str).collect();
        kinds.entry(names).or_default().insert(*at);
    }
    kinds
}

fn project<'c>(
    conditions: &'c HashMap<usize, Conditions<'c>>,
    names: &BTreeSet<&str>,
    routes: &BTreeSet<usize>,
) -> Vec<Projected<'c>> {
    let mut projected = Vec::with_capacity(routes.len());
    for at in routes {
        let of = &conditions[at];
        let asked = names.iter().filter_map(|name| of.get(*name)).collect();
        projected.push(Projected { at: *at, asked });
    }
    projected
}

/// The first pair that asks for the same, found without comparing each with each.
fn first_equal(routes: &[Projected<'_>], others: &[Projected<'_>]) -> Option<(usize, usize)> {
    let seen: HashMap<Vec<&str>, usize> = routes.iter().map(|one| (one.texts(), one.at)).collect();
    others
        .iter()
        .find_map(|other| Some((*seen.get(&other.texts())?, other.at)))
}

/// Reports each route with a condition that several values meet, with the first of its rivals.
///
/// Conditions for whole values hold together only when they are equal, and those are found
/// otherwise: thousands of them cost nothing here. Says whether there were few enough of the rest.
fn report_overlaps(
    routes: &[Projected<'_>],
    rivals: &[Projected<'_>],
    left: &mut usize,
    report: &mut impl FnMut(usize, usize),
) -> bool {
    let loose: Vec<_> = routes.iter().filter(|one| one.is_loose()).collect();
    let Some(rest) = left.checked_sub(loose.len().saturating_mul(rivals.len())) else {
        return false;
    };
    *left = rest;
    for one in loose {
        if let Some(rival) = rivals.iter().find(|rival| one.overlaps(rival)) {
            report(one.at, rival.at);
        }
    }
    true
}

impl Projected<'_> {
    fn texts(&self) -> Vec<&str> {
        self.asked.iter().map(|asked| asked.text.as_str()).collect()
    }

    fn is_loose(&self) -> bool {
        self.asked
            .iter()
            .any(|asked| !matches!(asked.value, ValueMatch::Exact(_)))
    }

    /// Whether a request may meet both though they differ.
    fn overlaps(&self, other: &Projected<'_>) -> bool {
        let mut differs = false;
        for (one, other) in self.asked.iter().zip(&other.asked) {
            if one.text == other.text {
                continue;
            }
            if !hold_together(one.value, other.value) {
                return false;
            }
            differs = true;
        }
        differs
    }
}

/// Whether one value can meet two different conditions.
///
/// A field that is sent twice, `x-a: 1` beside `x-a: 2`, may meet any two: that is left aside, or
/// no two values would tell routes apart.
fn hold_together(one: &ValueMatch, other: &ValueMatch) -> bool {
    match (one, other) {
        (
            ValueMatch::Present(true),
            ValueMatch::Exact(_) | ValueMatch::Prefix(_) | ValueMatch::MediaType(_),
        )
        | (
            ValueMatch::Exact(_) | ValueMatch::Prefix(_) | ValueMatch::MediaType(_),
            ValueMatch::Present(true),
        ) => true,
        (ValueMatch::Exact(value), ValueMatch::Prefix(prefix))
        | (ValueMatch::Prefix(prefix), ValueMatch::Exact(value)) => value.starts_with(&**prefix),
        // The expression has both ends tied since it was read.
        (ValueMatch::Exact(value), ValueMatch::Regex(regex))
        | (ValueMatch::Regex(regex), ValueMatch::Exact(value)) => regex.is_match(value),
        (ValueMatch::Prefix(one), ValueMatch::Prefix(other)) => {
            one.starts_with(&**other) || other.starts_with(&**one)
        }
        // Two whole values never do, and `present = false` does with nothing else. What an
        // expression has in common with a beginning, with being there at all or with another
        // expression is not worked out: they count as telling routes apart. Between media types the
        // client's weights decide.
        _ => false,
    }
}

fn conditions(route: &Route) -> Conditions<'_> {
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
        .map(|(name, value)| {
            let text = condition(value);
            (name, Asked { value, text })
        })
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

/// What to say about the first route of a group that was not compared to the end.
pub(super) fn unchecked(first: &Built) -> Finding {
    let name = &first.route.name;
    let message = format!(
        "`{name}` and the routes beside it have too many different conditions to look for ties"
    );
    Finding::warning(first.place, message)
        .label("the first of them with this host, path and methods")
        .help("give them different `priority`: among equals the first by name wins")
}

/// The most sets of names that routes at one path are compared for.
const MOST_KINDS: usize = 64;

/// The most comparisons of conditions other than whole values at one path: two thousand routes, each
/// with each.
const MOST_COMPARISONS: usize = 1 << 22;
