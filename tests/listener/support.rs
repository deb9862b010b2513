//! A listener in front of a small handler, and raw clients.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tollgate::{
    config::{Address, Server},
    exchange::{Body, BodyError, BringsFields, Connection, Handler, InFlight, Reason, Upgrade},
    listener::{Listeners, Observer},
};

/// Answers by path, and tells what became of requests.
pub(crate) struct Scripted {
    /// `/gate` answers when it gets one.
    pub(crate) gate: Semaphore,
    pub(crate) begun: AtomicUsize,
    /// Bytes of bodies that were asked for.
    pub(crate) pulled: AtomicUsize,
    /// Requests whose future was dropped before it answered.
    pub(crate) aborted: AtomicUsize,
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            gate: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            pulled: AtomicUsize::new(0),
            aborted: AtomicUsize::new(0),
        }
    }
}

/// Counts an abort unless the answer was made.
struct Abort<'a>(&'a Scripted, bool);

impl Drop for Abort<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.aborted.fetch_add(1, SeqCst);
        }
    }
}

/// The handle that [`Listeners::start`] takes.
pub(crate) struct Front(pub Arc<Scripted>);

impl BringsFields for Counted {}

impl Handler for Front {
    type Body = Counted;

    fn handle(
        &self,
        request: Request<Body>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Result<Response<Counted>, Infallible>> + Send + Unpin + 'static + use<>
    {
        let script = Arc::clone(&self.0);
        let connection = Arc::clone(connection);
        let in_flight = connection.begin();
        script.begun.fetch_add(1, SeqCst);
        Box::pin(async move {
            let mut abort = Abort(&script, false);
            let mut response = answer(&script, request, &connection).await;
            abort.1 = true;
            if connection.is_draining()
                && connection.protocol == tollgate::exchange::Protocol::Http1
            {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            drop(abort);
            Ok(response.map(|body| Counted {
                body,
                script,
                _in_flight: in_flight,
            }))
        })
    }
}

async fn answer(
    script: &Scripted,
    mut request: Request<Body>,
    connection: &Connection,
) -> Response<Body> {
    match request.uri().path() {
        "/hang" => pending().await,
        "/gate" => {
            script.gate.acquire().await.unwrap().forget();
            Response::new(Body::full("gated"))
        }
        "/refuse" => Response::builder()
            .status(StatusCode::PAYLOAD_TOO_LARGE)
            .header(header::CONNECTION, "close")
            .body(Body::full("too large"))
            .unwrap(),
        "/echo" => match request.into_body().collect().await {
            Ok(body) => Response::new(Body::full(body.to_bytes())),
            Err(_) => Response::builder()
                .status(StatusCode::BAD_REQUEST)
                .body(Body::empty())
                .unwrap(),
        },
        "/big" => Response::new(Body::boxed(Zeros(BIG))),
        "/one-frame" => Response::new(Body::full(vec![0_u8; ONE_FRAME])),
        "/silent-body" => Response::new(Body::boxed(Silent)),
        "/worker" => Response::new(Body::full(connection.worker.to_string())),
        "/upgrade" => {
            let upgrade = request.extensions_mut().remove::<Upgrade>().unwrap();
            tokio::spawn(async move {
                let Ok(upgraded) = upgrade.take().unwrap().await else {
                    return;
                };
                let (mut read, mut write) = tokio::io::split(upgraded);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
            });
            Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, "echo")
                .body(Body::empty())
                .unwrap()
        }
        _ => Response::new(Body::full("ok")),
    }
}

/// What `/big` answers.
pub(crate) const BIG: usize = 64 << 20;
/// What `/one-frame` answers at once.
pub(crate) const ONE_FRAME: usize = 256 << 10;

struct Zeros(usize);

impl http_body::Body for Zeros {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        const CHUNK: &[u8] = &[0; 16 << 10];
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= CHUNK.len();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(CHUNK)))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0 as u64)
    }
}

/// A body of an upstream that says nothing.
struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Pending
    }
}

/// An answer's body with the request's permit.
pub(crate) struct Counted {
    body: Body,
    script: Arc<Scripted>,
    _in_flight: InFlight,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.script.pulled.fetch_add(bytes, SeqCst);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// What the listener told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) opened: AtomicUsize,
    pub(crate) closed: AtomicUsize,
    pub(crate) refused: Mutex<Vec<Reason>>,
    pub(crate) malformed: Mutex<Vec<(Reason, String)>>,
}

impl Observer for Told {
    fn opened(&self, _: &str) {
        self.opened.fetch_add(1, SeqCst);
    }

    fn closed(&self, _: &str) {
        self.closed.fetch_add(1, SeqCst);
    }

    fn refused(&self, _: &str, reason: Reason) {
        self.refused.lock().unwrap().push(reason);
    }

    fn malformed(&self, _: &Connection, reason: Reason, detail: &dyn std::fmt::Display) {
        let event = (reason, detail.to_string());
        self.malformed.lock().unwrap().push(event);
    }
}

impl Told {
    pub(crate) fn reasons(&self) -> Vec<Reason> {
        let events = self.malformed.lock().unwrap();
        events.iter().map(|(reason, _)| *reason).collect()
    }

    /// Waits until a connection was opened and all are closed, and returns the events.
    pub(crate) fn after_all_closed(&self) -> Vec<Reason> {
        eventually("every connection is closed", || {
            let opened = self.opened.load(SeqCst);
            opened > 0 && opened == self.closed.load(SeqCst)
        });
        self.reasons()
    }
}

/// A running listener.
pub(crate) struct Running {
    pub(crate) listeners: Option<Listeners>,
    pub(crate) script: Arc<Scripted>,
    pub(crate) told: Arc<Told>,
    pub(crate) address: SocketAddr,
}

/// Starts a listener on a free port.
pub(crate) fn start(change: impl FnOnce(&mut Server)) -> Running {
    let mut config = config();
    change(&mut config);
    let (script, told) = (Arc::new(Scripted::default()), Arc::new(Told::default()));
    let front = Arc::new(Front(Arc::clone(&script)));
    let listeners = Listeners::start(&config, front, Arc::clone(&told) as _).unwrap();
    let tcp = listeners
        .addresses()
        .into_iter()
        .find_map(|address| match address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        });
    Running {
        listeners: Some(listeners),
        script,
        told,
        address: tcp.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
    }
}

pub(crate) fn config() -> Server {
    Server {
        listen: vec![loopback()],
        workers: Some(1.try_into().unwrap()),
        ..Server::default()
    }
}

/// A free loopback port.
pub(crate) fn loopback() -> Address {
    Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

impl Running {
    pub(crate) fn listeners(&self) -> &Listeners {
        self.listeners.as_ref().unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn wait_begun(&self, count: usize) {
        eventually("requests have begun", || {
            self.script.begun.load(SeqCst) >= count
        });
    }

    pub(crate) fn aborted(&self) -> usize {
        self.script.aborted.load(SeqCst)
    }

    /// Lets one `/gate` answer.
    pub(crate) fn let_through(&self) {
        self.script.gate.add_permits(1);
    }

    pub(crate) fn connections(&self) -> usize {
        let workers = self.listeners().workers();
        workers.iter().map(|worker| worker.connections).sum()
    }

    /// Blocks until the drain has ended, and tells how long it took.
    pub(crate) fn drained(&self) -> Duration {
        let start = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.listeners().drained())
                .await
                .expect("the drain ends");
        });
        start.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(listeners) = self.listeners.take() {
            listeners.stop();
        }
    }
}

/// A raw client. Reads fail after [`PATIENCE`].
pub(crate) struct Client(pub TcpStream);

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.write_all(bytes.as_ref()).unwrap();
        self
    }

    pub(crate) fn get(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
    }

    /// Reads one answer with a Content-Length.
    pub(crate) fn answer(&mut self) -> (String, Vec<u8>) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            let read = self.0.read(&mut byte).expect("an answer's head");
            assert_eq!(
                read,
                1,
                "closed within {:?}",
                String::from_utf8_lossy(&head)
            );
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("an answer's body");
        (head, body)
    }

    /// Reads to the end and returns it; RST counts as an end.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let mut space = [0; 4096];
        loop {
            match self.0.read(&mut space) {
                Ok(0) => break,
                Ok(read) => rest.extend_from_slice(&space[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the connection stays open: {error}"),
            }
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Whether the other side has not closed yet.
    pub(crate) fn is_open(&mut self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let open = matches!(self.0.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).unwrap();
        open
    }

    pub(crate) fn finish(&mut self) -> &mut Self {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
        self
    }
}

/// Waits for another thread to get somewhere.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How long anything may take that should happen; a loaded machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// HTTP/2, frame by frame.
pub(crate) mod h2 {
    use super::{Client, Read, Running};

    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const CONTINUATION: u8 = 9;

    pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[derive(Debug)]
    pub(crate) struct Received {
        pub(crate) kind: u8,
        pub(crate) stream: u32,
        pub(crate) payload: Vec<u8>,
    }

    pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// HEADERS with END_STREAM and without END_HEADERS: its CONTINUATION is to come.
    pub(crate) fn beginning(stream: u32) -> Vec<u8> {
        frame(HEADERS, 0x1, stream, &[0x82, 0x86])
    }

    /// A GET: HEADERS with END_STREAM and END_HEADERS.
    pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
        // Indexed :method GET and :scheme http; literals for :authority and :path.
        let mut block = vec![0x82, 0x86, 0x01, 1, b'a', 0x04, path.len() as u8];
        block.extend(path.as_bytes());
        frame(HEADERS, 0x5, stream, &block)
    }

    pub(crate) fn reset(stream: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())
    }

    /// SETTINGS_INITIAL_WINDOW_SIZE.
    pub(crate) fn window(size: u32) -> Vec<u8> {
        let mut payload = vec![0, 4];
        payload.extend(size.to_be_bytes());
        frame(SETTINGS, 0, 0, &payload)
    }

    /// WINDOW_UPDATE of a stream, or of the connection (0).
    pub(crate) fn widen(stream: u32, size: u32) -> Vec<u8> {
        frame(8, 0, stream, &size.to_be_bytes())
    }

    /// Connects and shakes hands.
    pub(crate) fn connect(running: &Running, settings: &[u8]) -> Client {
        let mut client = running.connect();
        client.send([PREFACE, settings, &frame(SETTINGS, 1, 0, &[])].concat());
        client
    }

    pub(crate) fn plain(running: &Running) -> Client {
        connect(running, &frame(SETTINGS, 0, 0, &[]))
    }

    /// The next frame; `None` at the end. It answers PINGs, which GOAWAY waits for.
    pub(crate) fn next(client: &mut Client) -> Option<Received> {
        loop {
            let mut head = [0; 9];
            client.0.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            client.0.read_exact(&mut payload).ok()?;
            if head[3] == PING && head[4] == 0 {
                client.send(frame(PING, 1, 0, &payload));
                continue;
            }
            return Some(Received {
                kind: head[3],
                stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
                payload,
            });
        }
    }

    /// Reads on until a frame of this kind.
    pub(crate) fn until(client: &mut Client, kind: u8) -> Received {
        loop {
            let Some(frame) = next(client) else {
                panic!("no frame of kind {kind} before the end")
            };
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The body of a short answer.
    pub(crate) fn body(client: &mut Client) -> Vec<u8> {
        until(client, DATA).payload
    }

    /// The error code of a GOAWAY or RST_STREAM.
    pub(crate) fn code(frame: &Received) -> u32 {
        let at = if frame.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap())
    }
}
