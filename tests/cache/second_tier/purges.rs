//! What one gateway purges no other takes out of Redis or out of its memory, whoever fetches meanwhile.

use std::{net::TcpListener, pin::pin, time::Duration};

use serde_json::json;
use tokio::time::timeout;

use super::fleet::{BOTH, Fleet, REDIS, answer, numbered};
use crate::{
    site::change_elsewhere,
    support::{RedisServer, eventually, within},
};

const TAGGED: &[(&str, &str)] = &[
    ("cache-control", "max-age=600"),
    ("x-cache-tags", "one, two"),
];

const KINDS: [&str; 7] = [
    r#"{"url": "http://a.test/a?b"}"#,
    r#"{"prefix": "/a"}"#,
    r#"{"prefix": "http://a.test/"}"#,
    r#"{"host": "a.test"}"#,
    r#"{"route": "site"}"#,
    r#"{"tag": "two"}"#,
    r#"{"everything": true}"#,
];

#[tokio::test]
async fn a_purge_of_each_kind_reaches_redis_and_the_memory_of_all_gateways() {
    for rule in [BOTH, REDIS] {
        let fleet = Fleet::with(3, rule, TAGGED).await;
        // Joining is a purge, too.
        let mut purges = 1.0;
        for (turn, kind) in KINDS.into_iter().enumerate() {
            let body = fleet.fill(0, "/a?b").await;
            let fetched = fleet.count();
            for gateway in [1, 2] {
                assert_eq!(fleet.body(gateway, "/a?b").await, body, "{kind}");
            }
            assert_eq!(fleet.count(), fetched, "{kind}: one fetch for all");
            let purging = turn % 3;
            fleet.purge(purging, kind).await;
            // Here it is done at once, in Redis too.
            assert_ne!(fleet.body(purging, "/a?b").await, body, "{kind}");
            for gateway in 0..3 {
                within(async { while fleet.body(gateway, "/a?b").await == body {} }).await;
            }
            fleet.purge(0, r#"{"everything": true}"#).await;
            purges += 2.0;
            fleet.purged(purges).await;
        }
        let body = fleet.fill(0, "/a?b").await;
        for purge in [
            r#"{"tag": "other"}"#,
            r#"{"host": "b.test"}"#,
            r#"{"prefix": "/b"}"#,
        ] {
            fleet.purge(1, purge).await;
        }
        fleet.purged(purges + 3.0).await;
        for gateway in 0..3 {
            assert_eq!(
                fleet.body(gateway, "/a?b").await,
                body,
                "others are not reached"
            );
        }
    }
}

#[tokio::test]
async fn a_purge_of_a_host_without_a_port_reaches_every_port_at_all_gateways() {
    for rule in [BOTH, REDIS] {
        let fleet = Fleet::with(2, rule, TAGGED).await;
        let fields = [("host", "a.test:8080")];
        assert_eq!(fleet.get_with(0, "/a", &fields).await.body, "1");
        eventually(|| fleet.stored(0) == 1.0).await;
        assert_eq!(fleet.get_with(1, "/a", &fields).await.body, "1");
        fleet.purge(0, r#"{"host": "a.test"}"#).await;
        for gateway in [0, 1] {
            let is_old = async || fleet.get_with(gateway, "/a", &fields).await.body == "1";
            within(async { while is_old().await {} }).await;
        }
    }
}

#[tokio::test]
async fn a_user_with_the_rights_that_the_documentation_names_can_share_and_purge() {
    let redis = RedisServer::start();
    let rights = "~tollgate:* &tollgate:* +@all -@admin -@dangerous";
    let made = redis.run(&format!("ACL SETUSER gate on >s3cret {rights}"));
    assert!(made.starts_with("+OK"), "{made}");
    let url = format!("'redis://gate:s3cret@127.0.0.1:{}'", redis.port());
    let text = format!("[routes.site]\nupstream = 'ORIGIN'\n[routes.site.cache]\n{BOTH}\n");
    let fleet = Fleet::at(url, 2, &text, |count, _| numbered(count, TAGGED)).await;
    let mut purges = 1.0;
    for kind in KINDS {
        let body = fleet.fill(0, "/a?b").await;
        let fetched = fleet.count();
        assert_eq!(fleet.body(1, "/a?b").await, body, "{kind}");
        assert_eq!(fleet.count(), fetched, "{kind}: out of Redis");
        fleet.purge(0, kind).await;
        within(async { while fleet.body(1, "/a?b").await == body {} }).await;
        fleet.purge(1, r#"{"everything": true}"#).await;
        purges += 2.0;
        fleet.purged(purges).await;
    }
    for gateway in &fleet.gateways {
        assert_eq!(gateway.metric("tollgate_redis_errors_total", &[]), 0.0);
    }
}

#[tokio::test]
async fn a_fetch_under_way_on_another_gateway_does_not_bring_back_what_was_purged() {
    for kind in KINDS {
        let fleet = Fleet::with(3, BOTH, TAGGED).await;
        fleet.gate.forget_permits(1_000_000);
        let fetching = fleet.get(1, "/a?b");
        let purging = async {
            eventually(|| fleet.count() == 1).await;
            fleet.purge(0, kind).await;
            // Redis knows of it when a third gateway has heard.
            eventually(|| fleet.gateways[2].metric("tollgate_cache_purges_total", &[]) >= 2.0)
                .await;
            fleet.gate.add_permits(1_000_000);
        };
        let (sent, ()) = tokio::join!(fetching, purging);
        assert_eq!(&*sent.body, b"1", "who asked before gets what there was");
        eventually(|| {
            let name = "tollgate_cache_redis_stores_total";
            fleet.gateways[1].metric(name, &[]) >= 1.0 || fleet.answers().is_empty()
        })
        .await;
        for gateway in [2, 0, 1] {
            assert_ne!(fleet.body(gateway, "/a?b").await, "1", "{kind}, {gateway}");
        }
    }
}

#[tokio::test]
async fn a_soft_purge_makes_stale_what_stands_in_redis() {
    for kind in KINDS {
        let kind = kind.replace('}', r#", "soft": true}"#);
        let rule = format!("{REDIS}\nstale_if_error = '1h'");
        let fleet = Fleet::start(2, &rule, |count, seen| {
            let fields = [
                ("cache-control", "max-age=600"),
                ("x-cache-tags", "two"),
                ("etag", "\"e\""),
            ];
            match (count, seen.header("if-none-match")) {
                (2, Some("\"e\"")) => answer(503, &[], "down"),
                (_, Some("\"e\"")) => answer(304, &fields, ""),
                _ => numbered(count, &fields),
            }
        })
        .await;
        fleet.fill(0, "/a?b").await;
        fleet.purge(0, &kind).await;
        fleet.purged(2.0).await;
        assert_eq!(
            fleet.body(1, "/a?b").await,
            "1",
            "{kind}: in the place of a failure"
        );
        assert_eq!(
            fleet.logged(1, 1).await,
            ("stale".into(), "upstream-failed".into()),
            "{kind}"
        );
        assert_eq!(fleet.fill(1, "/a?b").await, "1", "{kind}");
        assert_eq!(fleet.logged(1, 2).await.0, "revalidated", "{kind}");
        assert_eq!(fleet.body(0, "/a?b").await, "1", "{kind}");
        assert_eq!(fleet.count(), 3, "{kind}: it is up to date again");
    }
}

#[tokio::test]
async fn an_unsafe_request_on_one_gateway_reaches_redis_and_the_others() {
    for rule in [BOTH, REDIS] {
        let fleet = Fleet::with(2, rule, TAGGED).await;
        fleet.fill(0, "/a").await;
        fleet.fill(0, "/b").await;
        assert_eq!((fleet.body(1, "/a").await, fleet.count()), ("1".into(), 2));
        fleet.send(1, "DELETE", "/a", &[]).await;
        within(async { while fleet.body(0, "/a").await == "1" {} }).await;
        assert_ne!(fleet.body(1, "/a").await, "1");
        assert_eq!(fleet.body(1, "/b").await, "2", "others stay");
    }
}

#[tokio::test]
async fn a_gateway_that_hears_no_messages_takes_nothing_purged_out_of_redis() {
    for kind in KINDS {
        let fleet = Fleet::with(2, REDIS, TAGGED).await;
        fleet.fill(0, "/a?b").await;
        let purged = || match kind.contains("url") {
            true => fleet.keys("tollgate:cache:*:guard").is_empty(),
            false => fleet
                .redis
                .run("LLEN tollgate:{purges}:log")
                .starts_with(":1"),
        };
        assert!(!purged());
        fleet.redis.run("CLIENT KILL TYPE pubsub");
        fleet.purge(0, kind).await;
        eventually(purged).await;
        assert_eq!(fleet.body(1, "/a?b").await, "2", "{kind}");
    }
}

#[tokio::test]
async fn more_purges_than_can_wait_become_one_of_everything() {
    let fleet = Fleet::with(1, REDIS, TAGGED).await;
    fleet.fill(0, "/a").await;
    fleet.redis.freeze();
    for turn in 0..2 {
        let urls = (0..1_000).map(|number| format!("http://a.test/{turn}/{number}"));
        let urls: Vec<_> = urls.collect();
        fleet.purge(0, &json!({ "url": urls }).to_string()).await;
    }
    fleet.purge(0, r#"{"url": "http://a.test/a"}"#).await;
    fleet.redis.thaw();
    let log = || fleet.redis.run("LRANGE tollgate:{purges}:log 0 -1");
    eventually(|| log().contains(r#""kind":"everything""#)).await;
    fleet.later(1);
    let fetched = fleet.count();
    assert_ne!(fleet.body(0, "/a").await, "1");
    assert_eq!(fleet.count(), fetched + 1);
}

/// A flood of foreign changes, as fast as they go.
#[tokio::test]
async fn changes_that_redis_is_told_of_in_time_cost_no_other_answer() {
    let text = "[routes.c]\nupstream = 'ORIGIN'\npath = '/c/**'\n\
                cache = { store = ['memory', 'redis'] }\n\
                [routes.w]\nupstream = 'ORIGIN'\npath = '/w'\n";
    let fleet = Fleet::over(RedisServer::start(), 2, text, |count, seen| {
        match seen.method.as_str() {
            "GET" => numbered(count, TAGGED),
            _ => answer(204, &[], ""),
        }
    })
    .await;
    let paths: Vec<_> = (0..200).map(|number| format!("/c/{number}")).collect();
    for path in &paths {
        fleet.body(0, path).await;
    }
    eventually(|| fleet.stored(0) == 200.0).await;
    for path in &paths {
        fleet.body(1, path).await;
    }
    assert_eq!(fleet.count(), 200, "all are in both memories");
    change_elsewhere(&fleet.gateways[0], 2_000).await;
    // Each is told behind all that came before it.
    for path in ["/c/0", "/c/1"] {
        let old = fleet.body(1, path).await;
        fleet.send(0, "POST", path, &[]).await;
        assert_ne!(fleet.body(0, path).await, old);
        within(async { while fleet.body(1, path).await == old {} }).await;
    }
    for gateway in [0, 1] {
        for path in &paths[2..] {
            let sent = fleet.get(gateway, path).await;
            let status = sent.header("cache-status");
            assert_eq!(status, Some("tollgate; hit"), "{gateway}: {path}");
        }
    }
    assert!(
        fleet
            .redis
            .run("LLEN tollgate:{purges}:log")
            .starts_with(":0")
    );
}

#[tokio::test]
async fn a_change_that_redis_does_not_know_of_yet_counts_for_what_stands_there() {
    let fleet = Fleet::with(1, REDIS, TAGGED).await;
    fleet.fill(0, "/a").await;
    allow(&fleet, "-del");
    fleet.send(0, "DELETE", "/a", &[]).await;
    assert_eq!(fleet.keys("tollgate:cache:*:guard").len(), 1);
    assert_ne!(fleet.body(0, "/a").await, "1");
    assert!(fleet.looked(0, "purged") > 0.0, "it was found there");
}

#[tokio::test]
async fn more_changes_than_can_wait_become_one_of_their_host() {
    let text = "[cache]\nmemory = '1MiB'\nmax_object = '192KiB'\n\
                [routes.site]\nupstream = 'ORIGIN'\ncache = { store = 'redis' }\n";
    let answer = |count, _| numbered(count, TAGGED);
    let fleet = Fleet::over(RedisServer::start(), 1, text, answer).await;
    fleet.fill(0, "/a").await;
    fleet.redis.freeze();
    let connections = 8;
    let flood = (0..connections).map(|turn| {
        let fleet = &fleet;
        async move {
            for number in 0..150 {
                let path = format!("/{turn}/{number}");
                fleet.send(0, "DELETE", &path, &[]).await;
            }
        }
    });
    futures_util::future::join_all(flood).await;
    fleet.send(0, "DELETE", "/a", &[]).await;
    fleet.redis.thaw();
    let log = || fleet.redis.run("LLEN tollgate:{purges}:log");
    eventually(|| log().starts_with(":1")).await;
    let entry = fleet.redis.run("LRANGE tollgate:{purges}:log 0 -1");
    assert!(entry.contains(r#""kind":"host""#), "{entry}");
    assert!(entry.contains(r#""host":"a.test""#), "{entry}");
    fleet.later(1);
    let fetched = fleet.count();
    assert_ne!(fleet.body(0, "/a").await, "1");
    assert_eq!(fleet.count(), fetched + 1);
}

#[tokio::test]
async fn a_purge_that_redis_takes_late_reaches_who_has_heard_of_it_before() {
    let fleet = Fleet::with(2, BOTH, TAGGED).await;
    fleet.fill(0, "/a").await;
    assert_eq!(fleet.body(1, "/a").await, "1");
    // It passes messages on and answers, and forgets nothing.
    let allow = |rule: &str| allow(&fleet, rule);
    allow("-eval -evalsha -del");
    fleet.purge(0, r#"{"url": "http://a.test/a"}"#).await;
    fleet.purged(2.0).await;
    fleet.later(1);
    assert_eq!(fleet.body(1, "/a").await, "1", "it still stands in Redis");
    allow("+eval +evalsha +del");
    within(async { while fleet.body(1, "/a").await == "1" {} }).await;
    let purges = fleet.gateways[1].metric("tollgate_cache_purges_total", &[]);
    assert_eq!(
        purges, 2.0,
        "joining, and one purge, however often it was said"
    );
}

#[tokio::test]
async fn a_message_of_a_later_build_purges_everything_whatever_it_says_of_the_log() {
    let fleet = Fleet::with(1, BOTH, TAGGED).await;
    for (path, later, purges) in [
        ("/a", r#""version":1,"kind":"urls2""#, 2.0),
        ("/b", r#""version":2,"kind":"url""#, 3.0),
    ] {
        let body = fleet.fill(0, path).await;
        assert_eq!(fleet.body(0, path).await, body, "it is in memory");
        // What stands in Redis is purged by who sends the message.
        for key in fleet.keys("tollgate:cache:*:guard") {
            fleet.redis.run(&format!("DEL {key}"));
        }
        let message = format!(r#"{{{later},"from":1,"logged":true}}"#);
        let answer = fleet
            .redis
            .run(&format!("PUBLISH tollgate:purges '{message}'"));
        assert!(answer.starts_with(":1"), "{answer}");
        fleet.purged(purges).await;
        assert_ne!(fleet.body(0, path).await, body, "{later}");
    }
}

#[tokio::test]
async fn a_reload_may_add_redis_to_a_rule() {
    let fleet = Fleet::with(2, "", TAGGED).await;
    let text = fleet.text().replace(
        "[routes.site.cache]\n",
        "[routes.site.cache]\nstore = 'redis'\n",
    );
    for gateway in &fleet.gateways {
        gateway.apply(&text);
    }
    fleet.joined().await;
    let body = fleet.fill(0, "/a").await;
    assert_eq!(fleet.body(1, "/a").await, body);
    assert_eq!(fleet.count(), 1);
}

/// What Redis lets everybody do.
fn allow(fleet: &Fleet, rule: &str) {
    let answer = fleet.redis.run(&format!("ACL SETUSER default {rule}"));
    assert!(answer.starts_with("+OK"), "{answer}");
}

#[tokio::test]
async fn a_change_of_which_redis_is_told_late_outlives_a_reload_with_another_cache() {
    for (from, to) in [
        ("[redis]", "[cache]\nmemory = '300MiB'\n[redis]"),
        // Another Redis, for all that the gateway knows.
        ("timeout = '5s'", "timeout = '4s'"),
    ] {
        let fleet = Fleet::with(2, REDIS, TAGGED).await;
        fleet.fill(0, "/a").await;
        let allow = |rule: &str| allow(&fleet, rule);
        // It answers, and forgets nothing.
        allow("-del");
        fleet.send(0, "DELETE", "/a", &[]).await;
        fleet.gateways[0].apply(&fleet.text().replace(from, to));
        let joined = || fleet.gateways[0].metric("tollgate_cache_purges_total", &[]) >= 2.0;
        eventually(joined).await;
        let guards = || fleet.keys("tollgate:cache:*:guard").len();
        assert_eq!(guards(), 1);
        let body = fleet.body(0, "/a").await;
        assert_ne!(body, "1", "{to}: the new cache knows of it");
        allow("+del");
        eventually(|| guards() == 0).await;
        for gateway in [1, 0] {
            assert_ne!(fleet.body(gateway, "/a").await, "1", "{to}: {gateway}");
        }
    }
}

#[tokio::test]
async fn a_change_of_which_redis_is_told_late_outlives_reloads_that_share_nothing_in_between() {
    for without_redis in [false, true] {
        let fleet = Fleet::with(2, REDIS, TAGGED).await;
        fleet.fill(0, "/a").await;
        let allow = |rule: &str| allow(&fleet, rule);
        // It answers, and forgets nothing.
        allow("-del");
        fleet.send(0, "DELETE", "/a", &[]).await;
        let alone = fleet.text().replace(REDIS, "");
        let start = match without_redis {
            true => alone.find("[routes.site]").expect("a route"),
            false => 0,
        };
        fleet.gateways[0].apply(&alone[start..]);
        fleet.gateways[0].apply(fleet.text());
        let joined = || fleet.gateways[0].metric("tollgate_cache_purges_total", &[]) >= 2.0;
        eventually(joined).await;
        let guards = || fleet.keys("tollgate:cache:*:guard").len();
        assert_eq!(guards(), 1);
        let body = fleet.body(0, "/a").await;
        assert_ne!(body, "1", "{without_redis}: the new cache knows of it");
        allow("+del");
        eventually(|| guards() == 0).await;
        for gateway in [1, 0] {
            let body = fleet.body(gateway, "/a").await;
            assert_ne!(body, "1", "{without_redis}: {gateway}");
        }
    }
}

#[tokio::test]
async fn who_shares_answers_again_serves_none_that_was_changed_meanwhile() {
    for (from, to) in [
        (REDIS, ""),
        ("[routes.site.cache]\nstore = 'redis'\n", ""),
        // Purges that are asked for are told, and changes by clients are not.
        (REDIS, "[cache]\nshare_purges = true"),
    ] {
        let fleet = Fleet::with(2, REDIS, TAGGED).await;
        assert_eq!(fleet.fill(0, "/a").await, "1");
        assert!(fleet.text().contains(from));
        fleet.gateways[0].apply(&fleet.text().replace(from, to));
        fleet.send(0, "DELETE", "/a", &[]).await;
        fleet.gateways[0].apply(fleet.text());
        assert_ne!(fleet.body(0, "/a").await, "1", "{to}");
        within(async { while fleet.body(1, "/a").await == "1" {} }).await;
    }
}

#[tokio::test]
async fn a_reload_that_is_refused_purges_nothing_that_others_share() {
    let fleet = Fleet::with(2, REDIS, TAGGED).await;
    assert_eq!(fleet.fill(0, "/a").await, "1");
    // Who shares answers again has everything purged.
    fleet.gateways[0].apply(&fleet.text().replace(REDIS, ""));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let refused = format!("{}\n[server]\nlisten = ['{address}']\n", fleet.text());
    let purges = || fleet.gateways[0].metric("tollgate_cache_purges_total", &[]);
    let logged = || fleet.redis.run("LLEN tollgate:{purges}:log");
    let before = purges();
    for _ in 0..3 {
        let why = fleet.gateways[0].refuse(&refused);
        assert!(why.contains(&address.to_string()), "{why}");
    }
    assert_eq!(purges(), before);
    assert!(logged().starts_with(":0\r\n"), "{}", logged());
    assert_eq!(fleet.body(1, "/a").await, "1");
    fleet.gateways[0].apply(fleet.text());
    eventually(|| logged().starts_with(":1\r\n")).await;
    assert_ne!(fleet.body(1, "/a").await, "1");
}

/// One gateway with a changed URL, and a Redis that stands still.
async fn with_a_change_of_which_redis_does_not_know() -> Fleet {
    let text = format!(
        "[server.drain]\ndelay = '0s'\n[routes.site]\nupstream = 'ORIGIN'\n[routes.site.cache]\n{REDIS}\n"
    );
    let answer = |count, _| numbered(count, TAGGED);
    let fleet = Fleet::over(RedisServer::start(), 1, &text, answer).await;
    fleet.fill(0, "/a").await;
    let guards = || fleet.keys("tollgate:cache:*:guard").len();
    assert_eq!(guards(), 1);
    fleet.redis.freeze();
    fleet.send(0, "DELETE", "/a", &[]).await;
    fleet
}

async fn ends_when_redis_knows(fleet: &Fleet) {
    let gateway = fleet.gateways[0].inner();
    gateway.drain();
    let mut drained = pin!(gateway.drained());
    let soon = timeout(Duration::from_millis(300), &mut drained).await;
    assert!(soon.is_err(), "it waits");
    fleet.redis.thaw();
    within(drained).await;
    assert_eq!(fleet.keys("tollgate:cache:*:guard").len(), 0);
}

#[tokio::test]
async fn a_gateway_that_ends_behind_a_reload_tells_of_the_changes_of_before() {
    for (from, to) in [
        ("[redis]", "[cache]\nmemory = '300MiB'\n[redis]"),
        // The new cache shares nothing.
        (REDIS, ""),
        // There is none.
        ("[routes.site.cache]\nstore = 'redis'\n", ""),
    ] {
        let fleet = with_a_change_of_which_redis_does_not_know().await;
        assert!(fleet.text().contains(from));
        fleet.gateways[0].apply(&fleet.text().replace(from, to));
        ends_when_redis_knows(&fleet).await;
    }
}

#[tokio::test]
async fn a_gateway_that_comes_later_knows_of_the_purges_of_before() {
    let mut fleet = Fleet::with(2, BOTH, TAGGED).await;
    fleet.fill(0, "/a").await;
    fleet.purge(0, r#"{"tag": "one"}"#).await;
    fleet.purged(2.0).await;
    assert_eq!(fleet.answers().len(), 1, "the answer is still there");
    fleet.join();
    fleet.joined().await;
    assert_eq!(fleet.body(2, "/a").await, "2");
    assert_eq!(fleet.looked(2, "purged"), 2.0);
}

#[tokio::test]
async fn a_redis_that_has_lost_its_log_or_its_guards_serves_nothing_of_before() {
    for lost in ["DEL tollgate:{purges}:head", "FLUSHALL", "guards"] {
        let fleet = Fleet::with(2, REDIS, TAGGED).await;
        fleet.fill(0, "/a").await;
        match lost {
            "guards" => {
                for key in fleet.keys("tollgate:cache:*:guard") {
                    fleet.redis.run(&format!("DEL {key}"));
                }
            }
            lost => drop(fleet.redis.run(lost)),
        }
        assert_eq!(fleet.fill(1, "/a").await, "2", "{lost}");
        assert_eq!(fleet.body(0, "/a").await, "2", "{lost}");
    }
}

fn log_name(fleet: &Fleet) -> String {
    let head = fleet.redis.run("GET tollgate:{purges}:head");
    let name = head.lines().nth(1).and_then(|head| head.split(':').next());
    name.expect("a head").to_owned()
}

#[tokio::test]
async fn a_log_that_went_back_is_not_trusted() {
    let fleet = Fleet::with(2, REDIS, TAGGED).await;
    fleet.purge(0, r#"{"tag": "x"}"#).await;
    fleet.purged(2.0).await;
    fleet.fill(0, "/a").await;
    let name = log_name(&fleet);
    // As after a failover to a replica that had not heard of the purge.
    fleet
        .redis
        .run(&format!("SET tollgate:{{purges}}:head {name}:0"));
    assert_eq!(fleet.fill(1, "/a").await, "2");
    assert_eq!(fleet.body(0, "/a").await, "2");
}

#[tokio::test]
async fn a_log_that_went_back_while_nobody_listened_is_not_trusted() {
    let fleet = Fleet::with(2, REDIS, TAGGED).await;
    fleet.fill(0, "/a").await;
    fleet.purge(0, r#"{"tag": "one"}"#).await;
    fleet.purged(2.0).await;
    let name = log_name(&fleet);
    // As after a restart from an older snapshot: the answer is there, the purge is not.
    fleet
        .redis
        .run(&format!("SET tollgate:{{purges}}:head {name}:0"));
    fleet.redis.run("DEL tollgate:{purges}:log");
    fleet.redis.run("CLIENT KILL TYPE pubsub");
    fleet.purged(3.0).await;
    assert_eq!(fleet.fill(1, "/a").await, "2");
    assert_eq!(fleet.body(0, "/a").await, "2");
}

#[tokio::test]
async fn a_gateway_that_ends_waits_until_redis_knows_of_its_purges() {
    let fleet = with_a_change_of_which_redis_does_not_know().await;
    ends_when_redis_knows(&fleet).await;
}

#[tokio::test]
async fn the_answer_to_a_purge_says_how_far_it_reaches() {
    let fleet = Fleet::with(1, BOTH, TAGGED).await;
    let sent = fleet.purge(0, r#"{"everything": true}"#).await;
    let answer: serde_json::Value = serde_json::from_slice(&sent.body).expect("JSON");
    assert_eq!(answer["data"]["reach"], "gateways");
}
