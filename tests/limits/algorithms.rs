//! What each algorithm lets through over time. The real clock goes on beside the moved one, so times
//! here leave room for it.

use super::Limited;

#[tokio::test]
async fn a_token_bucket_fills_at_its_rate() {
    let limited = Limited::by("key = 'client_ip'\nquota = '6/1m'\nbucket = 3");
    assert_eq!(limited.passed(5, "").await, 3);
    limited.later(10.0);
    assert_eq!(limited.passed(3, "").await, 1);
    limited.later(3600.0);
    assert_eq!(limited.passed(5, "").await, 3);
}

#[tokio::test]
async fn a_fixed_window_begins_anew_at_the_full_minute() {
    let limited = Limited::by("key = 'client_ip'\nquota = '3/1m'\nalgorithm = 'fixed_window'");
    limited.later(40.0);
    assert_eq!(limited.passed(5, "").await, 3);
    limited.later(20.0);
    assert_eq!(limited.passed(5, "").await, 3);
    limited.later(40.0);
    assert_eq!(limited.passed(1, "").await, 0);
}

#[tokio::test]
async fn a_sliding_window_remembers_the_one_before() {
    let limited = Limited::by("key = 'client_ip'\nquota = '10/1m'\nalgorithm = 'sliding_window'");
    limited.later(50.0);
    assert_eq!(limited.passed(12, "").await, 10);
    // Half of the window before counts still.
    limited.later(40.0);
    assert_eq!(limited.passed(12, "").await, 5);
    limited.later(120.0);
    assert_eq!(limited.passed(12, "").await, 10);
}

#[tokio::test]
async fn an_exact_window_frees_each_request_when_its_time_is_over() {
    let limited = Limited::by(
        "key = 'client_ip'\nquota = '2/1m'\nalgorithm = 'sliding_window'\nexact = true",
    );
    assert_eq!(limited.passed(1, "").await, 1);
    limited.later(30.0);
    assert_eq!(limited.passed(3, "").await, 1);
    limited.later(30.0);
    assert_eq!(limited.passed(3, "").await, 1);
    limited.later(30.0);
    assert_eq!(limited.passed(3, "").await, 1);
}

#[tokio::test]
async fn several_windows_must_all_hold() {
    let limited =
        Limited::by("key = 'client_ip'\nquota = ['2/1s', '3/1h']\nalgorithm = 'fixed_window'");
    assert_eq!(limited.passed(4, "").await, 2);
    limited.later(2.0);
    assert_eq!(limited.passed(4, "").await, 1);
    limited.later(2.0);
    assert_eq!(limited.passed(1, "").await, 0);
}

#[tokio::test]
async fn a_route_says_what_its_requests_cost() {
    let limited = Limited::start(
        "[routes.cheap]\nrespond = {}\nrate_limits = ['one']\n\
         [routes.dear]\npath = '/dear'\nrespond = {}\nrate_limits = ['one']\ncost = 4\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '6/1h'",
    );
    assert_eq!(limited.ask("/dear", "").await.status, 200);
    assert_eq!(limited.ask("/dear", "").await.refusal().0, 429);
    assert_eq!(limited.get().await.status, 200);
    assert_eq!(limited.get().await.status, 200);
    assert_eq!(limited.get().await.refusal().0, 429);
}
