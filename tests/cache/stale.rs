//! Stale answers: validated, served meanwhile, served instead of failures, and where they are not.

use std::time::Duration;

use http::StatusCode;
use tollgate::exchange::Clock;

use crate::{
    site::{Site, answer, numbered},
    support::{Gateway, Origin, Peer, Raw, empty, eventually, within},
};

const TAGGED: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"one\"")];

#[tokio::test]
async fn a_stale_answer_is_validated_and_fresh_again() {
    let site = Site::start("", |count, seen| match seen.header("if-none-match") {
        Some("\"one\"") => answer(304, &[("etag", "\"one\""), ("x-count", "new")], ""),
        _ => numbered(count, TAGGED),
    })
    .await;
    site.get("/a").await;
    site.later(61);
    let sent = site.get("/a").await;
    assert_eq!((sent.status(), &*sent.body), (200, &b"1"[..]));
    assert_eq!(sent.header("x-count"), Some("new"));
    assert_eq!(
        sent.header("cache-status"),
        Some("tollgate; fwd=stale; fwd-status=304; stored")
    );
    assert_eq!(site.logged(2).await, ("revalidated".into(), String::new()));
    let again = site.get("/a").await;
    assert_eq!(again.header("cache-status"), Some("tollgate; hit"));
    assert_eq!(again.header("x-count"), Some("new"));
    assert_eq!(site.count(), 2);
}

#[tokio::test]
async fn it_is_validated_where_nobody_waits_for_others_too() {
    let site = Site::start("wait = 'off'", |count, seen| {
        match seen.header("if-none-match") {
            Some("\"one\"") => answer(304, &[], ""),
            Some(_) => answer(304, &[("etag", "\"two\"")], ""),
            None => numbered(count, TAGGED),
        }
    })
    .await;
    site.get("/a").await;
    site.later(61);
    // What the client has is another matter: it is not asked for by that.
    let sent = site.get_with("/a", &[("if-none-match", "\"two\"")]).await;
    assert_eq!((sent.status(), &*sent.body), (200, &b"1"[..]));
    assert_eq!(site.seen()[1].header("if-none-match"), Some("\"one\""));
    assert_eq!(
        site.get("/a").await.header("cache-status"),
        Some("tollgate; hit")
    );
}

#[tokio::test]
async fn who_has_the_changed_answer_gets_no_body_where_nobody_waits_for_others_either() {
    let site = Site::start("wait = 'off'", |count, _| {
        let control = ["max-age=60", "max-age=60", "private"][count - 1];
        numbered(
            count,
            &[
                ("cache-control", control),
                ("etag", ["\"one\"", "\"two\"", "\"three\""][count - 1]),
            ],
        )
    })
    .await;
    site.get("/a").await;
    for etag in ["\"two\"", "\"three\""] {
        site.later(61);
        let sent = site.get_with("/a", &[("if-none-match", etag)]).await;
        assert_eq!((sent.status(), sent.header("etag")), (304, Some(etag)));
    }
    assert_eq!(site.count(), 3);
}

#[tokio::test]
async fn a_changed_answer_takes_the_place_of_the_stale_one() {
    let site = Site::with("", TAGGED).await;
    site.get("/a").await;
    site.later(61);
    let sent = site.get("/a").await;
    let told = sent.header("cache-status").expect("a status");
    assert_eq!(
        (&*sent.body, told),
        (&b"2"[..], "tollgate; fwd=stale; stored")
    );
    assert_eq!(site.logged(2).await, ("miss".into(), String::new()));
    assert_eq!(site.bodies("/a", 1).await, ["2"]);
}

#[tokio::test]
async fn the_clients_own_condition_is_applied_to_the_validated_answer() {
    let site = Site::start("", |count, seen| match seen.header("if-none-match") {
        Some("\"one\"") => answer(304, &[], ""),
        _ => numbered(count, TAGGED),
    })
    .await;
    site.get("/a").await;
    site.later(61);
    let sent = site
        .get_with("/a", &[("if-none-match", "\"two\", \"one\"")])
        .await;
    assert_eq!(sent.status(), 304);
    assert_eq!(site.seen()[1].header("if-none-match"), Some("\"one\""));
    site.later(61);
    let sent = site
        .get_with(
            "/a",
            &[("if-none-match", "\"two\""), ("range", "bytes=0-0")],
        )
        .await;
    assert_eq!((sent.status(), &*sent.body), (206, &b"1"[..]));
    assert_eq!(site.seen()[2].header("range"), None);
}

#[tokio::test]
async fn a_304_about_something_else_is_asked_again_without_conditions() {
    let site = Site::start("", |count, seen| match seen.header("if-none-match") {
        Some(_) => answer(304, &[("etag", "\"other\"")], ""),
        None => numbered(count, TAGGED),
    })
    .await;
    site.get("/a").await;
    site.later(61);
    let sent = site.get("/a").await;
    assert_eq!((sent.status(), &*sent.body), (200, &b"3"[..]));
    assert_eq!(site.count(), 3);
}

#[tokio::test]
async fn a_304_that_forbids_keeping_serves_the_answer_once_more() {
    let site = Site::start("", |count, seen| match seen.header("if-none-match") {
        Some(_) => answer(304, &[("cache-control", "no-store")], ""),
        None => numbered(count, TAGGED),
    })
    .await;
    site.get("/a").await;
    site.later(61);
    let sent = site.get("/a").await;
    assert_eq!((sent.status(), &*sent.body), (200, &b"1"[..]));
    assert_eq!(site.logged(2).await, ("miss".into(), "no-store".into()));
}

#[tokio::test]
async fn while_it_is_fetched_anew_the_stale_answer_is_served() {
    let fields = &[("cache-control", "max-age=1, stale-while-revalidate=60")];
    let site = Site::with("", fields).await;
    site.get_with("/a", &[("x-mark", "first")]).await;
    site.later(2);
    let sent = site.get_with("/a", &[("x-mark", "second")]).await;
    assert_eq!(sent.body, "1");
    let status = sent.header("cache-status").expect("a status");
    assert!(status.starts_with("tollgate; hit; ttl=-"), "{status}");
    assert!(status.ends_with("; detail=while-revalidate"), "{status}");
    let logged = site.logged(2).await;
    assert_eq!(logged, ("stale".into(), "while-revalidate".into()));
    eventually(|| site.count() == 2).await;
    assert_eq!(site.seen()[1].header("x-mark"), Some("second"));
    // The new one takes its place as soon as it is whole.
    let mut body = String::new();
    for _ in 0..1000 {
        body = site.bodies("/a", 1).await.remove(0);
        if body == "2" {
            break;
        }
    }
    assert_eq!((body.as_str(), site.count()), ("2", 2));
    site.later(62);
    assert_eq!(
        site.get("/a").await.body,
        "3",
        "behind the window nobody is served stale"
    );
}

/// One that is served while it is fetched anew.
async fn with_a_stale_answer() -> Site {
    let site = Site::with(
        "",
        &[("cache-control", "max-age=60, stale-while-revalidate=600")],
    )
    .await;
    site.get("/a").await;
    site.later(61);
    site
}

#[tokio::test]
async fn a_head_has_the_stale_answer_fetched_anew_as_a_get_has() {
    let site = with_a_stale_answer().await;
    let sent = site.send("HEAD", "/a", &[], empty()).await;
    assert_eq!(sent.status(), 200);
    within(async { while &*site.get("/a").await.body == b"1" {} }).await;
    assert_eq!(site.send("HEAD", "/a", &[], empty()).await.status(), 200);
    assert_eq!(site.count(), 2);
}

/// Its answer is kept for nobody: one that asks each time would not make the stale one fresh.
#[tokio::test]
async fn who_names_a_caller_has_a_stale_answer_fetched_anew_now_and_then_only() {
    let site = with_a_stale_answer().await;
    let named = [("authorization", "Bearer a")];
    site.get_with("/a", &named).await;
    eventually(|| site.count() == 2).await;
    for _ in 0..20 {
        let sent = site.get_with("/a", &named).await;
        assert_eq!(&*sent.body, b"1");
    }
    assert_eq!(site.count(), 2);
    site.later(6);
    site.get_with("/a", &named).await;
    eventually(|| site.count() == 3).await;
}

#[tokio::test]
async fn who_is_answered_apart_keeps_no_answer_stale_for_others() {
    let site = Site::start("", |count, seen| {
        let control = match seen.header("cookie") {
            Some("session=1") => "private",
            _ => "max-age=60, stale-while-revalidate=600",
        };
        numbered(count, &[("cache-control", control)])
    })
    .await;
    for path in ["/a", "/b"] {
        site.get(path).await;
    }
    site.later(61);
    for (path, stale, count) in [("/a", "1", 3), ("/b", "2", 4)] {
        for _ in 0..5 {
            let sent = site.get_with(path, &[("cookie", "session=1")]).await;
            assert_eq!(sent.body, stale);
            eventually(|| site.count() == count).await;
        }
    }
    // As soon as the fetch for the client with the session has ended, and not five seconds later.
    let anew = async {
        while &*site.get("/a").await.body == b"1" {}
        // Nor where all have cookies.
        for number in 0.. {
            let cookie = format!("theme={number}");
            if &*site.get_with("/b", &[("cookie", &cookie)]).await.body != b"2" {
                break;
            }
        }
    };
    let soon = tokio::time::timeout(Duration::from_secs(4), anew).await;
    assert!(soon.is_ok(), "nobody fetches it anew");
    assert_eq!(site.count(), 6);
}

/// More than may be fetched at a time without a client, of an upstream that takes its time.
#[tokio::test]
async fn however_many_are_stale_at_once_all_are_fetched_anew() {
    const ALL: usize = 40;
    const PLACES: usize = 16;
    let text = "[server]\nworkers = 1\n[cache]\nmemory = '1MiB'\nmax_object = '64KiB'\n\
                [routes.site]\nupstream = 'ORIGIN'\n\
                cache = { stale_while_revalidate = '1h' }\n";
    let fields = &[("cache-control", "max-age=600")];
    let site = Site::configured(text, move |count, _| numbered(count, fields)).await;
    for number in 0..ALL {
        site.get(&format!("/{number}")).await;
    }
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == ALL as f64).await;
    site.later(601);
    site.gate.forget_permits(1_000_000);
    // Asks for each once; how many were served stale.
    let hits = async || {
        let mut stale = 0;
        for number in 0..ALL {
            let sent = site.get(&format!("/{number}")).await;
            let status = sent.header("cache-status").expect("a status");
            assert!(status.starts_with("tollgate; hit"), "{status}");
            stale += usize::from(status.contains("while-revalidate"));
        }
        stale
    };
    for _ in 0..3 {
        assert_eq!(hits().await, ALL);
    }
    eventually(|| site.count() == ALL + PLACES).await;
    let mut answered = 0;
    within(async {
        while hits().await > 0 {
            let begun = site.count() - ALL;
            assert!(begun <= answered + PLACES, "{begun} behind {answered}");
            site.gate.add_permits(begun - answered);
            answered = begun;
        }
    })
    .await;
    assert_eq!(site.count(), 2 * ALL, "each was fetched once more");
}

#[tokio::test]
async fn an_error_is_answered_by_what_is_stale_where_that_is_allowed() {
    for (rule, control, instead) in [
        ("", "max-age=1, stale-if-error=60", true),
        ("stale_if_error = '1m'", "max-age=1", true),
        ("", "max-age=1", false),
        ("stale_if_error = '1m'", "max-age=1, must-revalidate", false),
    ] {
        let site = Site::start(rule, move |count, _| match count {
            1 => numbered(1, &[("cache-control", control), ("etag", "\"one\"")]),
            _ => answer(503, &[], "busy"),
        })
        .await;
        site.get("/a").await;
        site.later(2);
        let sent = site.get("/a").await;
        match instead {
            true => {
                assert_eq!((sent.status(), &*sent.body), (200, &b"1"[..]), "{control}");
                let logged = site.logged(2).await;
                assert_eq!(logged, ("stale".into(), "upstream-failed".into()));
                let status = sent.header("cache-status").expect("a status");
                assert!(status.contains("fwd=stale; fwd-status=503"), "{status}");
                site.later(120);
                assert_eq!(site.get("/a").await.status(), 503);
            }
            false => assert_eq!((sent.status(), &*sent.body), (503, &b"busy"[..])),
        }
    }
}

#[tokio::test]
async fn a_dead_upstream_is_stood_in_for_within_the_bound() {
    for (rule, control, instead) in [
        ("", "max-age=1", true),
        ("", "max-age=1, must-revalidate", false),
        ("", "max-age=1, no-cache", false),
        ("", "s-maxage=1", false),
        ("stale_on_error = 'off'", "max-age=1", false),
        ("stale_on_error = '1s'", "max-age=1", false),
    ] {
        let site = Site::start(rule, move |count, _| {
            numbered(count, &[("cache-control", control), ("etag", "\"one\"")])
        })
        .await;
        site.get("/a").await;
        site.later(5);
        let (gateway, origin) = (&site.gateway, site.origin);
        origin.stop().await;
        let sent = get(gateway, "/a").await;
        match instead {
            true => {
                assert_eq!((sent.status(), &*sent.body), (200, &b"1"[..]), "{control}");
                // No status came that could be told.
                let status = sent.header("cache-status").expect("a status");
                let is_told = status.starts_with("tollgate; fwd=stale; ttl=-");
                assert!(
                    is_told && status.ends_with("; detail=stale-if-error"),
                    "{status}"
                );
            }
            false => {
                assert!(sent.head.status.is_server_error(), "{control} {rule}");
                assert_eq!(sent.header("etag"), None, "nothing that was stored");
            }
        }
    }
}

async fn get(gateway: &crate::support::Gateway, path: &str) -> crate::support::Sent {
    let request = crate::site::request("GET", path, &[], crate::support::empty());
    let mut connection = crate::support::http1(gateway.address()).await;
    let answer = crate::support::within(connection.send_request(request));
    crate::support::read(answer.await.expect("an answer")).await
}

#[tokio::test]
async fn clients_may_ask_for_fresh_answers_only_where_the_rule_lets_them() {
    let obeyed = Site::with("request_directives = true", TAGGED).await;
    let ignored = Site::with("", TAGGED).await;
    for (site, second, told) in [
        (&obeyed, "2", "tollgate; fwd=request; stored"),
        (&ignored, "1", "tollgate; hit"),
    ] {
        site.get("/a").await;
        let sent = site.get_with("/a", &[("cache-control", "no-cache")]).await;
        assert_eq!(sent.body, second);
        assert_eq!(sent.header("cache-status"), Some(told));
    }
    assert_eq!(obeyed.logged(2).await, ("miss".into(), String::new()));
    let sent = obeyed
        .get_with("/b", &[("cache-control", "only-if-cached")])
        .await;
    assert_eq!(
        (sent.head.status, &*sent.reason()),
        (StatusCode::GATEWAY_TIMEOUT, "cache.not_cached")
    );
    let sent = obeyed
        .get_with("/a", &[("cache-control", "only-if-cached")])
        .await;
    assert_eq!(sent.body, "2");
}

/// What is sent so many seconds after an answer had come that is fresh for a minute.
#[tokio::test]
async fn clients_may_say_how_fresh_and_how_stale_only_where_the_rule_lets_them() {
    for (control, seconds, obeyed, ignored) in [
        ("max-age=20", 10, "1", "1"),
        ("max-age=5", 10, "2", "1"),
        ("min-fresh=40", 10, "1", "1"),
        ("min-fresh=55", 10, "2", "1"),
        ("max-stale=30", 70, "1", "2"),
        ("max-stale=5", 70, "2", "2"),
        ("max-stale", 70, "1", "2"),
    ] {
        for (rule, body) in [("request_directives = true", obeyed), ("", ignored)] {
            let site = Site::with(rule, TAGGED).await;
            site.get("/a").await;
            site.later(seconds);
            let sent = site.get_with("/a", &[("cache-control", control)]).await;
            assert_eq!(sent.body, body, "{control} {rule}");
            if seconds > 60 && body == "1" {
                let logged = site.logged(2).await;
                assert_eq!(logged, ("stale".into(), "max-stale".into()), "{control}");
            }
        }
    }
}

#[tokio::test]
async fn clients_may_have_their_answers_not_stored_only_where_the_rule_lets_them() {
    for (rule, bodies, logged) in [
        (
            "request_directives = true",
            ["2", "2"],
            ("miss", "request-no-store"),
        ),
        ("", ["1", "1"], ("miss", "")),
    ] {
        let site = Site::with(rule, TAGGED).await;
        let sent = site.get_with("/a", &[("cache-control", "no-store")]).await;
        assert_eq!(sent.body, "1");
        let (result, why) = site.logged(1).await;
        assert_eq!((&*result, &*why), logged, "{rule}");
        assert_eq!(site.bodies("/a", 2).await, bodies, "{rule}");
    }
}

/// Its listener is there, and each connection ends with no answer to what was sent on it.
#[tokio::test]
async fn an_upstream_that_closes_before_the_head_is_stood_in_for_too() {
    const GET: &str = "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for (control, instead) in [("max-age=1", true), ("max-age=1, proxy-revalidate", false)] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nETag: \"one\"\r\n\
             Content-Length: 2\r\n\r\nok"
        );
        let origin = Origin::start(move |mut peer: Peer| {
            let answer = answer.clone();
            async move {
                // But for the very first.
                if peer.request().await.is_some() && peer.index == 0 {
                    peer.write(answer).await;
                    peer.request().await;
                }
            }
        })
        .await;
        let clock = Clock::movable();
        let text = format!("[routes.a]\nupstream = '{}'\ncache = {{}}\n", origin.url());
        let gateway = Gateway::start_at(&text, clock.clone());
        assert_eq!(Raw::ask(gateway.address(), GET).await.text(), "ok");
        clock.advance(Duration::from_secs(5));
        let sent = Raw::ask(gateway.address(), GET).await;
        assert!(origin.requests().len() > 1, "it was asked: {control}");
        match instead {
            true => {
                assert_eq!((sent.status, sent.text()), (200, "ok"), "{control}");
                let logged = gateway.cache_logged(2).await;
                assert_eq!(logged, ("stale".into(), "upstream-failed".into()));
                clock.advance(Duration::from_secs(60));
                let sent = Raw::ask(gateway.address(), GET).await;
                assert!(sent.status >= 500, "behind the bound the failure stands");
            }
            false => {
                assert!(sent.status >= 500, "{control}");
                assert_eq!(sent.header("etag"), None, "nothing that was stored");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_pushes_out_nothing_that_stands_in() {
    let origin = Origin::start(|mut peer: Peer| async move {
        while let Some(request) = peer.request().await {
            let wanted = request.header("x-want");
            peer.write(match wanted {
                Some("cut") => CUT,
                Some("busy") => BUSY,
                _ => STANDING_IN,
            })
            .await;
            if wanted == Some("cut") {
                return;
            }
        }
    })
    .await;
    let clock = Clock::movable();
    let text = format!("[routes.a]\nupstream = '{}'\ncache = {{}}\n", origin.url());
    let gateway = Gateway::start_at(&text, clock.clone());
    let ask = async |language: &str, want: &str| {
        let mut client = Raw::connect(gateway.address()).await;
        let fields = format!("Accept-Language: {language}\r\nX-Want: {want}\r\n");
        client
            .send(format!("GET /a HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"))
            .await;
        client.answer_or_end().await.expect("a head")
    };
    assert_eq!(ask("en", "-").await.text(), "ok");
    eventually(|| gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    clock.advance(Duration::from_secs(5));
    assert!(!ask("en", "cut").await.complete);
    // What has to go does when another is stored.
    within(async { while ask("de", "-").await.header("cache-status") != Some(HIT) {} }).await;
    let sent = ask("en", "busy").await;
    assert_eq!((sent.status, sent.text()), (200, "ok"));
}

/// Many upstreams name `Origin` to those alone who send it.
#[tokio::test]
async fn values_of_a_field_that_others_do_not_send_push_out_nothing_that_stands_in() {
    let control = ("cache-control", "max-age=1, stale-if-error=600");
    let site = Site::start("", move |count, seen| {
        match (count, seen.header("origin")) {
            (1, _) => numbered(count, &[control, ("vary", "accept-language")]),
            (_, Some(_)) => numbered(count, &[control, ("vary", "accept-language, origin")]),
            (_, None) => answer(503, &[], "busy"),
        }
    })
    .await;
    let language = ("accept-language", "en");
    assert_eq!(site.get_with("/a", &[language]).await.body, "1");
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    site.later(2);
    for number in 0..8 {
        let origin = format!("https://{number}.test");
        let fields = [language, ("origin", origin.as_str())];
        let ask = || site.get_with("/a", &fields);
        within(async { while ask().await.header("cache-status") != Some(HIT) {} }).await;
    }
    let sent = site.get_with("/a", &[language]).await;
    assert_eq!((sent.status(), &*sent.body), (200, &b"1"[..]));
}

/// What is named although a request does not have it is named to all.
#[tokio::test]
async fn what_an_upstream_sends_by_more_fields_takes_the_place_of_what_it_sent_by_fewer() {
    let control = ("cache-control", "max-age=1, stale-if-error=600");
    let site = Site::start("", move |count, seen| {
        match (count, seen.header("origin")) {
            (1, _) => numbered(count, &[control, ("vary", "accept-language")]),
            (_, None) => numbered(count, &[control, ("vary", "accept-language, origin")]),
            (_, Some(_)) => answer(503, &[], "busy"),
        }
    })
    .await;
    let language = ("accept-language", "en");
    assert_eq!(site.get_with("/a", &[language]).await.body, "1");
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    site.later(2);
    let fields = [language];
    let ask = || site.get_with("/a", &fields);
    within(async { while ask().await.header("cache-status") != Some(HIT) {} }).await;
    let fields = [language, ("origin", "https://a.test")];
    assert_eq!(site.get_with("/a", &fields).await.status(), 503);
}

const HIT: &str = "tollgate; hit";
const STANDING_IN: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=1, stale-if-error=600\r\n\
                           Vary: Accept-Language\r\nContent-Length: 2\r\n\r\nok";
/// It varies by nothing, and is not whole.
const CUT: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 10\r\n\r\ncut";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
