//! What is stored, and what never is: truncated, oversized, private, or changed meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;
use tollgate::pipeline::cache::policy::{Moment, format_http_date};

use crate::{
    site::{Site, answer, numbered, request},
    support::{
        BoxBody, Gateway, Origin, Peer, Raw, Server, empty, encode, eventually, full, http1, read,
        within,
    },
};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn what_the_upstream_forbids_is_not_stored_and_the_log_says_why() {
    for (rule, fields, why) in [
        (
            "override_ttl = '1m'",
            vec![("cache-control", "no-store")],
            "no-store",
        ),
        (
            "override_ttl = '1m'",
            vec![("cache-control", "private")],
            "private",
        ),
        (
            "override_ttl = '1m'",
            vec![("set-cookie", "a=b")],
            "set-cookie",
        ),
        ("", vec![FRESH[0], ("vary", "*")], "vary-star"),
        (
            "default_ttl = '1m'",
            vec![("content-type", "text/event-stream")],
            "stream",
        ),
    ] {
        let kept = fields.clone();
        let site = Site::start(rule, move |count, _| numbered(count, &kept)).await;
        assert_eq!(site.bodies("/a", 2).await, ["1", "2"], "{fields:?}");
        assert_eq!(site.logged(2).await, ("miss".into(), why.into()));
        let status = site.get("/a").await;
        let status = status.header("cache-status").expect("a status").to_owned();
        assert!(status.ends_with(&format!("detail={why}")), "{status}");
    }
}

#[tokio::test]
async fn a_rule_gives_lifetimes_where_the_upstream_is_silent() {
    let site = Site::with("default_ttl = '10s'", &[]).await;
    assert_eq!(site.bodies("/a", 2).await, ["1", "1"]);
    site.later(11);
    assert_eq!(site.get("/a").await.body, "2");
    let cookies = [("cookie", "session=1")];
    assert_eq!(site.get_with("/b", &cookies).await.body, "3");
    assert_eq!(
        site.get_with("/b", &cookies).await.body,
        "4",
        "cookies may name somebody"
    );
    let longer = Site::with("override_ttl = '100s'", FRESH).await;
    longer.get("/a").await;
    longer.later(61);
    assert_eq!(longer.get("/a").await.body, "1");
}

/// A tenth of the time that it has not changed for.
#[tokio::test]
async fn a_rule_may_guess_a_lifetime_from_when_an_answer_changed() {
    let modified = SystemTime::now() - Duration::from_secs(1000);
    let modified = format_http_date(Moment::from(modified));
    let modified = modified.to_str().expect("a date").to_owned();
    for (rule, bodies) in [
        ("", ["1", "2", "3"]),
        ("heuristics = true", ["1", "1", "2"]),
    ] {
        let modified = modified.clone();
        let site = Site::start(rule, move |count, _| {
            numbered(count, &[("last-modified", &*modified)])
        })
        .await;
        for (later, body) in [0, 90, 20].into_iter().zip(bodies) {
            site.later(later);
            assert_eq!(site.get("/a").await.body, body, "{rule}");
        }
    }
}

/// RFC 9213: what is said to us stands above what is said to all, and the first that the rule names above
/// the next.
#[tokio::test]
async fn a_rule_says_which_targeted_fields_are_for_us() {
    const FIELDS: &[(&str, &str)] = &[
        ("cache-control", "no-store"),
        ("cdn-cache-control", "max-age=10"),
        ("example-cache-control", "max-age=100"),
    ];
    for (rule, bodies) in [
        ("", ["1", "1", "2"]),
        (
            "targeted = ['example-cache-control', 'cdn-cache-control']",
            ["1", "1", "1"],
        ),
        ("targeted = ['other-cache-control']", ["1", "2", "3"]),
    ] {
        let site = Site::with(rule, FIELDS).await;
        for (later, body) in [0, 5, 45].into_iter().zip(bodies) {
            site.later(later);
            assert_eq!(site.get("/a").await.body, body, "{rule}");
        }
    }
}

#[tokio::test]
async fn answers_that_set_cookies_are_stored_where_the_switch_says_so() {
    const FIELDS: &[(&str, &str)] = &[FRESH[0], ("set-cookie", "a=b")];
    let site = Site::with("set_cookie = true", FIELDS).await;
    site.get("/a").await;
    let sent = site.get("/a").await;
    assert_eq!(
        (&*sent.body, sent.header("set-cookie")),
        (&b"1"[..], Some("a=b"))
    );
}

/// Whatever is cut, at whatever byte, is served cut and not stored.
#[tokio::test]
async fn a_truncated_body_is_not_stored_and_never_looks_whole() {
    let answers = [
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12",
    ];
    for text in answers {
        let origin = Origin::answering_once(text).await;
        let route = format!("[routes.a]\nupstream = '{}'\ncache = {{}}\n", origin.url());
        let gateway = Gateway::start(&route);
        for asked in 1..=2 {
            let mut client = Raw::connect(gateway.address()).await;
            client.send("GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            // Cut before the first byte, not even the head need be there.
            if let Some(sent) = client.answer_or_end().await {
                assert_eq!((sent.status, sent.complete), (200, false), "{text:?}");
            }
            assert_eq!(origin.requests().len(), asked, "{text:?}");
        }
        assert_eq!(gateway.metric("tollgate_cache_objects", &[]), 0.0);
    }
}

/// Where nothing but the end of the connection ends an answer, a cut looks like its end.
#[tokio::test]
async fn what_may_have_been_cut_is_not_stored() {
    for version in ["1.0", "1.1"] {
        let text = format!("HTTP/{version} 200 OK\r\nCache-Control: max-age=60\r\n\r\n12345");
        let origin = Origin::answering_once(text).await;
        let route = format!("[routes.a]\nupstream = '{}'\ncache = {{}}\n", origin.url());
        let gateway = Gateway::start(&route);
        for asked in 1..=2 {
            let get = "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n";
            let sent = Raw::ask(gateway.address(), get).await;
            assert_eq!(sent.text(), "12345");
            let status = sent.header("cache-status").expect("a status").to_owned();
            assert!(status.ends_with("detail=unframed"), "{status}");
            assert_eq!(origin.requests().len(), asked);
        }
    }
}

/// Over HTTP/2 a cut can look like an end: RST_STREAM with NO_ERROR.
#[tokio::test]
async fn what_an_http2_upstream_cuts_is_not_stored_either() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let origin = Origin::start(move |mut peer: Peer| {
        let counted = Arc::clone(&counted);
        async move {
            peer.head().await;
            peer.read("SM\r\n\r\n".len()).await;
            peer.write(frame(SETTINGS, 0, 0, b"")).await;
            while let [length @ .., kind, flags, _, _, _, stream] = &*peer.read(9).await {
                peer.read(usize::from(length[1]) << 8 | usize::from(length[2]))
                    .await;
                if (*kind, *flags) == (SETTINGS, 0) {
                    peer.write(frame(SETTINGS, 1, 0, b"")).await;
                }
                if *kind == HEADERS {
                    counted.fetch_add(1, Relaxed);
                    let fields = encode(&[
                        (":status", &b"200"[..]),
                        ("cache-control", &b"max-age=60"[..]),
                    ]);
                    peer.write(frame(HEADERS, 4, *stream, &fields)).await;
                    peer.write(frame(DATA, 0, *stream, b"12345")).await;
                    peer.write(frame(RST_STREAM, 0, *stream, &[0; 4])).await;
                }
            }
        }
    })
    .await;
    let url = origin.url().replace("http://", "h2c://");
    let gateway = Gateway::start(&format!("[routes.a]\nupstream = '{url}'\ncache = {{}}\n"));
    for times in 1..=2 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send("GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        if let Some(sent) = client.answer_or_end().await {
            assert_eq!((sent.status, sent.complete), (200, false));
        }
        assert_eq!(asked.load(Relaxed), times);
    }
    assert_eq!(gateway.metric("tollgate_cache_objects", &[]), 0.0);
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let head = [0, length[0], length[1], kind, flags, 0, 0, 0, stream];
    [&head[..], payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

#[tokio::test]
async fn what_is_larger_than_an_object_may_be_passes_whole_and_is_not_stored() {
    let body: Bytes = (0..3_000_000_u32)
        .map(|index| (index % 251) as u8)
        .collect();
    for told in [true, false] {
        let sent = body.clone();
        let route = "[cache]\nmemory = '16MiB'\nmax_object = '1MiB'\n\
                     [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
        let site = Site::configured(route, move |_, _| match told {
            true => answer(200, FRESH, sent.clone()),
            false => in_pieces(&sent, None),
        })
        .await;
        for asked in 1..=3 {
            let got = site.get("/a").await;
            assert!(got.body == body, "told {told}");
            assert_eq!(site.count(), asked, "told {told}");
            let status = got.header("cache-status").expect("a status");
            // Of an answer that does not tell its length it shows later.
            assert_eq!(status.ends_with("detail=too-large"), told, "{status}");
        }
        // It may be remembered that nobody is to wait for it; the answer is not.
        let objects = site.gateway.metric("tollgate_cache_objects", &[]);
        assert!(objects <= 1.0, "{objects}");
        let bytes = || site.gateway.metric("tollgate_cache_memory_bytes", &[]);
        eventually(|| bytes() < 1e6).await;
    }
}

fn in_pieces(body: &Bytes, trailers: Option<HeaderMap>) -> Response<BoxBody> {
    let pieces: Vec<_> = body.chunks(10_000).map(Bytes::copy_from_slice).collect();
    let frames = pieces.into_iter().map(Frame::data);
    let frames = frames.chain(trailers.map(Frame::trailers)).map(Ok);
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    Response::builder()
        .header("cache-control", "max-age=60")
        .header("trailer", "x-sum")
        .body(body)
        .expect("an answer")
}

#[tokio::test]
async fn a_large_answer_of_unknown_length_and_its_trailers_are_served_again() {
    let body: Bytes = (0..900_000_u32).map(|index| (index % 251) as u8).collect();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", 17.into());
    let (sent, added) = (body.clone(), trailers.clone());
    let site = Site::start("", move |_, _| in_pieces(&sent, Some(added.clone()))).await;
    for _ in 0..3 {
        let got = site
            .send(
                "GET",
                "/a",
                &[("te", "trailers"), ("connection", "te")],
                empty(),
            )
            .await;
        assert!(got.body == body);
        assert_eq!(got.trailers.as_ref(), Some(&trailers));
        assert!(site.get_http2("/a").await.trailers.is_some());
    }
    assert_eq!(site.count(), 1);
}

/// An answer whose trailers name tags, cookies, a sum, and who asked.
fn telling(control: &str) -> Response<BoxBody> {
    let mut trailers = HeaderMap::new();
    for (name, value) in [
        ("x-who", "alice"),
        ("x-cache-tags", "t1"),
        ("surrogate-key", "t2"),
        ("set-cookie", "a=b"),
        ("x-sum", "7"),
    ] {
        trailers.insert(name, value.parse().expect("a value"));
    }
    let frames = [Frame::data(Bytes::from("xyz")), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.into_iter().map(Ok));
    Response::builder()
        .header("cache-control", control)
        .header("x-who", "alice")
        .header(
            "trailer",
            "x-who, x-cache-tags, surrogate-key, set-cookie, x-sum",
        )
        .body(StreamBody::new(frames).boxed_unsync())
        .expect("an answer")
}

const TAKES: [(&str, &str); 2] = [("te", "trailers"), ("connection", "te")];

/// The names of the trailers that a request gets.
async fn trailers_of(site: &Site, method: &str) -> Vec<String> {
    trailers_with(site, method, &TAKES).await
}

/// The same of a request with these fields.
async fn trailers_with(site: &Site, method: &str, fields: &[(&str, &str)]) -> Vec<String> {
    let sent = site.send(method, "/a", fields, empty()).await;
    let trailers = sent.trailers.unwrap_or_default();
    let mut names: Vec<_> = trailers.keys().map(ToString::to_string).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn what_an_answer_withholds_is_in_the_trailers_of_its_first_reader_alone() {
    let site = Site::start("", |_, _| telling("max-age=60, private=\"x-who\"")).await;
    let two = join_all((0..2).map(|_| trailers_of(&site, "GET")));
    let mut got = site.meeting(2, two).await;
    got.sort_unstable_by_key(Vec::len);
    assert_eq!(got, [vec!["x-sum"], vec!["x-sum", "x-who"]]);
    assert_eq!(trailers_of(&site, "GET").await, ["x-sum"]);
    let sent = site.get_with("/a", &TAKES).await;
    assert_eq!(sent.header("x-who"), None);
    let announced = sent.header("trailer").expect("some are announced");
    assert!(!announced.contains("x-who"), "{announced}");
    assert_eq!(site.count(), 1);
}

/// A `Range` that no part comes of is answered by the whole.
#[tokio::test]
async fn what_an_answer_withholds_is_not_in_the_trailers_of_who_asked_for_parts() {
    let site = Site::start("", |_, _| telling("max-age=60, private=\"x-who\"")).await;
    let [te, connection] = TAKES;
    let parts = [("range", "bytes=0-0,2-2"), te, connection];
    let following = async {
        eventually(|| site.count() == 1).await;
        trailers_with(&site, "GET", &parts).await
    };
    let both = async { tokio::join!(trailers_of(&site, "GET"), following) };
    let (first, other) = site.meeting(2, both).await;
    assert_eq!(first, ["x-sum", "x-who"]);
    assert_eq!(other, ["x-sum"]);
    assert_eq!(site.count(), 1);
}

/// Whatever becomes of the answer.
#[tokio::test]
async fn tags_in_trailers_reach_no_client() {
    let site = Site::start("", |_, _| telling("private, max-age=60")).await;
    for method in ["GET", "GET", "POST", "QUERY"] {
        assert_eq!(trailers_of(&site, method).await, ["x-sum", "x-who"]);
    }
    assert_eq!(site.count(), 4);
}

#[tokio::test]
async fn a_reload_that_leaves_the_cache_as_it_is_keeps_what_is_stored() {
    let site = Site::with("", FRESH).await;
    site.get("/a").await;
    let url = site.origin.url();
    let text = |cache: &str| {
        format!(
            "{cache}\n[routes.site]\nupstream = '{url}'\nmax_body = '1MiB'\n[routes.site.cache]\n"
        )
    };
    site.gateway.apply(&text(""));
    assert_eq!(site.get("/a").await.body, "1");
    site.gateway
        .apply(&text("[cache]\nmemory = '8MiB'\nmax_object = '1MiB'"));
    assert_eq!(site.get("/a").await.body, "2");
    let bytes = site.gateway.metric("tollgate_cache_memory_bytes", &[]);
    assert!(bytes < 200_000.0, "{bytes}");
}

#[tokio::test]
async fn memory_stays_within_its_bound() {
    let route = "[cache]\nmemory = '1MiB'\nmax_object = '128KiB'\n\
                 [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
    let body = Bytes::from(vec![b'x'; 60_000]);
    let site = Site::configured(route, move |_, _| answer(200, FRESH, body.clone())).await;
    for index in 0..60 {
        site.get(&format!("/{index}")).await;
        let bytes = site.gateway.metric("tollgate_cache_memory_bytes", &[]);
        assert!(bytes <= 1024.0 * 1024.0, "{bytes}");
    }
    assert!(site.gateway.metric("tollgate_cache_evictions_total", &[]) > 30.0);
}

#[tokio::test]
async fn unsafe_methods_make_what_they_changed_be_forgotten() {
    for (status, location, forgotten) in [
        (200, "", true),
        (303, "", true),
        (500, "", false),
        (404, "", false),
        (201, "/b", true),
    ] {
        let site = Site::start("", move |count, seen| match seen.method.as_str() {
            "GET" => numbered(count, FRESH),
            _ => answer(status, &[("location", location)], ""),
        })
        .await;
        assert_eq!(site.get("/a?x").await.body, "1");
        assert_eq!(site.get("/b").await.body, "2");
        site.send("PATCH", "/a?x", &[], full("change")).await;
        let body = site.get("/a?x").await.body;
        assert_eq!(body == "4", forgotten, "{status} {body:?}");
        let other = site.get("/b").await.body;
        assert_eq!(other != "2", location == "/b", "{status} {other:?}");
    }
}

/// The gateway is one cache, whichever of its routes the change comes by.
#[tokio::test]
async fn a_change_that_would_switch_protocols_too_is_a_change() {
    let site = Site::with("", FRESH).await;
    assert_eq!(site.bodies("/a", 2).await, ["1", "1"]);
    let switching = [("connection", "upgrade"), ("upgrade", "x")];
    site.send("DELETE", "/a", &switching, empty()).await;
    assert_eq!(site.get("/a").await.body, "3");
}

#[tokio::test]
async fn a_change_by_a_route_without_a_cache_is_seen_too() {
    let text = "[routes.read]\nupstream = 'ORIGIN'\nmethods = ['GET']\ncache = {}\n\
                [routes.write]\nupstream = 'ORIGIN'\nmethods = ['POST', 'DELETE']\n";
    let site = Site::configured(text, |count, seen| match seen.method.as_str() {
        "GET" => numbered(count, FRESH),
        "POST" => answer(201, &[("location", "/items/%7e1")], ""),
        _ => answer(404, &[], ""),
    })
    .await;
    assert_eq!(site.bodies("/items", 2).await, ["1", "1"]);
    assert_eq!(site.bodies("/items/~1", 2).await, ["2", "2"]);
    site.send("DELETE", "/items", &[], empty()).await;
    assert_eq!(
        site.get("/items").await.body,
        "1",
        "what fails changes nothing"
    );
    site.send("POST", "/items", &[], empty()).await;
    assert_eq!(site.get("/items").await.body, "5");
    assert_eq!(site.get("/items/~1").await.body, "6", "however it is spelt");
}

#[tokio::test]
async fn an_upstream_of_a_split_has_its_own_answers() {
    let one = Origin::answering(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\none",
    )
    .await;
    let two = Origin::answering(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\ntwo",
    )
    .await;
    for (zone, both) in [("", true), ("zone = 'all'", false)] {
        let text = format!(
            "[upstreams.one]\nservers = ['{}']\n[upstreams.two]\nservers = ['{}']\n\
             [routes.s]\nsplit = {{ one = 1, two = 1 }}\n[routes.s.cache]\n{zone}\n",
            one.url(),
            two.url()
        );
        let gateway = Gateway::start(&text);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..60 {
            let sent = Raw::ask(gateway.address(), "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            seen.insert(sent.text().to_owned());
        }
        assert_eq!(seen.len(), if both { 2 } else { 1 }, "{seen:?}");
    }
    assert!(one.requests().len() + two.requests().len() <= 3);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_fetch_that_nobody_reads() {
    let origin = Origin::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\n1",
            )
            .await;
        }
    })
    .await;
    let text = format!(
        "[server.drain]\ndelay = '0s'\n[routes.a]\nupstream = '{}'\ncache = {{}}\n",
        origin.url()
    );
    let gateway = Gateway::start(&text);
    let mut client = Raw::connect(gateway.address()).await;
    client.send("GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    client.head().await;
    client.reset();
    let inner = gateway.inner();
    inner.drain();
    let drained = tokio::time::timeout(Duration::from_secs(5), inner.drained());
    drained.await.expect("the drain ends");
}

#[tokio::test]
async fn a_posts_answer_that_says_it_is_the_url_itself_serves_later_gets() {
    const OWN: &[(&str, &str)] = &[FRESH[0], ("content-location", "/a")];
    let site = Site::with("", OWN).await;
    assert_eq!(site.bodies("/a", 2).await, ["1", "1"]);
    let sent = site.send("POST", "/a", &[], full("x")).await;
    assert_eq!(sent.body, "2");
    let status = sent.header("cache-status");
    assert_eq!(status, Some("tollgate; fwd=method; stored"));
    assert_eq!(
        site.bodies("/a", 2).await,
        ["2", "2"],
        "the new answer took the old one's place"
    );
    site.send("POST", "/other", &[], full("x")).await;
    assert_eq!(
        site.get("/other").await.body,
        "4",
        "it is not about the URL that was posted to"
    );
}

#[tokio::test]
async fn a_posts_answer_is_not_stored_when_the_url_was_changed_meanwhile() {
    let (free, wait) = watch::channel(false);
    let (begun, begins) = watch::channel(false);
    let begun = Arc::new(begun);
    let origin = Server::http1(move |request: http::Request<hyper::body::Incoming>| {
        let (mut wait, begun) = (wait.clone(), Arc::clone(&begun));
        async move {
            let fields = [FRESH[0], ("content-location", "/a")];
            if request.method() != http::Method::POST {
                return numbered(2, &fields);
            }
            begun.send_replace(true);
            wait.wait_for(|free| *free).await.expect("the test goes on");
            numbered(1, &fields)
        }
    })
    .await;
    let route = format!("[routes.a]\nupstream = '{}'\ncache = {{}}\n", origin.url());
    let gateway = Gateway::start(&route);
    let send = |method: &'static str| {
        let address = gateway.address();
        async move {
            let mut connection = http1(address).await;
            let answer = connection.send_request(request(method, "/a", &[], empty()));
            read(answer.await.expect("an answer")).await
        }
    };
    let posting = tokio::spawn(send("POST"));
    begins
        .clone()
        .wait_for(|begun| *begun)
        .await
        .expect("the origin is there");
    send("PUT").await;
    free.send_replace(true);
    assert_eq!(posting.await.expect("no panic").body, "1");
    assert_eq!(send("GET").await.body, "2");
}

/// It goes on with the cache that it began with, of which later requests know nothing.
#[tokio::test]
async fn a_change_under_way_reaches_the_caches_that_reloads_have_made_since() {
    let small = "cache = {}\n[cache]\nmemory = '64MiB'\n";
    let large = "cache = {}\n[cache]\nmemory = '128MiB'\n";
    for reloads in [&[small][..], &[small, large], &["", large]] {
        let (free, wait) = watch::channel(false);
        let (begun, mut begins) = watch::channel(false);
        let (begun, gets) = (Arc::new(begun), Arc::<AtomicUsize>::default());
        let origin = Server::http1(move |request: http::Request<hyper::body::Incoming>| {
            let (mut wait, begun, gets) = (wait.clone(), Arc::clone(&begun), Arc::clone(&gets));
            async move {
                if request.method() == http::Method::GET {
                    return numbered(gets.fetch_add(1, Relaxed) + 1, FRESH);
                }
                begun.send_replace(true);
                wait.wait_for(|free| *free).await.expect("the test goes on");
                answer(204, &[], "")
            }
        })
        .await;
        let route = format!("[routes.a]\nupstream = '{}'\n", origin.url());
        let gateway = Gateway::start(&format!("{route}cache = {{}}\n"));
        let send = |method: &'static str| {
            let address = gateway.address();
            async move {
                let mut connection = http1(address).await;
                let answer = connection.send_request(request(method, "/a", &[], empty()));
                read(answer.await.expect("an answer")).await
            }
        };
        let posting = tokio::spawn(send("POST"));
        let begun = begins.wait_for(|begun| *begun).await;
        drop(begun.expect("the origin is there"));
        for reload in reloads {
            gateway.apply(&format!("{route}{reload}"));
        }
        for _ in 0..2 {
            assert_eq!(send("GET").await.body, "1", "it is kept as it was");
        }
        free.send_replace(true);
        assert_eq!(posting.await.expect("no panic").status(), 204);
        assert_eq!(send("GET").await.body, "2", "{reloads:?}");
    }
}

/// A POST's answer tells its tags, and one of them may have been purged while the upstream made it.
#[tokio::test]
async fn a_posts_answer_is_not_stored_when_its_tag_was_purged_meanwhile() {
    const OWN: &[(&str, &str)] = &[
        FRESH[0],
        ("content-location", "/a"),
        ("x-cache-tags", "stock"),
    ];
    for (tag, kept) in [("stock", false), ("other", true)] {
        let site = Site::with("", OWN).await;
        site.gate.forget_permits(1_000_000);
        let purging = async {
            eventually(|| site.count() == 1).await;
            site.purge(&format!(r#"{{"tag": "{tag}"}}"#)).await;
            site.gate.add_permits(1_000_000);
        };
        let (posted, ()) = tokio::join!(site.send("POST", "/a", &[], full("x")), purging);
        assert_eq!(posted.body, "1");
        assert_eq!(site.get("/a").await.body == "1", kept, "{tag}");
    }
}

#[tokio::test]
async fn a_change_makes_what_its_content_location_names_be_forgotten() {
    for (location, forgotten) in [
        ("/b", true),
        ("http://a.test/b", true),
        ("//a.test:80/b", true),
        ("http://b.test/b", false),
        ("https://a.test/b", false),
    ] {
        let site = Site::start("", move |count, seen| match seen.method.as_str() {
            "GET" => numbered(count, FRESH),
            _ => answer(200, &[("content-location", location)], ""),
        })
        .await;
        let other = [("host", "b.test")];
        assert_eq!(site.get("/b").await.body, "1");
        assert_eq!(site.get_with("/b", &other).await.body, "2");
        site.send("PUT", "/a", &[], full("change")).await;
        let body = site.get("/b").await.body;
        assert_eq!(body, if forgotten { "4" } else { "1" }, "{location}");
        let body = site.get_with("/b", &other).await.body;
        assert_eq!(body, "2", "another host's is not to be touched: {location}");
    }
}

/// Two of the answers of [`LARGE`] do not fit beside each other.
const LITTLE_MEMORY: &str = "[cache]\nmemory = '8MiB'\nmax_object = '2MiB'\n\
                             [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
const LARGE: usize = 1900 << 10;

/// A site with large answers that vary by language.
async fn large_and_varying() -> Site {
    let body = Bytes::from(vec![b'x'; LARGE]);
    let fields = [
        ("cache-control", "max-age=600"),
        ("vary", "accept-language"),
    ];
    Site::configured(LITTLE_MEMORY, move |_, _| {
        answer(200, &fields, body.clone())
    })
    .await
}

/// Whether a language is a hit there.
async fn is_hit(site: &Site, language: &str) -> bool {
    let fields = [("accept-language", language)];
    let sent = site.get_with("/a", &fields).await;
    sent.header("cache-status") == Some("tollgate; hit")
}

#[tokio::test]
async fn what_is_asked_for_now_and_then_keeps_no_room_from_what_all_ask_for() {
    let site = large_and_varying().await;
    for _ in 0..11 {
        is_hit(&site, "qq").await;
        site.later(1);
    }
    let mut hits = 0;
    for second in 0..40 {
        hits += u32::from(is_hit(&site, "en").await);
        if second % 8 == 0 {
            is_hit(&site, "qq").await;
        }
        site.later(1);
    }
    assert!(hits > 20, "{hits}");
}

#[tokio::test]
async fn values_that_are_made_up_take_no_room_from_what_all_ask_for() {
    let site = large_and_varying().await;
    is_hit(&site, "en").await;
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 1.0).await;
    for second in 0..30 {
        assert!(is_hit(&site, "en").await, "{second}");
        let once = format!("qq-{second}");
        for made_up in ["qq", once.as_str()] {
            assert!(!is_hit(&site, made_up).await, "{second}");
        }
        site.later(1);
    }
}

#[tokio::test]
async fn a_large_variant_that_finds_no_room_pushes_out_no_small_ones() {
    let large = Bytes::from(vec![b'x'; LARGE]);
    let fields = [
        ("cache-control", "max-age=600"),
        ("vary", "accept-language"),
    ];
    let site = Site::configured(LITTLE_MEMORY, move |_, seen| {
        let body = match seen.header("accept-language") {
            Some("en" | "qq") => large.clone(),
            _ => Bytes::from_static(b"small"),
        };
        answer(200, &fields, body)
    })
    .await;
    let all = ["en", "a", "b", "c"];
    for language in all {
        within(async { while !is_hit(&site, language).await {} }).await;
    }
    for _ in 0..3 {
        site.later(1);
        assert!(is_hit(&site, "en").await);
    }
    for _ in 0..3 {
        assert!(!is_hit(&site, "qq").await);
    }
    for language in all {
        assert!(is_hit(&site, language).await, "{language}");
    }
}

#[tokio::test]
async fn what_varies_no_more_has_the_room_of_what_did() {
    let body = Bytes::from(vec![b'x'; LARGE]);
    let site = Site::configured(LITTLE_MEMORY, move |count, _| {
        let fields = match count {
            1..=11 => &[("cache-control", "max-age=1"), ("vary", "accept-language")][..],
            _ => &[("cache-control", "max-age=600")][..],
        };
        answer(200, fields, body.clone())
    })
    .await;
    for _ in 0..11 {
        assert!(!is_hit(&site, "en").await);
        site.later(2);
    }
    within(async { while !is_hit(&site, "en").await {} }).await;
}

/// All requests have the field that is named now, so none tells that it is named to all; and yet, when what was sent
/// before stands in for no failure any more, it makes room.
#[tokio::test]
async fn what_varies_by_more_has_the_room_of_what_did_when_that_serves_nobody() {
    let body = Bytes::from(vec![b'x'; LARGE]);
    let site = Site::configured(LITTLE_MEMORY, move |count, _| {
        let fields = match count {
            1..=11 => [("cache-control", "max-age=1"), ("vary", "accept-language")],
            _ => [
                ("cache-control", "max-age=600"),
                ("vary", "accept-language, accept"),
            ],
        };
        answer(200, &fields, body.clone())
    })
    .await;
    let fields = [("accept-language", "en"), ("accept", "text/html")];
    let ask = async || {
        let sent = site.get_with("/a", &fields).await;
        sent.header("cache-status") == Some("tollgate; hit")
    };
    for _ in 0..11 {
        assert!(!ask().await);
        site.later(2);
    }
    // The time for which it stands in for an upstream that is away.
    site.later(60);
    within(async { while !ask().await {} }).await;
}
