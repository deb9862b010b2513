//! Opening a connection to a server.

use std::{future::poll_fn, io, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::task::AtomicWaker;
use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::oneshot,
    time::timeout,
};

use super::{
    failure,
    http1::{self, Stream},
    meter::Metered,
    name::Name,
    pool::{Http2Connection, MOST_STREAMS, PeerLimit},
    server::Server,
};
use crate::{
    config::ServerUrl,
    exchange::{Body, BoxError, Far, FrameMeter, Gathered, Reason, Retry, UpstreamError},
};

/// An HTTP/1.1 connection.
pub(super) async fn http1(
    server: &Arc<Server>,
    limit: Duration,
) -> Result<Box<http1::Connection>, UpstreamError> {
    let stream = within(limit, stream(server)).await?;
    let open = server.metrics.connection_opened();
    Ok(http1::Connection::new(stream, open))
}

/// An HTTP/2 connection with prior knowledge, driven on this worker.
pub(super) async fn http2(
    server: &Arc<Server>,
    limit: Duration,
) -> Result<Http2Connection, UpstreamError> {
    within(limit, async {
        let stream = stream(server).await?;
        handshake_http2(server, stream).await
    })
    .await
}

/// Bounds what belongs to connecting.
pub(super) async fn within<T>(
    limit: Duration,
    connect: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    timeout(limit, connect)
        .await
        .unwrap_or_else(|_| Err(UpstreamError::new(Reason::ConnectTimeout, Retry::Always)))
}

async fn stream(server: &Server) -> Result<Stream, UpstreamError> {
    let stream = match &server.url {
        ServerUrl::Tcp { host, port, .. } => {
            let name = &server.pool.name;
            tcp(name, host, *port).await.map(Stream::Tcp)
        }
        ServerUrl::Unix { path, .. } => UnixStream::connect(path).await.map(Stream::Unix),
    };
    stream.map_err(failure::of_connect)
}

/// An address is used as it is; a name is looked up, and its addresses are tried in turn.
async fn tcp(name: &Arc<Name>, host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await?,
        Err(_) => TcpStream::connect(&*name.resolve(host, port).await?).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn handshake_http2(
    server: &Arc<Server>,
    stream: Stream,
) -> Result<Http2Connection, UpstreamError> {
    let stream = Metered::new(stream, FrameMeter::new(Far::Server));
    let tasks = Tasks::default();
    let (sender, connection) = http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        // None until the peer's SETTINGS say how many it takes.
        .initial_max_send_streams(0)
        .initial_stream_window_size(UPSTREAM_STREAM_WINDOW)
        .initial_connection_window_size(UPSTREAM_CONNECTION_WINDOW)
        .max_header_list_size(ANSWER_HEAD_BYTES as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(Gathered(stream)))
        .await
        .map_err(broken_handshake)?;
    let (handle, peer_limit) = Http2Connection::new(sender);
    let open = server.metrics.connection_opened();
    let (settled, settings) = oneshot::channel();
    tokio::spawn(async move {
        drive(connection, peer_limit, tasks, settled).await;
        drop(open);
    });
    // Before that, requests beyond the peer's limit would wait inside hyper for each other.
    settings.await.map_err(broken_handshake)?;
    Ok(handle)
}

/// Runs a connection to its end and copies out how many streams its peer takes: when the SETTINGS
/// come, which `settled` is told, and with every request, since the peer may change it.
async fn drive<S>(
    connection: http2::Connection<TokioIo<S>, Body, Tasks>,
    peer_limit: PeerLimit,
    tasks: Tasks,
    settled: oneshot::Sender<()>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut connection = pin!(connection);
    let mut waiting = Some(settled);
    // Its errors reach the requests that met them.
    let _ = poll_fn(|cx| {
        if waiting.is_some() {
            tasks.0.register(cx.waker());
        }
        let polled = connection.as_mut().poll(cx);
        let streams = connection.current_max_send_streams();
        peer_limit.set(streams);
        if let Some(settled) = waiting.take_if(|_| streams > 0) {
            let _ = settled.send(());
        }
        polled
    })
    .await;
}

/// Spawns hyper's tasks of one connection. One of them reads the peer's SETTINGS and tells nobody,
/// so whoever waits for them is woken behind each poll.
#[derive(Clone, Default)]
struct Tasks(Arc<AtomicWaker>);

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let waiting = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                waiting.wake();
                polled
            })
            .await;
        });
    }
}

fn broken_handshake(error: impl Into<BoxError>) -> UpstreamError {
    UpstreamError::new(Reason::ConnectFailed, Retry::Always).because(error)
}

/// The largest head of an answer.
const ANSWER_HEAD_BYTES: usize = 64 << 10;
/// What a slow client lets pile up of its answer.
const UPSTREAM_STREAM_WINDOW: u32 = 128 << 10;
/// Room for all streams at once: clients of one connection that stop reading must not stop others.
const UPSTREAM_CONNECTION_WINDOW: u32 = MOST_STREAMS as u32 * UPSTREAM_STREAM_WINDOW;
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
