//! A client that leaves takes its request to the origin with it.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::support::{Gateway, Origin, Raw, Server, chunks, empty, http2, request, within};

async fn expect_closed_soon(told: &mut mpsc::UnboundedReceiver<&'static str>, since: Instant) {
    assert_eq!(within(told.recv()).await, Some("closed"));
    let took = since.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_reset_reaches_the_origin_within_a_second() {
    let (origin, mut told) = Origin::silent().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    assert_eq!(within(told.recv()).await, Some("request"));
    let left = Instant::now();
    client.reset();
    expect_closed_soon(&mut told, left).await;
}

#[tokio::test]
async fn a_closed_connection_reaches_the_origin_within_a_second() {
    let (origin, mut told) = Origin::silent().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    assert_eq!(within(told.recv()).await, Some("request"));
    let left = Instant::now();
    drop(client);
    expect_closed_soon(&mut told, left).await;
}

#[tokio::test]
async fn a_half_close_behind_the_request_is_no_abort() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    client.finish().await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_reset_stream_resets_the_stream_to_an_h2c_origin() {
    let (feed, body) = chunks();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let origin = Server::h2c(move |_| {
        let body = body.lock().expect("no panic").take();
        async { http::Response::new(body.unwrap_or_else(empty)) }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let ask = request("GET", "/").body(empty()).expect("a request");
    let answer = within(client.send_request(ask)).await.expect("a head");
    let left = Instant::now();
    drop(answer);
    within(feed.closed()).await;
    assert!(
        left.elapsed() < Duration::from_secs(1),
        "{:?}",
        left.elapsed()
    );
    // The connection to the origin serves on.
    let ask = request("GET", "/").body(empty()).expect("a request");
    within(client.send_request(ask)).await.expect("a head");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_connection_whose_answer_was_left_is_not_used_again() {
    let (told, mut came) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            while peer.request().await.is_some() {
                if peer.index > 0 {
                    peer.write(crate::OK).await;
                    continue;
                }
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                    .await;
                peer.closed().await;
                let _ = told.send(());
            }
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    client.head().await;
    client.read(4).await;
    client.reset();
    within(came.recv()).await;
    assert_eq!(Raw::ask(gateway.address(), crate::GET).await.text(), "ok");
    assert_eq!(origin.connections(), 2);
}
