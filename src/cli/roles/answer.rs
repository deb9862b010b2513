//! What is told about a route: each thing that a caller needs, and which roles give it.

use std::{collections::BTreeSet, iter, sync::Arc};

use super::{keys, output};
use crate::{
    config::{Access, Config, Demand, IpList, Needed, Permissions, Route},
    exchange::Asked,
};

/// What is printed, and whether anybody may.
pub(super) struct Answer {
    /// The text.
    pub(super) text: String,
    /// Whether some caller may send the request.
    pub(super) somebody: bool,
}

/// Who may send a request to a route.
pub(super) fn of_route(config: &Config, route: &Route, asked: &Asked<'_>) -> Answer {
    let Asked { method, path, .. } = asked;
    let mut lines = vec![format!("{method} {path}")];
    let mut row = |name: &str, value: String| lines.push(format!("  {name:<12}{value}"));
    row("route", route.name.to_string());
    row("auth", output::auth(route));
    ip_row(&route.access, &mut row);
    let access = &route.access;
    let demands = demands(access, asked);
    let somebody = demands.is_some() || !access.rbac.enforce;
    if demands.is_none() {
        let none = format!("none: no rule is for {method}");
        row("permission", none + shadow(access.rbac.enforce));
    }
    let demands = demands.unwrap_or_default();
    access_rows(access, &demands, &mut row);
    let may = match somebody {
        true => verdict(config, route, &demands),
        false => "nobody".to_owned(),
    };
    row("may", may);
    if somebody {
        for keys in keys::rows(config, route, &demands) {
            row("keys", keys);
        }
    }
    let text = lines.join("\n");
    Answer { text, somebody }
}

/// What `permissions` asks for, all of it; `None` when it denies the method to everybody.
fn demands<'r>(access: &'r Access, asked: &Asked<'_>) -> Option<Vec<&'r Demand>> {
    match &access.permissions {
        None => Some(Vec::new()),
        Some(Permissions::Always(demand)) => Some(vec![demand]),
        Some(Permissions::ByMethod(rules)) => {
            let (one, other) = rules.of(asked.method, asked.path, || asked.is_call())?;
            Some(iter::once(one).chain(other).collect())
        }
    }
}

fn ip_row(access: &Access, row: &mut impl FnMut(&str, String)) {
    let Some(ip) = &access.ip else { return };
    let allow = ip.allow.as_ref();
    let allow = allow.map(|list| format!("only {}", networks(list)));
    let denies = !ip.deny.networks.is_empty() || !ip.deny.sets.is_empty();
    let deny = denies.then(|| format!("not {}", networks(&ip.deny)));
    let all: Vec<_> = allow.into_iter().chain(deny).collect();
    row(
        "address",
        format!("{}{}", all.join("; "), shadow(ip.enforce)),
    );
}

fn networks(list: &IpList) -> String {
    let sets = list.sets.iter().map(|name| format!("@{name}"));
    let networks = list.networks.iter().map(ToString::to_string);
    let all: Vec<_> = sets.chain(networks).collect();
    all.join(", ")
}

fn access_rows(access: &Access, demands: &[&Demand], row: &mut impl FnMut(&str, String)) {
    let shadow = shadow(access.rbac.enforce);
    for demand in demands {
        match demand {
            Demand::Authenticated => row("permission", format!("to be known is enough{shadow}")),
            Demand::Any(needed) => permission_rows(needed, "or ", shadow, row),
            Demand::All(needed) => permission_rows(needed, "and ", shadow, row),
        }
    }
    if let Some(roles) = &access.roles {
        let held = roles.held_by.join(", ");
        row("role", format!("{roles} (held by {held}){shadow}"));
    }
    for claim in &access.claims {
        row("claim", format!("{claim}{shadow}"));
    }
}

fn permission_rows(
    needed: &[Needed],
    between: &str,
    shadow: &str,
    row: &mut impl FnMut(&str, String),
) {
    for (at, one) in needed.iter().enumerate() {
        let between = if at == 0 { "" } else { between };
        let granted = match one.granted_by.as_slice() {
            [] => "granted by no role".to_owned(),
            roles => format!("granted by {}", roles.join(", ")),
        };
        row(
            "permission",
            format!("{between}{} ({granted}){shadow}", one.permission),
        );
    }
}

fn shadow(enforce: bool) -> &'static str {
    match enforce {
        true => "",
        false => ", not enforced",
    }
}

/// The sum of it all in one line.
fn verdict(config: &Config, route: &Route, demands: &[&Demand]) -> String {
    let access = &route.access;
    if !access.needs_principal() || !access.rbac.enforce {
        return match &route.auth {
            Some(rule) if !rule.anonymous => "whoever is known".to_owned(),
            _ => "anybody".to_owned(),
        };
    }
    let claims = match access.claims.as_slice() {
        [] => "",
        [_] => " and that claim",
        _ => " and those claims",
    };
    let mut permissions = demands.iter();
    let by_role = access.roles.is_some()
        || permissions.any(|demand| !matches!(demand, Demand::Authenticated));
    let roles = enough(config, access, demands);
    match roles.as_slice() {
        _ if !by_role && claims.is_empty() => "whoever is known".to_owned(),
        _ if !by_role => format!("whoever has{}", claims.trim_start_matches(" and")),
        [] => format!("whoever has all of that{claims}; no single role is enough"),
        roles => format!("whoever has the role {}{claims}", roles.join(" or ")),
    }
}

/// The roles each of which gives everything that roles can give.
fn enough<'c>(config: &'c Config, access: &'c Access, demands: &[&Demand]) -> Vec<&'c str> {
    let named = access.roles.iter().flat_map(|roles| &roles.any);
    let all: BTreeSet<&Arc<str>> = config.roles.keys().chain(named).collect();
    let enough = all
        .into_iter()
        .filter(|role| suffices(access, demands, role));
    enough.map(|role| &**role).collect()
}

fn suffices(access: &Access, demands: &[&Demand], role: &Arc<str>) -> bool {
    let grants = |needed: &Needed| needed.granted_by.contains(role);
    let held = access.roles.as_ref();
    demands.iter().all(|demand| is_met(demand, grants))
        && held.is_none_or(|roles| roles.held_by.contains(role))
}

/// Whether somebody has what is asked for, by which permissions they have.
pub(super) fn is_met(demand: &Demand, has: impl Fn(&Needed) -> bool) -> bool {
    match demand {
        Demand::Authenticated => true,
        Demand::Any(needed) => needed.iter().any(has),
        Demand::All(needed) => needed.iter().all(has),
    }
}
