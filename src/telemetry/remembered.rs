//! Metrics of credentials that are remembered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{IntCounter, IntCounterVec};

use super::families::Singles;

/// The memories of all ways to authenticate. There are few, so they stand outside the cap.
#[derive(Debug)]
pub(super) struct Memories {
    lookups: IntCounterVec,
    /// Handles of each method: a reload makes the new one before the old one goes.
    held: Mutex<HashMap<Arc<str>, usize>>,
}

impl Memories {
    pub(super) fn new(singles: &Singles) -> Arc<Self> {
        Arc::new(Self {
            lookups: singles.remembered.clone(),
            held: Mutex::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // A number is written as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often one way to authenticate knew a credential already. The series go with the method's last
/// handle.
#[derive(Debug)]
pub struct MemoryMetrics {
    method: Arc<str>,
    memories: Arc<Memories>,
    /// Credentials that were remembered.
    pub hits: IntCounter,
    /// Credentials that had to be checked.
    pub misses: IntCounter,
}

impl MemoryMetrics {
    pub(super) fn new(method: &Arc<str>, memories: &Arc<Memories>) -> Self {
        *memories.held().entry(Arc::clone(method)).or_default() += 1;
        let counter = |result: &str| memories.lookups.with_label_values(&[&**method, result]);
        Self {
            method: Arc::clone(method),
            memories: Arc::clone(memories),
            hits: counter(HIT),
            misses: counter(MISS),
        }
    }
}

impl Drop for MemoryMetrics {
    fn drop(&mut self) {
        let mut held = self.memories.held();
        let handles = held.entry(Arc::clone(&self.method)).or_default();
        *handles = handles.saturating_sub(1);
        if *handles > 0 {
            return;
        }
        held.remove(&self.method);
        for result in [HIT, MISS] {
            // Removing fails only when the series is not there.
            let labels = [&*self.method, result];
            let _ = self.memories.lookups.remove_label_values(&labels);
        }
    }
}

const HIT: &str = "hit";
const MISS: &str = "miss";

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;

    #[test]
    fn the_series_of_a_memory_live_as_long_as_its_last_handle() {
        let metrics = Metrics::new();
        let name = "jwt.customers".into();
        let old = metrics.memory(&name);
        old.hits.inc();
        let new = metrics.memory(&name);
        drop(old);
        new.hits.inc();
        let series = "method=\"jwt.customers\",result=\"hit\"} 2";
        assert!(metrics.encode().contains(series));
        drop(new);
        assert!(!metrics.encode().contains("jwt.customers"));
    }
}
