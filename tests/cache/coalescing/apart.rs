//! Whom an answer that is nobody else's keeps from waiting, and from being waited for.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{CONDITION, GET, Halves, SESSION, SETTING, TAGGED, remake};
use crate::{
    site::{Site, answer, numbered},
    support::{Raw, eventually, within},
};

#[tokio::test]
async fn what_nobody_may_share_is_fetched_by_each_and_soon_not_waited_for() {
    let answer = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nok";
    let halves = Halves::start(answer, 0).await;
    let gateway = halves.gateway("");
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually(|| halves.asked() == 1).await;
    eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 5.0).await;
    // Each gets its own answer as soon as the first is known to be nobody else's.
    halves.go_on.add_permits(1);
    eventually(|| halves.asked() == 5).await;
    // Who comes now does not wait for another.
    for _ in 0..3 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually(|| halves.asked() == 8).await;
    halves.go_on.add_permits(20);
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "ok");
    }
}

/// A site whose answer was for all: that is stored and stale, and all others are nobody else's.
async fn becomes_private() -> Site {
    let site = Site::start("", |count, _| match count {
        1 => numbered(1, &[("cache-control", "max-age=1"), ("etag", "\"one\"")]),
        _ => numbered(count, &[("cache-control", "private")]),
    })
    .await;
    site.get("/a").await;
    site.later(2);
    site
}

/// What was for all before lies in the store still, and is asked about each time.
#[tokio::test]
async fn what_has_become_nobody_elses_is_soon_not_waited_for() {
    let site = becomes_private().await;
    assert_eq!(site.get("/a").await.body, "2");
    site.gate.forget_permits(1_000_000);
    let asking = async { join_all((0..4).map(|_| site.get("/a"))).await };
    let opening = async {
        // The origin has answered none of them.
        eventually(|| site.count() == 6).await;
        site.gate.add_permits(1_000_000);
    };
    let (sent, ()) = tokio::join!(asking, opening);
    let bodies: BTreeSet<_> = sent.into_iter().map(|sent| sent.body).collect();
    assert_eq!(bodies.len(), 4);
    for seen in &site.seen()[1..] {
        assert_eq!(seen.header("if-none-match"), Some("\"one\""));
    }
}

#[tokio::test]
async fn those_whose_answers_are_private_do_not_part_others_who_find_a_stale_one() {
    let site = Site::start("", |count, seen| {
        let cookie = seen.header("cookie").unwrap_or_default();
        let control = match cookie.starts_with("session") {
            true => "private",
            // Held up by a second it would be stale when it comes.
            false => "max-age=60",
        };
        numbered(count, &[("cache-control", control), ("etag", "\"e\"")])
    })
    .await;
    site.get("/a").await;
    site.later(61);
    // Each leads, and is then known to be answered apart.
    for member in 0..20 {
        let cookie = format!("session={member}");
        site.get_with("/a", &[("cookie", &cookie)]).await;
    }
    let cookies: Vec<_> = (0..200).map(|visitor| format!("id={visitor}")).collect();
    let fields: Vec<_> = cookies
        .iter()
        .map(|cookie| [("cookie", cookie.as_str())])
        .collect();
    let asking = fields.iter().map(|fields| site.get_with("/a", fields));
    let sent = site.meeting(200, join_all(asking)).await;
    assert!(sent.iter().all(|sent| sent.body == "22"));
    assert_eq!(site.count(), 22);
}

/// Nor do those who name nobody, and whose variant of the URL is a private one.
#[tokio::test]
async fn a_private_variant_parts_nobody_who_asks_for_another() {
    let site = Site::start("", |count, seen| {
        let control = match seen.header("accept-language") {
            Some("zz") => "private",
            _ => "max-age=1",
        };
        let fields = [
            ("cache-control", control),
            ("etag", "\"e\""),
            ("vary", "accept-language"),
        ];
        numbered(count, &fields)
    })
    .await;
    site.get_with("/a", &[("accept-language", "en")]).await;
    site.later(2);
    // Behind a stale answer, and where there is none of that variant.
    for (language, count) in [("en", 3), ("fr", 5)] {
        site.get_with("/a", &[("accept-language", "zz")]).await;
        let fields = [("accept-language", language)];
        let crowd = join_all((0..20).map(|_| site.get_with("/a", &fields)));
        let (sent, body) = (site.meeting(20, crowd).await, count.to_string());
        assert!(sent.iter().all(|sent| sent.body == body), "{language}");
        assert_eq!(site.count(), count, "{language}");
    }
}

/// However many other variants come and are kept.
#[tokio::test]
async fn who_gets_a_private_variant_does_not_wait_while_others_are_kept() {
    let site = Site::start("", |count, seen| {
        let control = match seen.header("accept-language") {
            Some("zz") => "private",
            _ => "max-age=60",
        };
        let fields = [
            ("cache-control", control),
            ("etag", "\"one\""),
            ("vary", "accept-language"),
        ];
        match seen.header("if-none-match") {
            Some("\"one\"") => answer(304, &fields, ""),
            _ => numbered(count, &fields),
        }
    })
    .await;
    let own = ("accept-language", "zz");
    let keep = async |path: &str, language: &str| {
        let fields = [("accept-language", language)];
        let is_hit = async || {
            let sent = site.get_with(path, &fields).await;
            sent.header("cache-status") == Some("tollgate; hit")
        };
        within(async { while !is_hit().await {} }).await;
    };
    // In one of sixteen cases the two are of one group.
    for number in 0..64 {
        let path = format!("/{number}");
        keep(&path, "en").await;
        site.get_with(&path, &[own]).await;
        keep(&path, &format!("fr-{number}")).await;
        site.get_with(&path, &[CONDITION[0], own]).await;
        let before = site.count();
        let seen = site.seen();
        let last = seen.last().expect("a request");
        if last.header("if-none-match").is_none() {
            continue;
        }
        site.gate.forget_permits(1_000_000);
        let fields = [own];
        let asking = async { join_all((0..3).map(|_| site.get_with(&path, &fields))).await };
        let opening = async {
            // The origin has answered none of them.
            eventually(|| site.count() == before + 3).await;
            site.gate.add_permits(1_000_000);
        };
        tokio::join!(asking, opening);
        return;
    }
    panic!("it is forgotten each time that its answers are private");
}

/// A client with a broken field or cookie is told so, which says nothing of others.
#[tokio::test]
async fn an_answer_that_finds_fault_with_its_own_request_parts_nobody() {
    for status in [400, 406, 415, 417, 422] {
        let site = Site::start("", move |count, seen| match seen.header("x-broken") {
            Some(_) => answer(status, &[], ""),
            None => numbered(count, TAGGED),
        })
        .await;
        let sent = site.get_with("/a", &[("x-broken", "1")]).await;
        assert_eq!(sent.status(), status);
        let crowd = join_all((0..8).map(|_| site.get("/a")));
        let sent = site.meeting(8, crowd).await;
        assert!(sent.iter().all(|sent| sent.body == "2"), "{status}");
        assert_eq!(site.count(), 2, "{status}");
    }
}

#[tokio::test]
async fn who_is_answered_apart_behind_a_stale_answer_waits_for_nobody() {
    let site = becomes_private().await;
    let fields = [("cookie", "session=1")];
    site.get_with("/a", &fields).await;
    site.gate.forget_permits(1_000_000);
    let asking = async { join_all((0..3).map(|_| site.get_with("/a", &fields))).await };
    let opening = async {
        // The origin has answered none of them.
        eventually(|| site.count() == 5).await;
        site.gate.add_permits(1_000_000);
    };
    tokio::join!(asking, opening);
}

#[tokio::test]
async fn who_is_answered_apart_is_known_behind_a_reload() {
    let site = becomes_private().await;
    let fields = [("cookie", "session=1")];
    site.get_with("/a", &fields).await;
    remake(&site);
    site.gate.forget_permits(1_000_000);
    let asking = async { join_all((0..3).map(|_| site.get_with("/a", &fields))).await };
    let opening = async {
        // The origin has answered none of them.
        eventually(|| site.count() == 5).await;
        site.gate.add_permits(1_000_000);
    };
    tokio::join!(asking, opening);
}

/// Requests of which each may have its answer for itself do not stand in the way of all others.
#[tokio::test]
async fn who_may_have_an_answer_alone_does_not_part_those_who_share_theirs() {
    for (rule, fields, odd) in [
        ("default_ttl = '1m'", "", "Cookie: a=1"),
        (
            "",
            "Cache-Control: max-age=60\r\n",
            "Authorization: Basic YTpi",
        ),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
        let halves = Halves::start(answer.leak(), 0).await;
        let gateway = halves.gateway(rule);
        let odd = format!("GET /a HTTP/1.1\r\nHost: a.test\r\n{odd}\r\n\r\n");
        // One leads, is found to be nobody else's, and so those like it do not wait.
        halves.go_on.add_permits(1);
        assert_eq!(Raw::ask(gateway.address(), odd.clone()).await.text(), "ok");
        let mut clients = Vec::new();
        for request in [odd.as_str(), GET, GET, GET, GET] {
            let mut client = Raw::connect(gateway.address()).await;
            client.send(request).await;
            clients.push(client);
        }
        let in_flight = || gateway.metric("tollgate_requests_in_flight", &[]);
        eventually(|| in_flight() == 5.0 && halves.asked() >= 3).await;
        halves.go_on.add_permits(10);
        for client in &mut clients {
            assert_eq!(client.answer().await.text(), "ok");
        }
        assert_eq!(halves.asked(), 3, "{odd}");
    }
}

/// Answers for one caller each, of an upstream that compares what it is asked for.
async fn private() -> Site {
    let fields: &[(&str, &str)] = &[("cache-control", "private"), ("etag", "\"one\"")];
    Site::start("", move |count, seen| match seen.header("if-none-match") {
        Some("\"one\"") => answer(304, fields, ""),
        _ => numbered(count, fields),
    })
    .await
}

/// The first of them gets the whole of the upstream, which is compared here; the next ones pass.
#[tokio::test]
async fn a_condition_is_the_upstreams_again_where_nothing_can_be_kept() {
    let site = private().await;
    for (count, seen) in [(1, None), (2, Some("\"one\"")), (3, Some("\"one\""))] {
        let sent = site.get_with("/a", &CONDITION).await;
        assert_eq!((sent.status(), &*sent.body), (304, &b""[..]), "{count}");
        assert_eq!(sent.header("etag"), Some("\"one\""), "{count}");
        assert_eq!(site.count(), count);
        assert_eq!(site.seen()[count - 1].header("if-none-match"), seen);
    }
    let old = site.get_with("/b", &[("if-none-match", "\"old\"")]).await;
    assert_eq!((old.status(), &*old.body), (200, &b"4"[..]));
}

#[tokio::test]
async fn who_polls_what_nobody_keeps_gets_the_upstreams_304() {
    for named in [None, Some(("cookie", "session=1"))] {
        let site = private().await;
        let fields: Vec<_> = CONDITION.into_iter().chain(named).collect();
        let own = Some("\"one\"");
        for (later, seen) in [(0, None), (60, own), (60, own), (600, None), (60, own)] {
            site.later(later);
            let sent = site.get_with("/a", &fields).await;
            assert_eq!((sent.status(), sent.header("etag")), (304, own));
            let asked = site.seen();
            let last = asked.last().expect("a request");
            assert_eq!(last.header("if-none-match"), seen, "{}", asked.len());
        }
        assert_eq!(site.count(), 5);
    }
}

/// Answers for who has a session alone, and for all others one.
async fn private_to_sessions() -> Site {
    Site::start("", |count, seen| {
        let has_session = seen
            .header("cookie")
            .is_some_and(|it| it.starts_with("session"));
        let control = if has_session { "private" } else { "max-age=60" };
        let fields = [("cache-control", control), ("etag", "\"one\"")];
        match seen.header("if-none-match") {
            Some("\"one\"") => answer(304, &fields, ""),
            _ => numbered(count, &fields),
        }
    })
    .await
}

#[tokio::test]
async fn who_is_answered_apart_by_its_cookie_parts_none_of_those_without() {
    for before in [true, false] {
        let site = private_to_sessions().await;
        let crowd = async { join_all((0..4).map(|_| site.get("/a"))).await };
        let sent = match before {
            // It is known of it, and they come within five seconds.
            true => {
                site.get_with("/a", &[SESSION]).await;
                site.meeting(4, crowd).await
            }
            // It asks first, and they come while it waits.
            false => {
                let all = async {
                    let first = site.get_with("/a", &[SESSION]);
                    let others = async {
                        eventually(|| site.count() == 1).await;
                        crowd.await
                    };
                    tokio::join!(first, others).1
                };
                site.meeting(5, all).await
            }
        };
        for sent in sent {
            assert_eq!(sent.body, "2", "{before}");
        }
        assert_eq!(site.count(), 2, "{before}");
    }
}

#[tokio::test]
async fn who_is_answered_apart_by_its_cookie_has_no_condition_of_others_passed_on() {
    let site = private_to_sessions().await;
    let condition_of_last = || {
        let seen = site.seen();
        let last = seen.last().expect("a request");
        last.header("if-none-match").map(str::to_owned)
    };
    let asks = async |path: &str, cookie: Option<&str>| {
        let cookie = cookie.map(|value| ("cookie", value));
        let fields: Vec<_> = CONDITION.into_iter().chain(cookie).collect();
        assert_eq!(site.get_with(path, &fields).await.status(), 304);
        condition_of_last()
    };
    for path in ["/a", "/b"] {
        site.get_with(path, &[SESSION]).await;
    }
    site.later(6);
    assert_eq!(
        asks("/a", None).await,
        None,
        "it is asked for what all may have"
    );
    // Of so many cookies not all are in the group of the one with the session.
    let mut is_asked_for = false;
    for number in 0..64 {
        let cookie = format!("theme={number}");
        is_asked_for = asks("/b", Some(cookie.as_str())).await.is_none();
        if is_asked_for {
            break;
        }
    }
    assert!(is_asked_for, "all are taken for the one with the session");
    let hit = Some("tollgate; hit");
    for path in ["/a", "/b"] {
        within(async { while site.get(path).await.header("cache-status") != hit {} }).await;
    }
}

/// That nobody waits for others then is no reason to keep nothing.
#[tokio::test]
async fn who_polls_soon_after_a_private_answer_brings_what_all_may_have() {
    // Of so many cookies not all are in the group of the one with the session.
    for number in 0..64 {
        let site = private_to_sessions().await;
        let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
        let cookie = format!("theme={number}");
        site.get_with("/a", &[SESSION]).await;
        let before = objects();
        let fields = [CONDITION[0], ("cookie", cookie.as_str())];
        assert_eq!(site.get_with("/a", &fields).await.status(), 304);
        if site.seen()[1].header("if-none-match").is_some() {
            continue;
        }
        // Beside the mark.
        eventually(|| objects() == before + 1.0).await;
        let hit = Some("tollgate; hit");
        assert_eq!(site.get("/a").await.header("cache-status"), hit);
        return;
    }
    panic!("no condition is compared here");
}

/// Where no variant is known yet, that of one client is not told from those of others.
#[tokio::test]
async fn a_private_variant_does_not_keep_out_one_that_all_may_have_and_clients_poll() {
    let site = Site::start("", |count, seen| {
        let control = match seen.header("accept-language") {
            Some("zz") => "private",
            _ => "max-age=60",
        };
        let fields = [
            ("cache-control", control),
            ("etag", "\"one\""),
            ("vary", "accept-language"),
        ];
        match seen.header("if-none-match") {
            Some("\"one\"") => answer(304, &fields, ""),
            _ => numbered(count, &fields),
        }
    })
    .await;
    let fields = [CONDITION[0], ("accept-language", "en")];
    for (path, later) in [("/a", 0), ("/b", 6)] {
        site.get_with(path, &[("accept-language", "zz")]).await;
        site.later(later);
        let before = site.count();
        assert_eq!(site.get_with(path, &fields).await.status(), 304);
        // That says that it may be kept, and so the whole is fetched beside it.
        eventually(|| site.count() == before + 2).await;
        let asked = site.seen();
        let own = asked[before..].iter().map(|it| it.header("if-none-match"));
        assert!(own.eq([Some("\"one\""), None]), "{path}");
        for _ in 0..6 {
            assert_eq!(site.get_with(path, &fields).await.status(), 304);
        }
        assert_eq!(site.count(), before + 2, "{path}");
    }
}

/// Answers that set a cookie for some, and for all others one.
async fn sets_cookies_for_some() -> Site {
    Site::start("", |count, seen| {
        let is_bad = |name: &str| seen.header(name).is_some_and(|it| it.starts_with("bad"));
        let fields = match is_bad("cookie") || is_bad("accept-language") {
            true => SETTING,
            false => TAGGED,
        };
        match seen.header("if-none-match") {
            Some("\"one\"") => answer(304, fields, ""),
            _ => numbered(count, fields),
        }
    })
    .await
}

/// Also where a client whose answers set a cookie asks behind each of them.
#[tokio::test]
async fn whose_304_says_that_the_whole_can_be_kept_has_it_fetched_itself() {
    let site = sets_cookies_for_some().await;
    let bad = [("accept-language", "bad")];
    site.get_with("/a", &bad).await;
    site.later(6);
    for _ in 0..4 {
        assert_eq!(site.get_with("/a", &CONDITION).await.status(), 304);
        assert_eq!(site.get_with("/a", &bad).await.body, "3");
    }
    assert_eq!(site.count(), 3);
}

/// A cookie that is set for one client says nothing of others, and a 304 to them tells of none.
#[tokio::test]
async fn a_cookie_that_is_set_for_one_client_does_not_keep_out_what_others_poll() {
    let site = sets_cookies_for_some().await;
    let old = ("if-none-match", "\"old\"");
    site.get_with("/a", &[("accept-language", "bad")]).await;
    // There are so many that one is in nearly every group.
    for number in 0..100 {
        let cookie = format!("bad={number}");
        site.get_with("/b", &[old, ("cookie", &cookie)]).await;
    }
    site.later(6);
    for (path, own) in [
        ("/a", ("accept-language", "en")),
        ("/b", ("cookie", "theme=1")),
    ] {
        let before = site.count();
        for _ in 0..6 {
            let sent = site.get_with(path, &[CONDITION[0], own]).await;
            assert_eq!(sent.status(), 304);
        }
        assert!(site.count() <= before + 2, "{path}");
        let last = site.seen();
        let last = last.last().expect("a request");
        assert_eq!(last.header("if-none-match"), None, "{path}");
    }
}

/// A site whose answers are other ones to those with this value of `Accept`.
async fn chosen_by_accept(chosen: &'static str) -> Site {
    const TEXT: &str = "[cache]\nmemory = '1MiB'\nmax_object = '64KiB'\n\
                        [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
    Site::configured(TEXT, move |count, seen| {
        let is_chosen = seen.header("accept") == Some(chosen);
        if is_chosen && chosen == "large" {
            return answer(200, TAGGED, vec![b'x'; 100 << 10]);
        }
        let kind = if is_chosen { chosen } else { "text/plain" };
        let fields = [TAGGED[0], TAGGED[1], ("content-type", kind)];
        match seen.header("if-none-match") {
            Some("\"one\"") => answer(304, TAGGED, ""),
            _ => numbered(count, &fields),
        }
    })
    .await
}

/// How many of so many polls went to the upstream.
async fn asked_by_polls(site: &Site, fields: &[(&str, &str)]) -> usize {
    let before = site.count();
    for _ in 0..6 {
        assert_eq!(site.get_with("/a", fields).await.status(), 304);
    }
    site.count() - before
}

#[tokio::test]
async fn who_has_an_answer_streamed_does_not_keep_out_what_others_poll() {
    for stream in ["text/event-stream", "multipart/x-mixed-replace"] {
        let site = chosen_by_accept(stream).await;
        let old = ("if-none-match", "\"old\"");
        // There are so many that one is in nearly every group.
        for number in 0..100 {
            let cookie = format!("id={number}");
            let fields = [old, ("accept", stream), ("cookie", cookie.as_str())];
            assert_eq!(site.get_with("/a", &fields).await.status(), 200);
        }
        site.later(6);
        let asked = asked_by_polls(&site, &[CONDITION[0], ("cookie", "theme=1")]).await;
        assert!(asked <= 2, "{asked} for {stream}");
    }
}

/// Once in five minutes, however often it is asked for so.
#[tokio::test]
async fn who_has_an_answer_made_large_does_not_keep_out_what_others_poll_for_long() {
    let site = chosen_by_accept("large").await;
    for (later, asked) in [(6, 6), (200, 6), (100, 2)] {
        let sent = site.get_with("/a", &[("accept", "large")]).await;
        assert_eq!(sent.body.len(), 100 << 10);
        site.later(later);
        assert_eq!(asked_by_polls(&site, &CONDITION).await, asked);
    }
}

/// Its 304s leave out what its answers say.
#[tokio::test]
async fn a_304_that_is_wrong_is_taken_at_its_word_once_in_a_while() {
    let site = Site::start("default_ttl = '1m'", |count, seen| {
        let etag = ("etag", "\"one\"");
        match seen.header("if-none-match") {
            Some("\"one\"") => answer(304, &[etag], ""),
            _ => numbered(count, &[etag, ("cache-control", "private")]),
        }
    })
    .await;
    for wholes in [2, 3] {
        for _ in 0..20 {
            assert_eq!(site.get_with("/a", &CONDITION).await.status(), 304);
            site.later(1);
        }
        let seen = site.seen();
        let whole = seen
            .iter()
            .filter(|it| it.header("if-none-match").is_none());
        assert_eq!(whole.count(), wholes, "of {}", seen.len());
        site.later(20);
    }
}

/// As soon as somebody asks for the whole.
#[tokio::test]
async fn who_polls_gets_what_can_be_kept_by_now() {
    let site = Site::start("", |count, _| match count {
        1 => numbered(1, &[("cache-control", "private"), ("etag", "\"one\"")]),
        _ => numbered(count, TAGGED),
    })
    .await;
    assert_eq!(site.get_with("/a", &CONDITION).await.status(), 304);
    site.later(6);
    assert_eq!(site.get("/a").await.body, "2");
    let hit = Some("tollgate; hit");
    within(async { while site.get("/a").await.header("cache-status") != hit {} }).await;
    let sent = site.get_with("/a", &CONDITION).await;
    assert_eq!((sent.status(), site.count()), (304, 2));
    // And that it was nobody else's before is forgotten.
    site.purge(r#"{"url": "http://a.test/a"}"#).await;
    assert_eq!(site.get_with("/a", &CONDITION).await.status(), 304);
    assert_eq!(site.seen()[2].header("if-none-match"), None);
}
