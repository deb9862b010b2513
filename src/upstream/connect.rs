//! Opening a connection to a server.

use std::{io, sync::Arc, time::Duration};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    failure,
    meter::{HeadMeter, Metered},
    pool::{Http2Connection, MOST_STREAMS},
    server::Server,
};
use crate::{
    config::ServerUrl,
    exchange::{Body, Gathered, Reason, Retry, UpstreamError},
};

/// An HTTP/1.1 connection, driven on this worker, and the meter of what it reads.
pub(super) async fn http1(
    server: &Arc<Server>,
    limit: Duration,
) -> Result<(http1::SendRequest<Body>, HeadMeter), UpstreamError> {
    within(limit, async {
        match stream(&server.url).await? {
            Stream::Tcp(stream) => handshake_http1(server, stream).await,
            Stream::Unix(stream) => handshake_http1(server, stream).await,
        }
    })
    .await
}

/// An HTTP/2 connection with prior knowledge, driven on this worker.
pub(super) async fn http2(
    server: &Arc<Server>,
    limit: Duration,
) -> Result<Http2Connection, UpstreamError> {
    within(limit, async {
        match stream(&server.url).await? {
            Stream::Tcp(stream) => handshake_http2(server, stream).await,
            Stream::Unix(stream) => handshake_http2(server, stream).await,
        }
    })
    .await
}

async fn within<T>(
    limit: Duration,
    connect: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    timeout(limit, connect)
        .await
        .unwrap_or_else(|_| Err(UpstreamError::new(Reason::ConnectTimeout, Retry::Always)))
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn stream(url: &ServerUrl) -> Result<Stream, UpstreamError> {
    let stream = match url {
        ServerUrl::Tcp { host, port, .. } => tcp(host, *port).await.map(Stream::Tcp),
        ServerUrl::Unix { path, .. } => UnixStream::connect(path).await.map(Stream::Unix),
    };
    stream.map_err(failure::of_connect)
}

/// An address is used as it is; a name is looked up by the system's resolver at every connect.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = match host.parse::<std::net::IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await?,
        Err(_) => TcpStream::connect((host, port)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn handshake_http1<S>(
    server: &Arc<Server>,
    stream: S,
) -> Result<(http1::SendRequest<Body>, HeadMeter), UpstreamError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let meter = HeadMeter::default();
    let stream = Metered::new(stream, meter.clone());
    let (sender, connection) = http1::Builder::new()
        .max_header_size(ANSWER_HEAD_BYTES)
        .handshake(TokioIo::new(Gathered(stream)))
        .await
        .map_err(broken_handshake)?;
    let open = server.metrics.connection_opened();
    tokio::spawn(async move {
        // Its errors reach the request that met them; an idle connection's end is no news.
        let _ = connection.with_upgrades().await;
        drop(open);
    });
    Ok((sender, meter))
}

async fn handshake_http2<S>(
    server: &Arc<Server>,
    stream: S,
) -> Result<Http2Connection, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
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
    tokio::spawn(async move {
        // The peer may change how many streams it takes at any time: copy it out after each poll.
        let _ = std::future::poll_fn(|cx| {
            let polled = std::pin::Pin::new(&mut connection).poll(cx);
            peer_limit.set(connection.current_max_send_streams());
            polled
        })
        .await;
        drop(open);
    });
    Ok(handle)
}

fn broken_handshake(error: hyper::Error) -> UpstreamError {
    UpstreamError::new(Reason::ConnectFailed, Retry::Always).because(error)
}

/// The largest head of an answer.
const ANSWER_HEAD_BYTES: usize = 64 << 10;
const UPSTREAM_STREAM_WINDOW: u32 = 256 << 10;
/// Room for every stream's window: with less, a few clients that do not read would use it up, and all
/// others on the same connection would wait for them.
const UPSTREAM_CONNECTION_WINDOW: u32 = UPSTREAM_STREAM_WINDOW * MOST_STREAMS as u32;
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
