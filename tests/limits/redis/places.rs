//! How many at a time, of all gateways together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{GET, degraded, get, get_as, limited_by, storm};
use crate::support::{
    Events, Feed, Gateway, Raw, RedisServer, Server, Streams, WebSocket, eventually, release,
    reply, within,
};

/// A gateway in front of an origin, with a limit of so many at a time; `more` is what else is said of it.
fn gateway(redis: &RedisServer, origin: &str, quota: u32, more: &str) -> Gateway {
    Gateway::start(&text(redis, origin, quota, more))
}

fn text(redis: &RedisServer, origin: &str, quota: u32, more: &str) -> String {
    format!(
        "[redis]\nurl = '{}'\ntimeout = '20s'\n\
         [routes.all]\nupstream = '{origin}'\nrate_limits = ['slots']\n\
         [rate_limits.slots]\nkey = 'client_ip'\nquota = {quota}\nalgorithm = 'concurrency'\n\
         store = 'redis'\n{more}",
        redis.url()
    )
}

/// Its address, and a deadline that a busy machine does not miss.
fn patient(redis: &RedisServer) -> String {
    format!("['{}']\ntimeout = '20s'", redis.url())
}

/// How many places Redis counts, whether they have lapsed or not.
fn counted(redis: &RedisServer) -> usize {
    let found = redis.run("KEYS *");
    let keys = found.lines().filter(|line| line.contains("}:h:"));
    let count = |key: &str| {
        let told = redis.run(&format!("ZCARD {key}"));
        let count = told.lines().next().unwrap().trim_start_matches(':');
        count.parse::<usize>().unwrap()
    };
    keys.map(count).sum()
}

async fn none_is_held(redis: &RedisServer) {
    eventually(|| counted(redis) == 0).await;
}

/// A request that is in flight until the origin's answer is released.
async fn waiting_at(gateway: &Gateway, origin: &Streams) -> (Raw, Feed) {
    let mut client = Raw::connect(gateway.address()).await;
    client.send(WAIT).await;
    (client, origin.feed().await)
}

const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn two_gateways_have_so_many_in_flight_together() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let url = origin.server.url();
    let (one, other) = (
        gateway(&redis, &url, 2, "on_store_error = 'deny'"),
        gateway(&redis, &url, 2, "on_store_error = 'deny'"),
    );
    let (mut waiting, feed) = waiting_at(&one, &origin).await;
    let mut events = Events::connect(other.address(), &origin).await;
    events.pass("data: 1\n\n").await;
    for gateway in [&one, &other] {
        let refused = get(gateway).await;
        assert_eq!(refused.refusal(), (429, "limit.exceeded".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.header("ratelimit"), Some("\"slots\";r=0"));
        let policy = "\"slots\";q=2;qu=\"concurrent-requests\"";
        assert_eq!(refused.header("ratelimit-policy"), Some(policy));
    }
    assert_eq!(counted(&redis), 2, "who was refused holds nothing");
    release(feed).await;
    assert_eq!(waiting.answer().await.status, 200);
    eventually(|| counted(&redis) == 1).await;
    let passed = get(&other).await;
    assert_eq!(
        (passed.status, passed.header("ratelimit")),
        (200, Some("\"slots\";r=0"))
    );
    drop(events);
    none_is_held(&redis).await;
    let passed = get(&one).await;
    assert_eq!(
        (passed.status, passed.header("ratelimit")),
        (200, Some("\"slots\";r=1"))
    );
}

#[tokio::test]
async fn a_place_in_redis_is_free_again_when_the_client_leaves_and_when_the_tunnel_ends() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let gateway = gateway(&redis, &origin.server.url(), 1, "on_store_error = 'deny'");
    let (client, _feed) = waiting_at(&gateway, &origin).await;
    assert_eq!(counted(&redis), 1);
    client.reset();
    none_is_held(&redis).await;
    let mut socket = WebSocket::connect(gateway.address()).await;
    socket.echo("one").await;
    assert_eq!(get(&gateway).await.status, 429);
    drop(socket);
    none_is_held(&redis).await;
    assert_eq!(get(&gateway).await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_while_redis_is_asked_leaves_no_place_behind() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let gateway = gateway(&redis, &origin.server.url(), 1, "");
    assert_eq!(get(&gateway).await.status, 200);
    none_is_held(&redis).await;
    redis.freeze();
    for _ in 0..20 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(GET).await;
        let asked = || gateway.metric("tollgate_rate_limit_keys", &["limit=\"slots\""]) > 0.0;
        eventually(asked).await;
        client.reset();
        eventually(|| !asked()).await;
    }
    redis.thaw();
    // What was asked before is answered before this.
    get(&gateway).await;
    none_is_held(&redis).await;
    assert_eq!(get(&gateway).await.status, 200);
}

#[tokio::test]
async fn never_more_than_the_quota_are_at_the_origin_whichever_gateways_they_come_by() {
    let redis = RedisServer::start();
    let (there, most) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let origin = {
        let (there, most) = (Arc::clone(&there), Arc::clone(&most));
        Server::http1(move |_| {
            let (there, most) = (Arc::clone(&there), Arc::clone(&most));
            async move {
                most.fetch_max(there.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_millis(3)).await;
                there.fetch_sub(1, SeqCst);
                reply("ok")
            }
        })
        .await
    };
    let more = "on_store_error = 'deny'";
    let gateways: Vec<_> = (0..3)
        .map(|_| gateway(&redis, &origin.url(), 7, more))
        .collect();
    let places: Vec<_> = gateways.iter().map(Gateway::address).collect();
    let counts = storm(&places, 6, 60).await;
    assert_eq!(most.load(SeqCst), 7, "{counts:?}");
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [200, 429]);
    none_is_held(&redis).await;
}

#[tokio::test]
async fn what_another_limit_refuses_holds_nothing_in_redis() {
    let redis = RedisServer::start();
    for few in ["quota = '2/1h'", "quota = '2/1h'\nstore = 'redis'"] {
        let gateway = limited_by(
            &patient(&redis),
            &format!(
                "[rate_limits.slots]\nkey = 'client_ip'\nquota = 5\nalgorithm = 'concurrency'\n\
                 store = 'redis'\n[rate_limits.few]\nkey = 'client_ip'\n{few}"
            ),
            "['slots', 'few']",
        );
        let mut passed = 0;
        for _ in 0..4 {
            passed += u32::from(get(&gateway).await.status == 200);
        }
        assert_eq!((passed, degraded(&gateway)), (2, 0.0), "{few}");
        none_is_held(&redis).await;
    }
}

#[tokio::test]
async fn a_place_beside_a_leased_limit_is_given_back_too() {
    let redis = RedisServer::start();
    let gateway = limited_by(
        &patient(&redis),
        "[rate_limits.slots]\nkey = 'client_ip'\nquota = 1\nalgorithm = 'concurrency'\nstore = 'redis'\n\
         [rate_limits.many]\nkey = 'client_ip'\nquota = '500/1h'\nstore = 'redis'\nlease = 50",
        "['slots', 'many']",
    );
    for _ in 0..60 {
        assert_eq!(get(&gateway).await.status, 200);
        none_is_held(&redis).await;
    }
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn what_a_gateway_refuses_by_itself_redis_is_not_asked() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let gateway = gateway(&redis, &origin.server.url(), 1, "");
    let (_client, _feed) = waiting_at(&gateway, &origin).await;
    let asked = redis.calls("evalsha");
    for _ in 0..5 {
        assert_eq!(get(&gateway).await.status, 429);
    }
    assert_eq!(redis.calls("evalsha"), asked);
}

#[tokio::test]
async fn a_request_has_one_place_in_redis_whatever_it_costs() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&format!(
        "[redis]\nurl = {}\n\
         [routes.all]\nrespond = {{}}\nrate_limits = ['slots']\ncost = 5\n\
         [rate_limits.slots]\nkey = 'client_ip'\nquota = 2\nalgorithm = 'concurrency'\nstore = 'redis'",
        patient(&redis)
    ));
    let passed = get(&gateway).await;
    assert_eq!(passed.header("ratelimit"), Some("\"slots\";r=1"));
    none_is_held(&redis).await;
}

#[tokio::test]
async fn requests_that_are_refused_again_and_again_take_no_place_from_anybody() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let url = origin.server.url();
    let (one, other) = (gateway(&redis, &url, 1, ""), gateway(&redis, &url, 1, ""));
    let (mut client, feed) = waiting_at(&one, &origin).await;
    let counts = storm(&[other.address()], 8, 40).await;
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(429, 320)]);
    release(feed).await;
    assert_eq!(client.answer().await.status, 200);
    none_is_held(&redis).await;
    assert_eq!(get(&other).await.status, 200);
}

#[tokio::test]
async fn in_shadow_mode_nobody_waits_for_a_place() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let url = origin.server.url();
    let (one, other) = (
        gateway(&redis, &url, 1, "enforce = false"),
        gateway(&redis, &url, 1, "enforce = false"),
    );
    let (mut client, feed) = waiting_at(&one, &origin).await;
    // The first knows by itself, the second by Redis.
    let asked = redis.calls("evalsha");
    for (gateway, more) in [(&one, 0), (&other, 1)] {
        assert_eq!(get(gateway).await.status, 200);
        assert_eq!(redis.calls("evalsha"), asked + more);
        let labels = ["decision=\"shadow_deny\""];
        let denied = gateway.metric("tollgate_rate_limit_decisions_total", &labels);
        assert_eq!(denied, 1.0);
    }
    assert_eq!(counted(&redis), 1);
    release(feed).await;
    assert_eq!(client.answer().await.status, 200);
    none_is_held(&redis).await;
}

#[tokio::test]
async fn while_redis_is_away_each_gateway_has_the_quota_by_itself_and_what_it_held_counts() {
    let (mut redis, origin) = (RedisServer::start(), Streams::start().await);
    let url = origin.server.url();
    let (one, other) = (gateway(&redis, &url, 1, ""), gateway(&redis, &url, 1, ""));
    let (mut client, feed) = waiting_at(&one, &origin).await;
    assert_eq!(get(&other).await.status, 429);
    redis.kill();
    assert_eq!(get(&one).await.status, 429, "it holds its own");
    let passed = get(&other).await;
    assert_eq!(
        (passed.status, passed.header("ratelimit")),
        (200, Some("\"slots\";r=0"))
    );
    assert!(degraded(&other) >= 1.0);
    redis.restart();
    release(feed).await;
    assert_eq!(client.answer().await.status, 200);
    within(async { while get(&one).await.status != 200 {} }).await;
    eventually(|| {
        one.metric("tollgate_redis_breaker_open", &[]) == 0.0
            && other.metric("tollgate_redis_breaker_open", &[]) == 0.0
    })
    .await;
    none_is_held(&redis).await;
}

#[tokio::test]
async fn without_redis_places_are_given_or_refused_as_configured() {
    let (mut redis, origin) = (RedisServer::start(), Streams::start().await);
    let url = origin.server.url();
    let (deny, allow) = (
        gateway(&redis, &url, 1, "on_store_error = 'deny'"),
        gateway(&redis, &url, 1, "on_store_error = 'allow'"),
    );
    let shadow = gateway(&redis, &url, 1, "on_store_error = 'deny'\nenforce = false");
    redis.kill();
    assert_eq!(get(&shadow).await.status, 200);
    let labels = ["decision=\"shadow_deny\""];
    let denied = shadow.metric("tollgate_rate_limit_decisions_total", &labels);
    assert_eq!(denied, 1.0);
    let refused = get(&deny).await;
    assert_eq!(
        refused.refusal(),
        (503, "limit.store_unavailable".to_owned())
    );
    let passed = get(&allow).await;
    assert_eq!((passed.status, passed.header("ratelimit")), (200, None));
    // More than all gateways may have is more than one may have.
    let (_client, _feed) = waiting_at(&allow, &origin).await;
    assert_eq!(
        get(&allow).await.refusal(),
        (429, "limit.exceeded".to_owned())
    );
}

#[tokio::test]
async fn a_place_is_held_on_over_a_reload() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let url = origin.server.url();
    let (one, other) = (gateway(&redis, &url, 1, ""), gateway(&redis, &url, 3, ""));
    let (mut client, feed) = waiting_at(&one, &origin).await;
    one.apply(&text(&redis, &url, 2, ""));
    let passed = get(&one).await;
    assert_eq!(
        (passed.status, passed.header("ratelimit")),
        (200, Some("\"slots\";r=0"))
    );
    eventually(|| counted(&redis) == 1).await;
    let passed = get(&other).await;
    assert_eq!(passed.header("ratelimit"), Some("\"slots\";r=1"));
    release(feed).await;
    assert_eq!(client.answer().await.status, 200);
    none_is_held(&redis).await;
}

#[tokio::test]
async fn a_gateway_that_stops_gives_back_what_it_held() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let drain = "drain = { delay = '0s', grace = '0s', deadline = '100ms' }";
    let gateway = Gateway::start(&format!(
        "[server]\n{drain}\n{}",
        text(&redis, &origin.server.url(), 500, "")
    ));
    let mut clients = Vec::new();
    for _ in 0..400 {
        clients.push(waiting_at(&gateway, &origin).await);
    }
    assert_eq!(counted(&redis), 400);
    gateway.inner().drain();
    within(gateway.inner().drained()).await;
    assert_eq!(counted(&redis), 0, "the next one need not wait");
}

#[tokio::test]
async fn a_gateway_that_stops_gives_back_also_what_was_held_before_a_reload_to_another_redis() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let drain = "[server]\ndrain = { delay = '0s', grace = '0s', deadline = '100ms' }\n";
    let text = format!("{drain}{}", text(&redis, &origin.server.url(), 9, ""));
    let gateway = Gateway::start(&text);
    let mut clients = Vec::new();
    for timeout in ["19s", "18s"] {
        for _ in 0..3 {
            clients.push(waiting_at(&gateway, &origin).await);
        }
        gateway.apply(&text.replace("20s", timeout));
    }
    assert_eq!(counted(&redis), 6);
    gateway.inner().drain();
    within(gateway.inner().drained()).await;
    assert_eq!(counted(&redis), 0);
}

#[tokio::test]
async fn an_operator_sees_who_holds_places_in_redis_and_takes_none_away() {
    let (redis, origin) = (RedisServer::start(), Streams::start().await);
    let gateway = gateway(&redis, &origin.server.url(), 5, "");
    let (_client, _feed) = waiting_at(&gateway, &origin).await;
    let ask = async |method: &str, path: &str| {
        let request = format!(
            "{method} /api/limits/slots/keys{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        Raw::ask(gateway.admin(), request).await
    };
    for path in ["/127.0.0.1", ""] {
        let told = ask("GET", path).await.text().to_owned();
        assert!(told.contains("\"quota\":5,\"remaining\":4"), "{told}");
        assert!(told.contains("\"store\":\"redis\""), "{told}");
    }
    assert_eq!(ask("DELETE", "/127.0.0.1").await.status, 409);
    assert_eq!(counted(&redis), 1);
}

#[tokio::test]
async fn callers_have_places_of_their_own() {
    let redis = RedisServer::start();
    let gateway = limited_by(
        &patient(&redis),
        "[rate_limits.slots]\nkey = ['client_ip', 'header:x-who']\nquota = 1\n\
         algorithm = 'concurrency'\nstore = 'redis'\n\
         [rate_limits.all]\nkey = 'client_ip'\nquota = '100/1h'",
        "['slots', 'all']",
    );
    for who in ["ann", "bob", "ann"] {
        let passed = get_as(&gateway, who).await;
        assert_eq!(passed.status, 200, "{who}");
        assert_eq!(passed.header("ratelimit"), Some("\"slots\";r=0"), "{who}");
        none_is_held(&redis).await;
    }
}
