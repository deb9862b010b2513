//! When keys are fetched again. Pure: times in, times out.

use std::time::Duration;

use http::{
    HeaderMap,
    header::{AGE, CACHE_CONTROL},
};

use crate::{config::KeyRefresh, exchange::fields::list};

/// The time until the next fetch after one that succeeded: before the keys expire, and not when all
/// other gateways ask. `chance` lies from 0 to 1.
pub(super) fn after_success(told: Option<Duration>, timing: &KeyRefresh, chance: f64) -> Duration {
    let lifetime = told.unwrap_or(timing.interval);
    let lifetime = lifetime.clamp(timing.min_interval, timing.max_interval);
    lifetime.mul_f64(EARLIEST + (LATEST - EARLIEST) * chance)
}

/// The time until the next try after so many failures: twice as long each time, with jitter.
pub(super) fn after_failure(failures: u32, chance: f64) -> Duration {
    let doubled = 1 << failures.saturating_sub(1).min(MOST_DOUBLINGS);
    let wait = (FIRST_RETRY * doubled).min(LONGEST_RETRY);
    wait.mul_f64(0.5 + 0.5 * chance)
}

/// How long an answer says that it is fresh (RFC 9111 5.2.2), less the time that it has spent on
/// the way.
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut told = None;
    for directive in list(headers, &CACHE_CONTROL) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if name.eq_ignore_ascii_case("max-age") {
            // RFC 9111 4.2.1: of several values the most restrictive one may be taken.
            let seconds = value.trim_matches('"').parse().unwrap_or(0);
            told = Some(told.map_or(seconds, |told: u64| told.min(seconds)));
        }
    }
    let age = list(headers, &AGE).next().and_then(|age| age.parse().ok());
    told.map(|told| Duration::from_secs(told.saturating_sub(age.unwrap_or(0))))
}

/// Parts of the lifetime.
const EARLIEST: f64 = 0.75;
const LATEST: f64 = 0.9;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
const MOST_DOUBLINGS: u32 = 6;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn told(lines: &[(&'static str, &'static str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        max_age(&headers).map(|age| age.as_secs())
    }

    #[test]
    fn an_answer_tells_how_long_it_is_fresh() {
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("cache-control", "public, Max-Age=600")]), Some(600));
        assert_eq!(told(&[("cache-control", "max-age=\"60\"")]), Some(60));
        assert_eq!(
            told(&[("cache-control", "max-age=60, max-age=30")]),
            Some(30)
        );
        assert_eq!(
            told(&[("cache-control", "max-age=60"), ("age", "50")]),
            Some(10)
        );
        assert_eq!(
            told(&[("cache-control", "max-age=60"), ("age", "500")]),
            Some(0)
        );
        assert_eq!(told(&[("cache-control", "max-age=60, no-cache")]), Some(0));
        assert_eq!(told(&[("cache-control", "max-age=-1")]), Some(0));
        assert_eq!(told(&[("cache-control", "private")]), None);
    }

    #[test]
    fn what_an_answer_tells_is_kept_within_bounds() {
        let timing = KeyRefresh::default();
        let wait = |told| after_success(told, &timing, 1.0);
        assert_eq!(wait(None), timing.interval.mul_f64(LATEST));
        assert_eq!(
            wait(Some(Duration::ZERO)),
            timing.min_interval.mul_f64(LATEST)
        );
        assert_eq!(
            wait(Some(SECOND * 1_000_000)),
            timing.max_interval.mul_f64(LATEST)
        );
    }

    #[test]
    fn failures_are_waited_out_longer_and_longer() {
        let waits: Vec<_> = (1..=8).map(|n| after_failure(n, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after_failure(1, 0.0), SECOND / 2);
    }

    proptest! {
        #[test]
        fn the_next_fetch_comes_before_the_keys_expire(seconds in 0..10_000_u64, chance in 0.0..1.0) {
            let timing = KeyRefresh::default();
            let lifetime = (SECOND * u32::try_from(seconds).unwrap()).clamp(timing.min_interval, timing.max_interval);
            let wait = after_success(Some(Duration::from_secs(seconds)), &timing, chance);
            prop_assert!(wait < lifetime && wait >= lifetime / 2);
        }

        #[test]
        fn a_retry_is_neither_at_once_nor_never(failures in 1..u32::MAX, chance in 0.0..1.0) {
            let wait = after_failure(failures, chance);
            prop_assert!(wait >= SECOND / 2 && wait <= LONGEST_RETRY);
        }
    }
}
