//! What is let through when several gateways count together.

use std::time::{Duration, SystemTime};

use super::{Counts, GET, degraded, get, limited, limited_by, storm};
use crate::support::{Gateway, Raw, RedisServer, Server, eventually, reply};

/// 4 gateways, 2,000 requests as fast as they go.
async fn rush(redis: &RedisServer, limit: &str) -> (Counts, Vec<Gateway>) {
    let gateways: Vec<_> = (0..4).map(|_| patient(redis, limit)).collect();
    let places: Vec<_> = gateways.iter().map(Gateway::address).collect();
    (storm(&places, 10, 50).await, gateways)
}

async fn exact(limit: &str) {
    let redis = RedisServer::start();
    let (counts, gateways) = rush(&redis, limit).await;
    assert_eq!(counts, Counts::from([(200, 300), (429, 1700)]), "{limit}");
    assert_eq!(gateways.iter().map(degraded).sum::<f64>(), 0.0);
}

/// A gateway with one limit and a deadline that a busy machine does not miss: not what most tests here
/// are about.
fn patient(redis: &RedisServer, limit: &str) -> Gateway {
    let url = format!("['{}']\ntimeout = '20s'", redis.url());
    let limit = format!("[rate_limits.one]\nkey = 'client_ip'\nstore = 'redis'\n{limit}");
    limited_by(&url, &limit, "['one']")
}

const PATIENT: &str = "\non_store_error = 'deny'";

#[tokio::test]
async fn four_gateways_let_one_bucket_through() {
    exact(&format!("quota = '300/1d'{PATIENT}")).await;
}

#[tokio::test]
async fn four_gateways_let_one_fixed_window_through() {
    exact(&format!(
        "quota = '300/1d'\nalgorithm = 'fixed_window'{PATIENT}"
    ))
    .await;
}

#[tokio::test]
async fn four_gateways_let_one_sliding_window_through() {
    exact(&format!(
        "quota = '300/1d'\nalgorithm = 'sliding_window'{PATIENT}"
    ))
    .await;
}

#[tokio::test]
async fn four_gateways_let_one_exact_window_through() {
    exact(&format!(
        "quota = '300/1d'\nalgorithm = 'sliding_window'\nexact = true\nmax_keys = 1000{PATIENT}"
    ))
    .await;
}

#[tokio::test]
async fn leases_save_round_trips_and_keep_their_bound() {
    let redis = RedisServer::start();
    let (counts, gateways) = rush(&redis, "quota = '1000/1d'\nlease = 50").await;
    let passed = counts[&200];
    // Of each gateway's last batch up to 49 may be left.
    assert!(
        (1000 - 4 * 49..=1000 + 4 * 49).contains(&passed),
        "{counts:?}"
    );
    assert_eq!(gateways.iter().map(degraded).sum::<f64>(), 0.0);
    let calls = redis.calls("evalsha");
    println!("{passed} of 1000 passed, {calls} round trips for 2000 requests");
    assert!(calls < 1000, "{calls}");
}

#[tokio::test]
async fn requests_on_a_hot_key_wait_for_the_batch_that_one_of_them_fetches() {
    let redis = RedisServer::start();
    let gateway = patient(&redis, "quota = '1000000/1d'\nlease = 50");
    let counts = storm(&[gateway.address()], 40, 50).await;
    assert_eq!(counts, Counts::from([(200, 2000)]));
    assert_eq!(degraded(&gateway), 0.0);
    let calls = redis.calls("evalsha");
    println!("{calls} round trips for 2000 requests");
    // 40 batches, and a few of whoever waited in vain.
    assert!((40..=60).contains(&calls), "{calls}");
}

/// Sleeps until so many milliseconds into the next second, by the clock that Redis reads too.
async fn next_second(millis: u64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let into = now.unwrap().subsec_millis();
    tokio::time::sleep(Duration::from_millis(1_000 - u64::from(into) + millis)).await;
}

#[tokio::test]
async fn what_is_left_of_a_batch_comes_on_top_of_the_next_window_and_no_more() {
    let redis = RedisServer::start();
    let limit = "quota = '20/1s'\nalgorithm = 'fixed_window'\nlease = 10\non_store_error = 'deny'";
    let gateway = patient(&redis, limit);
    get(&gateway).await;
    next_second(300).await;
    // Two batches, of the second of which nine are left.
    let counts = storm(&[gateway.address()], 1, 11).await;
    assert_eq!(counts, Counts::from([(200, 11)]));
    next_second(20).await;
    let counts = storm(&[gateway.address()], 1, 40).await;
    let passed = counts[&200];
    println!("{passed} passed, of 20 and 9");
    assert!((21..=29).contains(&passed), "{counts:?}");
}

#[tokio::test]
async fn a_refusal_tells_when_to_come_again_and_an_answer_what_is_left() {
    let redis = RedisServer::start();
    let gateway = limited(
        &redis.url(),
        "quota = ['2/1h', '1000/1d']\nalgorithm = 'fixed_window'",
    );
    assert_eq!(
        get(&gateway)
            .await
            .header("ratelimit")
            .unwrap()
            .split(";t=")
            .next(),
        Some("\"one-1h\";r=1")
    );
    get(&gateway).await;
    let refused = get(&gateway).await;
    assert_eq!(refused.refusal(), (429, "limit.exceeded".to_owned()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait));
}

#[tokio::test]
async fn a_window_that_has_passed_lets_more_through() {
    for algorithm in [
        "token_bucket",
        "fixed_window",
        "sliding_window",
        "sliding_window'\nexact = true\nmax_keys = 1000#",
    ] {
        let redis = RedisServer::start();
        let algorithm = format!("quota = '3/1s'\nalgorithm = '{algorithm}'").replace("#'", "");
        let gateway = limited(&redis.url(), &algorithm);
        for _ in 0..20 {
            get(&gateway).await;
        }
        assert_eq!(get(&gateway).await.status, 429, "{algorithm}");
        tokio::time::sleep(Duration::from_millis(2_050)).await;
        let mut passed = 0;
        for _ in 0..3 {
            passed += u32::from(get(&gateway).await.status == 200);
        }
        assert_eq!(passed, 3, "{algorithm}");
        assert_eq!(degraded(&gateway), 0.0);
    }
}

#[tokio::test]
async fn of_two_limits_none_is_charged_when_the_other_refuses() {
    let redis = RedisServer::start();
    let tables = "[rate_limits.wide]\nkey = 'client_ip'\nquota = '100/1d'\nstore = 'redis'\n\
                  [rate_limits.narrow]\nkey = 'client_ip'\nquota = '5/1d'\nstore = 'redis'\n\
                  [rate_limits.here]\nkey = 'client_ip'\nquota = '50/1d'";
    let gateway = limited_by(&redis.url(), tables, "['wide', 'narrow', 'here']");
    let counts = storm(&[gateway.address()], 1, 40).await;
    assert_eq!(counts, Counts::from([(200, 5), (429, 35)]));
    let other = limited_by(&redis.url(), tables, "['wide', 'here']");
    let counts = storm(&[other.address()], 1, 120).await;
    assert_eq!(
        counts,
        Counts::from([(200, 50), (429, 70)]),
        "the local one is full first"
    );
    let tables = tables.replace("50/1d", "500/1d");
    let third = limited_by(&redis.url(), &tables, "['wide', 'here']");
    let counts = storm(&[third.address()], 1, 60).await;
    // 100 less 5 less 50; what the local limit refused has cost nothing, what Redis refuses neither.
    assert_eq!(counts, Counts::from([(200, 45), (429, 15)]));
}

#[tokio::test]
async fn a_limit_in_shadow_mode_counts_and_holds_up_nobody() {
    let redis = RedisServer::start();
    let gateway = limited(&redis.url(), "quota = '3/1d'\nenforce = false");
    assert_eq!(
        storm(&[gateway.address()], 1, 10).await,
        Counts::from([(200, 10)])
    );
    let shadow = gateway.metric("tollgate_rate_limit_decisions_total", &["shadow_deny"]);
    assert_eq!(shadow, 7.0);
}

#[tokio::test]
async fn what_an_answer_costs_more_is_charged_in_redis() {
    let redis = RedisServer::start();
    let server = Server::http1(|_| async {
        let mut answer = reply("ok");
        answer.headers_mut().insert("x-cost", "8".parse().unwrap());
        answer
    })
    .await;
    let gateway = Gateway::start(&format!(
        "[redis]\nurl = '{}'\n[routes.all]\nupstream = '{}'\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '20/1d'\nstore = 'redis'\ncost_header = 'x-cost'",
        redis.url(),
        server.url(),
    ));
    for calls in [2, 4, 6] {
        assert_eq!(get(&gateway).await.status, 200);
        eventually(|| redis.calls("evalsha") + redis.calls("eval") >= calls).await;
    }
    // 24 of 20.
    assert_eq!(get(&gateway).await.status, 429);
}

#[tokio::test]
async fn scripts_that_redis_has_lost_are_loaded_again() {
    let redis = RedisServer::start();
    let gateway = limited(&redis.url(), "quota = '30/1d'");
    let mut passed = 0;
    for round in 0..40 {
        if round % 10 == 5 {
            assert!(redis.run("SCRIPT FLUSH").starts_with("+OK"));
        }
        passed += u32::from(get(&gateway).await.status == 200);
    }
    assert_eq!((passed, degraded(&gateway)), (30, 0.0));
}

#[tokio::test]
async fn keys_expire_and_hold_no_address() {
    let redis = RedisServer::start();
    let gateway = limited(&redis.url(), "quota = ['5/1s', '9/2s']");
    get(&gateway).await;
    let keys = redis.run("KEYS *");
    assert!(
        keys.contains("tollgate:limit:{") && keys.contains("}:t:one"),
        "{keys}"
    );
    assert!(!keys.contains("127.0.0.1"));
    eventually(|| redis.run("DBSIZE").starts_with(":0")).await;
}

#[tokio::test]
async fn counters_in_redis_survive_a_reload_and_the_gateway() {
    let redis = RedisServer::start();
    let first = limited(&redis.url(), "quota = '10/1d'");
    assert_eq!(
        storm(&[first.address()], 1, 6).await,
        Counts::from([(200, 6)])
    );
    drop(first);
    let second = limited(&redis.url(), "quota = '20/1d'");
    assert_eq!(
        storm(&[second.address()], 1, 20).await,
        Counts::from([(200, 14), (429, 6)])
    );
    let _ = Raw::connect(second.address()).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_redis_is_asked_leaves_no_place_taken() {
    let redis = RedisServer::start();
    let url = format!("['{}']\ntimeout = '20s'", redis.url());
    let tables = "[rate_limits.one]\nkey = 'client_ip'\nquota = '9/1d'\nstore = 'redis'\n\
                  [rate_limits.slots]\nkey = 'client_ip'\nquota = 1\nalgorithm = 'concurrency'";
    let gateway = limited_by(&url, tables, "['slots', 'one']");
    assert_eq!(get(&gateway).await.status, 200);
    let held = |keys| {
        let held = || gateway.metric("tollgate_rate_limit_keys", &["limit=\"slots\""]);
        eventually(move || held() == keys)
    };
    redis.freeze();
    let mut client = Raw::connect(gateway.address()).await;
    client.send(GET).await;
    held(1.0).await;
    client.reset();
    held(0.0).await;
    redis.thaw();
    assert_eq!(get(&gateway).await.status, 200);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_made_again_without_ado() {
    let redis = RedisServer::start();
    let gateway = patient(&redis, "quota = '9/1d'");
    for _ in 0..3 {
        assert_eq!(get(&gateway).await.status, 200);
        assert!(
            redis
                .run("CLIENT KILL TYPE normal SKIPME yes")
                .starts_with(':')
        );
    }
    assert_eq!(get(&gateway).await.status, 200);
    assert_eq!(degraded(&gateway), 0.0);
    assert_eq!(gateway.metric("tollgate_redis_errors_total", &[]), 0.0);
}

#[tokio::test]
async fn an_operator_sees_and_resets_what_redis_has_counted() {
    let redis = RedisServer::start();
    let limit = "quota = ['5/1h', '100/1d']";
    let gateways = [patient(&redis, limit), patient(&redis, limit)];
    let ask_of = async |gateway: &Gateway, method: &str, key: &str| {
        let request = format!(
            "{method} /api/limits/one/keys/{key} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        Raw::ask(gateway.admin(), request).await
    };
    let ask = async |method: &str, key: &str| ask_of(&gateways[1], method, key).await;
    assert_eq!(ask("GET", "127.0.0.1").await.status, 404);
    for _ in 0..6 {
        get(&gateways[0]).await;
    }
    let seen = ask("GET", "127.0.0.1").await.json();
    let (data, windows) = (&seen["data"], &seen["data"]["windows"]);
    assert_eq!(data["store"], "redis");
    assert_eq!(windows[0]["remaining"], 0);
    assert_eq!(windows[1]["remaining"], 95);
    assert!(windows[0]["reset_seconds"].as_f64().unwrap() > 600.0);
    let hash = data["hash"].as_str().unwrap();
    assert_eq!(ask("GET", hash).await.json()["data"]["hash"], hash);
    assert_eq!(ask("DELETE", hash).await.status, 204);
    assert_eq!(ask("DELETE", hash).await.status, 404);
    assert!(redis.run("DBSIZE").starts_with(":0"));
    for gateway in &gateways {
        assert_eq!(get(gateway).await.status, 200);
    }
    let hasty = limited(&redis.url(), limit);
    redis.freeze();
    let refusal = ask_of(&hasty, "DELETE", "127.0.0.1").await.refusal();
    assert_eq!(refusal, (503, "admin.store_unavailable".to_owned()));
    redis.thaw();
}
