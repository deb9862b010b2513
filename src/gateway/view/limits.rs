//! Rate limits as the admin listener shows them.

use crate::{
    admin::{LimitKey, LimitKeys, LimitState, LimitWindow},
    config::{LimitAlgorithm, LimitStore},
    pipeline::{Limit, LimitKeyState, LimitWindowState},
};

/// One limit.
pub(super) fn state(limit: &Limit) -> LimitState {
    let config = limit.config();
    LimitState {
        name: config.name.to_string(),
        algorithm: config.algorithm.as_str(),
        key: config.key.iter().map(ToString::to_string).collect(),
        quota: config.quota.iter().map(ToString::to_string).collect(),
        enforce: config.enforce,
        keys: limit.keys(),
        max_keys: config.max_keys,
        bytes: limit.bytes(),
    }
}

/// Its busiest keys.
pub(super) fn keys(limit: &Limit, most: usize) -> LimitKeys {
    LimitKeys {
        total: limit.keys(),
        keys: limit.busiest(most).into_iter().map(key).collect(),
    }
}

/// One key.
pub(super) fn key(state: LimitKeyState) -> LimitKey {
    LimitKey {
        hash: state.hash,
        key: state.key.map(Into::into),
        store: match state.store {
            LimitStore::Memory => "memory",
            LimitStore::Redis => "redis",
        },
        windows: state.windows.into_iter().map(window).collect(),
    }
}

fn window(state: LimitWindowState) -> LimitWindow {
    let timed = state.algorithm != LimitAlgorithm::Concurrency;
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
