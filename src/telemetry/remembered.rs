//! Metrics of credentials that are remembered.

use std::sync::Arc;

use prometheus::IntCounter;

use super::{
    holders::{HeldSeries, Holder, Holders},
    singles::MemoryFamilies,
};

/// How often one way to authenticate knew a credential already. The series go with the method's last
/// handle.
#[derive(Debug)]
pub struct MemoryMetrics {
    _holder: Holder<MemoryFamilies>,
    /// Credentials that were remembered.
    pub hits: IntCounter,
    /// Credentials that had to be checked.
    pub misses: IntCounter,
}

impl MemoryMetrics {
    pub(super) fn new(method: &str, memories: &Arc<Holders<MemoryFamilies>>) -> Self {
        let holder = Holder::new(method, memories);
        let lookups = &holder.families().lookups;
        Self {
            hits: lookups.with_label_values(&[method, HIT]),
            misses: lookups.with_label_values(&[method, MISS]),
            _holder: holder,
        }
    }
}

impl HeldSeries for MemoryFamilies {
    fn remove(&self, method: &str) {
        for result in [HIT, MISS] {
            // Removing fails only when the series is not there.
            let _ = self.lookups.remove_label_values(&[method, result]);
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
