//! One quota, and what an algorithm says about it.

use std::time::Duration;

/// So many in such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// How many; at least 1. In flight at a time for a limit of concurrency.
    pub quota: u32,
    /// In how many nanoseconds; at least 1.
    pub per: u64,
    /// How many at once; at least 1. The quota for all but a token bucket.
    pub bucket: u32,
    /// Divided once, not for each request.
    interval: u64,
}

impl Window {
    /// A quota whose bucket is as large as the quota unless told.
    ///
    /// What no counter could hold is brought into range: a quota of 1 to 4,294,967,295, a time of a
    /// nanosecond to ten years, a bucket that fills within a century.
    #[must_use]
    pub fn new(quota: u64, per: Duration, bucket: Option<u64>) -> Self {
        let quota = counted(quota);
        let per = nanos(per).clamp(1, LONGEST);
        let interval = per.div_ceil(u64::from(quota));
        let most = MOST_FILLING / interval;
        Self {
            quota,
            per,
            bucket: counted(bucket.unwrap_or(u64::from(quota)).min(most)),
            interval,
        }
    }

    /// A quota of what may be held at a time.
    #[must_use]
    pub fn held(quota: u64) -> Self {
        Self::new(quota, Duration::from_nanos(1), None)
    }

    /// Nanoseconds a request, rounded up: never more than the quota is let through in the long run,
    /// and less than a nanosecond a request is lost.
    #[must_use]
    pub fn interval(&self) -> u64 {
        self.interval
    }
}

/// A request fits; how things stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many more would fit now.
    pub remaining: u32,
    /// Nanoseconds until more would, if time alone brings it.
    pub reset: Option<u64>,
}

impl Standing {
    /// Nothing limits.
    pub(super) const UNLIMITED: Self = Self {
        remaining: u32::MAX,
        reset: None,
    };

    /// Nothing of a window is used.
    #[must_use]
    pub fn of_all(window: &Window) -> Self {
        Self {
            remaining: window.bucket,
            reset: Some(0),
        }
    }

    /// Whether less is left than elsewhere, or as little for longer.
    #[must_use]
    pub fn is_tighter(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.remaining, std::cmp::Reverse(it.reset));
        key(self) < key(other)
    }
}

/// A request does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Nanoseconds until it would if nothing else came; `None` when time alone does not bring it.
    pub wait: Option<u64>,
}

/// A duration in nanoseconds; 584 years at most.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The end of the window of such a length that holds a moment. Windows begin at multiples of their
/// length.
pub(super) fn end_of(per: u64, now: u64) -> u64 {
    let begun = now - now % per.max(1);
    begun.saturating_add(per)
}

fn counted(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).max(1)
}

/// Ten years.
const LONGEST: u64 = 3650 * 86_400 * 1_000_000_000;
/// A century: what a full bucket may take. Twice of it, and the debt that may come on top, still
/// fit 64 bits.
const MOST_FILLING: u64 = 10 * LONGEST;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_counter_holds_is_brought_into_range() {
        let window = Window::new(0, Duration::ZERO, Some(0));
        assert_eq!((window.quota, window.per, window.bucket), (1, 1, 1));
        let window = Window::new(u64::MAX, Duration::MAX, None);
        assert_eq!((window.quota, window.per), (u32::MAX, LONGEST));
        let window = Window::new(1, Duration::MAX, Some(u64::MAX));
        assert_eq!(window.bucket, 10);
    }
}
