//! After a 101: bytes both ways until one side ends, neither has sent for too long, or the tunnel has
//! lasted for as long as it may.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    sync::oneshot::Receiver,
    time::{sleep, timeout},
};

use super::http1;
use crate::{
    exchange::{Clock, Reason, Tunnel, TunnelEnd, Upgraded},
    telemetry::OpenConnection,
};

/// Whether the server switches to a protocol that the client named. Names may carry a version
/// (RFC 9110 7.8) and are compared without regard to case.
pub(super) fn was_asked_for(switched: &HeaderValue, asked: Option<&HeaderValue>) -> bool {
    let Some(asked) = asked else { return false };
    asked
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(switched.as_bytes()))
}

/// How long a tunnel may last.
pub(super) struct Lifetime {
    /// Without a byte from either side.
    pub(super) idle: Option<Duration>,
    /// From the 101 on, however much passes.
    pub(super) whole: Option<Duration>,
    /// Until a moment on the clock, such as the expiry of the caller's credential.
    pub(super) until: Option<(Clock, Duration)>,
}

/// The tunnel between two sides that are about to switch. What it holds, such as the permit of a
/// request under way, it holds until it ends.
pub(super) fn open(
    client: Receiver<Upgraded>,
    server: http1::Switched,
    lifetime: Lifetime,
    held: impl Send + 'static,
) -> Tunnel {
    Tunnel::new(async move {
        let end = run(client, server, lifetime).await;
        drop(held);
        end
    })
}

async fn run(client: Receiver<Upgraded>, server: http1::Switched, lifetime: Lifetime) -> TunnelEnd {
    let Lifetime { idle, whole, until } = lifetime;
    let read = Read::default();
    // From the 101 on: a side that is slow to switch must not hold the other one for longer.
    let passed = tokio::select! {
        passed = pass(client, server, idle, &read) => passed,
        () = age(whole) => Err(Reason::TunnelLifetime),
        () = moment(until) => Err(Reason::TunnelExpired),
    };
    TunnelEnd {
        bytes_in: read.client.load(Ordering::Relaxed),
        bytes_out: read.server.load(Ordering::Relaxed),
        complete: passed == Ok(true),
        cut: passed.err(),
    }
}

/// How much was read from either side.
#[derive(Default)]
struct Read {
    client: Arc<AtomicU64>,
    server: Arc<AtomicU64>,
}

/// Copies both ways until the sides end; tells whether both closed in order.
async fn pass(
    client: Receiver<Upgraded>,
    server: http1::Switched,
    idle: Option<Duration>,
    read: &Read,
) -> Result<bool, Reason> {
    let switched = both(client, server);
    // A side has switched when its last message is over, so a request's body that does not end would
    // hold the other side for ever.
    let switched = match idle {
        Some(idle) => timeout(idle, switched)
            .await
            .map_err(|_| Reason::TunnelIdle)?,
        None => switched.await,
    };
    let Some((client, (server, _open))) = switched else {
        return Ok(false);
    };
    let mut client = Counted::new(client, &read.client);
    let mut server = Counted::new(server, &read.server);
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut server) => Ok(copied.is_ok()),
        () = silence(&read.client, &read.server, idle) => Err(Reason::TunnelIdle),
    }
}

/// Both sides once they have switched; `None` when one is lost.
async fn both(
    client: Receiver<Upgraded>,
    server: http1::Switched,
) -> Option<(
    Upgraded,
    (impl AsyncRead + AsyncWrite + Unpin, Option<OpenConnection>),
)> {
    let (client, server) = tokio::join!(client, server.ready());
    client.ok().zip(server)
}

/// Ends when the tunnel has lasted for as long as it may.
async fn age(whole: Option<Duration>) {
    match whole {
        Some(whole) => sleep(whole).await,
        None => std::future::pending().await,
    }
}

/// Ends when the moment has come.
async fn moment(until: Option<(Clock, Duration)>) {
    match until {
        Some((clock, until)) => clock.sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Ends when no byte has come from either side for a whole period.
async fn silence(one: &AtomicU64, other: &AtomicU64, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    let read = || (one.load(Ordering::Relaxed), other.load(Ordering::Relaxed));
    let mut before = read();
    loop {
        sleep(idle).await;
        let now = read();
        if now == before {
            return;
        }
        before = now;
    }
}

/// Counts what is read.
struct Counted<S> {
    stream: S,
    read: Arc<AtomicU64>,
}

impl<S> Counted<S> {
    fn new(stream: S, read: &Arc<AtomicU64>) -> Self {
        Self {
            stream,
            read: Arc::clone(read),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_asked_for_by_name_whatever_its_case() {
        let asked = HeaderValue::from_static("h2c, WebSocket");
        let switched = HeaderValue::from_static("websocket");
        assert!(was_asked_for(&switched, Some(&asked)));
        assert!(!was_asked_for(
            &HeaderValue::from_static("tls"),
            Some(&asked)
        ));
        assert!(!was_asked_for(&switched, None));
    }
}
