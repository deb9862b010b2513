//! Counters live on over reloads.

use super::Limited;
use crate::support::{Raw, Streams, eventually, release};

fn text(route: &str, limit: &str) -> String {
    format!(
        "[routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = ['one']\n{route}\n\
         [rate_limits.one]\n{limit}\n"
    )
}

#[tokio::test]
async fn an_unchanged_limit_goes_on_and_so_does_one_whose_quota_changed() {
    let limited = Limited::start(&text("", "key = 'client_ip'\nquota = '100/1h'"));
    assert_eq!(limited.passed(60, "").await, 60);
    limited.gateway.apply(&text(
        "max_body = '1MiB'",
        "key = 'client_ip'\nquota = '100/1h'",
    ));
    let remaining = async || {
        let answer = limited.get().await;
        let told = answer.header("ratelimit").expect("told").to_owned();
        told.split(['=', ';'])
            .nth(2)
            .expect("a number")
            .parse::<u32>()
            .expect("a number")
    };
    assert_eq!(remaining().await, 39);
    limited
        .gateway
        .apply(&text("", "key = 'client_ip'\nquota = '200/1h'"));
    assert_eq!(remaining().await, 138, "61 of 200 were used");
    limited.gateway.apply(&text(
        "",
        "key = 'client_ip'\nquota = '50/1h'\nmax_keys = 10",
    ));
    assert_eq!(limited.get().await.status, 429);
    limited.gateway.apply(&text(
        "",
        "key = 'client_ip'\nquota = '100/1h'\nenforce = false",
    ));
    assert_eq!(limited.get().await.status, 200);
}

#[tokio::test]
async fn another_way_of_counting_begins_anew() {
    let limited = Limited::start(&text("", "key = 'client_ip'\nquota = '1/1h'"));
    assert_eq!(limited.passed(2, "").await, 1);
    let other = text(
        "",
        "key = 'client_ip'\nquota = '1/1h'\nalgorithm = 'fixed_window'",
    );
    limited.gateway.apply(&other);
    assert_eq!(limited.passed(2, "").await, 1);
    let keys = || {
        limited
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"one\""])
    };
    eventually(|| keys() == 1.0).await;
}

#[tokio::test]
async fn a_place_that_is_held_is_one_of_the_places_behind_a_reload() {
    let origin = Streams::start().await;
    let slots = |quota: u32| {
        format!(
            "[routes.all]\nupstream = '{}'\nrate_limits = ['slots']\n\
             [rate_limits.slots]\nkey = 'client_ip'\nquota = {quota}\nalgorithm = 'concurrency'\n",
            origin.server.url()
        )
    };
    let limited = Limited::start(&slots(1));
    let hold = async || {
        let mut client = Raw::connect(limited.gateway.address()).await;
        client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
        (client, origin.feed().await)
    };
    let keys = || {
        limited
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"slots\""])
    };
    let first = hold().await;
    assert_eq!(limited.passed(1, "").await, 0);
    limited.gateway.apply(&slots(2));
    let held = [first, hold().await];
    assert_eq!(limited.passed(1, "").await, 0);
    for (mut client, feed) in held {
        release(feed).await;
        assert_eq!(client.answer().await.status, 200);
    }
    eventually(|| keys() == 0.0).await;
    // Both are free, and no third.
    let _held = [hold().await, hold().await];
    assert_eq!(limited.passed(1, "").await, 0);
}

#[tokio::test]
async fn series_of_a_limit_that_is_gone_are_gone() {
    let limited = Limited::start(&text("", "key = 'client_ip'\nquota = '1/1h'"));
    assert_eq!(limited.passed(2, "").await, 1);
    assert!(limited.gateway.inner().metrics().contains("limit=\"one\""));
    limited.gateway.apply("[routes.all]\nrespond = {}\n");
    assert!(!limited.gateway.inner().metrics().contains("limit=\"one\""));
    assert_eq!(limited.get().await.status, 200);
}

#[tokio::test]
async fn what_was_used_of_an_hour_is_not_charged_to_a_second() {
    let one = text("", "key = 'caller'\nquota = '100/1h'");
    let two = text("", "key = 'caller'\nquota = ['20/1s', '100/1h']");
    let turned = text("", "key = 'caller'\nquota = ['100/1h', '20/1s']");
    for (before, after) in [(&one, &two), (&turned, &two), (&two, &one)] {
        let limited = Limited::start(before);
        for _ in 0..6 {
            assert_eq!(limited.passed(10, "").await, 10);
            limited.later(1.0);
        }
        limited.gateway.apply(after);
        assert_eq!(limited.get().await.status, 200);
    }
}
