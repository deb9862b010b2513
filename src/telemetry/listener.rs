//! Metrics of one listener.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};

use crate::exchange::Reason;

use super::{cells::Cells, series::Shared};

/// The handle of one listener. There are few listeners, so they stand outside the cap.
#[derive(Debug)]
pub struct ListenerMetrics {
    name: Arc<str>,
    open: IntGauge,
    accepted: IntCounter,
    refused: Cells<Reason, IntCounter>,
    malformed: Cells<Reason, IntCounter>,
    shared: Arc<Shared>,
}

impl ListenerMetrics {
    pub(super) fn new(name: &str, shared: &Arc<Shared>) -> Self {
        Self {
            name: name.into(),
            open: shared.shown.listener.open.with_label_values(&[name]),
            accepted: shared.shown.listener.accepted.with_label_values(&[name]),
            refused: Cells::new(),
            malformed: Cells::new(),
            shared: Arc::clone(shared),
        }
    }

    /// Counts a connection in: accepted and open.
    pub fn opened(&self) {
        self.accepted.inc();
        self.open.inc();
    }

    /// Counts a connection out.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// Counts a connection that was closed at once.
    pub fn refused(&self, reason: Reason) {
        let labels = [&*self.name, reason.as_str()];
        let make = || {
            self.shared
                .shown
                .listener
                .refused
                .with_label_values(&labels)
        };
        // There are fewer reasons than the list is long.
        if let Some(counter) = self.refused.get(reason, make) {
            counter.inc();
        }
    }

    /// Counts a request that could not be read.
    pub fn malformed(&self, reason: Reason) {
        let labels = [&*self.name, reason.as_str()];
        let make = || {
            self.shared
                .shown
                .listener
                .malformed
                .with_label_values(&labels)
        };
        if let Some(counter) = self.malformed.get(reason, make) {
            counter.inc();
        }
    }

    /// Takes the listener's series out of the scrape.
    pub(super) fn remove(&self) {
        let families = &self.shared.shown.listener;
        // Removing fails only when the series is not there.
        let _ = families.open.remove_label_values(&[&self.name]);
        let _ = families.accepted.remove_label_values(&[&self.name]);
        for reason in Reason::ALL {
            let labels = [&*self.name, reason.as_str()];
            let _ = families.refused.remove_label_values(&labels);
            let _ = families.malformed.remove_label_values(&labels);
        }
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> i64 {
        self.open.get()
    }
}
