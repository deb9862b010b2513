//! hyper's own clients.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, request::Builder};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{http1 as h1, http2 as h2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{BoxBody, full, within};

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Sent {
    /// The head.
    pub head: http::response::Parts,
    /// The body.
    pub body: Bytes,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

impl Sent {
    /// The status as a number.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// A header field as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// The reason in the gateway's envelope; empty when it is no envelope.
    pub fn reason(&self) -> String {
        let envelope: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let reason = envelope.and_then(|it| Some(it["error"]["reason"].as_str()?.to_owned()));
        reason.unwrap_or_default()
    }
}

/// An HTTP/1.1 connection.
pub async fn http1(address: SocketAddr) -> h1::SendRequest<BoxBody> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (sender, connection) = h1::handshake(TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection.with_upgrades());
    sender
}

/// An HTTP/2 connection with prior knowledge.
pub async fn http2(address: SocketAddr) -> h2::SendRequest<BoxBody> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (sender, connection) = h2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    sender
}

/// The beginning of a request to `http://gateway.test`; HTTP/1.1 needs a `host` besides.
pub fn request(method: &str, path: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://gateway.test{path}"))
}

/// No body.
pub fn empty() -> BoxBody {
    full("")
}

/// A body of bytes.
pub fn body(bytes: impl Into<Bytes>) -> BoxBody {
    full(bytes)
}

/// Reads an answer to its end.
#[track_caller]
pub fn read(response: Response<Incoming>) -> impl Future<Output = Sent> {
    within(async move {
        let (head, body) = response.into_parts();
        let collected = body.collect().await.expect("the body ends well");
        let trailers = collected.trailers().cloned();
        Sent {
            head,
            body: collected.to_bytes(),
            trailers,
        }
    })
}
