//! When a stored answer is used: fresh, stale, after validation.

use super::*;

fn facts(line: &str) -> Facts {
    stored(&[("cache-control", line), ("etag", "\"a\"")]).facts
}

fn at(facts: &Facts, millis: u64) -> Reuse {
    reuse(&get(&[]), facts, after(millis))
}

#[test]
fn an_answer_is_fresh_while_its_lifetime_is_greater_than_its_age() {
    let facts = facts("max-age=10");
    assert_eq!(at(&facts, 0), Reuse::Fresh);
    assert_eq!(at(&facts, 9_999), Reuse::Fresh);
    assert_eq!(at(&facts, 10_000), Reuse::Validate);
    assert_eq!((facts.ttl(after(3_000)), facts.ttl(after(12_000))), (7, -2));
}

#[test]
fn the_age_told_is_the_upstreams_and_the_time_since() {
    let head = stored(&[("cache-control", "max-age=3600"), ("age", "30")]);
    assert_eq!(head.facts.age_header(after(3_010)), "33");
    let old = facts("max-age=99999999999");
    assert_eq!(old.age_header(Moment::from_millis(u64::MAX)), "2147483648");
}

#[test]
fn no_cache_is_validated_however_fresh() {
    assert_eq!(at(&facts("no-cache, max-age=60"), 0), Reuse::Validate);
    let wanted = wishing("max-stale");
    let facts = facts("no-cache, max-age=60");
    assert_eq!(reuse(&wanted, &facts, NOW), Reuse::Validate);
}

#[test]
fn a_stale_answer_is_served_within_its_window_while_it_is_fetched() {
    let facts = facts("max-age=1, stale-while-revalidate=4");
    assert_eq!(at(&facts, 3_000), Reuse::StaleWhileRevalidate);
    assert_eq!(at(&facts, 5_000), Reuse::StaleWhileRevalidate);
    assert_eq!(at(&facts, 6_000), Reuse::Validate);
}

#[test]
fn a_rules_windows_hold_where_the_answer_says_nothing() {
    let options = Options {
        stale_while_revalidate: seconds(7),
        stale_if_error: seconds(8),
        ..Options::default()
    };
    let facts = |line| stored_with(&[("cache-control", line)], &options).facts;
    let said = facts("max-age=1, stale-while-revalidate=2, stale-if-error=3");
    assert_eq!(
        (said.while_revalidate, said.if_error),
        (seconds(2), seconds(3))
    );
    let unsaid = facts("max-age=1");
    assert_eq!(
        (unsaid.while_revalidate, unsaid.if_error),
        (seconds(7), seconds(8))
    );
    let none = facts("max-age=1, stale-while-revalidate=0, stale-if-error=no");
    assert_eq!(
        (none.while_revalidate, none.if_error),
        (seconds(0), seconds(0))
    );
}

#[test]
fn stale_answers_are_never_used_where_the_origin_forbids_it() {
    for forbidding in [
        "must-revalidate",
        "proxy-revalidate",
        "s-maxage=1",
        "no-cache",
    ] {
        let line = format!("{forbidding}, max-age=1, stale-while-revalidate=60, stale-if-error=60");
        let facts = facts(&line);
        assert_eq!(at(&facts, 2_000), Reuse::Validate, "{forbidding}");
        assert_eq!(
            reuse(&wishing("max-stale"), &facts, after(2_000)),
            Reuse::Validate
        );
        for failure in [
            Failure::Unreachable,
            Failure::Status(StatusCode::BAD_GATEWAY),
        ] {
            let stale = stale_instead(&get(&[]), &facts, after(2_000), failure);
            assert!(!stale, "{forbidding}");
        }
    }
}

#[test]
fn a_failure_is_answered_from_the_store_within_its_window() {
    let facts = facts("max-age=1, stale-if-error=60");
    let stale = |millis, status| {
        let failure = Failure::Status(StatusCode::from_u16(status).unwrap());
        stale_instead(&get(&[]), &facts, after(millis), failure)
    };
    for status in [500, 502, 503, 504] {
        assert!(stale(61_000, status), "{status}");
        assert!(!stale(61_001, status), "{status}");
    }
    for status in [200, 404, 501, 599] {
        assert!(!stale(2_000, status), "{status}");
    }
}

#[test]
fn a_dead_upstream_needs_no_permission_and_has_a_bound() {
    let facts = facts("max-age=1");
    let asked = get(&[]);
    let unreachable = |millis| stale_instead(&asked, &facts, after(millis), Failure::Unreachable);
    assert!(unreachable(2_000));
    assert!(unreachable(3_601_000));
    assert!(!unreachable(3_601_001));
    let error = Failure::Status(StatusCode::SERVICE_UNAVAILABLE);
    assert!(!stale_instead(&asked, &facts, after(2_000), error));
}

#[test]
fn clients_wishes_count_where_they_are_heard() {
    let facts = facts("max-age=10");
    for (wish, millis, expected) in [
        ("no-cache", 0, Reuse::ValidateAsWanted),
        ("max-age=5", 5_000, Reuse::Fresh),
        ("max-age=5", 6_000, Reuse::ValidateAsWanted),
        ("max-age=0", 1, Reuse::ValidateAsWanted),
        ("min-fresh=5", 5_000, Reuse::Fresh),
        ("min-fresh=5", 6_000, Reuse::ValidateAsWanted),
        ("max-stale", 99_000, Reuse::StaleAsWanted),
        ("max-stale=5", 15_000, Reuse::StaleAsWanted),
        ("max-stale=5", 16_000, Reuse::Validate),
        ("max-stale=5, max-age=12", 12_000, Reuse::StaleAsWanted),
        ("max-stale=5, max-age=12", 13_000, Reuse::Validate),
        ("max-stale=5, no-cache", 12_000, Reuse::Validate),
    ] {
        assert_eq!(
            reuse(&wishing(wish), &facts, after(millis)),
            expected,
            "{wish} at {millis}"
        );
    }
    let unheard = get(&[("cache-control", "no-cache")]);
    assert_eq!(reuse(&unheard, &facts, NOW), Reuse::Fresh);
}

#[test]
fn a_client_that_says_how_fresh_gets_nothing_stale_by_the_way() {
    let facts = facts("max-age=1, stale-while-revalidate=60");
    for wish in ["max-age=60", "min-fresh=0", "no-cache"] {
        let reuse = reuse(&wishing(wish), &facts, after(2_000));
        assert_eq!(reuse, Reuse::Validate, "{wish}");
    }
    let wish = wishing("stale-if-error=10");
    let failure = Failure::Status(StatusCode::BAD_GATEWAY);
    assert!(stale_instead(&wish, &facts, after(9_000), failure));
}

#[test]
fn an_answer_is_kept_as_long_as_it_can_be_of_use() {
    let until = |line| facts(line).useful_until();
    // An hour for a dead upstream and to be validated.
    assert_eq!(until("max-age=10"), after(3_610_000));
    assert_eq!(until("max-age=10, stale-if-error=7200"), after(7_210_000));
    let lines: Lines<'_> = &[("cache-control", "max-age=10, must-revalidate")];
    assert_eq!(stored(lines).facts.useful_until(), after(10_000));
}

#[test]
fn a_soft_purge_makes_stale_and_its_windows_begin_there() {
    let facts = facts("max-age=100, stale-while-revalidate=10");
    let purged = facts.expired_at(after(5_000));
    assert_eq!(at(&purged, 5_000), Reuse::StaleWhileRevalidate);
    assert_eq!(at(&purged, 15_000), Reuse::StaleWhileRevalidate);
    assert_eq!(at(&purged, 15_001), Reuse::Validate);
    // What was stale before stays as stale as it was.
    assert_eq!(facts.expired_at(after(200_000)), facts);
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_older() {
    let facts = facts("max-age=10");
    let before = Moment::from_millis(NOW.millis() - 60_000);
    assert_eq!(facts.age(before), seconds(0));
    assert!(facts.is_fresh(before));
}

#[test]
fn a_stale_answer_is_served_to_some_as_long_as_the_longest_of_its_windows() {
    let options = Options {
        stale_if_unreachable: seconds(60),
        ..Options::default()
    };
    for (line, window) in [
        ("max-age=1", 60_000),
        ("max-age=1, stale-if-error=600", 600_000),
        ("max-age=1, stale-while-revalidate=600", 600_000),
    ] {
        let facts = stored_with(&[("cache-control", line)], &options).facts;
        assert!(serves_stale(&facts, after(1_000 + window)), "{line}");
        assert!(!serves_stale(&facts, after(1_001 + window)), "{line}");
    }
    for forbidding in ["must-revalidate", "no-cache"] {
        let line = format!("{forbidding}, max-age=1, stale-if-error=600");
        assert!(!serves_stale(&facts(&line), after(1_500)), "{line}");
    }
}
