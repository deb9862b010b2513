//! Metrics of the keys of issuers.

use std::{sync::Arc, time::SystemTime};

use super::{
    holders::{HeldSeries, Holder, Holders},
    singles::IssuerFamilies,
};

/// The handle of one issuer's keys. The series go with the issuer's last handle.
#[derive(Debug)]
pub struct IssuerMetrics(Holder<IssuerFamilies>);

impl IssuerMetrics {
    pub(super) fn new(issuer: &str, issuers: &Arc<Holders<IssuerFamilies>>) -> Self {
        Self(Holder::new(issuer, issuers))
    }

    /// Counts a fetch that brought keys: how many, and when.
    pub fn fetched(&self, keys: usize, at: SystemTime) {
        let (labels, families) = ([self.0.name()], self.0.families());
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
        let keys = &self.0.families().keys;
        keys.with_label_values(&[self.0.name()]).set(0);
    }

    /// Counts a fetch that brought none.
    pub fn failed(&self) {
        self.count(FAILURE);
    }

    fn count(&self, result: &str) {
        let refreshes = &self.0.families().refreshes;
        let labels = [self.0.name(), result];
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
    }
}

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";

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
        drop(old);
        let text = metrics.encode();
        for line in [
            "tollgate_jwks_keys{issuer=\"jwt.customers\"} 3",
            "tollgate_jwks_last_refresh_timestamp_seconds{issuer=\"jwt.customers\"} 7",
            "tollgate_jwks_refreshes_total{issuer=\"jwt.customers\",result=\"failure\"} 1",
            "tollgate_jwks_refreshes_total{issuer=\"jwt.customers\",result=\"success\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        drop(new);
        assert!(!metrics.encode().contains("jwt.customers"));
    }
}
