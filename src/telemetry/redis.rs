//! Metrics of the Redis that gateways share.

use prometheus::{Histogram, IntCounterVec, IntGauge};

/// What is told of Redis. A clone counts the same.
#[derive(Clone, Debug)]
pub struct RedisMetrics {
    /// Whether it answered last.
    pub up: IntGauge,
    /// Whether the breaker is open, so that it is not asked.
    pub open: IntGauge,
    /// How long answers took, those about stored answers aside.
    pub duration: Histogram,
    /// How long those about stored answers took.
    pub answers_duration: Histogram,
    /// Calls without a usable answer, by cause.
    pub errors: IntCounterVec,
}

/// What is told of the answers that gateways share. A clone counts the same.
#[derive(Clone, Debug)]
pub struct SecondTierMetrics {
    /// Looks, and what they found that was of no use, by result.
    pub looks: IntCounterVec,
    /// Answers that were to be stored, by result.
    pub stores: IntCounterVec,
}

impl SecondTierMetrics {
    /// How many looks had a result so far.
    #[must_use]
    pub fn looked(&self, result: &str) -> u64 {
        self.looks.with_label_values(&[result]).get()
    }
}
