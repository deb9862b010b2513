//! Metrics of the Redis that gateways share.

use prometheus::{Histogram, IntCounterVec, IntGaugeVec};

/// What is told of Redis. A clone counts the same.
#[derive(Clone, Debug)]
pub struct RedisMetrics {
    /// Whether it answered last. Both are shown from when they are first set.
    pub up: IntGaugeVec,
    /// Whether the breaker is open, so that it is not asked.
    pub open: IntGaugeVec,
    /// How long answers took, those about stored answers aside.
    pub duration: Histogram,
    /// How long those about stored answers took.
    pub answers_duration: Histogram,
    /// Calls without a usable answer, by cause.
    pub errors: IntCounterVec,
}

impl RedisMetrics {
    /// Tells whether it is away.
    pub fn show(&self, away: bool) {
        let set = |gauge: &IntGaugeVec, to: bool| {
            gauge.with_label_values::<&str>(&[]).set(to.into());
        };
        set(&self.up, !away);
        set(&self.open, away);
    }
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
