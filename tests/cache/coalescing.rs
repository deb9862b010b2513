//! One fetch for all who ask at the same time, whoever of them leaves.

mod along;
mod apart;
mod validating;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use tokio::sync::{Notify, Semaphore};

use crate::{
    site::{Site, answer, numbered},
    support::{
        FrameClient, Gateway, Origin, Peer, Raw, Recorded, Sent, empty, encode, eventually, within,
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
const SESSION: (&str, &str) = ("cookie", "session=1");
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

/// Has a reload make the route of a site anew; the cache stays.
fn remake(site: &Site) {
    let url = site.origin.url();
    site.gateway.apply(&format!(
        "[routes.site]\nupstream = '{url}'\nmax_body = '1MiB'\n[routes.site.cache]\n"
    ));
}

#[tokio::test]
async fn who_comes_behind_a_reload_waits_for_a_fetch_that_began_before() {
    let site = Site::with("", &[("cache-control", "max-age=60")]).await;
    site.get("/a").await;
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    site.later(61);
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

const CONDITION: [(&str, &str); 1] = [("if-none-match", "\"one\"")];

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

/// What a request finds that had to wait first, for another variant as it turns out.
async fn behind_a_wait(control: &'static str, seconds: u64) -> (Site, Sent) {
    let site = Site::start("", move |count, _| {
        let fields = [
            ("cache-control", control),
            ("vary", "accept-language"),
            ("etag", "\"e\""),
        ];
        numbered(count, &fields)
    })
    .await;
    site.gate.forget_permits(1_000_000);
    let in_flight = || site.gateway.metric("tollgate_requests_in_flight", &[]);
    let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
    // It is of another kind, and waits for no other.
    let cookie = [("accept-language", "en"), ("cookie", "consent=1")];
    let (with_cookie, german, waiting) = (
        site.get_with("/a", &cookie),
        async {
            eventually(|| site.count() == 1).await;
            site.get_with("/a", &[("accept-language", "de")]).await
        },
        async {
            eventually(|| site.count() == 2).await;
            site.get_with("/a", &[("accept-language", "en")]).await
        },
    );
    let answering = async {
        eventually(|| in_flight() == 3.0).await;
        site.gate.add_permits(1);
        eventually(|| objects() == 1.0).await;
        site.later(seconds);
        site.gate.add_permits(1_000_000);
    };
    let (_, _, sent, ()) = tokio::join!(with_cookie, german, waiting, answering);
    (site, sent)
}

#[tokio::test]
async fn what_has_come_while_a_request_waited_is_judged_by_what_it_is_then() {
    let control = "public, max-age=10, must-revalidate";
    let (site, sent) = behind_a_wait(control, 4).await;
    assert_eq!((sent.header("age"), &*sent.body), (Some("4"), &b"1"[..]));
    assert_eq!(site.count(), 2);
    let (site, sent) = behind_a_wait(control, 11).await;
    assert_eq!((sent.header("age"), &*sent.body), (None, &b"3"[..]));
    assert_eq!(site.count(), 3);
}
