//! Each algorithm against a plain reference that keeps every request, over random traces.

use super::*;
use crate::store::{Counters, Counting, KeyHash, KeyHasher};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

const SECOND: u64 = 1_000_000_000;

/// A moment and a cost.
type Step = (u64, u32);

fn window(quota: u64, per: Duration) -> Window {
    Window::new(quota, per, None)
}

/// Traces whose steps are often short, sometimes nothing and sometimes longer than the window.
fn trace(per: u64, costs: std::ops::Range<u32>) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => 0..per / 8,
        1 => Just(0),
        1 => 0..per * 3,
    ];
    prop::collection::vec((step, costs), 1..150).prop_map(|steps| {
        let mut now = 1_700_000_000 * SECOND;
        let at = |(step, cost)| {
            now += step;
            (now, cost)
        };
        steps.into_iter().map(at).collect()
    })
}

/// Runs a trace; gives what was let through. A refusal must leave the state, and its wait must be the
/// first moment at which the request fits.
fn run<A: Algorithm + PartialEq + std::fmt::Debug>(window: &Window, trace: &[Step]) -> Vec<Step> {
    let mut state = A::default();
    let mut passed = Vec::new();
    for &(now, cost) in trace {
        let before = state.standing(window, now);
        match state.take(window, now, cost) {
            Ok(standing) => {
                assert_eq!(standing, state.standing(window, now));
                assert_eq!(standing.remaining + cost, before.remaining);
                passed.push((now, cost));
            }
            Err(refused) => {
                assert_eq!(state.standing(window, now), before);
                assert!(before.remaining < cost);
                first_fit(&state, window, now, cost, refused);
            }
        }
        reset_is_right(&state, window, now);
    }
    passed
}

fn first_fit<A: Algorithm>(state: &A, window: &Window, now: u64, cost: u32, refused: Refused) {
    if cost > window.quota {
        return;
    }
    let wait = refused.wait.expect("time brings it");
    assert!(wait > 0);
    let fits = |at| state.clone().take(window, at, cost).is_ok();
    assert!(fits(now + wait), "it fits after {wait}");
    assert!(!fits(now + wait - 1), "and not before {wait}");
}

fn reset_is_right<A: Algorithm>(state: &A, window: &Window, now: u64) {
    let standing = state.standing(window, now);
    let reset = standing.reset.expect("time brings it");
    if standing.remaining < window.quota {
        let later = |at| state.standing(window, at).remaining;
        assert!(reset > 0);
        assert!(later(now + reset) > standing.remaining);
        assert_eq!(later(now + reset - 1), standing.remaining);
    }
}

/// The most that passed in any stretch of a length; the stretch is open at its beginning.
fn most_within(passed: &[Step], length: u64) -> u64 {
    let cost = |steps: &[Step]| steps.iter().map(|(_, cost)| u64::from(*cost)).sum();
    let ends = 1..=passed.len();
    let most = ends.map(|end| {
        let last = passed[end - 1].0;
        let begin = passed.partition_point(|(at, _)| at + length <= last);
        cost(&passed[begin..end])
    });
    most.max().unwrap_or(0)
}

/// The most that passed from one full window to the next.
fn most_in_a_full_window(passed: &[Step], per: u64) -> u64 {
    let mut sums = BTreeMap::<u64, u64>::new();
    for (at, cost) in passed {
        *sums.entry(at / per).or_default() += u64::from(*cost);
    }
    sums.into_values().max().unwrap_or(0)
}

/// What a fixed window lets through, by keeping every request.
fn fixed_reference(window: &Window, trace: &[Step]) -> Vec<Step> {
    let mut passed: Vec<Step> = Vec::new();
    for &(now, cost) in trace {
        let same = |(at, _): &&Step| at / window.per == now / window.per;
        let used: u64 = passed.iter().filter(same).map(|it| u64::from(it.1)).sum();
        if used + u64::from(cost) <= window.quota.into() {
            passed.push((now, cost));
        }
    }
    passed
}

/// What an exact sliding window lets through.
fn exact_reference(window: &Window, trace: &[Step]) -> Vec<Step> {
    let mut passed: Vec<Step> = Vec::new();
    for &(now, cost) in trace {
        let within = |(at, _): &&Step| now - at < window.per;
        let used: u64 = passed.iter().filter(within).map(|it| u64::from(it.1)).sum();
        if used + u64::from(cost) <= window.quota.into() {
            passed.push((now, cost));
        }
    }
    passed
}

/// What a weighted window lets through, in exact fractions.
fn weighted_reference(window: &Window, trace: &[Step]) -> Vec<Step> {
    let mut passed: Vec<Step> = Vec::new();
    for &(now, cost) in trace {
        let number = now / window.per;
        let used_in = |number: u64| -> u128 {
            let of = |(at, _): &&Step| at / window.per == number;
            passed.iter().filter(of).map(|it| u128::from(it.1)).sum()
        };
        let (per, left) = (
            u128::from(window.per),
            u128::from(window.per - now % window.per),
        );
        let counted = used_in(number) * per + used_in(number - 1) * left;
        if counted + u128::from(cost) * per <= u128::from(window.quota) * per {
            passed.push((now, cost));
        }
    }
    passed
}

proptest! {
    #[test]
    fn a_fixed_window_is_its_reference(
        quota in 1u64..40, trace in trace(SECOND, 1..5),
    ) {
        let window = window(quota, Duration::from_secs(1));
        let passed = run::<FixedWindow>(&window, &trace);
        prop_assert_eq!(&passed, &fixed_reference(&window, &trace));
        prop_assert!(most_within(&passed, window.per) <= 2 * quota);
        prop_assert!(most_in_a_full_window(&passed, window.per) <= quota);
    }

    #[test]
    fn a_log_is_its_reference_and_never_lets_more_than_the_quota_into_a_window(
        quota in 1u64..40, trace in trace(SECOND, 1..5),
    ) {
        let window = window(quota, Duration::from_secs(1));
        let passed = run::<SlidingLog>(&window, &trace);
        prop_assert_eq!(&passed, &exact_reference(&window, &trace));
        prop_assert!(most_within(&passed, window.per) <= quota);
    }

    #[test]
    fn a_weighted_window_is_its_reference_and_keeps_its_bound(
        quota in 1u64..40, trace in trace(SECOND, 1..5), stretch in 1u64..=8,
    ) {
        let window = window(quota, Duration::from_secs(1));
        let passed = run::<SlidingWindow>(&window, &trace);
        prop_assert_eq!(&passed, &weighted_reference(&window, &trace));
        // Fewer than Q * (1 + x) in any stretch of x windows.
        let most = most_within(&passed, SECOND * stretch / 8);
        prop_assert!(most * 8 < quota * (8 + stretch), "{most} of {quota} in {stretch}/8");
        prop_assert!(most_within(&passed, window.per) < 2 * quota);
        prop_assert!(most_in_a_full_window(&passed, window.per) <= quota);
    }

    /// In every stretch, whatever its length.
    #[test]
    fn a_token_bucket_keeps_its_bound(
        quota in 1u64..40, bucket in 1u64..60, trace in trace(SECOND, 1..5),
    ) {
        let window = Window::new(quota, Duration::from_secs(1), Some(bucket));
        let mut state = TokenBucket::default();
        let fits = |&(now, cost): &Step| state.take(&window, now, cost).is_ok();
        let passed: Vec<Step> = trace.into_iter().filter(fits).collect();
        for (begin, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (now, cost) in &passed[begin..] {
                sum += u64::from(*cost);
                let most = bucket + (now - from) / window.interval();
                prop_assert!(sum <= most, "{sum} of {most} in {} ns", now - from);
            }
        }
    }

    /// However few keys there is room for: what is held is what was taken and not given back, under
    /// whatever key, and nowhere more than the quota.
    #[test]
    fn what_is_in_flight_is_its_reference(
        quota in 1u32..5,
        max_keys in 1usize..6,
        steps in prop::collection::vec(
            (0u8..12, any::<bool>(), any::<prop::sample::Index>()),
            1..300,
        ),
    ) {
        let counters = Counters::<InFlight, 1>::new(max_keys, None);
        let hasher = KeyHasher::default();
        let window = [Window::held(quota.into())];
        let mut taken: Vec<KeyHash> = Vec::new();
        for (number, takes, which) in steps {
            if takes {
                let asked = counters.take(hasher.hash(&[number]), &window, 0, 1);
                let held = held(&taken).get(&asked.under).copied().unwrap_or(0);
                match asked.decision {
                    Decision::Granted { standing, .. } => {
                        prop_assert_eq!(standing.remaining + held + 1, quota);
                        taken.push(asked.under);
                    }
                    Decision::Refused { refusal, .. } => {
                        prop_assert_eq!((held, refusal.wait), (quota, None));
                    }
                }
            } else if !taken.is_empty() {
                let under = taken.swap_remove(which.index(taken.len()));
                counters.give_back(under, &window, 0, 1);
            }
            let held = held(&taken);
            prop_assert!(held.len() <= max_keys);
            prop_assert_eq!(counters.keys(), held.len());
            for (key, held) in held {
                let standings = counters.standings(key, &window, 0);
                let remaining = standings.map(|it| it[0].remaining);
                prop_assert_eq!(remaining, Some(quota - held));
            }
        }
    }

    #[test]
    fn giving_back_undoes_taking(quota in 5u64..40, trace in trace(SECOND, 1..5)) {
        let window = window(quota, Duration::from_secs(1));
        undone::<FixedWindow>(&window, &trace);
        undone::<SlidingWindow>(&window, &trace);
        undone::<SlidingLog>(&window, &trace);
        undone::<TokenBucket>(&window, &trace);
    }

    /// What is given back later leaves no more than if it had never been taken.
    #[test]
    fn giving_back_later_is_never_having_taken(
        taken in 1u32..6, share in 0u32..6, trace in trace(SECOND, 1..5), later in 0..3 * SECOND,
    ) {
        let back = share.min(taken);
        refunded::<FixedWindow>(taken, back, &trace, later);
        refunded::<SlidingWindow>(taken, back, &trace, later);
        refunded::<SlidingLog>(taken, back, &trace, later);
    }

    #[test]
    fn all_windows_are_charged_or_none(trace in trace(SECOND, 1..5)) {
        let windows = [window(6, Duration::from_secs(1)), window(20, Duration::from_secs(10))];
        let mut both = Windows::<SlidingLog, 4>::default();
        let mut passed = Vec::new();
        for (now, cost) in trace {
            let before = both.standings(&windows, now);
            let decision = both.take(&windows, now, cost);
            let after = both.standings(&windows, now);
            match decision {
                Decision::Granted { window, standing } => {
                    passed.push((now, cost));
                    let least = after.iter().map(|it| it.remaining).min();
                    prop_assert_eq!(Some(standing.remaining), least);
                    prop_assert_eq!(standing, after[window]);
                }
                Decision::Refused { refusal, .. } => {
                    prop_assert_eq!(before, after);
                    let mut later = both.clone();
                    let wait = refusal.wait.unwrap();
                    let decision = later.take(&windows, now + wait, cost);
                    let granted = matches!(decision, Decision::Granted { .. });
                    prop_assert!(granted, "never early");
                }
            }
        }
        prop_assert!(most_within(&passed, SECOND) <= 6);
        prop_assert!(most_within(&passed, 10 * SECOND) <= 20);
    }

    #[test]
    fn a_clock_that_goes_back_is_safe(
        steps in prop::collection::vec((any::<bool>(), 0..2 * SECOND), 1..200),
    ) {
        let window = window(10, Duration::from_secs(1));
        jumps::<FixedWindow>(&window, &steps);
        jumps::<SlidingWindow>(&window, &steps);
        jumps::<SlidingLog>(&window, &steps);
        jumps::<TokenBucket>(&window, &steps);
    }
}

/// How many are held under each key.
fn held(taken: &[KeyHash]) -> BTreeMap<KeyHash, u32> {
    let mut held = BTreeMap::<KeyHash, u32>::new();
    for key in taken {
        *held.entry(*key).or_default() += 1;
    }
    held
}

fn undone<A: Algorithm>(window: &Window, trace: &[Step]) {
    let mut state = A::default();
    for &(now, cost) in trace {
        let before = state.standing(window, now);
        if state.take(window, now, cost).is_ok() {
            state.give_back(window, now, cost);
            assert_eq!(state.standing(window, now), before);
            let _ = state.take(window, now, 1);
        }
    }
}

fn refunded<A: Algorithm>(taken: u32, back: u32, trace: &[Step], later: u64) {
    let window = window(1_000, Duration::from_secs(1));
    let (mut state, mut other) = (A::default(), A::default());
    let at = trace[0].0;
    state.take(&window, at, taken).unwrap();
    other.take(&window, at, taken - back).unwrap();
    let mut now = at;
    for &(moment, cost) in &trace[1..] {
        // One at a time: of two in the same moment either may be meant.
        now = moment.max(now + 1);
        state.charge(&window, now, cost);
        other.charge(&window, now, cost);
    }
    now += later;
    state.refund(&window, at, now, back);
    for step in 0..20 {
        let now = now + step * SECOND / 7;
        assert_eq!(
            state.standing(&window, now).remaining,
            other.standing(&window, now).remaining
        );
    }
}

/// However the clock jumps, no more passes than what the time it has covered allows: twice the quota
/// for each window that was ever begun, and the first.
fn jumps<A: Algorithm>(window: &Window, steps: &[(bool, u64)]) {
    let (mut state, mut now, mut passed) = (A::default(), 1_000 * SECOND, 0u64);
    let (mut earliest, mut latest) = (now, now);
    for (back, step) in steps {
        now = if *back {
            now.saturating_sub(*step)
        } else {
            now + step
        };
        (earliest, latest) = (earliest.min(now), latest.max(now));
        passed += u64::from(state.take(window, now, 1).is_ok());
    }
    let windows = (latest - earliest) / window.per + 2;
    assert!(passed <= 10 * windows, "{passed} in {windows} windows");
}

#[test]
fn there_is_no_drift_over_a_million_steps() {
    let window = window(1_000, Duration::from_secs(1));
    // Whoever takes what there is gets the quota in each window.
    let greedy = |passed: u64| (1_000_000..=1_002_000).contains(&passed);
    assert!(greedy(taken_in_a_thousand_windows::<FixedWindow>(&window)));
    assert!(greedy(taken_in_a_thousand_windows::<SlidingLog>(&window)));
    assert!(greedy(taken_in_a_thousand_windows::<TokenBucket>(&window)));
    let weighted = taken_in_a_thousand_windows::<SlidingWindow>(&window);
    // Rounding up costs less than one request a window.
    assert!((998_000..=1_001_000).contains(&weighted), "{weighted}");
}

/// Who takes the quota at the end of a window and then all there is at the end of the stretch has the
/// largest whole number under `Q * (1 + x)`: nobody could state a smaller bound.
#[test]
fn a_weighted_window_lets_as_many_through_as_its_bound_allows() {
    for quota in [1, 2, 7, 40] {
        for stretch in 1..=8 {
            let window = window(quota, Duration::from_secs(1));
            let (boundary, length) = (1_700_000_000 * SECOND, SECOND * stretch / 8);
            let (mut state, mut passed) = (SlidingWindow::default(), Vec::new());
            for now in [boundary - 1, boundary + length - 2] {
                while state.take(&window, now, 1).is_ok() {
                    passed.push((now, 1));
                }
            }
            let most = most_within(&passed, length);
            let below = (quota * (8 + stretch)).div_ceil(8) - 1;
            assert_eq!(most, below, "{quota} in {stretch}/8");
        }
    }
}

fn taken_in_a_thousand_windows<A: Algorithm>(window: &Window) -> u64 {
    let (mut state, mut passed) = (A::default(), 0);
    for step in 0..1_000_000 {
        let now = step * SECOND / 1_000;
        while state.take(window, now, 1).is_ok() {
            passed += 1;
        }
    }
    passed
}

#[test]
fn the_edges_of_64_bits_are_safe() {
    edges::<FixedWindow>();
    edges::<SlidingWindow>();
    edges::<SlidingLog>();
    edges::<InFlight>();
}

fn edges<A: Algorithm>() {
    let largest = window(u64::MAX, Duration::MAX);
    let smallest = window(0, Duration::ZERO);
    for window in [largest, smallest, window(1, Duration::MAX)] {
        let mut state = A::default();
        for now in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX, 0] {
            for cost in [0, 1, u32::MAX] {
                let _ = state.take(&window, now, cost);
                state.charge(&window, now, cost);
                let _ = (state.standing(&window, now), state.debt(now));
                state.give_back(&window, now, cost);
                for taken in [0, now, u64::MAX] {
                    state.charge(&window, now, cost);
                    state.refund(&window, taken, now, cost);
                }
            }
        }
    }
}

#[test]
fn threads_that_take_at_once_get_the_quota_between_them() {
    taken_at_once::<FixedWindow>();
    taken_at_once::<SlidingWindow>();
    taken_at_once::<SlidingLog>();
    taken_at_once::<TokenBucket>();
    taken_at_once::<InFlight>();
}

/// A third of what is taken is given back, and may be taken again.
fn taken_at_once<A: Algorithm>() {
    let counters = Counters::<A, 1>::new(100, None);
    let windows = [window(500, Duration::from_secs(60))];
    let (key, now) = (KeyHasher::default().hash(b"key"), 1_000 * SECOND);
    let kept = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..1_000 {
                    let taken = counters.take(key, &windows, now, 1);
                    if !matches!(taken.decision, Decision::Granted { .. }) {
                        continue;
                    }
                    match number % 3 {
                        0 => counters.give_back(taken.under, &windows, now, 1),
                        _ => drop(kept.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
    });
    assert_eq!(kept.into_inner(), 500);
    let standings = counters.standings(key, &windows, now).unwrap();
    assert_eq!(standings[0].remaining, 0);
}

#[test]
fn a_changed_window_keeps_what_was_used() {
    let (minute, hour) = (
        window(100, Duration::from_secs(60)),
        window(200, Duration::from_secs(3600)),
    );
    let now = 1_000_000 * 3600 * SECOND + 90 * SECOND;
    assert_eq!(carried::<FixedWindow>(&minute, &hour, now), 140);
    assert_eq!(carried::<SlidingWindow>(&minute, &hour, now), 140);
    assert_eq!(carried::<SlidingLog>(&minute, &hour, now), 140);
    assert_eq!(carried::<TokenBucket>(&minute, &hour, now), 140);
}

fn carried<A: Algorithm>(before: &Window, after: &Window, now: u64) -> u32 {
    let mut state = A::default();
    state.take(before, now, 60).unwrap();
    state.standing(after, now).remaining
}

#[test]
fn a_charge_afterwards_goes_into_debt_and_time_pays_it() {
    owed::<FixedWindow>(SECOND);
    owed::<SlidingLog>(SECOND);
    owed::<SlidingWindow>(2 * SECOND);
    owed::<TokenBucket>(3 * SECOND);
}

fn owed<A: Algorithm>(paid: u64) {
    let (window, now) = (window(10, Duration::from_secs(1)), 1_000 * SECOND);
    let mut state = A::default();
    state.charge(&window, now, 30);
    assert_eq!(state.standing(&window, now).remaining, 0);
    assert!(state.take(&window, now + SECOND / 2, 1).is_err());
    assert_eq!(state.standing(&window, now + paid).remaining, 10);
}

#[test]
fn what_is_held_is_freed_by_giving_back_alone() {
    let window = Window::held(2);
    let mut state = InFlight::default();
    assert_eq!(state.take(&window, 0, 1).unwrap().remaining, 1);
    assert!(state.take(&window, 0, 1).is_ok());
    assert_eq!(
        state.take(&window, u64::MAX, 1),
        Err(Refused { wait: None })
    );
    state.give_back(&window, 0, 1);
    assert!(state.take(&window, 0, 1).is_ok());
}

#[test]
fn the_memory_of_a_log_is_counted() {
    let counters = Counters::<SlidingLog, 1>::new(10, None);
    let key = KeyHasher::default().hash(b"key");
    let window = [window(1_000, Duration::from_secs(60))];
    for now in 0..1_000 {
        counters.take(key, &window, now, 1);
    }
    assert!(counters.bytes() >= 16_000);
}

#[test]
fn made_up_keys_stay_within_the_memory_of_a_token_bucket() {
    flooded::<TokenBucket, 1>(200_000);
    flooded::<TokenBucket, 4>(200_000);
}

#[test]
fn a_million_keys_stay_within_the_memory_of_a_fixed_window() {
    flooded::<FixedWindow, 1>(1_000_000);
    flooded::<FixedWindow, 4>(200_000);
}

#[test]
fn made_up_keys_stay_within_the_memory_of_a_weighted_window() {
    flooded::<SlidingWindow, 1>(200_000);
    flooded::<SlidingWindow, 4>(200_000);
}

#[test]
fn made_up_keys_stay_within_the_memory_of_a_log() {
    flooded::<SlidingLog, 1>(200_000);
    flooded::<SlidingLog, 4>(200_000);
}

#[test]
fn made_up_keys_stay_within_the_memory_of_what_is_in_flight() {
    flooded::<InFlight, 1>(200_000);
}

/// So many keys that all stay in debt, into a table for 100,000.
fn flooded<A: Algorithm, const N: usize>(keys: u64) {
    let counters = Counters::<A, N>::new(MOST_KEYS, None);
    let hasher = KeyHasher::default();
    let windows = [window(QUOTA as u64, Duration::from_secs(60)); N];
    for number in 0..keys {
        let key = hasher.hash(&number.to_le_bytes());
        counters.take(key, &windows, 1_000_000 * SECOND, 1);
    }
    assert!(counters.keys() <= MOST_KEYS, "{} keys", counters.keys());
    // 64 shards of 4,096 places at most: 1,563 keys each fit 2,048, and what has left may make it
    // grow once more. A place is an entry and a byte; some more stand behind each shard's places.
    let place = size_of::<(KeyHash, Windows<A, N>)>() + 1;
    let places = 64 * (4_096 * place + 64);
    // Only a log has this: for each request 16 bytes, and as much again where it has grown.
    let mut one = A::default();
    one.take(&windows[0], 0, 1).unwrap();
    let logs = match one.heap() {
        0 => 0,
        _ => MOST_KEYS * N * QUOTA * 2 * 16,
    };
    let bytes = counters.bytes();
    assert!(bytes <= places + logs, "{bytes} bytes");
}

const MOST_KEYS: usize = 100_000;
const QUOTA: usize = 10;
