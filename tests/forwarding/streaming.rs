//! Nothing is collected: a slow side stalls the other, and what is written arrives at once.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::{io::AsyncWriteExt, sync::mpsc, time::timeout};

use crate::support::{
    BoxBody, Gateway, Origin, Raw, Server, chunks, empty, http2, read, reply, request, within,
};

type Feed = mpsc::Sender<std::io::Result<Frame<Bytes>>>;

/// An origin whose only answer is fed by the test.
async fn fed(media_type: &'static str) -> (Server, Feed) {
    let (feed, body) = chunks();
    let origin = Server::once(with_type(body, media_type)).await;
    (origin, feed)
}

fn with_type(body: BoxBody, media_type: &'static str) -> http::Response<BoxBody> {
    let mut answer = http::Response::new(body);
    let value = http::HeaderValue::from_static(media_type);
    answer.headers_mut().insert("content-type", value);
    answer
}

/// Feeds until the other side takes no more; how many bytes it took.
async fn feed_until_stalled(feed: &Feed) -> usize {
    let chunk = Bytes::from(vec![b'x'; 64 << 10]);
    let mut taken = 0;
    while taken < OFFERED {
        let sent = timeout(STALL, feed.send(Ok(Frame::data(chunk.clone())))).await;
        match sent {
            Ok(sent) => sent.expect("it is read"),
            Err(_) => return taken,
        }
        taken += chunk.len();
    }
    panic!("{taken} bytes were taken of an answer that nobody reads");
}

#[tokio::test]
async fn a_client_that_does_not_read_stalls_the_origin() {
    let (origin, feed) = fed("text/plain").await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    let taken = feed_until_stalled(&feed).await;
    // Whatever lies in between comes out again, and makes room.
    drop(feed);
    let answer = client.answer().await;
    assert!(answer.complete);
    // One more chunk may stand in the origin's own channel.
    assert!(
        answer.body.len() >= taken,
        "{} of {taken}",
        answer.body.len()
    );
}

#[tokio::test]
async fn an_http_2_client_that_does_not_read_stalls_the_origin() {
    let (origin, feed) = fed("text/plain").await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let ask = request("GET", "/").body(empty()).expect("a request");
    let answer = within(client.send_request(ask)).await.expect("a head");
    let taken = feed_until_stalled(&feed).await;
    drop(feed);
    assert!(read(answer).await.body.len() >= taken);
}

#[tokio::test]
async fn an_origin_that_does_not_read_stalls_the_client() {
    let (go, wait) = mpsc::channel::<()>(1);
    let (told, mut length) = mpsc::unbounded_channel();
    let wait = std::sync::Arc::new(tokio::sync::Mutex::new(wait));
    let origin = Origin::start(move |mut peer| {
        let (wait, told) = (std::sync::Arc::clone(&wait), told.clone());
        async move {
            let _ = wait.lock().await.recv().await;
            let request = peer.request().await.expect("a request");
            let _ = told.send(request.body.len());
            peer.write(crate::OK).await;
        }
    })
    .await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\nmax_body = \"unlimited\""
    ));
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await;
    let chunk = [
        b"10000\r\n".to_vec(),
        vec![b'x'; 64 << 10],
        b"\r\n".to_vec(),
    ]
    .concat();
    let mut sent = 0;
    loop {
        assert!(sent < OFFERED, "{sent} bytes were taken that nobody reads");
        let mut rest = &chunk[..];
        let written = timeout(STALL, client.stream().write_all_buf(&mut rest)).await;
        if written.is_err() {
            go.send(()).await.expect("the origin waits");
            client.send(rest).await;
            sent += 64 << 10;
            break;
        }
        sent += 64 << 10;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(within(length.recv()).await, Some(sent));
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    for over_http2 in [false, true] {
        let (origin, feed) = fed("text/event-stream").await;
        let gateway = Gateway::to(&origin.url());
        if over_http2 {
            let mut client = http2(gateway.address()).await;
            let ask = request("GET", "/").body(empty()).expect("a request");
            let mut answer = within(client.send_request(ask)).await.expect("a head");
            for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
                feed.send(Ok(Frame::data(event.into())))
                    .await
                    .expect("a reader");
                let frame = within(answer.frame())
                    .await
                    .expect("a frame")
                    .expect("whole");
                assert_eq!(frame.into_data().expect("data"), event);
            }
        } else {
            let mut client = Raw::connect(gateway.address()).await;
            client.send(crate::GET).await;
            client.head().await;
            for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
                feed.send(Ok(Frame::data(event.into())))
                    .await
                    .expect("a reader");
                let chunk = format!("9\r\n{event}\r\n");
                assert_eq!(client.read(chunk.len()).await, chunk.as_bytes());
            }
        }
    }
}

#[tokio::test]
async fn a_head_arrives_before_its_body() {
    let (origin, _feed) = fed("text/plain").await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_request_body_arrives_chunk_by_chunk() {
    let (told, mut came) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.head().await;
            for _ in 0..3 {
                let chunk = peer.read("1\r\na\r\n".len()).await;
                let _ = told.send(String::from_utf8(chunk).expect("text"));
            }
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await;
    for letter in ["a", "b", "c"] {
        let chunk = format!("1\r\n{letter}\r\n");
        client.send(&chunk).await;
        assert_eq!(within(came.recv()).await, Some(chunk));
    }
}

/// Far more than the kernel's buffers on the way can hold.
const OFFERED: usize = 128 << 20;

/// A side that takes nothing for so long is stalled.
const STALL: Duration = Duration::from_millis(200);

#[tokio::test]
async fn readers_that_stall_do_not_stall_others_on_the_same_h2c_connection() {
    let (stalls, mut stalled) = mpsc::unbounded_channel();
    let origin = Server::h2c(move |request| {
        let (feed, body) = chunks();
        let stalls = stalls.clone();
        async move {
            if request.uri().path() == "/small" {
                return reply("small");
            }
            tokio::spawn(async move {
                feed_until_stalled(&feed).await;
                let _ = stalls.send(feed);
            });
            http::Response::new(body)
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut readers = Vec::new();
    for _ in 0..12 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(crate::GET).await;
        client.head().await;
        readers.push(client);
    }
    let mut feeds = Vec::new();
    for _ in &readers {
        feeds.push(within(stalled.recv()).await);
    }
    let small = "GET /small HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(Raw::ask(gateway.address(), small).await.text(), "small");
    assert_eq!(origin.connections(), 1);
}
