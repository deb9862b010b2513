//! gRPC-shaped exchanges: HTTP/2 on both sides, trailers at the end, both directions at once.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::{net::TcpListener, sync::Notify};

use crate::support::{
    BoxBody, Gateway, Server, chunks, empty, full, http2, read, reply, request, within,
};

fn status(code: u16) -> HeaderMap {
    HeaderMap::from_iter([(
        "grpc-status".parse().expect("a name"),
        HeaderValue::from(code),
    )])
}

fn grpc(body: BoxBody) -> Response<BoxBody> {
    let mut answer = Response::new(body);
    let media_type = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", media_type);
    answer
}

/// Sends every message back at once, then the status.
async fn echo(request: Request<Incoming>) -> Response<BoxBody> {
    let (feed, body) = chunks();
    tokio::spawn(async move {
        let mut messages = request.into_body();
        while let Some(Ok(frame)) = messages.frame().await {
            if let Ok(data) = frame.into_data() {
                let _ = feed.send(Ok(Frame::data(data))).await;
            }
        }
        let _ = feed.send(Ok(Frame::trailers(status(0)))).await;
    });
    grpc(body)
}

fn call(body: BoxBody) -> Request<BoxBody> {
    request("POST", "/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

#[tokio::test]
async fn a_unary_call_passes_with_its_status() {
    let origin = Server::h2c(echo).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let answer = within(client.send_request(call(full("hello"))))
        .await
        .expect("a head");
    let answer = read(answer).await;
    assert_eq!((answer.status(), &*answer.body), (200, &b"hello"[..]));
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
    let line = gateway.log_line().await;
    assert!(
        line.get("reason").is_none() && line.get("complete").is_none(),
        "{line:#}"
    );
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let origin = Server::h2c(echo).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let (feed, body) = chunks();
    let mut answer = within(client.send_request(call(body)))
        .await
        .expect("a head");
    for message in ["one", "two", "three"] {
        feed.send(Ok(Frame::data(message.into())))
            .await
            .expect("a reader");
        let frame = within(answer.frame())
            .await
            .expect("a frame")
            .expect("whole");
        assert_eq!(frame.into_data().expect("data"), message);
    }
    drop(feed);
    let last = within(answer.frame())
        .await
        .expect("a frame")
        .expect("whole");
    assert_eq!(last.into_trailers().expect("trailers")["grpc-status"], "0");
}

#[tokio::test]
async fn a_trailers_only_error_passes() {
    let origin = Server::h2c(|_| async {
        let mut answer = grpc(empty());
        answer.headers_mut().extend(status(5));
        answer
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let answer = within(client.send_request(call(full("x"))))
        .await
        .expect("a head");
    assert!(hyper::body::Body::is_end_stream(answer.body()));
    assert_eq!(read(answer).await.header("grpc-status"), Some("5"));
}

#[tokio::test]
async fn the_callers_own_timeout_is_honoured() {
    let origin = Server::h2c(|_| std::future::pending()).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let mut call = call(full("x"));
    call.headers_mut()
        .insert("grpc-timeout", HeaderValue::from_static("100m"));
    let answer = read(within(client.send_request(call)).await.expect("a head")).await;
    assert_eq!(
        (answer.status(), answer.header("grpc-status")),
        (200, Some("4"))
    );
    assert_eq!(gateway.log_line().await["reason"], "upstream.total_timeout");
}

fn timed(url: &str, timeouts: &str) -> Gateway {
    Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\ntimeouts = {{ {timeouts} }}"
    ))
}

#[tokio::test]
async fn both_sides_may_be_silent_for_as_long_as_a_tunnel_may() {
    let origin = Server::h2c(echo).await;
    let gateway = timed(&origin.url(), "idle = \"50ms\", tunnel_idle = \"1h\"");
    let mut client = http2(gateway.address()).await;
    let (feed, body) = chunks();
    let mut answer = within(client.send_request(call(body)))
        .await
        .expect("a head");
    for message in ["one", "two"] {
        // Several times `idle`.
        tokio::time::sleep(Duration::from_millis(250)).await;
        feed.send(Ok(Frame::data(message.into())))
            .await
            .expect("a reader");
        let frame = within(answer.frame())
            .await
            .expect("a frame")
            .expect("whole");
        assert_eq!(frame.into_data().expect("data"), message);
    }
    drop(feed);
    assert!(read(answer).await.trailers.is_some());
    assert!(gateway.log_line().await.get("reason").is_none());
}

#[tokio::test]
async fn a_server_that_is_silent_for_longer_than_a_tunnel_may_be_is_cut() {
    let origin = Server::h2c(|_| async {
        let (feed, body) = chunks();
        tokio::spawn(async move {
            let _ = feed.send(Ok(Frame::data("one".into()))).await;
            feed.closed().await;
        });
        grpc(body)
    })
    .await;
    let gateway = timed(&origin.url(), "idle = \"1h\", tunnel_idle = \"100ms\"");
    let mut client = http2(gateway.address()).await;
    let answer = within(client.send_request(call(full("x")))).await;
    let mut answer = answer.expect("a head");
    let first = within(answer.frame()).await.expect("a frame");
    assert_eq!(first.expect("whole").into_data().expect("data"), "one");
    let end = within(answer.frame()).await;
    assert!(matches!(end, Some(Err(_))), "{end:?}");
    assert_eq!(gateway.log_line().await["reason"], "upstream.idle_timeout");
}

#[tokio::test]
async fn a_client_that_is_silent_for_longer_than_a_tunnel_may_be_is_refused() {
    let origin = Server::h2c(|request: Request<Incoming>| async {
        let _ = request.into_body().collect().await;
        grpc(empty())
    })
    .await;
    let gateway = timed(&origin.url(), "idle = \"1h\", tunnel_idle = \"100ms\"");
    let mut client = http2(gateway.address()).await;
    let (feed, body) = chunks();
    let answer = within(client.send_request(call(body))).await;
    let answer = read(answer.expect("a head")).await;
    assert!(answer.header("grpc-status").is_some_and(|it| it != "0"));
    assert_eq!(gateway.log_line().await["reason"], "request.body_timeout");
    drop(feed);
}

#[tokio::test]
async fn a_failed_upstream_is_told_in_grpc() {
    let origin = Server::h2c(|_| async { reply("") }).await;
    let url = origin.url();
    drop(origin);
    let gateway = Gateway::to(&url);
    let mut client = http2(gateway.address()).await;
    let answer = read(
        within(client.send_request(call(full("x"))))
            .await
            .expect("a head"),
    )
    .await;
    assert_eq!(
        (answer.status(), answer.header("grpc-status")),
        (200, Some("14"))
    );
}

#[tokio::test]
async fn a_stream_longer_than_max_body_passes_unless_the_route_says_so() {
    for (table, passes) in [("[defaults]", true), ("[routes.all]", false)] {
        let origin = Server::h2c(echo).await;
        let url = origin.url();
        let gateway = Gateway::start(&match passes {
            true => format!("{table}\nmax_body = \"1KiB\"\n[routes.all]\nupstream = \"{url}\""),
            false => format!("{table}\nmax_body = \"1KiB\"\nupstream = \"{url}\""),
        });
        let mut client = http2(gateway.address()).await;
        let call = call(full(vec![b'x'; 4096]));
        let answer = read(within(client.send_request(call)).await.expect("a head")).await;
        let refused = answer.header("grpc-status") == Some("8");
        assert_eq!(refused, !passes, "{answer:?}");
        assert_eq!(answer.body.len(), if passes { 4096 } else { 0 });
    }
}

/// An h2c origin that sends four bytes of each answer and, when told so, resets its stream.
async fn resetting(reason: h2::Reason) -> (String, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("h2c://{}", listener.local_addr().expect("an address"));
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("one connection");
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = Response::new(());
            let mut body = respond.send_response(head, false).expect("an open stream");
            body.send_data("half".into(), false)
                .expect("an open stream");
            let wait = Arc::clone(&wait);
            tokio::spawn(async move {
                wait.notified().await;
                body.send_reset(reason);
            });
        }
    });
    (url, go)
}

#[tokio::test]
async fn a_reset_by_an_h2c_origin_reaches_the_client_as_a_cut() {
    for reason in [
        h2::Reason::INTERNAL_ERROR,
        h2::Reason::CANCEL,
        h2::Reason::NO_ERROR,
    ] {
        let (url, go) = resetting(reason).await;
        let gateway = Gateway::to(&url);
        let mut client = http2(gateway.address()).await;
        // The second time on the same connections: a reset costs one stream.
        for count in 1..=2 {
            let answer = within(client.send_request(call(full("x")))).await;
            let mut answer = answer.expect("a head");
            let frame = within(answer.frame())
                .await
                .expect("a frame")
                .expect("data");
            assert_eq!(frame.into_data().expect("data"), "half");
            go.notify_one();
            let end = within(answer.frame()).await;
            assert!(matches!(end, Some(Err(_))), "{reason:?}: {end:?}");
            let line = gateway.log_lines(count).await.remove(count - 1);
            assert_eq!(line["reason"], "upstream.body_cut", "{reason:?}: {line:#}");
        }
    }
}

#[tokio::test]
async fn a_call_passes_to_an_http_1_origin_that_names_its_trailers() {
    let origin = Server::http1(|request| async {
        let mut answer = echo(request).await;
        let names = HeaderValue::from_static("grpc-status");
        answer.headers_mut().insert("trailer", names);
        answer
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let answer = within(client.send_request(call(full("hello"))))
        .await
        .expect("a head");
    let answer = read(answer).await;
    assert_eq!(&*answer.body, b"hello");
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
}
