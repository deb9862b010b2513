//! One breaker for the whole process and one purpose: while Redis is away, asking it costs one load.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Closed, or open with a time at which somebody may look whether Redis is back.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures since the last success.
    failures: AtomicU32,
    /// When the next look is due, in milliseconds; 0 is closed.
    next: AtomicU64,
    /// How often in vain it was looked.
    tries: AtomicU32,
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Ask.
    Closed,
    /// Go on without.
    Open,
    /// Go on without, but have somebody look.
    Probe,
}

/// What a failure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nothing yet: a connection is being made.
    Nothing,
    /// A few of them in a row are enough.
    Counts,
    /// No other try is worth it.
    Opens,
}

impl Breaker {
    /// What may be done at a time, in milliseconds.
    pub(super) fn gate(&self, now: u64) -> Gate {
        let next = self.next.load(Relaxed);
        if next == 0 {
            return Gate::Closed;
        }
        if now < next {
            return Gate::Open;
        }
        let tries = self.tries.load(Relaxed);
        let later = now + pause(tries);
        // Of many who come at once, one looks.
        match self.next.compare_exchange(next, later, Relaxed, Relaxed) {
            Ok(_) => {
                self.tries.store(tries.saturating_add(1), Relaxed);
                Gate::Probe
            }
            Err(_) => Gate::Open,
        }
    }

    /// Notes a success.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Notes a failure; whether it has opened.
    pub(super) fn failed(&self, now: u64, weight: Weight) -> bool {
        if weight == Weight::Nothing {
            return false;
        }
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        if weight == Weight::Counts && failures < MOST_FAILURES {
            return false;
        }
        let due = now + pause(0);
        self.next.compare_exchange(0, due, Relaxed, Relaxed).is_ok()
    }

    /// Redis is back.
    pub(super) fn close(&self) {
        self.failures.store(0, Relaxed);
        self.tries.store(0, Relaxed);
        self.next.store(0, Relaxed);
    }
}

/// Milliseconds until the next look: longer each time, and not the same for all gateways.
fn pause(tries: u32) -> u64 {
    let full = (SHORTEST << tries.min(8)).min(LONGEST);
    full / 2 + fastrand::u64(0..=full / 2)
}

/// Failures in a row after which Redis is left alone.
const MOST_FAILURES: u32 = 5;
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
                assert!(!breaker.failed(1, Weight::Counts));
            }
            breaker.succeeded();
        }
        assert_eq!(breaker.gate(1), Gate::Closed);
        for _ in 0..MOST_FAILURES - 1 {
            assert!(!breaker.failed(1, Weight::Counts));
        }
        assert!(breaker.failed(1, Weight::Counts));
        assert_eq!(breaker.gate(1), Gate::Open);
    }

    #[test]
    fn a_connection_that_is_being_made_does_not_open_it() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            assert!(!breaker.failed(1, Weight::Nothing));
        }
        assert_eq!(breaker.gate(1), Gate::Closed);
    }

    #[test]
    fn a_server_that_is_gone_opens_it_at_once_and_one_looks_at_a_time() {
        let breaker = Breaker::default();
        assert!(breaker.failed(1, Weight::Opens));
        assert!(!breaker.failed(1, Weight::Opens), "it is open already");
        let mut now = 1 + SHORTEST;
        for _ in 0..20 {
            assert_eq!(breaker.gate(now), Gate::Probe);
            assert_eq!(breaker.gate(now), Gate::Open);
            now += LONGEST;
        }
        breaker.close();
        assert_eq!(breaker.gate(now), Gate::Closed);
    }
}
