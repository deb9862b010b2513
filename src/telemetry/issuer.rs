//! Metrics of the keys of issuers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use prometheus::{IntCounterVec, IntGaugeVec};

use super::families::Singles;

/// The keys of all issuers. There are few issuers, so they stand outside the cap.
#[derive(Debug)]
pub(super) struct Issuers {
    keys: IntGaugeVec,
    refreshed: IntGaugeVec,
    refreshes: IntCounterVec,
    /// Handles of each issuer: a reload makes the new one before the old one goes.
    held: Mutex<HashMap<Arc<str>, usize>>,
}

impl Issuers {
    pub(super) fn new(singles: &Singles) -> Arc<Self> {
        Arc::new(Self {
            keys: singles.issuer_keys.clone(),
            refreshed: singles.issuer_refreshed.clone(),
            refreshes: singles.issuer_refreshes.clone(),
            held: Mutex::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // A number is written as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of one issuer's keys. The series go with the issuer's last handle.
#[derive(Debug)]
pub struct IssuerMetrics {
    issuer: Arc<str>,
    issuers: Arc<Issuers>,
}

impl IssuerMetrics {
    pub(super) fn new(issuer: &str, issuers: &Arc<Issuers>) -> Self {
        let issuer: Arc<str> = issuer.into();
        *issuers.held().entry(Arc::clone(&issuer)).or_default() += 1;
        let issuers = Arc::clone(issuers);
        Self { issuer, issuers }
    }

    /// Counts a fetch that brought keys: how many, and when.
    pub fn fetched(&self, keys: usize, at: SystemTime) {
        let labels = [&*self.issuer];
        let since = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.issuers.keys.with_label_values(&labels).set(keys);
        self.issuers
            .refreshed
            .with_label_values(&labels)
            .set(seconds);
        self.count(SUCCESS);
    }

    /// Tells that the keys are too old to be used.
    pub fn lost(&self) {
        self.issuers.keys.with_label_values(&[&self.issuer]).set(0);
    }

    /// Counts a fetch that brought none.
    pub fn failed(&self) {
        self.count(FAILURE);
    }

    fn count(&self, result: &str) {
        let labels = [&*self.issuer, result];
        self.issuers.refreshes.with_label_values(&labels).inc();
    }
}

impl Drop for IssuerMetrics {
    fn drop(&mut self) {
        let mut held = self.issuers.held();
        let handles = held.entry(Arc::clone(&self.issuer)).or_default();
        *handles = handles.saturating_sub(1);
        if *handles > 0 {
            return;
        }
        held.remove(&self.issuer);
        // Removing fails only when the series is not there.
        let _ = self.issuers.keys.remove_label_values(&[&self.issuer]);
        let _ = self.issuers.refreshed.remove_label_values(&[&self.issuer]);
        for result in [SUCCESS, FAILURE] {
            let labels = [&*self.issuer, result];
            let _ = self.issuers.refreshes.remove_label_values(&labels);
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
