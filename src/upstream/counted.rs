//! A request to a server is counted once, however it ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    exchange::{Reason, Response, UpstreamError},
    telemetry::ServerMetrics,
};

/// A request that is not counted yet. Dropped before it is finished, its client has left.
pub(super) struct Counted<'a> {
    metrics: &'a ServerMetrics,
    started: Instant,
    finished: bool,
}

impl<'a> Counted<'a> {
    pub(super) fn new(metrics: &'a ServerMetrics, started: Instant) -> Self {
        Self {
            metrics,
            started,
            finished: false,
        }
    }

    /// Counts what has become of the request after this time.
    pub(super) fn finish(mut self, outcome: &Result<Response, UpstreamError>, took: Duration) {
        self.finished = true;
        match outcome {
            Ok(answer) => self.metrics.answered(answer.status(), took),
            Err(error) => self.metrics.failed(error.reason, took),
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.metrics
                .failed(Reason::ClientGone, self.started.elapsed());
        }
    }
}
