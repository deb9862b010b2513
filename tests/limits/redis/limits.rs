//! What is let through when several gateways count together.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tollgate::exchange::Clock;

use super::{Counts, GET, Storm, degraded, get, limited, limited_by, storm};
use crate::{
    Limited,
    callers::{checked, with_roles},
    support::{Gateway, Raw, RedisServer, Server, eventually, reply},
};

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
    let limit = format!("[rate_limits.one]\nkey = 'client_ip'\nstore = 'redis'\n{limit}");
    patient_by(redis, &limit, "['one']")
}

/// The same with other limits.
fn patient_by(redis: &RedisServer, tables: &str, limits: &str) -> Gateway {
    let url = format!("['{}']\ntimeout = '20s'", redis.url());
    limited_by(&url, tables, limits)
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
    // Of each gateway's last batch up to 49 may be left; nothing was taken before that day.
    assert!((1000 - 4 * 49..=1000).contains(&passed), "{counts:?}");
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
    // 40 batches, or twice as many halves, and a few of whoever waited in vain.
    assert!((40..=100).contains(&calls), "{calls}");
}

/// A gateway of one worker that takes fifty at a time; it has fetched a batch.
async fn holding_a_lease(redis: &RedisServer, quota: &str) -> Gateway {
    let tables = format!(
        "[server]\nworkers = 1\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '{quota}'\nlease = 50\nstore = 'redis'{PATIENT}"
    );
    let gateway = patient_by(redis, &tables, "['one']");
    // Who comes first takes one; the next takes fifty.
    let counts = storm(&[gateway.address()], 1, 2).await;
    assert_eq!(counts, Counts::from([(200, 2)]));
    gateway
}

#[tokio::test]
async fn nobody_waits_for_redis_while_a_lease_is_topped_up() {
    let redis = RedisServer::start();
    let gateway = holding_a_lease(&redis, "1000000/1d").await;
    let answers = || gateway.metric("tollgate_redis_duration_seconds_count", &[]);
    let before = answers();
    // Redis says nothing: more than half of a batch is used, and it is asked for more.
    redis.freeze();
    let counts = storm(&[gateway.address()], 1, 26).await;
    assert_eq!(counts, Counts::from([(200, 26)]));
    redis.thaw();
    eventually(|| answers() > before).await;
    // All but one of a whole batch less one, of which 23 were left; half-way it is asked again.
    redis.freeze();
    let counts = storm(&[gateway.address()], 1, 48).await;
    assert_eq!(counts, Counts::from([(200, 48)]));
    redis.thaw();
    eventually(|| answers() > before + 1.0).await;
    assert_eq!(get(&gateway).await.status, 200);
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn what_is_left_of_a_lease_is_used_when_redis_has_no_more() {
    let redis = RedisServer::start();
    let gateway = holding_a_lease(&redis, "60/1d").await;
    let counts = storm(&[gateway.address()], 1, 100).await;
    assert_eq!(counts, Counts::from([(200, 58), (429, 42)]));
    let calls = redis.calls("evalsha");
    // The first, the batch, one top-up that got nine of what was missing, and each that is refused by itself.
    assert!((44..=45).contains(&calls), "{calls}");
    let wait = get(&gateway).await.header("retry-after").map(str::to_owned);
    // A token comes every 24 minutes.
    let wait: u64 = wait.unwrap().parse().unwrap();
    assert!((1..=1440).contains(&wait), "{wait}");
}

#[tokio::test]
async fn what_is_left_of_a_lease_is_used_when_redis_is_away() {
    let mut redis = RedisServer::start();
    let gateway = holding_a_lease(&redis, "1000000/1d").await;
    redis.kill();
    let counts = storm(&[gateway.address()], 1, 60).await;
    assert_eq!(counts, Counts::from([(200, 49), (503, 11)]));
    assert_eq!(degraded(&gateway), 11.0);
}

#[tokio::test]
async fn who_is_refused_with_a_lease_comes_back_when_the_limits_beside_it_have_more_too() {
    let redis = RedisServer::start();
    let tables = "[server]\nworkers = 1\n\
                  [rate_limits.one]\nkey = 'client_ip'\nquota = '2/2h'\nlease = 2\nstore = 'redis'\n\
                  [rate_limits.two]\nkey = 'client_ip'\nquota = '2/2d'\nstore = 'redis'";
    let gateway = patient_by(&redis, tables, "['one', 'two']");
    let counts = storm(&[gateway.address()], 1, 2).await;
    assert_eq!(counts, Counts::from([(200, 2)]));
    // One is to fetch, the other waits for that.
    redis.freeze();
    let mut first = Raw::connect(gateway.address()).await;
    let mut second = Raw::connect(gateway.address()).await;
    first.send(GET).await;
    second.send(GET).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    redis.thaw();
    for client in [&mut first, &mut second] {
        let refused = client.answer().await;
        assert_eq!(refused.refusal(), (429, "limit.exceeded".to_owned()));
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(wait > 2 * 3600, "a day or so: {wait}");
    }
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn what_a_limit_without_a_lease_refuses_leaves_the_lease_beside_it_whole() {
    let redis = RedisServer::start();
    let tables = format!(
        "[server]\nworkers = 1\n\
         [rate_limits.all]\nkey = 'route'\nquota = '1000/1d'\nlease = 50\nstore = 'redis'{PATIENT}\n\
         [rate_limits.each]\nkey = 'client_ip'\nquota = '2/1d'\nstore = 'redis'{PATIENT}"
    );
    let gateway = patient_by(&redis, &tables, "['all', 'each']");
    let places = [gateway.address()];
    assert_eq!(storm(&places, 1, 2).await, Counts::from([(200, 2)]));
    for _ in 0..3 {
        // Most of the batch is lent while Redis thinks.
        redis.freeze();
        let thaw = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            redis.thaw();
        };
        let (counts, ()) = tokio::join!(storm(&places, 40, 1), thaw);
        assert_eq!(counts, Counts::from([(429, 40)]));
    }
    assert_eq!(degraded(&gateway), 0.0);
    // What the two have taken that passed, the second for those behind it too.
    let keys = redis.run("KEYS *:t:all");
    let key = keys.lines().nth(2).expect("it is counted");
    let debt = redis.run(&format!("HGET {key} 86400000000d"));
    let taken: f64 = debt.lines().nth(1).unwrap_or_default().parse().unwrap();
    assert!(
        (50.5..=51.0).contains(&taken),
        "a token comes every 86 seconds: {taken}"
    );
}

#[tokio::test]
async fn what_a_client_fetched_that_has_left_serves_the_next_ones() {
    let redis = RedisServer::start();
    let tables = format!(
        "[server]\nworkers = 1\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '1000/1d'\nlease = 5\nstore = 'redis'{PATIENT}\n\
         [rate_limits.slots]\nkey = 'client_ip'\nquota = 9\nalgorithm = 'concurrency'"
    );
    let gateway = patient_by(&redis, &tables, "['slots', 'one']");
    let held = |keys| {
        let held = || gateway.metric("tollgate_rate_limit_keys", &["limit=\"slots\""]);
        eventually(move || held() == keys)
    };
    let calls = || redis.calls("evalsha") + redis.calls("eval");
    let passing = async |requests: usize| storm(&[gateway.address()], 1, requests).await;
    // One, and a batch, which is too small to be topped up.
    assert_eq!(passing(6).await, Counts::from([(200, 6)]));
    held(0.0).await;
    let before = calls();
    redis.freeze();
    let mut client = Raw::connect(gateway.address()).await;
    client.send(GET).await;
    held(1.0).await;
    client.reset();
    held(0.0).await;
    redis.thaw();
    eventually(|| calls() > before).await;
    assert_eq!(passing(4).await, Counts::from([(200, 4)]));
    assert_eq!(calls(), before + 1);
    assert_eq!(degraded(&gateway), 0.0);
}

/// A gateway of one worker, where a caller has a quota of eight and with another token a large one.
fn of_two_tiers(redis: &RedisServer) -> Gateway {
    Gateway::start(&format!(
        "[server]\nworkers = 1\n[redis]\nurl = '{}'\ntimeout = '20s'\n\
         [routes.all]\nrespond = {{ body = 'ok' }}\nauth = 'jwt.main'\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'caller'\nquota = '8/1d'\nalgorithm = 'fixed_window'\nlease = 8\nstore = 'redis'{PATIENT}\n\
         [rate_limits.one.overrides]\n'role:gold' = '100000/1d'\n{}",
        redis.url(),
        checked(),
    ))
}

/// How many of so many requests with a credential pass.
async fn passed_with(gateway: &Gateway, caller: &str, requests: usize) -> usize {
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{caller}\r\n");
    let mut passed = 0;
    for _ in 0..requests {
        let answer = Raw::ask(gateway.address(), request.clone()).await;
        passed += usize::from(answer.status == 200);
    }
    passed
}

#[tokio::test]
async fn who_has_used_up_a_small_quota_lives_on_no_batch_of_a_large_one() {
    let redis = RedisServer::start();
    let gateway = of_two_tiers(&redis);
    let (gold, plain) = (with_roles("alice", &["gold"]), with_roles("alice", &[]));
    assert_eq!(passed_with(&gateway, &plain, 10).await, 8);
    for _ in 0..5 {
        assert_eq!(passed_with(&gateway, &gold, 1).await, 1);
        assert_eq!(passed_with(&gateway, &plain, 3).await, 0);
    }
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn what_a_small_quota_is_refused_is_not_refused_to_a_large_one_that_comes_meanwhile() {
    let redis = RedisServer::start();
    let gateway = of_two_tiers(&redis);
    let (gold, plain) = (with_roles("alice", &["gold"]), with_roles("alice", &[]));
    assert_eq!(passed_with(&gateway, &plain, 10).await, 8);
    redis.freeze();
    let meanwhile = async {
        let pause = Duration::from_millis(100);
        tokio::time::sleep(pause).await;
        let passed = passed_with(&gateway, &gold, 1);
        let thaw = async {
            tokio::time::sleep(pause).await;
            redis.thaw();
        };
        tokio::join!(passed, thaw).0
    };
    let passed = tokio::join!(passed_with(&gateway, &plain, 1), meanwhile);
    assert_eq!(passed, (0, 1));
    assert_eq!(degraded(&gateway), 0.0);
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
    // A batch, and more when half of it is used: up to nine are left.
    let counts = storm(&[gateway.address()], 1, 11).await;
    assert_eq!(counts, Counts::from([(200, 11)]));
    next_second(20).await;
    let counts = storm(&[gateway.address()], 1, 40).await;
    let passed = counts[&200];
    println!("{passed} passed, of 20 and 9");
    assert!((21..=29).contains(&passed), "{counts:?}");
}

/// The second that it is by the clock of Redis, in which windows of a second begin.
fn second_of(redis: &RedisServer) -> u32 {
    let time = redis.run("TIME");
    time.lines().nth(2).unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_of_four_gateways_brings_no_more_than_a_batch_less_one_into_the_next_window() {
    let redis = RedisServer::start();
    let limit = "quota = '100/1s'\nalgorithm = 'fixed_window'\nlease = 10\non_store_error = 'deny'";
    let gateways: Vec<_> = (0..4).map(|_| patient(&redis, limit)).collect();
    let places: Vec<_> = gateways.iter().map(Gateway::address).collect();
    // They are connected.
    storm(&places, 1, 1).await;
    next_second(300).await;
    // Half of each batch is used, and topped up while nobody asks for it: up to nine are left.
    let counts = storm(&places, 1, 6).await;
    assert_eq!(counts, Counts::from([(200, 24)]));
    next_second(20).await;
    let first = second_of(&redis);
    let counts = storm(&places, 1, 60).await;
    let windows = second_of(&redis) - first + 1;
    let passed = counts[&200];
    println!("{passed} passed in {windows} windows, of 100 each and 36");
    assert!((100..=100 * windows + 36).contains(&passed), "{counts:?}");
    assert_eq!(gateways.iter().map(degraded).sum::<f64>(), 0.0);
}

#[tokio::test]
async fn four_gateways_together_keep_to_a_short_window_at_every_pace() {
    let redis = RedisServer::start();
    let limit = format!("quota = '300/1s'\nalgorithm = 'fixed_window'{PATIENT}");
    let gateways: Vec<_> = (0..4).map(|_| patient(&redis, &limit)).collect();
    let first = second_of(&redis);
    let began = Instant::now();
    let places = gateways.iter().map(Gateway::address);
    let loads: Vec<_> = places
        .flat_map(|place| [place; 4])
        .map(Storm::over)
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (mut passed, mut refused) = (0_u32, 0_u32);
    for load in loads {
        let (counts, _) = load.end().await;
        assert!(
            counts.keys().all(|it| [200, 429].contains(it)),
            "{counts:?}"
        );
        passed += counts.get(&200).copied().unwrap_or_default();
        refused += counts.get(&429).copied().unwrap_or_default();
    }
    let windows = second_of(&redis) - first + 1;
    let rate = f64::from(passed + refused) / began.elapsed().as_secs_f64();
    println!(
        "{passed} passed in {windows} windows, {refused} did not: {rate:.0} requests a second"
    );
    assert!((1..=300 * windows).contains(&passed), "{passed}");
    assert_eq!(gateways.iter().map(degraded).sum::<f64>(), 0.0);
}

#[tokio::test]
async fn one_script_asks_for_all_limits_and_windows() {
    let redis = RedisServer::start();
    let tables = "[rate_limits.one]\nkey = 'client_ip'\nquota = ['1000/1h', '5000/1d']\nstore = 'redis'\n\
                  [rate_limits.two]\nkey = 'route'\nquota = ['2000/1h', '9000/1d']\nstore = 'redis'";
    let gateway = patient_by(&redis, tables, "['one', 'two']");
    let counts = storm(&[gateway.address()], 1, 100).await;
    assert_eq!(counts, Counts::from([(200, 100)]));
    assert_eq!(degraded(&gateway), 0.0);
    // One each, and one that finds the script missing.
    let calls = redis.calls("evalsha") + redis.calls("eval");
    assert!((100..=102).contains(&calls), "{calls}");
}

/// How many connections Redis has taken so far.
fn connections_of(redis: &RedisServer) -> u64 {
    let stats = redis.run("INFO stats");
    let rest = stats.split("total_connections_received:").nth(1);
    let number = rest.and_then(|rest| rest.lines().next());
    number.unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_worker_has_one_connection_whatever_comes() {
    let redis = RedisServer::start();
    let tables = "[server]\nworkers = 2\n\
                  [rate_limits.one]\nkey = 'client_ip'\nquota = '1000000/1d'\nstore = 'redis'";
    let gateway = patient_by(&redis, tables, "['one']");
    let before = connections_of(&redis);
    let counts = storm(&[gateway.address()], 40, 25).await;
    assert_eq!(counts, Counts::from([(200, 1000)]));
    assert_eq!(degraded(&gateway), 0.0);
    // The one that asks is there too, and has been counted too.
    let made = connections_of(&redis) - before - 1;
    assert!((1..=2).contains(&made), "{made}");
    let clients = redis.run("CLIENT LIST").matches("\nid=").count();
    assert!((2..=3).contains(&clients), "{clients}");
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
    let mut spent = Vec::new();
    for algorithm in [
        "token_bucket",
        "fixed_window",
        "sliding_window",
        "sliding_window'\nexact = true\nmax_keys = 1000#",
    ] {
        let redis = RedisServer::start();
        let keys = format!("quota = '3/1s'\nalgorithm = '{algorithm}'").replace("#'", "");
        let gateway = limited(&redis.url(), &keys);
        for _ in 0..20 {
            get(&gateway).await;
        }
        assert_eq!(get(&gateway).await.status, 429, "{algorithm}");
        spent.push((algorithm, redis, gateway));
    }
    // Once for all of them: the clock is that of Redis, which no test moves.
    tokio::time::sleep(Duration::from_millis(2_050)).await;
    for (algorithm, _redis, gateway) in &spent {
        let mut passed = 0;
        for _ in 0..3 {
            passed += u32::from(get(gateway).await.status == 200);
        }
        assert_eq!(passed, 3, "{algorithm}");
        assert_eq!(degraded(gateway), 0.0);
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

/// What an operator sees of a limit by address.
async fn seen(gateway: &Gateway, limit: &str) -> Value {
    let request = format!(
        "GET /api/limits/{limit}/keys/127.0.0.1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let answer = Raw::ask(gateway.admin(), request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].clone()
}

#[tokio::test]
async fn what_a_limit_in_memory_took_is_given_back_when_redis_refuses() {
    let redis = RedisServer::start();
    let tables = "[rate_limits.here]\nkey = 'client_ip'\nquota = '10/1d'\n\
                  [rate_limits.narrow]\nkey = 'client_ip'\nquota = '5/1d'\nstore = 'redis'";
    let gateway = patient_by(&redis, tables, "['here', 'narrow']");
    // No more than five at a time: beside the five that pass there is room for them.
    let counts = storm(&[gateway.address()], 5, 8).await;
    assert_eq!(counts, Counts::from([(200, 5), (429, 35)]));
    let here = seen(&gateway, "here").await;
    assert_eq!(here["store"], "memory");
    assert_eq!(here["windows"][0]["remaining"], 5);
    let narrow = seen(&gateway, "narrow").await;
    assert_eq!(narrow["windows"][0]["remaining"], 0);
}

#[tokio::test]
async fn what_is_given_back_when_redis_refuses_is_no_gift_to_the_next_window() {
    let redis = RedisServer::start();
    let limited = Limited::start(&format!(
        "[redis]\nurl = '{}'\ntimeout = '20s'\n\
         [routes.both]\npath = '/both'\nrespond = {{}}\nrate_limits = ['here', 'there']\n\
         [routes.here]\npath = '/here'\nrespond = {{}}\nrate_limits = ['here']\n\
         [routes.there]\npath = '/there'\nrespond = {{}}\nrate_limits = ['there']\n\
         [rate_limits.here]\nkey = 'client_ip'\nquota = '10/1m'\nalgorithm = 'fixed_window'\n\
         [rate_limits.there]\nkey = 'client_ip'\nquota = '1/1d'\nstore = 'redis'\n",
        redis.url()
    ));
    assert_eq!(limited.ask("/there", "").await.status, 200);
    redis.freeze();
    let mut client = Raw::connect(limited.gateway.address()).await;
    client.send("GET /both HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let taken = || {
        limited
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"here\""])
    };
    eventually(|| taken() == 1.0).await;
    // Another minute begins, and others use all of it.
    limited.later(60.0);
    for _ in 0..10 {
        assert_eq!(limited.ask("/here", "").await.status, 200);
    }
    redis.thaw();
    assert_eq!(client.answer().await.status, 429);
    assert_eq!(limited.ask("/here", "").await.status, 429);
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

/// A gateway whose upstream tells that each request has cost so much, of a quota of twenty.
async fn costing(
    redis: &RedisServer,
    told: &'static str,
    (route, limit): (&str, &str),
) -> (Server, Gateway) {
    let server = Server::http1(move |_| async move {
        let mut answer = reply("ok");
        answer.headers_mut().insert("x-cost", told.parse().unwrap());
        answer
    })
    .await;
    let gateway = Gateway::start(&format!(
        "[redis]\nurl = '{}'\ntimeout = '20s'\n\
         [routes.all]\nupstream = '{}'\nrate_limits = ['one']\n{route}\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '20/1d'\nstore = 'redis'\ncost_header = 'x-cost'\n{limit}",
        redis.url(),
        server.url(),
    ));
    (server, gateway)
}

#[tokio::test]
async fn what_an_answer_costs_more_is_charged_in_redis() {
    let redis = RedisServer::start();
    let (_server, gateway) = costing(&redis, "8", ("", "")).await;
    // Each takes and charges; the first also finds the script missing.
    for calls in [3, 5, 7] {
        assert_eq!(get(&gateway).await.status, 200);
        eventually(|| redis.calls("evalsha") + redis.calls("eval") >= calls).await;
    }
    // 24 of 20.
    assert_eq!(get(&gateway).await.status, 429);
}

#[tokio::test]
async fn what_an_answer_costs_more_than_was_taken_of_a_batch_is_no_gift() {
    let redis = RedisServer::start();
    let (_server, gateway) = costing(&redis, "8", ("", "lease = 7")).await;
    // The first takes one and is charged seven more. The second takes seven, of which it is charged six, and
    // one more. The third takes the four that are left, is charged three of them, and four more: 24 of 20.
    for calls in [3, 5, 7] {
        assert_eq!(get(&gateway).await.status, 200);
        eventually(|| redis.calls("evalsha") + redis.calls("eval") >= calls).await;
    }
    assert_eq!(get(&gateway).await.status, 429);
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn a_lease_that_has_to_make_room_goes_back_to_redis() {
    let redis = RedisServer::start();
    let tables = format!(
        "[server]\nworkers = 1\n\
         [rate_limits.one]\nkey = 'header:x-name'\nquota = '1000/1d'\nalgorithm = 'fixed_window'\nlease = 50\n\
         max_keys = 100\nstore = 'redis'{PATIENT}\n\
         [rate_limits.all]\nkey = 'client_ip'\nquota = '1000000/1s'"
    );
    let gateway = patient_by(&redis, &tables, "['one', 'all']");
    let passed = async |name: &str| passed_with(&gateway, &format!("x-name: {name}\r\n"), 2).await;
    assert_eq!(passed("victim").await, 2);
    let evicted = || gateway.metric("tollgate_rate_limit_evictions_total", &["limit=\"one\""]);
    for number in 0..300 {
        assert_eq!(passed(&number.to_string()).await, 2);
    }
    assert!(evicted() >= 200.0, "{}", evicted());
    // Of each that had to go two are used, and of the others a batch is held beside the first.
    let used = || {
        let keys = redis.run("KEYS *:f:one");
        let keys = keys.lines().filter(|line| line.contains("limit:"));
        let used = keys.map(|key| redis.run(&format!("HVALS {key}")));
        used.filter(|used| used.lines().any(|line| line == "51"))
            .count()
    };
    eventually(|| used() <= 100).await;
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn who_is_refused_here_has_nobody_s_lease_make_room() {
    let redis = RedisServer::start();
    let tables = format!(
        "[server]\nworkers = 1\n\
         [rate_limits.one]\nkey = 'header:x-name'\nquota = '1000/1d'\nlease = 50\nmax_keys = 100\nstore = 'redis'{PATIENT}\n\
         [rate_limits.all]\nkey = 'client_ip'\nquota = '120/1d'"
    );
    let gateway = patient_by(&redis, &tables, "['one', 'all']");
    let passed = async |name: &str| passed_with(&gateway, &format!("x-name: {name}\r\n"), 2).await;
    for number in 0..60 {
        assert_eq!(passed(&number.to_string()).await, 2);
    }
    let before = redis.calls("evalsha");
    for number in 100..400 {
        assert_eq!(passed(&number.to_string()).await, 0);
    }
    let evicted = gateway.metric("tollgate_rate_limit_evictions_total", &["limit=\"one\""]);
    assert_eq!((evicted, redis.calls("evalsha")), (0.0, before));
}

#[tokio::test]
async fn what_is_asked_about_one_key_at_a_time_is_asked_for_each_request_and_limit() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 1\n[redis]\nurl = '{}'\ntimeout = '20s'\none_key_per_call = true\n\
         [routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = ['one', 'two']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '100/1d'\nstore = 'redis'\n\
         [rate_limits.two]\nkey = 'route'\nquota = '30/1d'\nstore = 'redis'",
        redis.url(),
    ));
    assert_eq!(get(&gateway).await.status, 200);
    let before = redis.calls("evalsha");
    redis.freeze();
    let thaw = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        redis.thaw();
    };
    let places = [gateway.address()];
    let (counts, ()) = tokio::join!(storm(&places, 20, 1), thaw);
    assert_eq!(counts, Counts::from([(200, 20)]));
    assert_eq!(redis.calls("evalsha"), before + 40);
    assert_eq!(degraded(&gateway), 0.0);
}

/// How many requests pass that take five of twenty and turn out to cost one. `calls` is how often Redis
/// is asked for each of them.
async fn passed_for_one_of_five(limit: &str, calls: impl Fn(u32) -> u64) -> u32 {
    let redis = RedisServer::start();
    let (_server, gateway) = costing(&redis, "1", ("cost = 5", limit)).await;
    // The first finds the script missing.
    let (mut passed, mut asked) = (0_u32, 1_u64);
    while get(&gateway).await.status == 200 {
        asked += calls(passed);
        passed += 1;
        assert!(passed < 30, "nothing is charged");
        // What is given back goes behind the answer.
        eventually(|| redis.calls("evalsha") + redis.calls("eval") >= asked).await;
    }
    assert_eq!(degraded(&gateway), 0.0);
    passed
}

#[tokio::test]
async fn what_an_answer_costs_less_is_given_back_to_redis() {
    // Each takes and gives back; fifteen of twenty leave five for one more.
    assert_eq!(passed_for_one_of_five("", |_| 2).await, 16);
}

#[tokio::test]
async fn what_an_answer_costs_less_than_was_taken_of_a_batch_is_given_back_to_redis() {
    // The first takes what it needs. Of a batch of ten there is enough for two, and every other request
    // fetches one. After eleven requests there are nine left: the next takes all of them, gives back four
    // and keeps four, which are too few.
    let calls = |request: u32| 1 + u64::from(request == 0 || request % 2 == 1);
    assert_eq!(passed_for_one_of_five("lease = 10", calls).await, 12);
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
async fn what_redis_has_counted_stays_used_over_reloads() {
    let redis = RedisServer::start();
    let text = |route: &str, quota: &str| {
        format!(
            "[redis]\nurl = '{}'\ntimeout = '20s'\n\
             [routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = ['one']\n{route}\n\
             [rate_limits.one]\nkey = 'client_ip'\nquota = '{quota}'\nstore = 'redis'\n",
            redis.url()
        )
    };
    let gateway = Gateway::start(&text("", "10/1d"));
    let passing = async |requests: usize| storm(&[gateway.address()], 1, requests).await;
    assert_eq!(passing(4).await, Counts::from([(200, 4)]));
    // Nothing that the limit knows of.
    gateway.apply(&text("max_body = '1MiB'", "10/1d"));
    assert_eq!(passing(2).await, Counts::from([(200, 2)]));
    gateway.apply(&text("max_body = '1MiB'", "20/1d"));
    assert_eq!(passing(20).await, Counts::from([(200, 14), (429, 6)]));
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn a_lease_lives_on_over_a_reload_that_leaves_its_limit_alone_and_over_no_other() {
    let redis = RedisServer::start();
    let text = |route: &str, quota: &str| {
        format!(
            "[server]\nworkers = 1\n[redis]\nurl = '{}'\ntimeout = '20s'\n\
             [routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = ['one']\n{route}\n\
             [rate_limits.one]\nkey = 'client_ip'\nquota = '{quota}'\nlease = 50\nstore = 'redis'\n",
            redis.url()
        )
    };
    let gateway = Gateway::start(&text("", "1000/1d"));
    let passing = async |requests: usize| storm(&[gateway.address()], 1, requests).await;
    assert_eq!(passing(2).await, Counts::from([(200, 2)]));
    gateway.apply(&text("max_body = '1MiB'", "1000/1d"));
    // Of the forty-nine that are left some are used, and Redis is not asked.
    let calls = || redis.calls("evalsha") + redis.calls("eval");
    let before = calls();
    assert_eq!(passing(20).await, Counts::from([(200, 20)]));
    assert_eq!(calls(), before);
    // What is left then is lost: it is no gift to the new quota.
    gateway.apply(&text("max_body = '1MiB'", "60/1d"));
    assert_eq!(passing(40).await, Counts::from([(200, 9), (429, 31)]));
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn a_user_with_the_rights_that_the_documentation_names_has_enough() {
    let redis = RedisServer::start();
    let rights = "~tollgate:* &tollgate:* +@all -@admin -@dangerous";
    let made = redis.run(&format!("ACL SETUSER gate on >s3cret {rights}"));
    assert!(made.starts_with("+OK"), "{made}");
    let url = format!(
        "'redis://gate:s3cret@127.0.0.1:{}'\ntimeout = '20s'",
        redis.port()
    );
    for algorithm in [
        "token_bucket'",
        "fixed_window'",
        "sliding_window'",
        "sliding_window'\nexact = true\nmax_keys = 1000",
    ] {
        let limit = format!(
            "[rate_limits.one]\nkey = 'client_ip'\nquota = '5/1d'\nstore = 'redis'\nalgorithm = '{algorithm}"
        );
        let gateway = limited_by(&url, &limit, "['one']");
        let counts = storm(&[gateway.address()], 1, 10).await;
        assert_eq!(counts, Counts::from([(200, 5), (429, 5)]), "{algorithm}");
        assert_eq!(degraded(&gateway), 0.0);
        redis.run("FLUSHALL");
    }
}

#[tokio::test]
async fn gateways_whose_clocks_differ_count_by_that_of_redis() {
    let redis = RedisServer::start();
    let text = format!(
        "[redis]\nurl = '{}'\ntimeout = '20s'\n\
         [routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '9/30d'\nalgorithm = 'fixed_window'\nstore = 'redis'\n",
        redis.url()
    );
    let right = Gateway::start(&text);
    let clock = Clock::movable();
    clock.advance(Duration::from_secs(45 * 86_400));
    let ahead = Gateway::start_at(&text, clock);
    for gateway in [&right, &ahead] {
        let counts = storm(&[gateway.address()], 1, 4).await;
        assert_eq!(counts, Counts::from([(200, 4)]));
    }
    for gateway in [&ahead, &right] {
        get(gateway).await;
        let refused = get(gateway).await;
        assert_eq!(refused.refusal(), (429, "limit.exceeded".to_owned()));
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(wait <= 30 * 86_400, "{wait}");
        assert_eq!(degraded(gateway), 0.0);
    }
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

#[tokio::test]
async fn a_tier_of_a_short_time_frees_nothing_in_redis_of_one_of_a_long_time() {
    let redis = RedisServer::start();
    let limits = [
        ("bucket", "algorithm = 'token_bucket'"),
        ("fixed", "algorithm = 'fixed_window'"),
        ("weighted", "algorithm = 'sliding_window'"),
        (
            "exact",
            "algorithm = 'sliding_window'\nexact = true\nmax_keys = 1000",
        ),
    ];
    let tables = limits.map(|(name, algorithm)| {
        format!(
            "[routes.{name}]\npath = '/{name}'\nrespond = {{ body = 'ok' }}\nauth = 'jwt.main'\nrate_limits = ['{name}']\n\
             [rate_limits.{name}]\nkey = 'caller'\nquota = '10/100ms'\nstore = 'redis'\n{algorithm}{PATIENT}\n\
             [rate_limits.{name}.overrides]\n'role:gold' = '8/1d'\n"
        )
    });
    let gateway = Gateway::start(&format!(
        "[redis]\nurl = '{}'\ntimeout = '20s'\n{}{}",
        redis.url(),
        checked(),
        tables.concat()
    ));
    let (gold, plain) = (with_roles("alice", &["gold"]), with_roles("alice", &[]));
    let passed = async |requests: usize, name: &str, caller: &str| {
        let mut passed = 0;
        for _ in 0..requests {
            let request = format!(
                "GET /{name} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{caller}\r\n"
            );
            passed += u32::from(Raw::ask(gateway.address(), request).await.status == 200);
        }
        passed
    };
    for (name, _) in limits {
        assert_eq!(passed(10, name, &gold).await, 8, "{name}");
        assert_eq!(passed(1, name, &plain).await, 1, "{name}");
    }
    // A key of the short time lives for 1.1 seconds.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for (name, _) in limits {
        assert_eq!(passed(2, name, &gold).await, 0, "{name}");
    }
    assert_eq!(degraded(&gateway), 0.0);
}
