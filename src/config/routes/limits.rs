//! The limits of routes: names resolved, and what a limit can't hold.

mod made_up;
mod missing;
mod who;

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderName;

use super::{Builder, is_matchable, unknown_name};
use crate::config::{
    RateLimit, Route, diagnostic::Finding, document::Document, rate_limit::LimitReference,
    share::Layers, source::Place,
};
pub(super) use missing::Gaps;
use missing::Told;

/// All limits by their names.
pub(super) fn named(document: &Document) -> BTreeMap<Arc<str>, RateLimit> {
    let limits = document.rate_limits.iter();
    limits
        .map(|(name, entry)| {
            (
                Arc::clone(name),
                entry.value.clone().named(Arc::clone(name)),
            )
        })
        .collect()
}

impl Builder<'_> {
    /// The limits of a route, each once; what is wrong with them is reported. `knows_callers` is
    /// whether its `auth` could be resolved.
    pub(super) fn limits(
        &mut self,
        route: &Route,
        layers: Layers<'_>,
        knows_callers: bool,
    ) -> Vec<Arc<str>> {
        let named = layers.list(|keys| &keys.rate_limits, &mut self.findings);
        let mut references: Vec<LimitReference> = Vec::new();
        for reference in named.into_iter().flatten() {
            let is_double = references.iter().any(|it| it.name == reference.name);
            if self.is_limit(&reference) && !is_double {
                references.push(reference);
            }
        }
        let limits: Vec<_> = references.iter().map(|it| Arc::clone(&it.name)).collect();
        let Some(set) = layers.pick(|keys| &keys.rate_limits) else {
            return limits;
        };
        let told = Told {
            callers: knows_callers,
            patterns: is_matchable(layers),
        };
        self.check_made_up(route, &limits, set.place);
        self.check_missing(route, layers, &references, told);
        let cost = layers.pick(|keys| &keys.cost);
        self.check_cost(route, &limits, cost.map_or(set.place, |set| set.place));
        let edits = layers.pick(|keys| &keys.response_headers);
        self.check_cost_header(route, &limits, edits.map_or(set.place, |set| set.place));
        limits
    }

    fn is_limit(&mut self, reference: &LimitReference) -> bool {
        let known = self.rate_limits.contains_key(&reference.name);
        if known {
            self.used_limits.insert(Arc::clone(&reference.name));
            return true;
        }
        let names = self.rate_limits.keys().map(|name| &**name);
        let finding = unknown_name(
            "rate limit",
            &reference.name,
            reference.place,
            names,
            "rate_limits",
        );
        self.findings.push(finding);
        false
    }

    fn check_cost(&mut self, route: &Route, limits: &[Arc<str>], place: Place) {
        for limit in limits.iter().filter_map(|name| self.rate_limits.get(name)) {
            let held = limit.algorithm.is_held();
            if !held && route.cost > limit.smallest() {
                let message = format!(
                    "a request of the route `{}` costs {}, and `{}` lets {} through at most",
                    route.name,
                    route.cost,
                    limit.name,
                    limit.smallest()
                );
                let finding = Finding::error(place, message);
                self.findings
                    .push(finding.help("lower the `cost`, or raise the quota or its `bucket`"));
            }
        }
    }

    /// A route changes the fields of answers before its limits read them.
    fn check_cost_header(&mut self, route: &Route, limits: &[Arc<str>], place: Place) {
        for limit in limits.iter().filter_map(|name| self.rate_limits.get(name)) {
            let name = limit.cost_header.as_ref();
            let Some(name) = name.filter(|name| changes(route, name)) else {
                continue;
            };
            let message = format!(
                "`response_headers` changes `{name}` before the limit `{}` of the route `{}` reads it: what the server says that a request has cost is not charged",
                limit.name, route.name
            );
            let help = "leave the field out of `response_headers`: clients see it, too";
            self.findings
                .push(Finding::error(place, message).help(help));
        }
    }

    /// Warns of limits that no route names.
    pub(super) fn warn_of_unused_limits(&mut self) {
        for (name, entry) in &self.document.rate_limits {
            if !self.used_limits.contains(name) {
                let message = format!("no route uses the rate limit `{name}`");
                self.findings.push(Finding::warning(entry.place, message));
            }
        }
    }
}

/// Whether clients get another value of a field than the one that the server gives it.
fn changes(route: &Route, name: &HeaderName) -> bool {
    let edits = &route.response_headers;
    let mut changed = edits
        .remove
        .iter()
        .chain(edits.set.iter().map(|(it, _)| it));
    changed.any(|it| it == name)
}
