//! What listeners tell, as metrics and log lines.

use std::{fmt::Display, sync::Arc};

use crate::{
    exchange::{Connection, Reason},
    listener::Observer,
    telemetry::Metrics,
};

/// Counts connections and what hyper's parser refused. None of it is on the path of a request.
pub(super) struct Figures {
    metrics: Arc<Metrics>,
}

impl Figures {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl Observer for Figures {
    fn opened(&self, listener: &str) {
        self.metrics.listener(listener).opened();
    }

    fn closed(&self, listener: &str) {
        self.metrics.listener(listener).closed();
    }

    fn refused(&self, listener: &str, reason: Reason) {
        self.metrics.listener(listener).refused(reason);
    }

    fn malformed(&self, connection: &Connection, reason: Reason, detail: &dyn Display) {
        self.metrics
            .listener(&connection.listener)
            .malformed(reason);
        tracing::info!(
            client = %connection.peer.ip(),
            listener = &*connection.listener,
            reason = reason.as_str(),
            detail = %detail,
            "a connection was refused"
        );
    }
}
