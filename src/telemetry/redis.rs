//! Metrics of the Redis that gateways share.

use prometheus::{Histogram, IntCounterVec, IntGauge};

/// What is told of Redis. A clone counts the same.
#[derive(Clone, Debug)]
pub struct RedisMetrics {
    /// Whether it answered last.
    pub up: IntGauge,
    /// Whether the breaker is open, so that it is not asked.
    pub open: IntGauge,
    /// How long answers took.
    pub duration: Histogram,
    /// Calls without a usable answer, by cause.
    pub errors: IntCounterVec,
}
