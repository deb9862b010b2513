//! Many clients of several gateways at once, and one fetch.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use hyper::body::Frame;
use tokio::{sync::mpsc::unbounded_channel, task::JoinSet};

use super::fleet::{BOTH, Fleet, REDIS, answer, text};
use crate::support::{Feed, Process, Raw, RedisServer, chunks, eventually, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// So many clients of each gateway, all of which have asked.
async fn crowd(fleet: &Fleet, clients: usize) -> Vec<Raw> {
    let gateways = fleet.gateways.iter();
    let addresses = gateways.flat_map(|gateway| vec![gateway.address(); clients]);
    let asking = addresses.map(|address| async move {
        let mut client = Raw::connect(address).await;
        client.send(GET).await;
        client
    });
    within(join_all(asking)).await
}

async fn pass(feed: &Feed, text: &'static str) {
    let frame = Frame::data(Bytes::from_static(text.as_bytes()));
    feed.send(Ok(frame)).await.expect("somebody reads");
}

async fn storm(fleet: &Fleet, path: &str, clients: usize) -> Vec<(u16, String)> {
    let mut asking = JoinSet::new();
    for gateway in &fleet.gateways {
        for _ in 0..clients {
            let (address, path) = (gateway.address(), path.to_owned());
            asking.spawn(async move {
                let request =
                    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
                let answer = Raw::ask(address, request).await;
                (answer.status, answer.text().to_owned())
            });
        }
    }
    within(asking.join_all()).await
}

#[tokio::test]
async fn three_gateways_with_fifty_clients_each_make_one_fetch() {
    for rule in [BOTH, REDIS] {
        let fleet = Fleet::with(3, rule, &[("cache-control", "max-age=60")]).await;
        fleet.gate.forget_permits(1_000_000);
        let gate = Arc::clone(&fleet.gate);
        let opening = async {
            eventually(|| fleet.count() >= 1).await;
            // Every gateway has come to wait for the one that fetches.
            eventually(|| fleet.redis.calls("evalsha") + fleet.redis.calls("eval") >= 9).await;
            gate.add_permits(1_000_000);
        };
        let (answers, ()) = tokio::join!(storm(&fleet, "/", 50), opening);
        assert_eq!(answers.len(), 150);
        assert!(
            answers.iter().all(|it| *it == (200, "1".to_owned())),
            "{answers:?}"
        );
        assert_eq!(fleet.count(), 1, "{rule}");
    }
}

/// One gateway's clients read along what arrives; the other's wait until it stands in Redis.
#[tokio::test]
async fn two_gateways_with_two_hundred_clients_each_make_one_fetch_and_all_get_the_whole() {
    for rule in [BOTH, REDIS] {
        let (feeds, mut fetches) = unbounded_channel();
        let fleet = Fleet::start(2, rule, move |_, _| {
            let (feed, body) = chunks();
            let _ = feeds.send(feed);
            let answer = Response::builder().header("cache-control", "max-age=60");
            answer.body(body).expect("an answer")
        })
        .await;
        let mut clients = crowd(&fleet, 200).await;
        let feed: Feed = within(fetches.recv()).await.expect("a fetch");
        pass(&feed, "01234").await;
        for gateway in &fleet.gateways {
            eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 200.0).await;
        }
        pass(&feed, "56789").await;
        drop(feed);
        for client in &mut clients {
            let answer = client.answer().await;
            assert_eq!(
                (answer.status, answer.text(), answer.complete),
                (200, "0123456789", true)
            );
        }
        assert_eq!(fleet.count(), 1, "{rule}");
    }
}

#[tokio::test]
async fn what_is_nobody_elses_holds_up_no_other_gateway() {
    let fleet = Fleet::start(3, BOTH, |count, _| {
        answer(200, &[("cache-control", "no-store")], count.to_string())
    })
    .await;
    let answers = storm(&fleet, "/", 10).await;
    assert_eq!(answers.len(), 30);
    assert_eq!(fleet.count(), 30, "each has its own");
}

#[tokio::test]
async fn who_is_answered_apart_by_its_cookie_leaves_the_turn_of_others_as_it_is() {
    let fleet = Fleet::start(2, BOTH, |count, seen| {
        let control = match seen.header("cookie") {
            Some(_) => "private",
            None => "max-age=60",
        };
        answer(200, &[("cache-control", control)], count.to_string())
    })
    .await;
    fleet.get_with(0, "/", &[("cookie", "session=1")]).await;
    fleet.gate.forget_permits(1_000_000);
    let asked = || fleet.redis.calls("evalsha") + fleet.redis.calls("eval");
    let before = asked();
    let opening = async {
        // One asks for its turn once, and the other again and again.
        eventually(|| fleet.count() == 2 && asked() >= before + 6).await;
        fleet.gate.add_permits(1_000_000);
    };
    let (one, other, ()) = tokio::join!(fleet.body(0, "/"), fleet.body(1, "/"), opening);
    assert_eq!((one.as_str(), other.as_str()), ("2", "2"));
    assert_eq!(fleet.count(), 2, "one for both");
}

/// Gateways whose origin has answers for who has a session, or one language, alone, and one for all others.
async fn private_to_sessions(gateways: usize, rule: &str) -> Fleet {
    Fleet::start(gateways, rule, |count, seen| {
        let cookie = seen.header("cookie").unwrap_or_default();
        let language = seen.header("accept-language").unwrap_or_default();
        let is_apart = cookie.starts_with("session") || language == "zz";
        let control = if is_apart { "private" } else { "max-age=10" };
        let fields = [("cache-control", control), ("etag", "\"e\"")];
        match seen.header("if-none-match") {
            Some("\"e\"") if !is_apart => answer(304, &fields, ""),
            _ => answer(200, &fields, count.to_string()),
        }
    })
    .await
}

const SESSION: [(&str, &str); 1] = [("cookie", "session=1")];

#[tokio::test]
async fn who_is_answered_apart_keeps_no_other_from_what_redis_alone_has() {
    let fleet = private_to_sessions(2, REDIS).await;
    let language = [("accept-language", "zz")];
    for (path, own, body) in [("/a", SESSION, "3"), ("/b", language, "6")] {
        for gateway in [0, 1] {
            fleet.get_with(gateway, path, &own).await;
        }
        let (name, _) = own[0];
        let ask = async |gateway: usize, value: &str| {
            let fields = [(name, value)];
            fleet.get_with(gateway, path, &fields).await
        };
        // It is known of it, so that nobody waits, and another brings what all may have.
        let before = fleet.stored(0);
        let sent = ask(0, "first").await;
        let status = Some("tollgate; fwd=uri-miss; stored");
        assert_eq!(sent.header("cache-status"), status, "{path}");
        eventually(|| fleet.stored(0) > before).await;
        for (gateway, value) in [(0, "first"), (0, "second"), (1, "first"), (1, "second")] {
            assert_eq!(text(&ask(gateway, value).await), body, "{path} {value}");
        }
    }
    assert_eq!(fleet.count(), 6);
}

#[tokio::test]
async fn who_is_answered_apart_does_not_look_for_it_each_time() {
    let fleet = private_to_sessions(1, REDIS).await;
    fleet.get_with(0, "/", &SESSION).await;
    let before = fleet.looked(0, "miss");
    for _ in 0..2 {
        fleet.get_with(0, "/", &SESSION).await;
    }
    assert_eq!((fleet.looked(0, "miss"), fleet.count()), (before, 3));
    assert_eq!(fleet.answers(), Vec::<String>::new());
}

/// Not even where nothing tells who asks, or something else each time.
#[tokio::test]
async fn what_is_nobody_elses_is_looked_for_in_redis_alone_now_and_then() {
    let fleet = Fleet::with(1, REDIS, &[("cache-control", "no-store")]).await;
    for (path, has_cookies) in [("/a", false), ("/b", true)] {
        let ask = async |number: usize| {
            let cookie = format!("id={number}");
            let fields = [("cookie", cookie.as_str())];
            let fields: &[_] = if has_cookies { &fields } else { &[] };
            fleet.get_with(0, path, fields).await
        };
        ask(0).await;
        let before = fleet.looked(0, "miss");
        for turn in 1..=2 {
            for number in 0..20 {
                ask(20 * turn + number).await;
            }
            let looked = fleet.looked(0, "miss") - before;
            assert_eq!(looked, turn as f64, "{path}");
            fleet.clock.advance(Duration::from_millis(250));
        }
    }
    assert_eq!(fleet.count(), 82);
}

#[tokio::test]
async fn what_another_gateway_has_brought_is_found_in_redis_alone_by_all_who_do_not_wait() {
    let fleet = private_to_sessions(2, REDIS).await;
    // It is known that nobody waits, and that nothing is there.
    for session in ["session=1", "session=2"] {
        fleet.get_with(0, "/", &[("cookie", session)]).await;
    }
    assert_eq!(fleet.fill(1, "/").await, "3");
    fleet.clock.advance(Duration::from_millis(250));
    for cookie in ["id=1", "id=2", "id=3"] {
        let sent = fleet.get_with(0, "/", &[("cookie", cookie)]).await;
        assert_eq!(text(&sent), "3");
    }
    assert_eq!(fleet.count(), 3);
}

/// Where the answer of another stands in the memory as soon as it has come.
#[tokio::test]
async fn who_does_not_wait_does_not_look_into_redis_beside_a_memory() {
    let fleet = private_to_sessions(1, BOTH).await;
    fleet.get_with(0, "/", &SESSION).await;
    let before = fleet.looked(0, "miss");
    let sent = fleet.get_with(0, "/", &[("cookie", "id=1")]).await;
    assert_eq!((text(&sent), fleet.looked(0, "miss")), ("2".into(), before));
}

#[tokio::test]
async fn who_wants_no_fetch_finds_what_redis_has_though_nobody_waits() {
    for store in [REDIS, BOTH] {
        let rule = format!("{store}\nrequest_directives = true");
        let fleet = private_to_sessions(2, &rule).await;
        fleet.get_with(1, "/", &SESSION).await;
        assert_eq!(fleet.fill(0, "/").await, "2");
        let fields = [("cookie", "id=1"), ("cache-control", "only-if-cached")];
        let sent = fleet.get_with(1, "/", &fields).await;
        assert_eq!((sent.status(), text(&sent)), (200, "2".into()), "{store}");
    }
}

#[tokio::test]
async fn who_is_answered_apart_parts_nobody_who_finds_a_stale_answer_in_redis() {
    const CROWD: usize = 20;
    let fleet = private_to_sessions(1, REDIS).await;
    assert_eq!(fleet.fill(0, "/").await, "1");
    fleet.later(11);
    fleet.get_with(0, "/", &SESSION).await;
    let asked = fleet.count();
    let hits = fleet.looked(0, "hit");
    fleet.gate.forget_permits(1_000_000);
    let cookies: Vec<_> = (0..CROWD).map(|visitor| format!("id={visitor}")).collect();
    let fields: Vec<_> = cookies
        .iter()
        .map(|cookie| [("cookie", cookie.as_str())])
        .collect();
    let asking = async {
        let asking = fields.iter().map(|fields| fleet.get_with(0, "/", fields));
        join_all(asking).await
    };
    let opening = async {
        let in_flight = || fleet.gateways[0].metric("tollgate_requests_in_flight", &[]);
        // All have found it, and one asks whether it is right still.
        eventually(|| in_flight() == CROWD as f64).await;
        eventually(|| fleet.looked(0, "hit") >= hits + CROWD as f64).await;
        eventually(|| fleet.count() > asked).await;
        fleet.gate.add_permits(1_000_000);
    };
    let (sent, ()) = tokio::join!(asking, opening);
    assert!(sent.iter().all(|sent| text(sent) == "1"));
    // Or a few, which come when it has been answered.
    assert!(fleet.count() < asked + CROWD / 2, "{}", fleet.count());
}

/// Only those who have one are told that it is for one request.
#[tokio::test]
async fn what_who_has_a_session_validates_at_one_gateway_parts_none_of_those_without_at_another() {
    const CROWD: usize = 20;
    let fleet = Fleet::start(2, BOTH, |count, seen| {
        let (control, etag) = match seen.header("cookie") {
            Some(_) => ("no-cache", "\"own\""),
            None => ("max-age=600", "\"all\""),
        };
        let fields = [("cache-control", control), ("etag", etag)];
        answer(200, &fields, count.to_string())
    })
    .await;
    assert_eq!(fleet.fill(1, "/").await, "1");
    fleet.later(601);
    // What it brings comes in the place of the one for all.
    let before = fleet.stored(0);
    fleet.get_with(0, "/", &SESSION).await;
    eventually(|| fleet.stored(0) > before).await;
    fleet.gate.forget_permits(1_000_000);
    let others = async {
        // By now the first has found it, and all others find it here.
        eventually(|| fleet.count() == 3).await;
        let opening = async {
            let in_flight = || fleet.gateways[1].metric("tollgate_requests_in_flight", &[]);
            eventually(|| in_flight() == (CROWD + 1) as f64).await;
            fleet.gate.add_permits(1_000_000);
        };
        let crowd = join_all((0..CROWD).map(|_| fleet.get(1, "/")));
        tokio::join!(crowd, opening).0
    };
    let (first, others) = tokio::join!(fleet.body(1, "/"), others);
    assert_eq!(first, "3");
    assert!(others.iter().all(|sent| text(sent) == "3"));
    assert_eq!(fleet.count(), 3);
}

#[tokio::test]
async fn who_meets_a_failing_upstream_leaves_its_turn_to_the_next() {
    let fleet = Fleet::start(1, BOTH, |_, _| answer(503, &[], "down")).await;
    let released = fleet.redis.calls("del");
    assert_eq!(fleet.get(0, "/").await.status(), 503);
    eventually(|| fleet.redis.calls("del") > released).await;
    assert!(fleet.keys("tollgate:cache:*:turn").is_empty());
}

/// Its end says nothing of the answer.
#[tokio::test]
async fn a_fetch_that_ends_for_want_of_a_place_leaves_its_turn_to_the_next() {
    let text = format!(
        "[cache]\nmemory = '1MiB'\nmax_object = '64KiB'\n\
         [routes.site]\nupstream = 'ORIGIN'\n[routes.site.cache]\n{BOTH}\n"
    );
    let fleet = Fleet::over(RedisServer::start(), 1, &text, |count, _| {
        answer(200, &[("cache-control", "max-age=60")], count.to_string())
    })
    .await;
    fleet.gate.forget_permits(1_000_000);
    let released = fleet.redis.calls("del");
    // There are places for sixteen without a client.
    let mut clients = Vec::new();
    for number in 0..17 {
        let mut client = Raw::connect(fleet.gateways[0].address()).await;
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.send(request).await;
        clients.push(client);
    }
    eventually(|| fleet.count() == 17).await;
    assert_eq!(fleet.redis.calls("del"), released);
    clients.into_iter().for_each(Raw::reset);
    eventually(|| fleet.redis.calls("del") > released).await;
}

#[tokio::test]
async fn a_gateway_that_dies_while_it_fetches_holds_up_others_for_their_patience_alone() {
    let rule = format!("{BOTH}\nwait = '300ms'");
    let mut fleet = Fleet::with(2, &rule, &[("cache-control", "max-age=60")]).await;
    fleet.gate.forget_permits(1_000_000);
    let first = fleet.get(0, "/");
    let second = async {
        eventually(|| fleet.count() == 1).await;
        let opening = async {
            eventually(|| fleet.count() == 2).await;
            // The second's own fetch is let through, and the first's.
            fleet.gate.add_permits(2);
        };
        let (sent, ()) = tokio::join!(fleet.get(1, "/"), opening);
        text(&sent)
    };
    let (_, body) = tokio::join!(first, second);
    assert_eq!(body, "2");
    fleet.gateways.truncate(1);
}

/// For how many milliseconds it is still somebody's turn.
fn turn_left(fleet: &Fleet) -> i64 {
    let [turn] = fleet
        .keys("tollgate:cache:*:turn")
        .try_into()
        .expect("it is somebody's turn");
    let answer = fleet.redis.run(&format!("PTTL {turn}"));
    let line = answer.lines().next().expect("a line");
    line[1..].parse().expect("a number")
}

/// A process that is killed gives nothing back; what it had begun ends by itself.
#[tokio::test]
async fn the_turn_of_a_gateway_that_was_killed_goes_to_another_when_its_time_is_over() {
    let rule = format!("{BOTH}\nwait = '1h'");
    let fleet = Fleet::with(1, &rule, &[("cache-control", "max-age=60")]).await;
    fleet.gate.forget_permits(1_000_000);
    let mut killed = Process::start(&format!(
        "[admin]\nlisten = '127.0.0.1:0'\n[server]\nlisten = ['127.0.0.1:0']\n{}",
        fleet.text().replace("'1h'", "'2s'")
    ))
    .await;
    let mut client = Raw::connect(killed.address()).await;
    client.send(GET).await;
    eventually(|| fleet.count() == 1).await;
    killed.signal("KILL");
    killed.ended().await;
    let left = turn_left(&fleet);
    assert!(
        (1..=2_000).contains(&left),
        "{left}: as long as its rule says"
    );
    let opening = async {
        // This gateway would wait for an hour.
        eventually(|| fleet.count() == 2).await;
        let left = turn_left(&fleet);
        assert!((1..=5_000).contains(&left), "{left}: five seconds at most");
        // The request of the one that was killed may have taken one.
        fleet.gate.add_permits(2);
    };
    let (body, ()) = tokio::join!(fleet.body(0, "/"), opening);
    assert_eq!(body, "2");
}

#[tokio::test]
async fn one_gateway_fetches_what_all_serve_stale() {
    let rule = format!("{BOTH}\nstale_while_revalidate = '1m'");
    let fleet = Fleet::with(3, &rule, &[("cache-control", "max-age=10")]).await;
    fleet.fill(0, "/").await;
    for gateway in [1, 2] {
        assert_eq!(fleet.body(gateway, "/").await, "1");
    }
    fleet.later(11);
    fleet.gate.forget_permits(1_000_000);
    let answers = storm(&fleet, "/", 10).await;
    assert!(
        answers.iter().all(|it| *it == (200, "1".to_owned())),
        "{answers:?}"
    );
    eventually(|| fleet.count() >= 2).await;
    fleet.gate.add_permits(1_000_000);
    for gateway in 0..3 {
        within(async { while fleet.body(gateway, "/").await != "2" {} }).await;
    }
    assert_eq!(fleet.count(), 2);
}
