//! `/api/keys`: the API keys as data.

use std::time::SystemTime;

use serde::Serialize;

use super::page::Named;
use crate::{config::date_of, exchange::KeyState};

/// One key. There is no hash in it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Key {
    /// The name of its principal: `api_keys.partners:partner-7`.
    name: String,
    /// Its id in the file.
    id: String,
    roles: Vec<String>,
    revoked: bool,
    created: Option<String>,
    not_before: Option<String>,
    expires: Option<String>,
    /// To the second, since the process began.
    last_used: Option<String>,
}

impl Named for Key {
    fn name(&self) -> &str {
        &self.name
    }
}

/// The keys as they are shown.
pub(super) fn keys(states: Vec<KeyState>) -> Vec<Key> {
    let key = |state: KeyState| Key {
        name: state.name,
        id: state.id,
        roles: state.roles,
        revoked: state.revoked,
        created: date(state.created),
        not_before: date(state.not_before),
        expires: date(state.expires),
        last_used: date(state.last_used),
    };
    states.into_iter().map(key).collect()
}

fn date(moment: Option<SystemTime>) -> Option<String> {
    moment.map(|moment| date_of(moment).to_string())
}
