//! Redis is killed, hangs, is full: no request fails for it, and soon none waits for it.

use std::time::{Duration, Instant};

use super::fleet::{BOTH, Fleet, REDIS, answer};
use crate::support::{Gateway, RedisServer, eventually, within};

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

fn is_open(gateway: &Gateway) -> bool {
    gateway.metric("tollgate_redis_breaker_open", &[]) > 0.0
}

#[tokio::test]
async fn a_redis_that_is_killed_costs_no_request_and_is_used_again_when_it_is_back() {
    for rule in [BOTH, REDIS] {
        let mut fleet = Fleet::with(2, rule, MINUTE).await;
        fleet.fill(0, "/a").await;
        fleet.redis.kill();
        for turn in 0..20 {
            let sent = fleet.get(turn % 2, &format!("/{turn}")).await;
            assert_eq!(sent.status(), 200);
        }
        eventually(|| is_open(&fleet.gateways[0]) && is_open(&fleet.gateways[1])).await;
        fleet.redis.restart();
        within(async {
            while fleet.stored(0) < 2.0 {
                let path = format!("/back{}", fleet.count());
                assert_eq!(fleet.get(0, &path).await.status(), 200);
            }
        })
        .await;
        assert!(!is_open(&fleet.gateways[0]));
    }
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_few_deadlines_and_then_nothing() {
    let text = "[redis]\nurl = 'URL'\ntimeout = '50ms'\n\
                [routes.all]\nupstream = 'ORIGIN'\ncache = { store = 'redis' }\n";
    let fleet = Fleet::with(1, REDIS, MINUTE).await;
    let redis = RedisServer::start();
    let origin = format!("http://{}", fleet.gateways[0].address());
    let text = text.replace("URL", &redis.url()).replace("ORIGIN", &origin);
    let gateway = Gateway::start(&text);
    let get = async |path: String| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        let began = Instant::now();
        let answer = crate::support::Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.status, 200);
        began.elapsed()
    };
    get("/warm".into()).await;
    redis.freeze();
    let mut slowest = Duration::ZERO;
    let mut turn = 0;
    within(async {
        while !is_open(&gateway) {
            turn += 1;
            slowest = slowest.max(get(format!("/{turn}")).await);
        }
    })
    .await;
    assert!(turn <= 6, "{turn} requests waited");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let errors = gateway.metric("tollgate_redis_errors_total", &[]);
    assert!(errors > 0.0, "those who waited were counted");
    for turn in 0..50 {
        get(format!("/open{turn}")).await;
    }
    let after = gateway.metric("tollgate_redis_errors_total", &[]);
    assert_eq!(errors, after, "nobody waits behind the breaker");
    redis.thaw();
    within(async {
        let stored = || gateway.metric("tollgate_cache_redis_stores_total", &["\"stored\""]);
        let before = stored();
        while stored() == before {
            turn += 1;
            get(format!("/thawed{turn}")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_slow_costs_one_deadline_however_often_it_is_asked() {
    let fleet = Fleet::with(1, REDIS, MINUTE).await;
    let redis = RedisServer::start();
    let url = redis.behind_delay(Duration::from_millis(300)).await;
    let origin = format!("http://{}", fleet.gateways[0].address());
    let gateway = Gateway::start(&format!(
        "[redis]\nurl = '{url}'\ntimeout = '500ms'\n\
         [routes.all]\nupstream = '{origin}'\ncache = {{ store = 'redis' }}\n"
    ));
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        let began = Instant::now();
        let answer = crate::support::Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.status, 200);
        began.elapsed()
    };
    let missed = || gateway.metric("tollgate_cache_redis_lookups_total", &["\"miss\""]);
    within(async {
        while missed() < 1.0 {
            get("/connects").await;
        }
    })
    .await;
    // A look, a turn and another look would be three times 300 ms.
    let took = get("/a").await;
    assert!(took < Duration::from_millis(800), "{took:?}");
    assert!(took > Duration::from_millis(300), "{took:?}: it was asked");
}

#[tokio::test]
async fn a_redis_that_is_full_costs_no_request() {
    let redis = RedisServer::with(&["--maxmemory-policy", "noeviction"]);
    let text = "[routes.site]\nupstream = 'ORIGIN'\n[routes.site.cache]\nstore = 'redis'\n";
    let fleet = Fleet::over(redis, 2, text, |count, _| {
        answer(200, MINUTE, count.to_string())
    })
    .await;
    fleet.fill(0, "/a").await;
    assert!(fleet.redis.run("CONFIG SET maxmemory 1").starts_with("+OK"));
    for turn in 0..30 {
        assert_eq!(fleet.get(turn % 2, &format!("/{turn}")).await.status(), 200);
    }
    assert_eq!(fleet.stored(0) + fleet.stored(1), 1.0);
    assert!(fleet.redis.run("CONFIG SET maxmemory 0").starts_with("+OK"));
    within(async {
        while fleet.stored(0) < 2.0 {
            fleet.get(0, &format!("/room{}", fleet.count())).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_was_cut_off_forgets_its_memory_when_it_is_back() {
    let mut fleet = Fleet::with(2, BOTH, MINUTE).await;
    fleet.fill(0, "/a").await;
    assert_eq!(fleet.body(1, "/a").await, "1");
    fleet.redis.kill();
    assert_eq!(fleet.body(1, "/a").await, "1", "without Redis each goes on");
    fleet.purge(0, r#"{"url": "http://a.test/a"}"#).await;
    assert_eq!(fleet.body(0, "/a").await, "2", "here it is done at once");
    fleet.redis.restart();
    within(async { while fleet.body(1, "/a").await == "1" {} }).await;
    // And the purge that waited has reached Redis.
    for gateway in [0, 1] {
        assert_ne!(fleet.body(gateway, "/a").await, "1");
    }
}
