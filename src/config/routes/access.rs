//! `permissions`, `roles`, `claims` and `ip` of a route, with all names resolved; and what is said
//! about rules that let nobody in or are never asked.

mod reach;

use std::{collections::HashSet, sync::Arc};

use http::Method;
use ipnet::IpNet;

use super::{Builder, check::Checker, unknown_name};
use crate::config::{
    Access, ByMethod, ClaimRule, ClaimValue, Demand, IpList, IpRules, Needed, OverrideHeaders,
    Permissions, RoleDemand, Route,
    access::{DemandKey, IpListKey, MethodKey, PermissionsKey, Wanted},
    decode::{Set, nearest},
    diagnostic::Finding,
    role,
    route::{Key, RouteKeys},
    share::Layers,
    source::Place,
};

impl Builder<'_> {
    /// Who may use a route.
    pub(super) fn access(&mut self, route: &Route, layers: Layers<'_>) -> Access {
        let ip = self.ip(layers);
        if route.auth.is_none() && !self.is_known_caller(route, layers) {
            return Access {
                ip,
                ..Access::default()
            };
        }
        self.warn_of_uncarried(route, layers);
        let permissions = layers.pick(|keys| &keys.permissions);
        let claims = layers.pick(|keys| &keys.claims);
        Access {
            permissions: permissions.and_then(|set| self.permissions(route, set)),
            roles: self.role_demand(layers),
            claims: claims.map_or_else(Vec::new, |set| self.claims(route, set)),
            rbac: layers.value(|keys| &keys.rbac).unwrap_or_default(),
            ip,
        }
    }

    /// Whether rules that need a caller stand on a route without `auth`; then there is a finding.
    ///
    /// `auth = "public"` takes back what a layer behind it asks for: it says on purpose that
    /// everybody may.
    fn is_known_caller(&mut self, route: &Route, layers: Layers<'_>) -> bool {
        let Some((layer, key, place)) = layers.asks_for_caller() else {
            return false;
        };
        let public = layers.found("auth", |keys| &keys.auth);
        if public.is_some_and(|(public, ..)| public < layer) {
            return false;
        }
        // Where callers can show who they are, the route was told already that it has no `auth`.
        if public.is_some() || self.callers.is_empty() {
            let message = format!(
                "`{key}` on the route `{}`, which asks nobody who they are",
                route.name
            );
            let help = match self.callers.first() {
                Some((name, _)) => format!("write for example `auth = \"{name}\"`"),
                None => "define a way to authenticate, such as `[auth.jwt.NAME]`, and write `auth = \"jwt.NAME\"`".to_owned(),
            };
            self.findings
                .push(Finding::error(place, message).help(help));
        }
        true
    }

    fn permissions(&mut self, route: &Route, set: &Set<PermissionsKey>) -> Option<Permissions> {
        let rules = match set.value.as_ref()? {
            PermissionsKey::Always(demand) => {
                return Some(Permissions::Always(self.demand(demand)));
            }
            PermissionsKey::ByMethod(rules) => rules,
        };
        let mut demands = ByMethod::default();
        for (key, _, demand) in rules {
            let demand = self.demand(demand);
            match key {
                MethodKey::Method(method) => demands.methods.push((method.clone(), demand)),
                MethodKey::Rpc(name) => {
                    demands.rpc.insert(name.clone(), demand);
                }
                MethodKey::Rest => demands.rest = Some(demand),
            }
        }
        self.warn_of_unreachable(route, rules);
        self.warn_of_denied(route, set.key, &demands);
        Some(Permissions::ByMethod(demands))
    }

    fn demand(&mut self, demand: &DemandKey) -> Demand {
        let mut needed = |wanted: &[Wanted]| -> Vec<Needed> {
            wanted.iter().map(|wanted| self.needed(wanted)).collect()
        };
        match demand {
            DemandKey::Authenticated => Demand::Authenticated,
            DemandKey::Any(wanted) => Demand::Any(needed(wanted)),
            DemandKey::All(wanted) => Demand::All(needed(wanted)),
        }
    }

    fn needed(&mut self, wanted: &Wanted) -> Needed {
        let permission = wanted.permission.clone();
        let granted_by = role::granting(&self.roles, &permission);
        // Without any role the permissions are those that credentials carry themselves; where they
        // carry none, that is said of the route.
        if granted_by.is_empty() && !self.roles.is_empty() {
            let message = format!("no role grants `{permission}`");
            let granted = self.roles.values().flat_map(|role| &role.permissions);
            let near = nearest(permission.as_str(), granted.map(|grant| &**grant));
            let help = near.map_or_else(
                || "only a credential that carries it itself has it: add it to a role".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            self.findings
                .push(Finding::warning(wanted.place, message).help(help));
        }
        Needed {
            permission,
            granted_by,
        }
    }

    /// Rules for methods that the route does not take.
    fn warn_of_unreachable(&mut self, route: &Route, rules: &[(MethodKey, Place, DemandKey)]) {
        let Some(methods) = &route.methods else {
            return;
        };
        let taken = taken(methods);
        let listed = |wanted: &Method| {
            let key = |method| MethodKey::Method(method);
            rules.iter().any(|(known, ..)| {
                *known == key(wanted.clone())
                    || (*wanted == Method::HEAD && *known == key(Method::GET))
            })
        };
        // Connect has calls by GET too; a rule by name is asked for those.
        let calls = taken.contains(&Method::POST) || taken.contains(&Method::GET);
        for (key, place, _) in rules {
            let what = match key {
                MethodKey::Method(method) if !taken.contains(method) => {
                    format!("the rule for `{method}` is never asked: it is not one of `methods`")
                }
                MethodKey::Rpc(name) if !calls => format!(
                    "no call comes to the rule for `rpc:{name}`: `POST` is not one of `methods`"
                ),
                MethodKey::Rest if taken.iter().all(listed) => {
                    "the rule for `*` is never asked: each of `methods` has one of its own".into()
                }
                _ => continue,
            };
            let message = format!("route `{}`: {what}", route.name);
            let finding = Finding::warning(*place, message).help("take the rule out");
            self.findings.push(finding);
        }
    }

    /// Methods that the route takes and that nobody may use.
    fn warn_of_denied(&mut self, route: &Route, place: Place, demands: &ByMethod<Demand>) {
        let methods = route.methods.iter().flatten();
        let denied = methods.filter(|method| demands.of_method(method).is_none());
        let denied: Vec<_> = denied.map(|method| format!("`{method}`")).collect();
        if denied.is_empty() || !demands.rpc.is_empty() {
            return;
        }
        let denied = denied.join(", ");
        let message = format!("route `{}`: nobody may use {denied}", route.name);
        let help = "give each of `methods` a rule, or write one for `\"*\"`";
        self.findings
            .push(Finding::warning(place, message).help(help));
    }

    /// What a server does may be another thing than what the rules were asked.
    pub(super) fn warn_of_overrides(&mut self, route: &Route, layers: Layers<'_>) {
        let kept = layers.pick(|keys| &keys.override_headers);
        let Some(set) = kept.filter(|_| route.override_headers == OverrideHeaders::Keep) else {
            return;
        };
        let by_method = matches!(route.access.permissions, Some(Permissions::ByMethod(_)));
        if by_method || route.methods.is_some() {
            let message = format!(
                "route `{}`: its rules go by the method, and `override_headers` lets clients name another one to the upstream",
                route.name
            );
            let help = "take `override_headers` out if no client needs them";
            self.findings
                .push(Finding::warning(set.place, message).help(help));
        }
    }

    fn role_demand(&mut self, layers: Layers<'_>) -> Option<RoleDemand> {
        let list = layers.list(|keys| &keys.roles, &mut self.findings)?;
        for role in &list {
            // A role that only credentials name is possible; a slip of the pen is likelier.
            let why = "only who carries that name has it";
            self.warn_of_role(&role.name, role.place, "", why);
        }
        let any: Vec<Arc<str>> = list.into_iter().map(|reference| reference.name).collect();
        let all = any
            .iter()
            .flat_map(|name| role::including(&self.roles, name));
        let mut seen = HashSet::new();
        let held_by = all.filter(|name| seen.insert(Arc::clone(name))).collect();
        Some(RoleDemand { any, held_by })
    }

    fn claims(&mut self, route: &Route, set: &Set<Vec<ClaimRule>>) -> Vec<ClaimRule> {
        let rules = set.value.clone().unwrap_or_default();
        let mut checker = Checker {
            findings: &mut self.findings,
        };
        for value in rules.iter().flat_map(|rule| &rule.any) {
            if let ClaimValue::Template(template) = value {
                checker.check_captures(route, template, set.place);
            }
        }
        rules
    }

    fn ip(&mut self, layers: Layers<'_>) -> Option<IpRules> {
        let set = layers.pick(|keys| &keys.ip)?;
        let keys = set.value.clone()?;
        if let Some(allow) = &keys.allow {
            self.warn_of_claimable(allow);
        }
        self.warn_of_denied_networks(&keys, set.key);
        Some(IpRules {
            allow: keys.allow.map(|allow| self.ip_list(allow)),
            deny: self.ip_list(keys.deny),
            enforce: keys.enforce,
        })
    }

    fn ip_list(&mut self, list: IpListKey) -> IpList {
        let document = self.document;
        for (name, place) in &list.sets {
            if !document.ip_sets.contains_key(name) {
                let known = document.ip_sets.keys().map(|name| &**name);
                let finding = unknown_name("set of networks", name, *place, known, "ip_sets");
                self.findings.push(finding);
            }
        }
        IpList {
            networks: list
                .networks
                .into_iter()
                .map(|(network, _)| network)
                .collect(),
            sets: list.sets.into_iter().map(|(name, _)| name).collect(),
        }
    }

    /// Whoever sits in a trusted network can claim any address of it.
    fn warn_of_claimable(&mut self, allow: &IpListKey) {
        let document = self.document;
        let server = document.server.as_ref().and_then(|set| set.value.as_ref());
        let Some(trusted) = server.map(|server| server.trusted_proxies.as_slice()) else {
            return;
        };
        let claimable = |network: &IpNet| trusted.iter().find(|trusted| trusted.contains(network));
        let inline = allow
            .networks
            .iter()
            .map(|(network, place)| (*network, *place));
        let of_sets = allow.sets.iter().flat_map(|(name, place)| {
            let keys = document.ip_sets.get(name).map(|entry| &entry.value);
            let networks = keys.into_iter().flat_map(|keys| {
                let file = keys.file.iter().flat_map(|file| &file.networks);
                keys.cidrs.iter().chain(file)
            });
            networks.map(|network| (*network, *place))
        });
        let mut seen = HashSet::new();
        for (network, place) in inline.chain(of_sets) {
            let Some(trusted) = claimable(&network).filter(|_| seen.insert(place)) else {
                continue;
            };
            let message = format!(
                "`trusted_proxies` has `{trusted}`, which covers the allowed network `{network}`"
            );
            let help =
                "whoever is in it can claim any address: trust the addresses of your proxies only";
            self.findings
                .push(Finding::warning(place, message).help(help));
        }
    }
}

impl Layers<'_> {
    /// Where the nearest of the keys that need a caller stands, and in which layer.
    fn asks_for_caller(self) -> Option<(usize, &'static str, Place)> {
        let keys = [
            self.found("permissions", |keys| &keys.permissions),
            self.found("roles", |keys| &keys.roles),
            self.found("claims", |keys| &keys.claims),
        ];
        keys.into_iter().flatten().min_by_key(|(layer, ..)| *layer)
    }

    /// A key that could be read: in which layer and where.
    fn found<T>(
        self,
        name: &'static str,
        key: impl Fn(&RouteKeys) -> &Key<T>,
    ) -> Option<(usize, &'static str, Place)> {
        let mut layers = self.layers.into_iter().enumerate();
        layers.find_map(|(layer, keys)| {
            let set = key(keys?).as_ref()?;
            set.value.as_ref().map(|_| (layer, name, set.key))
        })
    }
}

/// The methods of a list, and HEAD by way of GET.
fn taken(methods: &[Method]) -> Vec<Method> {
    let head = methods.contains(&Method::GET).then_some(Method::HEAD);
    methods.iter().cloned().chain(head).collect()
}
