//! Metrics of the keys of issuers.

use std::{sync::Arc, time::SystemTime};

use prometheus::IntCounter;

use super::{
    holders::{HeldSeries, Holder, Holders},
    singles::IssuerFamilies,
};

/// The handle of one issuer's keys. The series go with the issuer's last handle.
#[derive(Debug)]
pub struct IssuerMetrics {
    holder: Holder<IssuerFamilies>,
    /// Tokens with an unknown key that waited for a fetch: they asked for it, or it was under way.
    pub unknown_fetched: IntCounter,
    /// Those that came too soon after the last fetch.
    pub unknown_in_cooldown: IntCounter,
    /// Those whose key had been looked for before.
    pub unknown_remembered: IntCounter,
}

impl IssuerMetrics {
    pub(super) fn new(issuer: &str, issuers: &Arc<Holders<IssuerFamilies>>) -> Self {
        let holder = Holder::new(issuer, issuers);
        let unknown = &holder.families().unknown;
        Self {
            unknown_fetched: unknown.with_label_values(&[issuer, FETCHED]),
            unknown_in_cooldown: unknown.with_label_values(&[issuer, COOLDOWN]),
            unknown_remembered: unknown.with_label_values(&[issuer, REMEMBERED]),
            holder,
        }
    }

    /// Counts a fetch that brought keys: how many, and when.
    pub fn fetched(&self, keys: usize, at: SystemTime) {
        let (labels, families) = ([self.holder.name()], self.holder.families());
        let since = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        families.keys.with_label_values(&labels).set(keys);
        families.refreshed.with_label_values(&labels).set(seconds);
        self.count(SUCCESS);
    }

    /// Tells that the keys are too old to be used.
    pub fn lost(&self) {
        let keys = &self.holder.families().keys;
        keys.with_label_values(&[self.holder.name()]).set(0);
    }

    /// Counts a fetch that brought none.
    pub fn failed(&self) {
        self.count(FAILURE);
    }

    fn count(&self, result: &str) {
        let refreshes = &self.holder.families().refreshes;
        let labels = [self.holder.name(), result];
        refreshes.with_label_values(&labels).inc();
    }
}

impl HeldSeries for IssuerFamilies {
    fn remove(&self, issuer: &str) {
        // Removing fails only when the series is not there.
        let _ = self.keys.remove_label_values(&[issuer]);
        let _ = self.refreshed.remove_label_values(&[issuer]);
        for result in [SUCCESS, FAILURE] {
            let _ = self.refreshes.remove_label_values(&[issuer, result]);
        }
        for result in [FETCHED, COOLDOWN, REMEMBERED] {
            let _ = self.unknown.remove_label_values(&[issuer, result]);
        }
    }
}

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";
const FETCHED: &str = "fetched";
const COOLDOWN: &str = "cooldown";
const REMEMBERED: &str = "remembered";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn the_series_of_an_issuer_live_as_long_as_its_last_handle() {
        let metrics = Metrics::new();
        let old = metrics.issuer("jwt.customers");
        old.failed();
        let new = metrics.issuer("jwt.customers");
        new.fetched(3, SystemTime::UNIX_EPOCH + Duration::from_secs(7));
        new.unknown_remembered.inc();
        new.unknown_remembered.inc();
        drop(old);
        let text = metrics.encode();
        for line in [
            "tollgate_jwks_keys{issuer=\"jwt.customers\"} 3",
            "tollgate_jwks_last_refresh_timestamp_seconds{issuer=\"jwt.customers\"} 7",
            "tollgate_jwks_refreshes_total{issuer=\"jwt.customers\",result=\"failure\"} 1",
            "tollgate_jwks_refreshes_total{issuer=\"jwt.customers\",result=\"success\"} 1",
            "tollgate_jwks_unknown_keys_total{issuer=\"jwt.customers\",result=\"cooldown\"} 0",
            "tollgate_jwks_unknown_keys_total{issuer=\"jwt.customers\",result=\"remembered\"} 2",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        drop(new);
        assert!(!metrics.encode().contains("jwt.customers"));
    }
}
