//! Which API keys may send a request, as far as their file tells.

use std::{path::Path, sync::Arc, time::SystemTime};

use super::answer::is_met;
use crate::config::{Access, Config, Demand, KeysFile, Needed, Route, StoredKey};

/// One line for each file of keys that the route takes: its name, and who may.
pub(super) fn rows(config: &Config, route: &Route, demands: &[&Demand]) -> Vec<String> {
    let names = route.auth.iter().flat_map(|rule| rule.methods());
    let mut methods: Vec<_> = names
        .filter_map(|name| config.auth.api_keys.get(name))
        .collect();
    methods.dedup_by(|one, other| one.name == other.name);
    let row = |(name, file): (&Arc<str>, &Path)| {
        let who = match KeysFile::load(file) {
            Ok(file) => listed(&holders(&file, route, demands)),
            Err(_) => "its file can't be read".to_owned(),
        };
        format!("{name}: {who}")
    };
    let methods = methods.iter();
    methods
        .map(|method| row((&method.name, &method.keys_file)))
        .collect()
}

/// The keys that are good now and on this route, and may do what is asked.
fn holders<'f>(file: &'f KeysFile, route: &Route, demands: &[&Demand]) -> Vec<&'f str> {
    let now = SystemTime::now();
    let may = |key: &StoredKey| {
        is_good(key, route, now) && (!route.access.rbac.enforce || has(key, &route.access, demands))
    };
    let keys = file.keys.iter().filter(|(_, key)| may(key));
    keys.map(|(id, _)| &**id).collect()
}

fn is_good(key: &StoredKey, route: &Route, now: SystemTime) -> bool {
    let on_route = key.routes.is_empty() || key.routes.iter().any(|name| **name == *route.name);
    let begun = key.not_before.is_none_or(|from| from <= now);
    let ended = key.expires.is_some_and(|until| until <= now);
    on_route && begun && !ended && key.revoked.is_none()
}

/// Keys have no claims.
fn has(key: &StoredKey, access: &Access, demands: &[&Demand]) -> bool {
    let holds = |names: &[Arc<str>]| {
        let mut roles = key.roles.iter();
        roles.any(|role| names.iter().any(|name| **name == **role))
    };
    let granted = |needed: &Needed| {
        let mut own = key.permissions.iter();
        holds(&needed.granted_by) || own.any(|grant| needed.permission.is_granted_by(grant))
    };
    let permitted = demands.iter().all(|demand| is_met(demand, granted));
    let roles = access.roles.as_ref();
    permitted && roles.is_none_or(|roles| holds(&roles.held_by)) && access.claims.is_empty()
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none of its keys".to_owned(),
        names if names.len() <= MOST_NAMES => names.join(", "),
        names => {
            let left = names.len() - MOST_NAMES;
            format!("{} and {left} more", names[..MOST_NAMES].join(", "))
        }
    }
}

const MOST_NAMES: usize = 20;
