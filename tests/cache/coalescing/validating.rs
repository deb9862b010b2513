//! Who waits for whom where each has to validate what is stored, or what comes.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{GET, Halves, SESSION};
use crate::{
    site::{Site, answer, numbered},
    support::{Raw, empty, eventually, within},
};

/// Fields of answers that may be kept, and used for no request without asking the upstream.
const ALWAYS_VALIDATED: [[(&str, &str); 2]; 3] = [
    [("cache-control", "no-cache"), ("etag", "\"one\"")],
    [("cache-control", "max-age=0"), ("etag", "\"one\"")],
    [
        ("cache-control", "no-cache, max-age=60"),
        ("etag", "\"one\""),
    ],
];

/// A site whose answers have these fields, one of which is kept.
async fn validated(fields: &'static [(&'static str, &'static str)]) -> Site {
    let site = Site::start("", move |count, seen| match seen.header("if-none-match") {
        Some(_) => answer(304, fields, ""),
        None => numbered(count, fields),
    })
    .await;
    site.get("/a").await;
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    site
}

/// Requests with and without a cookie, all of which ask the origin before it answers any.
async fn all_ask_at_once(site: &Site, cookies: usize, others: usize) {
    let before = site.count();
    site.gate.forget_permits(1_000_000);
    let asking = async {
        let with = (0..cookies).map(|_| site.get_with("/a", &[SESSION]));
        let without = (0..others).map(|_| site.get("/a"));
        let (mut sent, others) = tokio::join!(join_all(with), join_all(without));
        sent.extend(others);
        sent
    };
    let opening = async {
        // The origin has answered none of them.
        eventually(|| site.count() == before + cookies + others).await;
        site.gate.add_permits(1_000_000);
    };
    let (sent, ()) = tokio::join!(asking, opening);
    for sent in sent {
        assert_eq!((sent.status(), &*sent.body), (200, &b"1"[..]));
    }
    for seen in &site.seen()[before..] {
        assert_eq!(seen.header("if-none-match"), Some("\"one\""));
    }
}

#[tokio::test]
async fn all_ask_at_once_whether_an_answer_is_right_that_each_has_to_ask_about() {
    for fields in &ALWAYS_VALIDATED {
        let site = validated(fields).await;
        all_ask_at_once(&site, 0, 8).await;
    }
}

/// Since its date lies behind, or by what it says of its age.
#[tokio::test]
async fn all_ask_at_once_whether_an_answer_is_right_that_comes_stale() {
    const STALE: [[(&str, &str); 3]; 2] = [
        [
            ("cache-control", "max-age=5"),
            ("etag", "\"one\""),
            ("age", "20"),
        ],
        [
            ("cache-control", "max-age=5"),
            ("etag", "\"one\""),
            ("date", "Thu, 01 Jan 2015 00:00:00 GMT"),
        ],
    ];
    for fields in &STALE {
        let site = validated(fields).await;
        all_ask_at_once(&site, 0, 8).await;
    }
}

/// Whoever of them has brought the one that is kept.
#[tokio::test]
async fn all_kinds_of_requests_ask_at_once_about_what_each_has_to_ask_about() {
    for fields in &ALWAYS_VALIDATED {
        let site = validated(fields).await;
        site.get_with("/a", &[SESSION]).await;
        all_ask_at_once(&site, 4, 4).await;
        site.get("/a").await;
        all_ask_at_once(&site, 4, 4).await;
    }
}

/// Only those who have one are told that it is for one request.
#[tokio::test]
async fn what_each_who_has_a_session_validates_parts_none_of_those_without() {
    let site = Site::start("", |count, seen| {
        let (control, etag) = match seen.header("cookie") {
            Some(_) => ("no-cache", "\"own\""),
            None => ("max-age=600", "\"all\""),
        };
        let fields = [("cache-control", control), ("etag", etag)];
        match seen.header("if-none-match") {
            Some(known) if known == etag => answer(304, &fields, ""),
            _ => numbered(count, &fields),
        }
    })
    .await;
    site.get("/a").await;
    site.later(601);
    // It has come in the place of the one for all.
    let is_kept = async || {
        site.get_with("/a", &[SESSION]).await;
        let seen = site.seen();
        seen.last().and_then(|last| last.header("if-none-match")) == Some("\"own\"")
    };
    within(async { while !is_kept().await {} }).await;
    let before = site.count();
    let crowd = join_all((0..20).map(|_| site.get("/a")));
    let (sent, body) = (site.meeting(20, crowd).await, (before + 1).to_string());
    assert!(sent.iter().all(|sent| sent.body == body));
    assert_eq!(site.count(), before + 1);
}

/// What a URL is like that nobody has asked for yet, its first answer tells.
#[tokio::test]
async fn who_waited_for_an_answer_that_is_for_one_request_waits_for_no_second() {
    for [(_, control), (_, etag)] in ALWAYS_VALIDATED {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nETag: {etag}\r\n\
             Content-Length: 2\r\n\r\nok"
        );
        let halves = Halves::start(answer.leak(), 0).await;
        let gateway = halves.gateway("");
        let mut clients = Vec::new();
        for _ in 0..6 {
            let mut client = Raw::connect(gateway.address()).await;
            client.send(GET).await;
            clients.push(client);
        }
        eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 6.0).await;
        eventually(|| halves.asked() == 1).await;
        // One is answered, and all others ask before any of them is.
        halves.go_on.add_permits(1);
        eventually(|| halves.asked() == 6).await;
        halves.go_on.add_permits(5);
        for client in &mut clients {
            assert_eq!(client.answer().await.text(), "ok", "{control}");
        }
    }
}

/// Of a fresh answer another is wanted, be it all of it or the head.
#[tokio::test]
async fn who_takes_no_answer_that_comes_for_another_waits_for_none() {
    for wanted in ["no-cache", "max-age=0", "min-fresh=1000"] {
        let fields = [("cache-control", "max-age=600"), ("etag", "\"one\"")];
        let rule = "request_directives = true";
        let site = Site::start(rule, move |count, _| numbered(count, &fields)).await;
        site.get("/a").await;
        eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
        site.later(1);
        site.gate.forget_permits(1_000_000);
        let wants = [("cache-control", wanted)];
        let asking = async {
            let wholes = join_all((0..6).map(|_| site.get_with("/a", &wants)));
            let heads = async {
                eventually(|| site.count() > 1).await;
                join_all((0..2).map(|_| site.send("HEAD", "/a", &wants, empty()))).await
            };
            tokio::join!(wholes, heads)
        };
        let opening = async {
            // The origin has answered none of them.
            eventually(|| site.count() == 9).await;
            site.gate.add_permits(1_000_000);
        };
        let ((wholes, _), ()) = tokio::join!(asking, opening);
        let bodies: BTreeSet<_> = wholes.into_iter().map(|sent| sent.body).collect();
        assert_eq!(bodies.len(), 6, "{wanted}");
    }
}

/// They make a fetch like any other, and all others may have what it brings.
#[tokio::test]
async fn who_waits_for_none_is_waited_for() {
    let fields = [("cache-control", "max-age=600")];
    let rule = "request_directives = true";
    let site = Site::start(rule, move |count, _| numbered(count, &fields)).await;
    let others = async {
        eventually(|| site.count() == 1).await;
        join_all((0..5).map(|_| site.get("/a"))).await
    };
    let first = [("cache-control", "no-cache")];
    let all = async { tokio::join!(site.get_with("/a", &first), others).1 };
    let sent = site.meeting(6, all).await;
    assert!(sent.iter().all(|sent| sent.body == "1"));
    assert_eq!(site.count(), 1);
}

#[tokio::test]
async fn what_is_stale_at_once_is_fetched_for_all_where_it_may_be_served_so() {
    let fields = [
        ("cache-control", "max-age=0, stale-while-revalidate=5"),
        ("etag", "\"one\""),
    ];
    let site = Site::start("", move |count, _| numbered(count, &fields)).await;
    site.get("/a").await;
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    // Nobody may have the stored one any more.
    site.later(6);
    let all = join_all((0..20).map(|_| site.get("/a")));
    let all = site.meeting(20, all).await;
    assert!(all.iter().all(|sent| sent.body == "2"));
}
