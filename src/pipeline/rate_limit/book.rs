//! All limits of a configuration, and what an operator may ask of them.

use std::{collections::BTreeMap, sync::Arc};

use super::{limit::Limit, tier::Tier};
use crate::{
    config::{LimitAlgorithm, LimitStore, RateLimit},
    exchange::Clock,
    store::{Away, KeyHash, Redis, Standing, Window},
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
    /// Where that is counted.
    pub store: LimitStore,
    /// Each window of the quota: the limit's own, unless the key was named and its name tells of
    /// another.
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
        redis: Option<&Arc<Redis>>,
    ) -> Self {
        let limits = limits.iter().map(|(name, config)| {
            let known = running.limits.get(name);
            let unchanged = known.filter(|known| known.config == *config && known.counts_in(redis));
            let limit = unchanged.map_or_else(
                || {
                    Arc::new(Limit::new(
                        config,
                        clock,
                        metrics,
                        known.map(|known| &**known),
                        redis,
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

    /// Gives every limit the room that its configuration says. For the limits that are in force from
    /// now on: building alone must change nothing of running ones, whose counters the new ones share,
    /// since a reload may still be refused.
    pub fn take_effect(&self) {
        for limit in self.limits.values() {
            limit.counters.counting.hold(limit.config.max_keys);
        }
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

    /// A key's state, by its hash or by its value where the key has one part; `None` when it is
    /// unknown, so that all of its quota is left. Of several keys that a value may be, the first that
    /// is known. A limit over Redis is looked up there first, and in this process when it is not known
    /// there, or Redis is away.
    pub async fn state(&self, key: &str) -> Option<LimitKeyState> {
        for (key, tier) in self.keys_named(key) {
            let state = match self.shared_state(key, tier).await {
                Some(state) => Some(state),
                None => self.state_at(key, tier, self.now()),
            };
            if state.is_some() {
                return state;
            }
        }
        None
    }

    /// Forgets what a key has used, here and in Redis; whether it was known. A value that may be several
    /// keys is all of them.
    ///
    /// # Errors
    ///
    /// When the limit is counted in Redis, and that is away.
    pub async fn reset(&self, key: &str) -> Result<bool, Away> {
        let mut known = false;
        for (key, tier) in self.keys_named(key) {
            known |= self.counters.counting.forget(key);
            if let Some(shared) = &self.shared {
                let ask = shared.limit(self, tier).look(key);
                known |= shared.redis.forget_key(CONTROL, ask).await?;
            }
        }
        Ok(known)
    }

    async fn shared_state(&self, key: KeyHash, tier: &Tier) -> Option<LimitKeyState> {
        let shared = self.shared.as_ref()?;
        let ask = shared.limit(self, tier).look(key);
        let standings = shared.redis.standings(CONTROL, ask).await.ok()??;
        Some(self.shown_state((key, tier), LimitStore::Redis, standings))
    }

    pub(super) fn state_at(&self, key: KeyHash, tier: &Tier, now: u64) -> Option<LimitKeyState> {
        let counting = &self.counters.counting;
        let standings = counting.standings(key, &tier.windows, now)?;
        Some(self.shown_state((key, tier), LimitStore::Memory, standings))
    }

    pub(super) fn shown_state(
        &self,
        (key, tier): (KeyHash, &Tier),
        store: LimitStore,
        standings: Vec<Standing>,
    ) -> LimitKeyState {
        let windows = tier.windows.iter().zip(standings);
        LimitKeyState {
            hash: key.to_string(),
            key: self.counters.shown(key),
            store,
            windows: windows
                .map(|(&window, standing)| LimitWindowState {
                    algorithm: self.config.algorithm,
                    window,
                    standing,
                })
                .collect(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.counters.at(self.clock.now())
    }
}

/// The worker that is none: the control runtime, which has a connection of its own.
pub(super) const CONTROL: usize = usize::MAX;
