//! Quotas of API keys that nothing applies.
//!
//! A key may bring a quota of its own, which takes the place of that of a limit by caller. On a route
//! without such a limit it holds nobody, and nothing else there tells whoever wrote it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    RateLimit, Route, auth::KeysOf, diagnostic::Finding, keys_file::StoredKey, routes::Built,
    source::Place,
};

/// The routes that take a method's keys and don't apply their quotas.
type Gaps<'b> = BTreeMap<&'b str, (Place, Why)>;

/// Why a route does not apply a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// None of its limits counts each caller by itself.
    NoLimit,
    /// Another method names the caller: of several that must all hold the first does.
    NotTheCaller,
}

/// Warns of such quotas, once for each file: the first such key stands for all.
pub(super) fn check(
    files: &[KeysOf],
    built: &[Built],
    limits: &BTreeMap<Arc<str>, RateLimit>,
    findings: &mut Vec<Finding>,
) {
    for file in files {
        let gaps = gaps(&file.method, built, limits);
        let mut keys = file.keys.keys.iter();
        findings.extend(keys.find_map(|(id, key)| finding(file, id, &gaps_of(key, &gaps))));
    }
}

fn gaps<'b>(
    method: &Arc<str>,
    built: &'b [Built],
    limits: &BTreeMap<Arc<str>, RateLimit>,
) -> Gaps<'b> {
    let gap = |one: &'b Built| {
        let why = why(&one.route, method, limits)?;
        Some((&*one.route.name, (one.place, why)))
    };
    built.iter().filter_map(gap).collect()
}

/// Why a route does not apply the quotas of a method's keys; `None` when it does, and when it takes
/// none of them.
fn why(route: &Route, method: &Arc<str>, limits: &BTreeMap<Arc<str>, RateLimit>) -> Option<Why> {
    let alternatives = &route.auth.as_ref()?.alternatives;
    let taking = || alternatives.iter().filter(move |all| all.contains(method));
    taking().next()?;
    let mut named = route.rate_limits.iter().filter_map(|name| limits.get(name));
    if !named.any(RateLimit::takes_brought_quotas) {
        return Some(Why::NoLimit);
    }
    let is_other = |all: &Vec<Arc<str>>| all.first() != Some(method);
    taking().any(is_other).then_some(Why::NotTheCaller)
}

/// The gaps on the routes that a key is good for; none for a key without a quota.
fn gaps_of<'b>(key: &StoredKey, gaps: &Gaps<'b>) -> Gaps<'b> {
    if key.quota.is_empty() || key.revoked.is_some() {
        return Gaps::new();
    }
    if key.routes.is_empty() {
        return gaps.clone();
    }
    let routes = key.routes.iter();
    let gap = |name: &String| gaps.get_key_value(name.as_str());
    routes
        .filter_map(gap)
        .map(|(name, gap)| (*name, *gap))
        .collect()
}

fn finding(file: &KeysOf, id: &str, gaps: &Gaps<'_>) -> Option<Finding> {
    let (_, (place, why)) = gaps.first_key_value()?;
    let message = format!(
        "`keys_file`: the key `{id}` has a quota of its own, which nothing applies on {}",
        listed(gaps)
    );
    let (label, help) = match why {
        Why::NoLimit => (
            "no limit by caller",
            "give the route a limit that counts each caller by itself, one with `key = \"caller\"`: \
             the quota takes the place of that limit's own"
                .to_owned(),
        ),
        Why::NotTheCaller => (
            "another method names the caller",
            format!(
                "of `{{ all = [...] }}` the first names the caller, whose quota counts: put \
                 `\"{}\"` in front",
                file.method
            ),
        ),
    };
    let finding = Finding::warning(file.place, message).help(help);
    Some(finding.related(*place, label))
}

/// The routes as a person reads them.
fn listed(gaps: &Gaps<'_>) -> String {
    let names: Vec<_> = gaps
        .keys()
        .take(MOST_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    let (names, more) = (names.join(", "), gaps.len().saturating_sub(MOST_NAMES));
    match (gaps.len(), more) {
        (1, _) => format!("the route {names}"),
        (_, 0) => format!("the routes {names}"),
        _ => format!("the routes {names} and {more} more"),
    }
}

const MOST_NAMES: usize = 10;
