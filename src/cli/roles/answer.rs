//! What is told about a route: each thing that a caller needs, and which roles give it.

use std::{collections::BTreeSet, sync::Arc};

use http::Method;

use crate::config::{Access, Config, Demand, IpList, Needed, Permissions, Route};

/// What is printed, and whether anybody may.
pub(super) struct Answer {
    /// The text.
    pub(super) text: String,
    /// Whether some caller may send the request.
    pub(super) somebody: bool,
}

/// Who may use a method of a route at a path in its normal form.
pub(super) fn of_route(config: &Config, route: &Route, method: &Method, path: &str) -> Answer {
    let mut lines = vec![format!("{method} {path}")];
    let mut row = |name: &str, value: String| lines.push(format!("  {name:<12}{value}"));
    row("route", route.name.to_string());
    row("callers", callers(route));
    ip_rows(&route.access, &mut row);
    let demand = demand(&route.access, method, path);
    let somebody = demand.is_some();
    match demand {
        Some(demand) => {
            access_rows(&route.access, demand, &mut row);
            row("so", verdict(config, route, demand));
        }
        None => row(
            "so",
            format!("nobody: no rule of `permissions` is for {method}"),
        ),
    }
    let text = lines.join("\n");
    Answer { text, somebody }
}

/// What `permissions` asks for, if anything; `None` when it denies the method to everybody.
fn demand<'r>(access: &'r Access, method: &Method, path: &str) -> Option<Option<&'r Demand>> {
    match &access.permissions {
        None => Some(None),
        Some(Permissions::Always(demand)) => Some(Some(demand)),
        Some(Permissions::ByMethod(rules)) => rules.of(method, path).map(Some),
    }
}

/// What `auth` asks for: `jwt.customers, api_keys.partners or nobody at all`.
fn callers(route: &Route) -> String {
    let Some(rule) = &route.auth else {
        return "anybody".to_owned();
    };
    let mut ways: Vec<String> = rule
        .alternatives
        .iter()
        .map(|all| all.join(" and "))
        .collect();
    if rule.anonymous {
        ways.push("nobody that is known".to_owned());
    }
    ways.join(", or ")
}

fn ip_rows(access: &Access, row: &mut impl FnMut(&str, String)) {
    let Some(ip) = &access.ip else { return };
    let shadow = shadow(ip.enforce);
    if let Some(allow) = &ip.allow {
        row("addresses", format!("only {}{shadow}", networks(allow)));
    }
    if !ip.deny.networks.is_empty() || !ip.deny.sets.is_empty() {
        row("addresses", format!("not {}{shadow}", networks(&ip.deny)));
    }
}

fn networks(list: &IpList) -> String {
    let sets = list.sets.iter().map(|name| format!("@{name}"));
    let networks = list.networks.iter().map(ToString::to_string);
    let all: Vec<_> = sets.chain(networks).collect();
    all.join(", ")
}

fn access_rows(access: &Access, demand: Option<&Demand>, row: &mut impl FnMut(&str, String)) {
    let shadow = shadow(access.rbac.enforce);
    match demand {
        Some(Demand::Authenticated) => row("permission", format!("none, but known{shadow}")),
        Some(Demand::Any(needed) | Demand::All(needed)) => {
            let all = matches!(demand, Some(Demand::All(_)));
            let word = if all { "and " } else { "or " };
            for (at, one) in needed.iter().enumerate() {
                let word = if at == 0 { "" } else { word };
                let granted = listed(&one.granted_by, "no role grants it");
                row(
                    "permission",
                    format!("{word}{}: {granted}{shadow}", one.permission),
                );
            }
        }
        None => {}
    }
    if let Some(roles) = &access.roles {
        let held = listed(&roles.held_by, "");
        row("role", format!("{roles}: {held}{shadow}"));
    }
    for claim in &access.claims {
        row("claim", format!("{claim}{shadow}"));
    }
}

/// Names behind a count: `2 roles (admin, editor)`.
fn listed(names: &[Arc<str>], none: &str) -> String {
    if names.is_empty() {
        return none.to_owned();
    }
    format!("roles {}", names.join(", "))
}

fn shadow(enforce: bool) -> &'static str {
    match enforce {
        true => "",
        false => " (not enforced)",
    }
}

/// The sum of it all in one line.
fn verdict(config: &Config, route: &Route, demand: Option<&Demand>) -> String {
    let access = &route.access;
    if !access.needs_principal() || !access.rbac.enforce {
        return callers(route);
    }
    let known = config.roles.keys();
    let named = access.roles.iter().flat_map(|roles| &roles.any);
    let all: BTreeSet<&Arc<str>> = known.chain(named).collect();
    let enough = |role: &&Arc<str>| suffices(access, demand, role);
    let enough: Vec<_> = all.into_iter().filter(enough).map(|role| &**role).collect();
    let claims = match access.claims.as_slice() {
        [] => "",
        [_] => ", and has that claim",
        _ => ", and has those claims",
    };
    let anybody = matches!(demand, None | Some(Demand::Authenticated)) && access.roles.is_none();
    match enough.as_slice() {
        _ if anybody => format!("whoever is known{claims}"),
        [] => format!("nobody by one role alone; who has all of that, by several{claims}"),
        [one] => format!("whoever has the role {one}{claims}"),
        several => format!(
            "whoever has one of the roles {}{claims}",
            several.join(", ")
        ),
    }
}

/// Whether one role gives everything that roles can give.
fn suffices(access: &Access, demand: Option<&Demand>, role: &Arc<str>) -> bool {
    let grants = |needed: &Needed| needed.granted_by.contains(role);
    let permitted = match demand {
        None | Some(Demand::Authenticated) => true,
        Some(Demand::Any(needed)) => needed.iter().any(grants),
        Some(Demand::All(needed)) => needed.iter().all(grants),
    };
    let held = access.roles.as_ref();
    permitted && held.is_none_or(|roles| roles.held_by.contains(role))
}
