//! Bodies, their absence, and what stands behind them.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::support::{
    BoxBody, Gateway, Origin, Raw, Server, body, empty, http2, read, reply, request, within,
};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                       2\r\nok\r\n0\r\nX-Sum: 7\r\nX-Unnamed: 1\r\nHost: evil\r\n\r\n";

#[tokio::test]
async fn trailers_reach_a_client_that_takes_them() {
    let origin = Origin::answering(CHUNKED).await;
    let gateway = Gateway::to(&origin.url());
    let request = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n";
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("trailer"), Some("x-sum"));
    let sum = ("x-sum".to_owned(), "7".to_owned());
    let trailers: Vec<_> = answer
        .trailers
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    assert_eq!(trailers, [sum]);
    assert_eq!(gateway.metric("tollgate_trailers_dropped_total", &[]), 0.0);
}

#[tokio::test]
async fn trailers_that_nobody_asked_for_are_dropped_and_counted() {
    let origin = Origin::answering(CHUNKED).await;
    let gateway = Gateway::to(&origin.url());
    let answer = Raw::ask(gateway.address(), crate::GET).await;
    assert_eq!((answer.text(), answer.complete), ("ok", true));
    assert!(answer.trailers.is_empty(), "{:?}", answer.trailers);
    gateway.log_line().await;
    assert_eq!(gateway.metric("tollgate_trailers_dropped_total", &[]), 1.0);
}

#[tokio::test]
async fn an_http_2_client_gets_all_trailers_but_those_that_would_be_trusted() {
    let origin = Origin::answering(CHUNKED).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let ask = request("GET", "/").body(empty()).expect("a request");
    let answer = read(within(client.send_request(ask)).await.expect("a head")).await;
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers["x-sum"], "7");
    assert_eq!(trailers["x-unnamed"], "1");
    assert!(!trailers.contains_key("host"), "{trailers:?}");
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_origin() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let trailers = HeaderMap::from_iter([("x-sum".parse().expect("a name"), HeaderValue::from(7))]);
    let frames = [Frame::data(Bytes::from("hi")), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, std::io::Error>));
    let ask = request("POST", "/")
        .header("trailer", "x-sum")
        .body(StreamBody::new(frames).boxed_unsync())
        .expect("a request");
    let answer = within(client.send_request(ask)).await.expect("a head");
    assert_eq!(read(answer).await.status(), 200);
    let request = origin.request();
    assert_eq!(request.text(), "hi");
    let (name, value) = &request.trailers[0];
    assert_eq!((&*name.to_ascii_lowercase(), &**value), ("x-sum", "7"));
}

#[tokio::test]
async fn head_keeps_the_length_and_has_no_body() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer_to("HEAD").await;
        assert_eq!(answer.header("content-length"), Some("1234"));
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(origin.requests()[0].line, "HEAD / HTTP/1.1");
}

#[tokio::test]
async fn answers_that_may_have_no_body_have_none_and_keep_the_connection() {
    for head in [
        "204 No Content\r\nETag: \"x\"\r\n",
        "204 No Content\r\nContent-Length: 0\r\nETag: \"x\"\r\n",
        "304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n",
    ] {
        let origin = Origin::answering(format!("HTTP/1.1 {head}\r\n")).await;
        let gateway = Gateway::to(&origin.url());
        let mut client = Raw::connect(gateway.address()).await;
        for _ in 0..2 {
            client.send(crate::GET).await;
            let answer = client.answer().await;
            assert_eq!(answer.status.to_string(), head[..3]);
            // RFC 9110 8.6: a 304 may do without, and hyper does.
            assert_eq!(answer.header("content-length"), None, "{head:?}");
            assert_eq!(answer.header("etag"), Some("\"x\""));
            assert_eq!(answer.header("transfer-encoding"), None, "{head:?}");
        }
        assert_eq!(origin.connections(), 1);
    }
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_go_on() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    client.send(head).await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    assert_eq!(client.answer().await.text(), "ok");
    let request = origin.request();
    assert_eq!((request.text(), request.header("expect")), ("body", None));
}

#[tokio::test]
async fn a_refused_upload_is_not_asked_for() {
    let origin = Origin::ok().await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\nmax_body = \"1KiB\""
    ));
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n";
    client.send(head).await;
    let answer = client.answer().await;
    assert_eq!(answer.refusal(), (413, "request.body_too_large".to_owned()));
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let origin = Origin::start(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await;
        peer.closed().await;
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    client.send(head).await;
    client.send(vec![b'x'; 1000]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (403, "no"));
}

#[tokio::test]
async fn an_early_answer_without_close_leaves_no_half_sent_request_behind() {
    let origin = Origin::start(|mut peer| async move {
        while let Some(head) = peer.head().await {
            let early = head.starts_with("POST");
            let status = if early { "403 Forbidden" } else { "200 OK" };
            peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
                .await;
            if early {
                peer.closed().await;
                return;
            }
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    client.send(head).await;
    client.send(vec![b'x'; 1000]).await;
    assert_eq!(client.answer().await.status, 403);
    // On its own connection, and not behind the half-sent one.
    let next = Raw::ask(gateway.address(), crate::GET).await;
    assert_eq!(next.status, 200);
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_request_over_http_2_with_a_length_keeps_it() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let ask = request("PUT", "/").body(body("hello")).expect("a request");
    let answer = within(client.send_request(ask)).await.expect("a head");
    assert_eq!(read(answer).await.status(), 200);
    let request = origin.request();
    assert_eq!(request.header("content-length"), Some("5"));
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(request.text(), "hello");
}

#[tokio::test]
async fn a_post_without_a_body_says_so() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(Raw::ask(gateway.address(), request).await.status, 200);
    let request = origin.request();
    assert_eq!(request.header("content-length"), Some("0"));
    assert_eq!(request.header("transfer-encoding"), None);
}

#[tokio::test]
async fn a_large_body_passes_whole_both_ways() {
    let origin = Server::http1(|request| async move {
        let body = request.into_body().map_err(std::io::Error::other);
        Response::<BoxBody>::new(body.boxed_unsync())
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let sent = Bytes::from(
        (0..5_000_000_u32)
            .map(|i| (i % 251) as u8)
            .collect::<Vec<_>>(),
    );
    let mut client = http2(gateway.address()).await;
    let ask = request("POST", "/")
        .body(body(sent.clone()))
        .expect("a request");
    let answer = within(client.send_request(ask)).await.expect("a head");
    assert!(read(answer).await.body == sent);
    let line = gateway.log_line().await;
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&5_000_000.into(), &5_000_000.into())
    );
}

#[tokio::test]
async fn fields_that_repeat_stay_apart_and_in_order() {
    let origin = Server::http1(|request| async move {
        let seen: Vec<_> = request.headers().get_all("x-a").iter().cloned().collect();
        assert_eq!(seen, ["1", "2"]);
        let mut answer = reply("");
        for cookie in ["a=1; Path=/", "b=2, c"] {
            let value = HeaderValue::from_static(cookie);
            answer.headers_mut().append("set-cookie", value);
        }
        answer
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\n\r\n";
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.all("set-cookie"), ["a=1; Path=/", "b=2, c"]);
}
