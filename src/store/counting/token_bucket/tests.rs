use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn window(quota: u64, seconds: u64, bucket: u64) -> Window {
    Window::new(quota, Duration::from_secs(seconds), Some(bucket))
}

/// A bucket in exact fractions: tokens times `quota`'s nanoseconds.
struct Reference {
    interval: u128,
    size: u128,
    level: u128,
    at: u64,
}

impl Reference {
    fn new(window: &Window) -> Self {
        let (interval, size) = (window.interval().into(), window.bucket.into());
        let level = size * interval;
        Self {
            interval,
            size,
            level,
            at: 0,
        }
    }

    /// Fills up to `now`, then takes if it can.
    fn take(&mut self, now: u64, cost: u32) -> bool {
        let passed = u128::from(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        self.level = (self.level + passed).min(self.size * self.interval);
        let taken = self.level.checked_sub(u128::from(cost) * self.interval);
        self.level = taken.unwrap_or(self.level);
        taken.is_some()
    }
}

#[test]
fn a_full_bucket_goes_at_once_and_then_at_its_rate() {
    let window = window(60, 60, 10);
    let mut bucket = TokenBucket::default();
    for remaining in (0..10).rev() {
        assert_eq!(bucket.take(&window, 0, 1).unwrap().remaining, remaining);
    }
    let refused = bucket.take(&window, SECOND / 4, 1).unwrap_err();
    assert_eq!(refused.wait, Some(SECOND * 3 / 4));
    assert!(bucket.take(&window, SECOND - 1, 1).is_err());
    assert!(bucket.take(&window, SECOND, 1).is_ok());
    assert!(bucket.take(&window, SECOND, 1).is_err());
}

#[test]
fn giving_back_undoes_taking_and_a_charge_goes_into_debt() {
    let window = window(10, 10, 10);
    let mut bucket = TokenBucket::default();
    bucket.take(&window, SECOND, 4).unwrap();
    bucket.give_back(&window, SECOND, 4);
    assert_eq!(bucket.standing(&window, SECOND).remaining, 10);
    bucket.charge(&window, SECOND, 25);
    assert_eq!(bucket.standing(&window, SECOND).remaining, 0);
    let refused = bucket.peek(&window, SECOND, 1).unwrap_err();
    assert_eq!(refused.wait, Some(16 * SECOND));
    assert!(bucket.take(&window, 17 * SECOND, 1).is_ok());
}

#[test]
fn a_changed_quota_keeps_what_was_used() {
    let (slow, fast) = (window(100, 60, 100), window(200, 60, 200));
    let mut bucket = TokenBucket::default();
    bucket.take(&slow, 0, 60).unwrap();
    assert_eq!(bucket.standing(&fast, 0).remaining, 140);
    bucket.take(&fast, 0, 40).unwrap();
    assert_eq!(bucket.standing(&slow, 0).remaining, 0);
    let narrow = window(50, 60, 50);
    assert_eq!(bucket.standing(&narrow, 0).remaining, 0);
}

#[test]
fn a_cost_over_the_bucket_never_fits_and_takes_nothing() {
    let window = window(10, 1, 5);
    let mut bucket = TokenBucket::default();
    assert!(bucket.take(&window, 0, 6).is_err());
    assert!(bucket.take(&window, 0, u32::MAX).is_err());
    assert_eq!(bucket.standing(&window, 0).remaining, 5);
}

#[test]
fn there_is_no_drift_over_a_million_steps() {
    // 3 a second does not divide: 333,333,333.3 nanoseconds each.
    let window = window(3, 1, 1);
    let (mut bucket, mut now) = (TokenBucket::default(), 0);
    for _ in 0..1_000_000 {
        match bucket.take(&window, now, 1) {
            Ok(_) => {}
            Err(refused) => {
                now += refused.wait.unwrap();
                bucket.take(&window, now, 1).unwrap();
            }
        }
    }
    let exact = 999_999 * SECOND / 3;
    assert!(now >= exact, "never earlier than the quota");
    assert!(now - exact <= 1_000_000, "a nanosecond a step at most");
}

#[test]
fn the_edges_of_64_bits_are_safe() {
    let largest = Window::new(u64::MAX, Duration::MAX, Some(u64::MAX));
    let slowest = Window::new(1, Duration::MAX, Some(u64::MAX));
    for window in [largest, slowest, window(1, 1, 1)] {
        let mut bucket = TokenBucket::default();
        for now in [0, 1, u64::MAX - 1, u64::MAX, 0] {
            for cost in [0, 1, u32::MAX] {
                let _ = bucket.take(&window, now, cost);
                bucket.charge(&window, now, cost);
                let _ = bucket.peek(&window, now, cost);
                let _ = bucket.standing(&window, now);
                bucket.give_back(&window, now, cost);
                bucket.refund(&window, u64::MAX, now, cost);
            }
        }
    }
}

proptest! {
    #[test]
    fn it_decides_as_an_exact_bucket_does(
        quota in 1u64..1_000,
        per in 1u64..10_000_000,
        bucket in 1u64..50,
        steps in prop::collection::vec((0u64..3_000_000, 1u32..6), 1..200),
    ) {
        let window = Window::new(quota, Duration::from_micros(per), Some(bucket));
        let (mut bucket, mut reference) = (TokenBucket::default(), Reference::new(&window));
        let mut now = SECOND;
        reference.at = now;
        for (step, cost) in steps {
            now += step;
            let before = bucket;
            let taken = bucket.take(&window, now, cost);
            prop_assert_eq!(taken.is_ok(), reference.take(now, cost));
            match taken {
                Ok(standing) => {
                    prop_assert_eq!(u128::from(standing.remaining), reference.level / reference.interval);
                }
                Err(refused) => {
                    prop_assert_eq!(before, bucket);
                    let wait = refused.wait.unwrap();
                    prop_assert!(wait > 0);
                    if cost <= window.bucket {
                        prop_assert!(bucket.peek(&window, now + wait, cost).is_ok());
                        prop_assert!(bucket.peek(&window, now + wait - 1, cost).is_err());
                    }
                }
            }
        }
    }

    /// More comes when it is said to come.
    #[test]
    fn the_reset_is_when_there_is_more(
        quota in 1u64..1_000, bucket in 1u64..50, used in 1u32..60, later in 0u64..SECOND,
    ) {
        let window = window(quota, 1, bucket);
        let mut state = TokenBucket::default();
        state.charge(&window, 0, used);
        let standing = state.standing(&window, later);
        let reset = standing.reset.unwrap();
        let more = state.standing(&window, later + reset);
        if reset > 0 {
            prop_assert_eq!(more.remaining, standing.remaining + 1);
            prop_assert_eq!(state.standing(&window, later + reset - 1).remaining, standing.remaining);
        } else {
            prop_assert_eq!(standing.remaining, window.bucket);
        }
    }

    #[test]
    fn a_clock_that_goes_back_lets_nothing_more_through(
        steps in prop::collection::vec((any::<bool>(), 0u64..SECOND), 1..200),
    ) {
        let window = window(10, 1, 10);
        let mut bucket = TokenBucket::default();
        let (mut now, mut taken) = (1_000 * SECOND, 0u64);
        let (mut earliest, mut latest) = (now, now);
        for (back, step) in steps {
            now = if back { now.saturating_sub(step) } else { now + step };
            (earliest, latest) = (earliest.min(now), latest.max(now));
            taken += u64::from(bucket.take(&window, now, 1).is_ok());
            let most = 10 + (latest - earliest) / window.interval();
            prop_assert!(taken <= most, "{taken} of {most}");
        }
    }
}
