//! One breaker for the whole process and one purpose: while Redis is away, asking it costs one load.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst},
    time::Duration,
};

/// Closed, or open until somebody has found Redis back.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures since the last success.
    failures: AtomicU32,
    /// In one order with the mark of the task that looks for Redis: one of them sees the other.
    open: AtomicBool,
}

/// What a failure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nothing: a connection is being made, or one key alone is of no use.
    Nothing,
    /// A few of them in a row are enough.
    Counts,
    /// No other try is worth it.
    Opens,
}

impl Breaker {
    /// Whether requests go on without Redis.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(SeqCst)
    }

    /// Notes a success.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Notes a failure of so many requests; whether it has opened.
    pub(super) fn failed(&self, weight: Weight, requests: u32) -> bool {
        if weight == Weight::Nothing {
            return false;
        }
        let failures = self.failures.fetch_add(requests, Relaxed) + requests;
        if weight == Weight::Counts && failures < MOST_FAILURES {
            return false;
        }
        !self.open.swap(true, SeqCst)
    }

    /// Redis is back.
    pub(super) fn close(&self) {
        self.failures.store(0, Relaxed);
        self.open.store(false, SeqCst);
    }
}

/// Until the next look, after so many in vain: longer each time, and not the same for all gateways.
pub(super) fn pause(tries: u32) -> Duration {
    let full = (SHORTEST << tries.min(8)).min(LONGEST);
    Duration::from_millis(full / 2 + fastrand::u64(0..=full / 2))
}

/// Failures in a row after which Redis is left alone.
pub(super) const MOST_FAILURES: u32 = 5;
const SHORTEST: u64 = 100;
const LONGEST: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_failures_open_it_and_one_success_between_does_not_count_them() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 0..MOST_FAILURES - 1 {
                assert!(!breaker.failed(Weight::Counts, 1));
            }
            breaker.succeeded();
        }
        assert!(!breaker.is_open());
        for _ in 0..MOST_FAILURES - 1 {
            assert!(!breaker.failed(Weight::Counts, 1));
        }
        assert!(breaker.failed(Weight::Counts, 1));
        assert!(breaker.is_open());
    }

    #[test]
    fn a_connection_that_is_being_made_does_not_open_it() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            assert!(!breaker.failed(Weight::Nothing, 1));
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_server_that_is_gone_opens_it_at_once_until_it_is_back() {
        let breaker = Breaker::default();
        assert!(breaker.failed(Weight::Opens, 1));
        assert!(!breaker.failed(Weight::Opens, 1), "it is open already");
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open());
        assert!(breaker.failed(Weight::Opens, 1));
    }

    #[test]
    fn looks_come_soon_and_then_every_second() {
        for tries in 0..100 {
            let pause = pause(tries).as_millis();
            assert!((50..=1_000).contains(&pause));
        }
        assert!(pause(0).as_millis() <= 100);
        assert!(pause(50).as_millis() >= 500);
    }
}
