//! One fetch for all who ask at the same time, whoever of them leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::future::join_all;
use tokio::sync::{Notify, Semaphore};

use crate::{
    origin::purge,
    site::{Site, answer, numbered},
    support::{
        FrameClient, Gateway, Origin, Peer, Raw, Recorded, empty, encode, eventually, within,
    },
};

const GET: &str = "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An origin that sends an answer in two halves, the second when it is let go on.
struct Halves {
    origin: Origin,
    go_on: Arc<Semaphore>,
}

impl Halves {
    /// `cut` bytes of the answer come at once.
    async fn start(answer: &'static str, cut: usize) -> Self {
        Self::cut_by(answer, move |_| cut).await
    }

    /// As many bytes as the request says come at once.
    async fn cut_by<F>(answer: &'static str, cut: F) -> Self
    where
        F: Fn(&Recorded) -> usize + Copy + Send + 'static,
    {
        let go_on = Arc::new(Semaphore::new(0));
        let waiting = Arc::clone(&go_on);
        let origin = Origin::start(move |mut peer: Peer| {
            let waiting = Arc::clone(&waiting);
            async move {
                while let Some(request) = peer.request().await {
                    let (first, rest) = answer.split_at(cut(&request));
                    peer.write(first).await;
                    let permit = waiting.acquire().await;
                    permit.expect("it is open").forget();
                    peer.write(rest).await;
                }
            }
        })
        .await;
        Self { origin, go_on }
    }

    fn gateway(&self, rule: &str) -> Gateway {
        Gateway::start(&format!(
            "[server.limits]\nmax_connections = 5000\n\
             [routes.a]\nupstream = '{}'\n[routes.a.cache]\n{rule}\n",
            self.origin.url()
        ))
    }

    fn asked(&self) -> usize {
        self.origin.requests().len()
    }
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 20\r\n\r\n\
                      01234567890123456789";
const BODY: &str = "01234567890123456789";
const TAGGED: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"one\"")];
/// The same of an answer that sets a cookie.
const SETTING: &[(&str, &str)] = &[
    ("cache-control", "max-age=60"),
    ("etag", "\"one\""),
    ("set-cookie", "session=new"),
];

#[tokio::test]
async fn a_thousand_clients_make_one_fetch_and_all_get_the_whole() {
    let halves = Halves::start(ANSWER, ANSWER.len() - 7).await;
    let gateway = halves.gateway("");
    let address = gateway.address();
    let clients = join_all((0..1000).map(|_| async move {
        let mut client = Raw::connect(address).await;
        client.send(GET).await;
        client
    }));
    let mut clients = clients.await;
    eventually(|| halves.asked() == 1).await;
    // All of them have been taken in before the answer goes on.
    eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 1000.0).await;
    halves.go_on.add_permits(1);
    for client in &mut clients {
        let answer = client.answer().await;
        assert_eq!(
            (answer.text(), answer.complete),
            ("01234567890123456789", true)
        );
    }
    assert_eq!(halves.asked(), 1);
    eventually(|| gateway.log().len() == 1000).await;
    let cache = |word: &str| {
        gateway
            .log()
            .iter()
            .filter(|line| line["cache"] == word)
            .count()
    };
    assert_eq!((cache("miss"), cache("coalesced") + cache("hit")), (1, 999));
}

/// Before the head, in it, behind it, and within the body.
#[tokio::test]
async fn whoever_asked_first_may_leave_at_any_byte() {
    let head = ANSWER.find("\r\n\r\n").expect("a head") + 4;
    for cut in [0, 1, head - 2, head, head + 1, head + 10, ANSWER.len() - 1] {
        let halves = Halves::start(ANSWER, cut).await;
        let gateway = halves.gateway("");
        let mut first = Raw::connect(gateway.address()).await;
        first.send(GET).await;
        eventually(|| halves.asked() == 1).await;
        let mut second = Raw::connect(gateway.address()).await;
        second.send(GET).await;
        eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 2.0).await;
        if cut > head {
            first.head().await;
        }
        first.reset();
        eventually(|| gateway.log().len() == 1).await;
        halves.go_on.add_permits(1);
        let answer = second.answer().await;
        assert_eq!(
            (answer.text(), answer.complete),
            ("01234567890123456789", true),
            "{cut}"
        );
        let third = Raw::ask(gateway.address(), GET).await;
        assert_eq!(third.text(), "01234567890123456789");
        assert_eq!(halves.asked(), 1, "{cut}");
    }
}

/// Whoever asked first has read so much of the body, each possible number of bytes once, when it
/// leaves; those who read along get all of it.
#[tokio::test]
async fn whoever_asked_first_may_leave_behind_any_byte_of_the_body() {
    let halves = Halves::cut_by(ANSWER, |request| {
        let read: usize = request.target()[1..].parse().expect("a number");
        ANSWER.len() - BODY.len() + read
    })
    .await;
    let gateway = halves.gateway("");
    let in_flight = || gateway.metric("tollgate_requests_in_flight", &[]);
    for read in 0..BODY.len() {
        let get = format!("GET /{read} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Raw::connect(gateway.address()).await;
            client.send(&get).await;
            clients.push(client);
            // The first of them is the one that asks the origin.
            eventually(|| halves.asked() == read + 1).await;
        }
        eventually(|| in_flight() == 4.0).await;
        let mut first = clients.remove(0);
        first.head().await;
        assert_eq!(first.read(read).await, BODY.as_bytes()[..read]);
        first.reset();
        eventually(|| gateway.log().len() == 4 * read + 1).await;
        halves.go_on.add_permits(1);
        for client in &mut clients {
            let answer = client.answer().await;
            assert_eq!((answer.text(), answer.complete), (BODY, true), "{read}");
        }
        eventually(|| gateway.log().len() == 4 * (read + 1) && in_flight() == 0.0).await;
    }
    assert_eq!(halves.asked(), BODY.len());
}

/// The streams of one connection are clients like any others.
#[tokio::test]
async fn who_asked_first_on_an_http2_connection_may_leave_the_crowd_on_it() {
    const CROWD: u32 = 20;
    let halves = Halves::start(ANSWER, 0).await;
    let gateway = halves.gateway("");
    let fields: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":path", b"/a"),
        (":authority", b"a.test"),
    ];
    let mut client = FrameClient::connect(gateway.address()).await;
    client.request(&fields).await;
    eventually(|| halves.asked() == 1).await;
    for index in 1..=CROWD {
        let head = encode(&fields);
        let flags = END_HEADERS | END_STREAM;
        client.send(HEADERS, flags, 2 * index + 1, &head).await;
    }
    let in_flight = || gateway.metric("tollgate_requests_in_flight", &[]);
    eventually(|| in_flight() == f64::from(CROWD + 1)).await;
    client.reset(CANCEL).await;
    eventually(|| gateway.log().len() == 1).await;
    halves.go_on.add_permits(1);
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut ended = 0;
    within(async {
        while ended < CROWD {
            let frame = client.frame().await.expect("the connection stays");
            assert!(!frame.is_refusal(), "{frame:?}");
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                ended += 1;
            }
            if frame.kind == DATA {
                let body = bodies.entry(frame.stream).or_default();
                body.extend(frame.payload);
            }
        }
    })
    .await;
    let streams: Vec<_> = bodies.keys().copied().collect();
    let crowd: Vec<_> = (1..=CROWD).map(|index| 2 * index + 1).collect();
    assert_eq!(streams, crowd);
    assert!(bodies.values().all(|body| body == BODY.as_bytes()));
    assert_eq!(halves.asked(), 1);
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

#[tokio::test]
async fn a_fetch_that_all_have_left_is_still_stored() {
    let halves = Halves::start(ANSWER, ANSWER.len() - 1).await;
    let gateway = halves.gateway("");
    let mut first = Raw::connect(gateway.address()).await;
    first.send(GET).await;
    first.head().await;
    first.reset();
    eventually(|| gateway.log().len() == 1).await;
    halves.go_on.add_permits(1);
    eventually(|| gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    assert_eq!(
        Raw::ask(gateway.address(), GET).await.text(),
        "01234567890123456789"
    );
    assert_eq!(halves.asked(), 1);
}

#[tokio::test]
async fn a_fetch_that_breaks_is_broken_for_all_and_stored_for_none() {
    let origin = {
        let breaks = Arc::new(Notify::new());
        let told = Arc::clone(&breaks);
        let origin = Origin::start(move |mut peer: Peer| {
            let told = Arc::clone(&told);
            async move {
                peer.request().await;
                peer.write(&ANSWER[..ANSWER.len() - 5]).await;
                told.notified().await;
            }
        })
        .await;
        (origin, breaks)
    };
    let (origin, breaks) = origin;
    let gateway = Gateway::start(&format!(
        "[routes.a]\nupstream = '{}'\ncache = {{}}\n",
        origin.url()
    ));
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(GET).await;
        client.head().await;
        clients.push(client);
    }
    assert_eq!(origin.requests().len(), 1);
    breaks.notify_one();
    for client in &mut clients {
        let rest = client.rest().await;
        assert_eq!(
            rest, b"012345678901234",
            "no more than came, and then the end"
        );
    }
    assert_eq!(gateway.metric("tollgate_cache_objects", &[]), 0.0);
}

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
            false => "max-age=1",
        };
        numbered(count, &[("cache-control", control), ("etag", "\"e\"")])
    })
    .await;
    site.get("/a").await;
    site.later(2);
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

/// Has a reload make the route of a site anew; the cache stays.
fn remake(site: &Site) {
    let url = site.origin.url();
    site.gateway.apply(&format!(
        "[routes.site]\nupstream = '{url}'\nmax_body = '1MiB'\n[routes.site.cache]\n"
    ));
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

#[tokio::test]
async fn who_comes_behind_a_reload_waits_for_a_fetch_that_began_before() {
    let site = Site::with("", &[("cache-control", "max-age=1")]).await;
    site.get("/a").await;
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    site.later(2);
    site.gate.forget_permits(1_000_000);
    let in_flight = || site.gateway.metric("tollgate_requests_in_flight", &[]);
    let late = async {
        eventually(|| site.count() == 2).await;
        remake(&site);
        site.get("/a").await
    };
    let opening = async {
        eventually(|| in_flight() == 2.0).await;
        site.gate.add_permits(1_000_000);
    };
    let (first, late, ()) = tokio::join!(site.get("/a"), late, opening);
    assert_eq!(first.body, "2");
    assert_eq!(late.body, "2");
    assert_eq!(site.count(), 2);
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

/// Who asks and leaves keeps no more than so many requests to the upstream alive.
#[tokio::test]
async fn fetches_whose_clients_have_left_are_few() {
    let halves = Halves::start(ANSWER, 0).await;
    let gateway = Gateway::start(&format!(
        "[cache]\nmemory = '1MiB'\nmax_object = '64KiB'\n\
         [routes.a]\nupstream = '{}'\ncache = {{}}\n",
        halves.origin.url()
    ));
    let mut clients = Vec::new();
    for number in 0..50 {
        let mut client = Raw::connect(gateway.address()).await;
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.send(request).await;
        clients.push(client);
    }
    eventually(|| halves.asked() == 50).await;
    for client in clients {
        client.reset();
    }
    eventually(|| gateway.log().len() == 50).await;
    eventually(|| gateway.metric("tollgate_upstream_connections_open", &[]) == 16.0).await;
}

/// An origin whose answers to `/slow` and what begins so do not come, to `/large` have no end and are
/// too large to be kept, and to others come at once; and a gateway that lets few fetches go on alone.
async fn crowded() -> (Origin, Gateway) {
    let origin = Origin::start(|mut peer: Peer| async move {
        while let Some(request) = peer.request().await {
            if request.target().starts_with("/large") {
                let piece = "x".repeat(20 << 10);
                peer.write(format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
                     Transfer-Encoding: chunked\r\n\r\n5000\r\n{piece}\r\n"
                ))
                .await;
            }
            if request.target() != "/new" {
                std::future::pending::<()>().await;
            }
            peer.write(ANSWER).await;
        }
    })
    .await;
    let gateway = Gateway::start(&format!(
        "[cache]\nmemory = '4MiB'\nmax_object = '16KiB'\n\
         [routes.a]\nupstream = '{}'\ncache = {{}}\n",
        origin.url()
    ));
    (origin, gateway)
}

/// So many clients, each of which has asked the origin for a target of its own.
async fn crowd(origin: &Origin, gateway: &Gateway, target: &str, clients: usize) -> Vec<Raw> {
    let mut crowd = Vec::new();
    for number in 0..clients {
        let mut client = Raw::connect(gateway.address()).await;
        client
            .send(format!(
                "GET {target}{number} HTTP/1.1\r\nHost: a.test\r\n\r\n"
            ))
            .await;
        crowd.push(client);
    }
    eventually(|| origin.requests().len() == clients).await;
    crowd
}

/// Two requests, one behind the other, make one fetch.
async fn is_kept(origin: &Origin, gateway: &Gateway) {
    let asked = origin.requests().len();
    for status in ["tollgate; fwd=uri-miss; stored", "tollgate; hit"] {
        let request = "GET /new HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.header("cache-status"), Some(status));
        eventually(|| gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    }
    assert_eq!(origin.requests().len(), asked + 1);
}

#[tokio::test]
async fn fetches_whose_clients_have_left_keep_nothing_out_of_the_cache() {
    let (origin, gateway) = crowded().await;
    for client in crowd(&origin, &gateway, "/slow", 40).await {
        client.reset();
    }
    eventually(|| gateway.log().len() == 40).await;
    is_kept(&origin, &gateway).await;
}

#[tokio::test]
async fn clients_that_wait_keep_nothing_out_of_the_cache() {
    let (origin, gateway) = crowded().await;
    let waiting = crowd(&origin, &gateway, "/slow", 40).await;
    is_kept(&origin, &gateway).await;
    drop(waiting);
}

#[tokio::test]
async fn clients_that_read_what_is_too_large_keep_nothing_out_of_the_cache() {
    let (origin, gateway) = crowded().await;
    let mut reading = crowd(&origin, &gateway, "/large", 40).await;
    for client in &mut reading {
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
    }
    is_kept(&origin, &gateway).await;
}

#[tokio::test]
async fn a_fetch_whose_client_leaves_ends_where_no_other_has_had_its_place_for_long() {
    let halves = Halves::start(ANSWER, 0).await;
    let gateway = Gateway::start(&format!(
        "[cache]\nmemory = '1MiB'\nmax_object = '64KiB'\n\
         [routes.a]\nupstream = '{}'\ncache = {{}}\n",
        halves.origin.url()
    ));
    let open = || gateway.metric("tollgate_upstream_connections_open", &[]);
    let mut clients = crowd(&halves.origin, &gateway, "/", 17).await;
    let newest = clients.split_off(16);
    for client in clients {
        client.reset();
    }
    eventually(|| gateway.log().len() == 16).await;
    assert_eq!(open(), 17.0, "there is a place for each without a client");
    newest.into_iter().for_each(Raw::reset);
    eventually(|| open() == 16.0).await;
    // The oldest of the others is read along with, as long as it goes on.
    let mut again = Raw::connect(gateway.address()).await;
    again.send("GET /0 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 1.0).await;
    halves.go_on.add_permits(17);
    assert_eq!(again.answer().await.text(), BODY);
    assert_eq!(halves.asked(), 17);
}

#[tokio::test]
async fn nobody_waits_for_a_head_longer_than_the_rule_says() {
    let halves = Halves::start(ANSWER, 0).await;
    let gateway = halves.gateway("wait = '50ms'");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually(|| halves.asked() == 3).await;
    halves.go_on.add_permits(3);
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "01234567890123456789");
    }
    let off = Halves::start(ANSWER, 0).await;
    let gateway = off.gateway("wait = 'off'");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually(|| off.asked() == 3).await;
}

#[tokio::test]
async fn requests_for_other_variants_wait_for_their_own() {
    let answer =
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nVary: x-a\r\nContent-Length: 2\r\n\r\nok";
    let halves = Halves::start(answer, 0).await;
    let gateway = halves.gateway("");
    let mut clients = Vec::new();
    for index in 0..9 {
        let mut client = Raw::connect(gateway.address()).await;
        let variant = index % 3;
        let request = format!("GET /a HTTP/1.1\r\nHost: a.test\r\nX-A: {variant}\r\n\r\n");
        client.send(request).await;
        clients.push(client);
    }
    eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 9.0).await;
    halves.go_on.add_permits(100);
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(halves.asked(), 3);
}

/// A site whose first answer varies by one field, and all others by two.
async fn varying_by_more(validates: bool) -> Site {
    let site = Site::start("", move |count, seen| {
        let (control, vary) = match count {
            1 => ("max-age=1", "x-a"),
            _ => ("max-age=600", "x-a, x-b"),
        };
        let fields = [
            ("cache-control", control),
            ("vary", vary),
            ("etag", "\"e\""),
        ];
        match seen.header("if-none-match") {
            Some(_) if validates => answer(304, &fields, ""),
            _ => numbered(count, &fields),
        }
    })
    .await;
    site.get_with("/a", &[("x-a", "1")]).await;
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    site.later(2);
    site
}

/// Requests with these values of the field that only the later answers of such a site vary by. So many ask the
/// origin before it answers any, and all the others when it has answered one.
async fn with_values(site: &Site, values: &[String], at_once: usize) {
    let before = site.count();
    site.gate.forget_permits(1_000_000);
    let asking = values.iter().map(|value| async move {
        let fields = [("x-a", "1"), ("x-b", value.as_str())];
        site.get_with("/a", &fields).await
    });
    let asking = async { join_all(asking).await };
    let opening = async {
        let in_flight = || site.gateway.metric("tollgate_requests_in_flight", &[]);
        eventually(|| in_flight() == values.len() as f64).await;
        eventually(|| site.count() == before + at_once).await;
        site.gate.add_permits(1);
        eventually(|| site.count() == before + values.len()).await;
        site.gate.add_permits(1_000_000);
    };
    let (sent, ()) = tokio::join!(asking, opening);
    assert!(sent.iter().all(|sent| sent.status() == 200));
}

#[tokio::test]
async fn who_differs_in_a_field_that_vary_names_only_now_waits_for_one_answer_at_most() {
    for validates in [true, false] {
        let site = varying_by_more(validates).await;
        let values = |name: &str| -> Vec<_> { (0..8).map(|at| format!("{name}{at}")).collect() };
        let (first, later) = (values("first"), values("later"));
        // What is kept says that they are alike.
        with_values(&site, &first, 1).await;
        let hit = Some("tollgate; hit");
        for value in &first {
            let fields = [("x-a", "1"), ("x-b", value.as_str())];
            let asking =
                async { while site.get_with("/a", &fields).await.header("cache-status") != hit {} };
            within(asking).await;
        }
        // That is not asked about any more by who selects nothing newer.
        with_values(&site, &later, later.len()).await;
    }
}

/// An upstream may name a field to those alone who send it. What all others select is theirs still.
#[tokio::test]
async fn what_varies_by_more_for_some_does_not_push_out_what_all_others_select() {
    let site = Site::start("", |count, seen| {
        let named = seen.header("x-b").is_some();
        let etag = if named { "\"named\"" } else { "\"all\"" };
        let vary = if named { "x-a, x-b" } else { "x-a" };
        let fields = [
            ("cache-control", "max-age=1"),
            ("vary", vary),
            ("etag", etag),
        ];
        match seen.header("if-none-match") {
            Some(known) if known == etag => answer(304, &fields, ""),
            _ => numbered(count, &fields),
        }
    })
    .await;
    site.get("/a").await;
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    for round in 0..10 {
        site.later(2);
        let value = round.to_string();
        let sent = site.get_with("/a", &[("x-b", value.as_str())]).await;
        assert_ne!(sent.body, "1", "{round}");
        let sent = site.get("/a").await;
        assert_eq!(sent.body, "1", "{round}");
        let seen = site.seen();
        let last = seen.last().expect("a request");
        assert_eq!(last.header("if-none-match"), Some("\"all\""), "{round}");
    }
}

#[tokio::test]
async fn one_request_validates_for_all() {
    let site = Site::start("", |count, seen| match seen.header("if-none-match") {
        Some(_) => crate::site::answer(304, &[], ""),
        None => numbered(
            count,
            &[("cache-control", "max-age=60"), ("etag", "\"one\"")],
        ),
    })
    .await;
    site.get("/a").await;
    site.later(61);
    let all = join_all((0..20).map(|_| site.get("/a"))).await;
    assert!(all.iter().all(|sent| sent.body == "1"));
    assert_eq!(site.count(), 2);
}

/// Of an answer that may be kept, to whoever is asked for the whole and without conditions.
async fn tagged() -> Site {
    Site::start("", |count, seen| {
        let asked = ["if-none-match", "if-modified-since", "range"];
        match asked.iter().any(|name| seen.header(name).is_some()) {
            true => answer(500, &[], "not the whole"),
            false => numbered(count, TAGGED),
        }
    })
    .await
}

#[tokio::test]
async fn one_fetch_is_for_all_who_ask_whether_theirs_is_the_newest() {
    let site = tagged().await;
    let all = join_all((0..50).map(|_| site.get_with("/a", &[("if-none-match", "\"one\"")])));
    for sent in site.meeting(50, all).await {
        assert_eq!((sent.status(), &*sent.body), (304, &b""[..]));
        assert_eq!(sent.header("etag"), Some("\"one\""));
    }
    assert_eq!(site.count(), 1);
    // It was the whole that was fetched, so that it is there for others.
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    assert_eq!(site.get("/a").await.body, "1");
    let old = site.get_with("/b", &[("if-none-match", "\"old\"")]).await;
    assert_eq!((old.status(), &*old.body), (200, &b"2"[..]));
    assert_eq!(
        old.header("cache-status"),
        Some("tollgate; fwd=uri-miss; stored")
    );
    assert_eq!(site.count(), 2);
}

#[tokio::test]
async fn conditional_and_range_requests_read_along() {
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let site = tagged().await;
    let in_flight = || site.gateway.metric("tollgate_requests_in_flight", &[]);
    let rows: [Row<'_>; 4] = [
        ("/a", "GET", &[("if-none-match", "\"one\"")], 304, ""),
        ("/b", "GET", &[("range", "bytes=0-0")], 206, "2"),
        ("/c", "GET", &[("range", "bytes=7-")], 416, ""),
        ("/d", "HEAD", &[], 200, ""),
    ];
    for (path, method, fields, status, body) in rows {
        let asked = site.count();
        site.gate.forget_permits(1_000_000);
        let following = async {
            eventually(|| site.count() == asked + 1).await;
            join_all((0..50).map(|_| site.send(method, path, fields, empty()))).await
        };
        let opening = async {
            eventually(|| in_flight() == 51.0).await;
            site.gate.add_permits(1_000_000);
        };
        let (first, others, ()) = tokio::join!(site.get(path), following, opening);
        assert_eq!(first.status(), 200, "{path}");
        for sent in others {
            assert_eq!(
                (sent.status(), &*sent.body),
                (status, body.as_bytes()),
                "{path}"
            );
        }
        assert_eq!(site.count(), asked + 1, "{path}");
    }
}

#[tokio::test]
async fn a_part_of_what_is_on_its_way_comes_when_it_is_there() {
    let halves = Halves::start(ANSWER, ANSWER.len() - 7).await;
    let gateway = halves.gateway("");
    let mut whole = Raw::connect(gateway.address()).await;
    whole.send(GET).await;
    whole.head().await;
    let mut clients = Vec::new();
    for (method, range) in [
        ("GET", "2-4"),
        ("HEAD", "2-4"),
        ("GET", "15-"),
        ("GET", "-2"),
    ] {
        let mut client = Raw::connect(gateway.address()).await;
        client
            .send(format!(
                "{method} /a HTTP/1.1\r\nHost: a.test\r\nRange: bytes={range}\r\n\r\n"
            ))
            .await;
        clients.push(client);
    }
    let there = clients[0].answer().await;
    assert_eq!((there.status, there.text()), (206, "234"));
    assert_eq!(there.header("content-range"), Some("bytes 2-4/20"));
    assert_eq!(
        there.header("cache-status"),
        Some("tollgate; fwd=uri-miss; collapsed")
    );
    let head = clients[1].answer_to("HEAD").await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("20"))
    );
    halves.go_on.add_permits(1);
    for (client, part) in clients[2..].iter_mut().zip(["56789", "89"]) {
        let sent = client.answer().await;
        assert_eq!((sent.status, sent.text(), sent.complete), (206, part, true));
    }
    assert_eq!(halves.asked(), 1);
}

/// How long a body in chunks is, its end tells.
#[tokio::test]
async fn a_part_of_what_tells_no_length_comes_when_all_is_there() {
    let answer = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
                  5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n";
    let halves = Halves::start(answer, answer.len() - 12).await;
    let gateway = halves.gateway("");
    let mut whole = Raw::connect(gateway.address()).await;
    whole.send(GET).await;
    whole.head().await;
    let mut part = Raw::connect(gateway.address()).await;
    part.send("GET /a HTTP/1.1\r\nHost: a.test\r\nRange: bytes=-3\r\n\r\n")
        .await;
    eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 2.0).await;
    halves.go_on.add_permits(1);
    let sent = part.answer().await;
    assert_eq!((sent.status, sent.text()), (206, "789"));
    assert_eq!(sent.header("content-range"), Some("bytes 7-9/10"));
    assert_eq!(halves.asked(), 1);
}

/// A 304, the whole where `If-Range` is of another, the whole of what is no 200; the whole where `Range` is
/// for several parts, of another unit or wrong.
#[tokio::test]
async fn what_the_head_decides_for_who_asks_for_a_part_waits_for_no_length() {
    for (status, fields, wanted) in [
        (
            "200 OK",
            "Range: bytes=-3\r\nIf-None-Match: \"one\"\r\n",
            304,
        ),
        ("200 OK", "Range: bytes=-3\r\nIf-Range: \"old\"\r\n", 200),
        ("404 Not Found", "Range: bytes=-3\r\n", 404),
        ("200 OK", "Range: bytes=0-1,4-5\r\n", 200),
        ("200 OK", "Range: lines=0-1\r\n", 200),
        ("200 OK", "Range: x\r\n", 200),
    ] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nCache-Control: max-age=60\r\nETag: \"one\"\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n"
        );
        let cut = answer.len() - 5;
        let halves = Halves::start(answer.leak(), cut).await;
        let gateway = halves.gateway("wait = '1h'");
        let mut whole = Raw::connect(gateway.address()).await;
        whole.send(GET).await;
        whole.head().await;
        let mut part = Raw::connect(gateway.address()).await;
        part.send(format!("GET /a HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"))
            .await;
        // The end of the body has not come yet.
        let head = part.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {wanted} ")), "{head}");
        assert_eq!(halves.asked(), 1);
        halves.go_on.add_permits(1);
    }
}

/// What such a fetch brings may be as old as what was purged.
#[tokio::test]
async fn who_reads_along_does_not_wait_for_a_fetch_that_began_before_a_purge() {
    for (method, fields) in [("HEAD", ""), ("GET", "Range: bytes=0-1\r\n")] {
        let halves = Halves::start(ANSWER, 0).await;
        let gateway = halves.gateway("wait = '1h'");
        let mut whole = Raw::connect(gateway.address()).await;
        whole.send(GET).await;
        eventually(|| halves.asked() == 1).await;
        let sent = purge(&gateway, r#"{"url": "http://a.test/a"}"#).await;
        assert_eq!(sent.status(), 200);
        let mut other = Raw::connect(gateway.address()).await;
        other
            .send(format!(
                "{method} /a HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"
            ))
            .await;
        eventually(|| halves.asked() == 2).await;
        assert!(halves.origin.requests()[1].line.starts_with(method));
    }
}

#[tokio::test]
async fn a_part_that_does_not_come_in_time_is_asked_for() {
    let halves = Halves::start(ANSWER, ANSWER.len() - 7).await;
    let gateway = halves.gateway("wait = '50ms'");
    let mut whole = Raw::connect(gateway.address()).await;
    whole.send(GET).await;
    whole.head().await;
    let mut part = Raw::connect(gateway.address()).await;
    part.send("GET /a HTTP/1.1\r\nHost: a.test\r\nRange: bytes=15-\r\n\r\n")
        .await;
    eventually(|| halves.asked() == 2).await;
    let asked = halves.origin.requests();
    assert_eq!(asked[1].header("range"), Some("bytes=15-"));
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

const CONDITION: [(&str, &str); 1] = [("if-none-match", "\"one\"")];

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

const SESSION: (&str, &str) = ("cookie", "session=1");

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
    let site = private_to_sessions().await;
    let hit = Some("tollgate; hit");
    let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
    let mut is_asked_for = false;
    // Of so many cookies not all are in the group of the one with the session.
    for number in 0..64 {
        let (path, cookie) = (format!("/{number}"), format!("theme={number}"));
        let fields = [CONDITION[0], ("cookie", cookie.as_str())];
        site.get_with(&path, &[SESSION]).await;
        let before = objects();
        assert_eq!(site.get_with(&path, &fields).await.status(), 304);
        let seen = site.seen();
        let last = seen.last().expect("a request");
        if last.header("if-none-match").is_none() {
            // Beside the mark.
            eventually(|| objects() == before + 1.0).await;
            assert_eq!(site.get(&path).await.header("cache-status"), hit);
            is_asked_for = true;
            break;
        }
    }
    assert!(is_asked_for, "no condition is compared here");
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
        // Its 304 says that it may be kept, and so the next one brings the whole.
        for seen in [Some("\"one\""), None] {
            assert_eq!(site.get_with(path, &fields).await.status(), 304);
            let asked = site.seen();
            let last = asked.last().expect("a request");
            assert_eq!(last.header("if-none-match"), seen, "{path}");
        }
        for _ in 0..5 {
            assert_eq!(site.get_with(path, &fields).await.status(), 304);
        }
        assert_eq!(site.count(), before + 2, "{path}");
    }
}

/// A cookie that is set for one client says nothing of others, and a 304 to them tells of none.
#[tokio::test]
async fn a_cookie_that_is_set_for_one_client_does_not_keep_out_what_others_poll() {
    let site = Site::start("", |count, seen| {
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
    .await;
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

#[tokio::test]
async fn the_rest_of_an_answer_that_the_client_has_is_read_and_its_connection_kept() {
    let answer = "HTTP/1.1 200 OK\r\nCache-Control: private\r\nETag: \"one\"\r\n\
                  Content-Length: 2\r\n\r\nok";
    let halves = Halves::start(answer, answer.len() - 2).await;
    let gateway = halves.gateway("");
    let mut client = Raw::connect(gateway.address()).await;
    client
        .send("GET /a HTTP/1.1\r\nHost: a.test\r\nIf-None-Match: \"one\"\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 304);
    halves.go_on.add_permits(2);
    let idle = || gateway.metric("tollgate_upstream_connections_idle", &[]);
    eventually(|| idle() == 1.0).await;
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(halves.origin.connections(), 1);
}

/// What is to be a 412 is compared by the upstream, whatever is on its way.
#[tokio::test]
async fn a_precondition_is_always_the_upstreams() {
    let site = Site::with("", TAGGED).await;
    for (name, value) in [
        ("if-match", "\"one\""),
        ("if-unmodified-since", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ] {
        site.get_with("/a", &[(name, value)]).await;
        let seen = site.seen();
        let last = seen.last().expect("a request");
        assert_eq!(last.header(name), Some(value));
    }
    assert_eq!(site.count(), 2);
}

#[tokio::test]
async fn what_turns_out_too_large_is_not_waited_for_soon_after() {
    let route = "[cache]\nmemory = '4MiB'\nmax_object = '16KiB'\n\
                 [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
    let site = Site::configured(route, |_, seen| {
        let answer = http::Response::builder().header("etag", "\"one\"");
        let answer = answer.header("cache-control", "max-age=60");
        if seen.header("if-none-match").is_some() {
            return answer.status(304).body(empty()).expect("an answer");
        }
        let piece = bytes::Bytes::from(vec![b'x'; 10 << 10]);
        let frames = [piece.clone(), piece].map(|piece| Ok(hyper::body::Frame::data(piece)));
        let stream = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        let body = http_body_util::BodyExt::boxed_unsync(stream);
        answer.body(body).expect("an answer")
    })
    .await;
    let condition = [("if-none-match", "\"one\"")];
    assert_eq!(site.get("/a").await.body.len(), 20 << 10);
    // That nobody shall wait is noted under its key.
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    let sent = site.get_with("/a", &condition).await;
    assert_eq!(sent.status(), 304);
    assert_eq!(site.seen()[1].header("if-none-match"), Some("\"one\""));
}

#[tokio::test]
async fn a_slow_reader_of_what_is_too_large_slows_the_fetch_and_not_the_memory() {
    let body = vec![b'x'; 40 << 20];
    let route = "[cache]\nmemory = '8MiB'\nmax_object = '1MiB'\n\
                 [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
    let body = bytes::Bytes::from(body);
    let length = body.len();
    let site = Site::configured(route, move |_, _| {
        let pieces: Vec<_> = body
            .chunks(64 << 10)
            .map(bytes::Bytes::copy_from_slice)
            .collect();
        let frames = pieces
            .into_iter()
            .map(|piece| Ok(hyper::body::Frame::data(piece)));
        let stream = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        http::Response::builder()
            .header("cache-control", "max-age=60")
            .body(http_body_util::BodyExt::boxed_unsync(stream))
            .expect("an answer")
    })
    .await;
    let mut slow = Raw::connect(site.gateway.address()).await;
    slow.send("GET /a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .await;
    slow.head().await;
    let used = || site.gateway.metric("tollgate_cache_memory_bytes", &[]);
    // In chunks it is a little longer than it is.
    let mut got = 0;
    let mut letters = |bytes: &[u8]| got += bytes.iter().filter(|byte| **byte == b'x').count();
    for step in 0..length >> 20 {
        letters(&slow.read(1 << 20).await);
        let used = used();
        assert!(used < 4e6, "{used} behind {step} MiB");
    }
    let rest = slow.rest().await;
    letters(&rest);
    assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "it came to its end");
    assert_eq!(got, length);
    eventually(|| used() < 1e6).await;
}

#[tokio::test]
async fn workers_share_their_fetches_and_what_they_have_stored() {
    let text = "[server]\nworkers = 4\n[routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
    let site = Site::configured(text, |count, _| {
        numbered(count, &[("cache-control", "max-age=60")])
    })
    .await;
    let all = join_all((0..200).map(|_| site.get("/a")));
    let all = site.meeting(200, all).await;
    assert!(all.iter().all(|sent| sent.body == "1"));
    assert_eq!(site.count(), 1);
    // Each on a connection of its own, which any worker may have.
    site.get("/b").await;
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 2.0).await;
    for _ in 0..8 {
        let sent = site.get("/b").await;
        assert_eq!(sent.body, "2");
        assert_eq!(sent.header("cache-status"), Some("tollgate; hit"));
    }
    assert_eq!(site.count(), 2);
}
