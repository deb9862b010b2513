//! An origin with answers that last: an event stream, a WebSocket, an answer that waits.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{
    body::{Frame, Incoming},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::{BoxBody, Server, chunks, reply, within};

/// Where a stream's frames are put in.
pub type Feed = mpsc::Sender<std::io::Result<Frame<Bytes>>>;

/// An origin that answers `ok`, besides `/events` (a stream that the test feeds), `/ws` (a WebSocket
/// that says everything back) and `/wait` (an answer that comes when the test wants it).
pub struct Streams {
    /// The server.
    pub server: Server,
    feeds: tokio::sync::Mutex<mpsc::UnboundedReceiver<Feed>>,
}

impl Streams {
    /// Serves HTTP/1.1.
    pub async fn start() -> Self {
        let (opened, feeds) = mpsc::unbounded_channel();
        let server = Server::http1(move |request| answer(request, opened.clone())).await;
        Self {
            server,
            feeds: tokio::sync::Mutex::new(feeds),
        }
    }

    /// The feed of the next `/events` or `/wait` that arrives.
    #[track_caller]
    pub fn feed(&self) -> impl Future<Output = Feed> {
        within(async { self.feeds.lock().await.recv().await.expect("it serves") })
    }
}

async fn answer(
    request: Request<Incoming>,
    feeds: mpsc::UnboundedSender<Feed>,
) -> Response<BoxBody> {
    match request.uri().path() {
        "/ws" => websocket(request),
        "/events" => {
            let (feed, body) = chunks();
            let _ = feeds.send(feed);
            let mut response = Response::new(body);
            let events = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, events);
            response
        }
        "/wait" => {
            let (feed, mut body) = chunks();
            let _ = feeds.send(feed);
            let frame = http_body_util::BodyExt::frame(&mut body).await;
            drop(frame);
            reply("waited")
        }
        _ => reply("ok"),
    }
}

fn websocket(mut request: Request<Incoming>) -> Response<BoxBody> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let accept = derive_accept_key(key.expect("a handshake").as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move { echo(upgrade.await.expect("a 101 was sent")).await });
    let mut response = reply("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = accept.parse().expect("Base64 is a field value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

async fn echo(upgraded: Upgraded) {
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// A WebSocket to `/ws` of a gateway.
pub struct WebSocket(WebSocketStream<TcpStream>);

impl WebSocket {
    /// Connects.
    pub async fn connect(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let handshake = within(client_async("ws://gateway.test/ws", stream)).await;
        Self(handshake.expect("a handshake").0)
    }

    /// Sends a message and awaits it back.
    pub async fn echo(&mut self, text: &str) {
        self.0.send(text.into()).await.expect("it is open");
        let message = within(self.0.next()).await.expect("it is open");
        let message = message.expect("a message");
        assert_eq!(message.to_text().expect("text"), text);
    }

    /// Waits until it ends, whichever way.
    pub async fn ended(&mut self) {
        within(async { while let Some(Ok(_)) = self.0.next().await {} }).await;
    }
}

/// An event stream from `/events` of a gateway, and the origin's end of it.
pub struct Events {
    feed: Feed,
    body: Incoming,
    _connection: hyper::client::conn::http1::SendRequest<BoxBody>,
}

impl Events {
    /// Connects.
    pub async fn connect(address: std::net::SocketAddr, origin: &Streams) -> Self {
        let mut connection = super::http1(address).await;
        let request = Request::get("/events").header("host", "gateway.test");
        let request = request.body(super::empty()).expect("a request");
        let (answer, feed) = tokio::join!(within(connection.send_request(request)), origin.feed());
        Self {
            feed,
            body: answer.expect("an answer").into_body(),
            _connection: connection,
        }
    }

    /// Sends an event from the origin and awaits it.
    pub async fn pass(&mut self, event: &str) {
        let frame = Frame::data(Bytes::copy_from_slice(event.as_bytes()));
        self.feed.send(Ok(frame)).await.expect("it is open");
        let frame = within(http_body_util::BodyExt::frame(&mut self.body)).await;
        let frame = frame.expect("it is open").expect("no error");
        assert_eq!(frame.into_data().expect("data"), event);
    }

    /// Waits until it breaks off.
    pub async fn cut(&mut self) {
        let frame = within(http_body_util::BodyExt::frame(&mut self.body)).await;
        assert!(matches!(frame, Some(Err(_))), "{frame:?}");
    }
}

/// Lets the answer of a `/wait` come.
pub async fn release(feed: Feed) {
    let _ = feed.send(Ok(Frame::data(Bytes::from_static(b".")))).await;
}
