//! Rate limits as the admin listener shows them.

use crate::{
    admin::{LimitKey, LimitKeys, LimitState, LimitWindow},
    config::LimitStore,
    pipeline::{Limit, LimitKeyList, LimitKeyState, LimitWindowState},
};

/// One limit.
pub(super) fn state(limit: &Limit) -> LimitState {
    let config = limit.config();
    let is_shared = config.store == LimitStore::Redis;
    LimitState {
        name: config.name.to_string(),
        algorithm: config.algorithm.as_str(),
        key: config.key.iter().map(ToString::to_string).collect(),
        quota: config.quota.iter().map(ToString::to_string).collect(),
        enforce: config.enforce,
        store: word(config.store),
        lease: is_shared.then_some(config.lease),
        keys: (!is_shared).then(|| limit.keys()),
        max_keys: config.max_keys,
        bytes: limit.bytes(),
    }
}

/// Its busiest keys.
pub(super) fn keys(list: LimitKeyList) -> LimitKeys {
    LimitKeys {
        store: word(list.store),
        total: list.total,
        sample: list.is_sample,
        keys: list.keys.into_iter().map(key).collect(),
    }
}

/// One key.
pub(super) fn key(state: LimitKeyState) -> LimitKey {
    LimitKey {
        hash: state.hash,
        key: state.key.map(Into::into),
        store: word(state.store),
        windows: state.windows.into_iter().map(window).collect(),
    }
}

fn word(store: LimitStore) -> &'static str {
    match store {
        LimitStore::Memory => "memory",
        LimitStore::Redis => "redis",
    }
}

fn window(state: LimitWindowState) -> LimitWindow {
    let timed = !state.algorithm.is_held();
    LimitWindow {
        quota: state.window.quota,
        seconds: timed.then(|| seconds(state.window.per)),
        remaining: state.standing.remaining,
        reset_seconds: state.standing.reset.map(seconds),
    }
}

#[allow(clippy::cast_precision_loss)] // For people.
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
