//! Counters live on over reloads.

use tollgate::config::Config;

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
async fn a_connection_that_outlives_a_reload_counts_by_the_network_that_is_set_then() {
    let by_prefix = |bits: u8| {
        let limit = format!("key = 'client_ip'\nquota = '2/1h'\nipv6_prefix = {bits}");
        format!(
            "[server]\ntrusted_proxies = ['127.0.0.1']\n{}",
            text("", &limit)
        )
    };
    let limited = Limited::start(&by_prefix(64));
    let mut proxy = Raw::connect(limited.gateway.address()).await;
    let mut status = async |client: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
        proxy.send(request).await;
        proxy.answer().await.status
    };
    let (one, other) = ("2001:db8:1:2::1", "2001:db8:1:3::1");
    for client in [one, other, one, other] {
        assert_eq!(status(client).await, 200);
    }
    assert_eq!(status(one).await, 429);
    limited.gateway.apply(&by_prefix(48));
    let now = [status(one).await, status(other).await, status(one).await];
    assert_eq!(now, [200, 200, 429], "both are one network");
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

#[tokio::test]
async fn a_reload_that_is_refused_changes_nothing_of_the_limits_that_go_on() {
    let owner = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = owner.local_addr().expect("an address");
    let text = |listen: &str, max_keys: u32| {
        format!(
            "[server]\nlisten = [{listen}]\ntrusted_proxies = ['127.0.0.1']\n\
             [routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = ['one']\n\
             [rate_limits.one]\nkey = 'client_ip'\nquota = '9/1h'\nmax_keys = {max_keys}\n"
        )
    };
    let limited = Limited::start(&text("'127.0.0.1:0'", 100));
    let refused = text(&format!("'127.0.0.1:0', '{taken}'"), 1);
    let refused = Config::parse("gateway.toml", &refused).expect("it is valid");
    let outcome = limited.gateway.inner().apply(refused.config);
    assert!(outcome.is_err(), "the address is taken");
    for number in 1..=5 {
        let lines = format!("X-Forwarded-For: 203.0.113.{number}\r\n");
        assert_eq!(limited.passed(1, &lines).await, 1);
    }
    let keys = || {
        limited
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"one\""])
    };
    assert_eq!(keys(), 5.0);
    // One that is taken over does.
    limited.gateway.apply(&text("'127.0.0.1:0'", 5));
    let newcomer = "X-Forwarded-For: 203.0.113.77\r\n";
    assert_eq!(limited.passed(1, newcomer).await, 1);
    assert_eq!(keys(), 5.0);
}

#[tokio::test]
async fn reloads_under_load_let_no_more_through_than_the_quota() {
    let with = |round: u32| {
        // Now the route is another one, now the limit too.
        let body = ["1MiB", "2MiB"][round as usize % 2];
        let headers = ["draft", "off", "both"][round as usize % 3];
        text(
            &format!("max_body = '{body}'"),
            &format!(
                "key = 'client_ip'\nquota = '200/1h'\nalgorithm = 'fixed_window'\nheaders = '{headers}'"
            ),
        )
    };
    let limited = Limited::start(&with(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let address = limited.gateway.address();
        clients.spawn(async move {
            let mut client = Raw::connect(address).await;
            let mut passed = 0;
            for _ in 0..100 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                passed += u32::from(client.answer().await.status == 200);
            }
            passed
        });
    }
    let mut passed = 0;
    for round in 1..=50 {
        limited.gateway.apply(&with(round));
        passed += u32::from(limited.get().await.status == 200);
    }
    passed += clients.join_all().await.into_iter().sum::<u32>();
    assert_eq!(passed, 200);
}
