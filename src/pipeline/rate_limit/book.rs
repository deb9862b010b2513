//! All limits of a configuration, and what an operator may ask of them.

use std::{collections::BTreeMap, sync::Arc};

use super::limit::Limit;
use crate::{
    config::{LimitAlgorithm, RateLimit},
    exchange::Clock,
    store::{KeyHash, Standing, Window},
    telemetry::Metrics,
};

/// The limits by their names.
#[derive(Clone, Default)]
pub struct LimitBook {
    limits: BTreeMap<Arc<str>, Arc<Limit>>,
}

/// How one key of a limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitKeyState {
    /// The key's hash, as 32 hexadecimal digits.
    pub hash: String,
    /// The key in the clear, where the limit shows keys.
    pub key: Option<Box<str>>,
    /// Each window of the limit's own quota.
    pub windows: Vec<LimitWindowState>,
}

/// How one window of a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitWindowState {
    /// How it is counted.
    pub algorithm: LimitAlgorithm,
    /// The quota, and its time.
    pub window: Window,
    /// What is left of it.
    pub standing: Standing,
}

impl LimitBook {
    /// Builds what is new or changed and takes over the rest. A limit whose quota changed is another
    /// one with the same counters.
    #[must_use]
    pub fn build(
        limits: &BTreeMap<Arc<str>, RateLimit>,
        clock: &Clock,
        metrics: &Arc<Metrics>,
        running: &Self,
    ) -> Self {
        let limits = limits.iter().map(|(name, config)| {
            let known = running.limits.get(name);
            let unchanged = known.filter(|known| known.config == *config);
            let limit = unchanged.map_or_else(
                || {
                    Arc::new(Limit::new(
                        config,
                        clock,
                        metrics,
                        known.map(|known| &**known),
                    ))
                },
                Arc::clone,
            );
            (Arc::clone(name), limit)
        });
        Self {
            limits: limits.collect(),
        }
    }

    /// A limit.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Limit>> {
        self.limits.get(name)
    }

    /// All limits.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.limits.values()
    }

    /// Lets idle keys go, a part of them a call; for a thread that has time.
    pub fn sweep(&self) {
        for limit in self.limits.values() {
            limit.counters.counting.sweep(limit.now());
        }
    }
}

impl Limit {
    /// What the configuration says.
    #[must_use]
    pub fn config(&self) -> &RateLimit {
        &self.config
    }

    /// Keys that are held.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.counters.counting.keys()
    }

    /// Bytes that are held for them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.counters.counting.bytes()
    }

    /// The keys that have used most, the busiest first.
    #[must_use]
    pub fn busiest(&self, most: usize) -> Vec<LimitKeyState> {
        let now = self.now();
        let busiest = self.counters.counting.busiest(now, most);
        busiest
            .into_iter()
            .filter_map(|key| self.state_at(key, now))
            .collect()
    }

    /// A key's state, by its hash or by its value where the key has one part; `None` when it is
    /// unknown, so that all of its quota is left.
    #[must_use]
    pub fn state(&self, key: &str) -> Option<LimitKeyState> {
        self.state_at(self.key_named(key)?, self.now())
    }

    /// Forgets what a key has used; whether it was known.
    pub fn reset(&self, key: &str) -> bool {
        let key = self.key_named(key);
        key.is_some_and(|key| self.counters.counting.forget(key))
    }

    fn state_at(&self, key: KeyHash, now: u64) -> Option<LimitKeyState> {
        let windows = &self.tier().windows;
        let standings = self.counters.counting.standings(key, windows, now)?;
        let windows = windows.iter().zip(standings);
        Some(LimitKeyState {
            hash: key.to_string(),
            key: self.counters.shown(key),
            windows: windows
                .map(|(&window, standing)| LimitWindowState {
                    algorithm: self.config.algorithm,
                    window,
                    standing,
                })
                .collect(),
        })
    }

    fn now(&self) -> u64 {
        self.counters.at(self.clock.now())
    }
}
