//! Requests with conditions and for parts that read what is fetched for others.

use futures_util::future::join_all;

use super::{ANSWER, GET, Halves, TAGGED, tagged};
use crate::{
    origin::purge,
    site::Site,
    support::{Raw, empty, eventually},
};

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
