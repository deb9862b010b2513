//! Roles that something else than a route names: users have them, or limits are about them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::Builder;
use crate::config::{
    decode::nearest, diagnostic::Finding, document::Document, role, route::RouteKeys, share::Item,
    source::Place,
};

impl Builder<'_> {
    /// Warns of roles that stand at one end only: given to users and asked for nowhere, or the other
    /// way round. Without any `[roles.*]` there is nothing to compare with.
    pub(super) fn warn_of_unknown_roles(&mut self) {
        if self.roles.is_empty() {
            return;
        }
        let document = self.document;
        let asked = asked_by_routes(document);
        let (given, limited) = (given_to_users(document), of_limits(document));
        let (by_users, by_limits) = (names(&given), names(&limited));
        for (name, place) in given {
            if !asked.contains(name) && !by_limits.contains(name) {
                self.warn_of_role(
                    name,
                    place,
                    "",
                    "it grants nothing, and no route asks for it",
                );
            }
        }
        for (name, place) in limited {
            // Tokens, keys and services bring roles that no file here names.
            let is_slip = nearest(name, self.roles.keys().map(|name| &**name)).is_some();
            if is_slip && !asked.contains(name) && !by_users.contains(name) {
                self.warn_of_role(name, place, "role:", "only who carries that name has it");
            }
        }
    }

    /// The finding about a role without a table, by the name that follows a prefix.
    pub(super) fn warn_of_role(&mut self, name: &str, place: Place, prefix: &str, why: &str) {
        if self.roles.is_empty() || self.roles.contains_key(name) {
            return;
        }
        let known = self.roles.keys().map(|name| &**name);
        let help = role::help_with_unknown(name, prefix, known);
        let message = format!("there is no role `{name}`: {why}");
        self.findings
            .push(Finding::warning(place, message).help(help));
    }
}

/// All roles that a table, a route or a limit names; `None` without any table, when there is nothing
/// to compare with.
pub(in crate::config) fn named_roles(document: &Document) -> Option<BTreeSet<Arc<str>>> {
    if document.roles.is_empty() {
        return None;
    }
    let asked = asked_by_routes(document).into_iter();
    let limited = of_limits(document).into_iter().map(|(name, _)| name);
    let named = asked.chain(limited).map(Arc::<str>::from);
    Some(document.roles.keys().cloned().chain(named).collect())
}

fn names<'d>(roles: &[(&'d str, Place)]) -> HashSet<&'d str> {
    roles.iter().map(|(name, _)| *name).collect()
}

/// The roles that routes, groups or the defaults ask for.
fn asked_by_routes(document: &Document) -> HashSet<&str> {
    let routes = document.routes.values().map(|entry| &entry.value);
    let groups = document.groups.values().map(|entry| &entry.value.0);
    let defaults = document.defaults.iter();
    let defaults = defaults.filter_map(|set| set.value.as_ref().map(|keys| &keys.0));
    let all = routes.chain(groups).chain(defaults);
    all.flat_map(own_roles).collect()
}

fn own_roles(keys: &RouteKeys) -> impl Iterator<Item = &str> {
    let items = keys.roles.iter().filter_map(|set| set.value.as_ref());
    items.flatten().filter_map(|item| match item {
        Item::Own(reference) => Some(&*reference.name),
        Item::Inherit(_) => None,
    })
}

/// The roles of `[auth.basic.*]`.
fn given_to_users(document: &Document) -> Vec<(&str, Place)> {
    let tables = document.auth.basic.values();
    let roles = tables.flat_map(|entry| entry.value.roles());
    roles.map(|role| (&*role.name, role.place)).collect()
}

/// The roles of `overrides` and `exempt`.
fn of_limits(document: &Document) -> Vec<(&str, Place)> {
    let limits = document.rate_limits.values();
    limits.flat_map(|entry| entry.value.roles()).collect()
}
