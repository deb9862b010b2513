//! Which table each key of a route comes from: what the running configuration shows.

use std::{collections::BTreeMap, sync::Arc};

use super::{route::RouteKeys, share::Layers};

/// Where the keys of a route come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSources {
    /// `group`: the route's group, if it has one.
    pub group: Option<Arc<str>>,
    /// The keys that are written somewhere, and in which table; all others have their defaults.
    pub keys: BTreeMap<&'static str, KeySource>,
}

/// A table that a key of a route may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `[routes.NAME]`.
    Route,
    /// `[groups.NAME]`.
    Group,
    /// `[defaults]`.
    Defaults,
}

impl KeySource {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Group => "group",
            Self::Defaults => "defaults",
        }
    }
}

impl RouteSources {
    /// Where keys come from. A list with `"inherit"` comes from the table that says so.
    pub(super) fn of(layers: Layers<'_>) -> Self {
        let tables = [KeySource::Route, KeySource::Group, KeySource::Defaults];
        let mut sources = BTreeMap::new();
        // The nearest comes last, and stays.
        for (layer, table) in layers.layers.into_iter().zip(tables).rev() {
            let written = layer.into_iter().flat_map(keys);
            let written = written.filter(|(_, is_set)| *is_set);
            sources.extend(written.map(|(key, _)| (key, table)));
        }
        let group = layers.layers[0].and_then(|own| own.group.as_ref());
        Self {
            group: group.and_then(|set| set.value.as_deref().map(Arc::from)),
            keys: sources,
        }
    }
}

/// The names of fields, and whether they are set.
macro_rules! fields {
    ($of:ident: $($field:ident)*) => { vec![$((stringify!($field), $of.$field.is_some())),*] };
}

/// The keys that a table of a route may have, but for the name of its group; and whether it has them.
fn keys(of: &RouteKeys) -> Vec<(&'static str, bool)> {
    fields![of: hosts path path_case methods match_headers match_query priority upstream split
        respond redirect rewrite max_body timeouts rate_limits cost encoded_slash override_headers
        odd_header_names upgrade cors security_headers request_headers response_headers validation auth
        forward_credentials close_on_token_expiry origins permissions roles claims rbac ip cache]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::Table;

    #[test]
    fn every_key_of_a_route_is_looked_at() {
        let looked_at = keys(&RouteKeys::default()).into_iter().map(|(key, _)| key);
        let all = RouteKeys::KEYS.iter().copied();
        assert!(looked_at.eq(all.filter(|key| *key != "group")));
    }
}
