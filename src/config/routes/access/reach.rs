//! Rules that nobody can meet: the ways to authenticate of a route don't carry what it asks for, or
//! all addresses that it allows are denied.

use ipnet::IpNet;

use super::Builder;
use crate::config::{
    AuthRule, Route,
    access::{DemandKey, IpKeys, IpListKey, PermissionsKey, Wanted},
    auth::Carried,
    diagnostic::Finding,
    share::Layers,
    source::Place,
};

impl Builder<'_> {
    /// Warns of what is asked for on a route and that none of its credentials can hold, whatever
    /// stands in them.
    pub(super) fn warn_of_uncarried(&mut self, route: &Route, layers: Layers<'_>) {
        let Some(carried) = self.carried(route) else {
            return;
        };
        self.warn_of_uncarried_permission(route, layers, carried);
        let roles = layers.pick(|keys| &keys.roles);
        if let Some(set) = roles.filter(|set| set.value.is_some() && !carried.roles) {
            let help = "say where roles come from: `roles_claim` in `[auth.jwt.NAME]`, `roles` in `[auth.basic.NAME]`, `roles_header` in `[auth.external.NAME]`";
            self.warn_of_nobody(route, set.key, "any of `roles`", help);
        }
        let claims = layers.pick(|keys| &keys.claims);
        if let Some(set) = claims.filter(|set| set.value.is_some() && !carried.claims) {
            let help = "only tokens have claims: take `claims` out, or ask for a token: `auth = \"jwt.NAME\"`";
            self.warn_of_nobody(route, set.key, "any of `claims`", help);
        }
    }

    fn warn_of_uncarried_permission(
        &mut self,
        route: &Route,
        layers: Layers<'_>,
        carried: Carried,
    ) {
        // Roles bring permissions only where there are tables that say which.
        let by_role = carried.roles && !self.roles.is_empty();
        if carried.permissions || by_role {
            return;
        }
        let set = layers.pick(|keys| &keys.permissions);
        let wanted = set.and_then(|set| first_wanted(set.value.as_ref()?));
        if let Some(wanted) = wanted {
            let what = format!("`{}`", wanted.permission);
            let help = "name the claim that holds permissions, `permissions_claim` in `[auth.jwt.NAME]`, or grant it to a role that credentials carry";
            self.warn_of_nobody(route, wanted.place, &what, help);
        }
    }

    fn warn_of_nobody(&mut self, route: &Route, place: Place, what: &str, help: &str) {
        let message = format!(
            "route `{}`: nobody has {what}: no credential that `auth` takes can carry it",
            route.name
        );
        self.findings
            .push(Finding::warning(place, message).help(help));
    }

    /// What the credentials of a route can carry, taken together; `None` where nobody is asked for
    /// any, of which there are findings.
    fn carried(&self, route: &Route) -> Option<Carried> {
        let methods = route.auth.iter().flat_map(AuthRule::methods);
        let auth = &self.document.auth;
        methods.map(|name| auth.carried(name)).reduce(Carried::or)
    }

    /// `deny` stands above `allow`, so that a network in both is denied.
    pub(super) fn warn_of_denied_networks(&mut self, keys: &IpKeys, place: Place) {
        let Some(allow) = &keys.allow else {
            return;
        };
        if self.is_covered(allow, &keys.deny) {
            let message = "nobody may come: `deny` covers every network of `allow`";
            let help = "`deny` stands above `allow`: take out of it whom you let in";
            self.findings
                .push(Finding::warning(place, message).help(help));
        }
    }

    /// Whether each network of a list stands inside one of another. The files of sets change while
    /// the gateway runs, so what they hold now says nothing.
    fn is_covered(&self, allow: &IpListKey, deny: &IpListKey) -> bool {
        let sets = &self.document.ip_sets;
        let mut denied: Vec<IpNet> = deny.networks.iter().map(|(network, _)| *network).collect();
        for entry in deny.sets.iter().filter_map(|(name, _)| sets.get(name)) {
            denied.extend(&entry.value.cidrs);
        }
        let is_denied = |network: &IpNet| denied.iter().any(|denied| denied.contains(network));
        let is_denied_set = |name: &str| {
            if deny.sets.iter().any(|(denied, _)| &**denied == name) {
                return true;
            }
            sets.get(name).is_some_and(|entry| {
                let set = &entry.value;
                // An empty set is told by itself.
                set.file.is_none() && !set.cidrs.is_empty() && set.cidrs.iter().all(is_denied)
            })
        };
        allow.networks.iter().all(|(network, _)| is_denied(network))
            && allow.sets.iter().all(|(name, _)| is_denied_set(name))
    }
}

/// The first permission that a route asks for by name.
fn first_wanted(permissions: &PermissionsKey) -> Option<&Wanted> {
    match permissions {
        PermissionsKey::Always(demand) => first_of(demand),
        PermissionsKey::ByMethod(rules) => rules.iter().find_map(|(_, _, demand)| first_of(demand)),
    }
}

fn first_of(demand: &DemandKey) -> Option<&Wanted> {
    match demand {
        DemandKey::Authenticated => None,
        DemandKey::Any(wanted) | DemandKey::All(wanted) => wanted.first(),
    }
}
