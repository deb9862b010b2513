//! How much a server may send before its answer's head is there.
//!
//! hyper reads interim answers (1xx) as long as they come and hands none of them on, so nothing holds
//! a server back that sends them without end: it would keep the worker, and all that is served
//! there, for itself. So what comes while a head is awaited is counted where it is read. On a
//! connection of HTTP/2, which many exchanges share, frames are counted instead.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::exchange::FrameMeter;

/// Counts what is read from the connection's start, and from each [`start`](Self::start), to the next
/// [`stop`](Self::stop); and all that is written.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadMeter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: AtomicUsize,
    written: AtomicUsize,
}

impl HeadMeter {
    /// A head is awaited.
    pub(super) fn start(&self) {
        self.0.read.store(0, Relaxed);
    }

    /// The head is there.
    pub(super) fn stop(&self) {
        self.0.read.store(STOPPED, Relaxed);
    }

    /// What the server has taken so far; it wraps round.
    pub(super) fn written(&self) -> usize {
        self.0.written.load(Relaxed)
    }

    fn admit(&self, read: usize) -> io::Result<()> {
        let before = self.0.read.load(Relaxed);
        if before == STOPPED {
            return Ok(());
        }
        self.0.read.store(before + read, Relaxed);
        if before + read > MOST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the head never ends",
            ));
        }
        Ok(())
    }
}

/// What is told of a server's bytes.
pub(super) trait Meter {
    /// An error ends the connection.
    fn read(&mut self, bytes: &[u8]) -> io::Result<()>;

    fn written(&mut self, slices: &[IoSlice<'_>], taken: usize);
}

impl Meter for HeadMeter {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.admit(bytes.len())
    }

    fn written(&mut self, _: &[IoSlice<'_>], taken: usize) {
        // One writer, so no locked instruction.
        let written = &self.0.written;
        written.store(written.load(Relaxed).wrapping_add(taken), Relaxed);
    }
}

impl Meter for FrameMeter {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.read(bytes)
    }

    fn written(&mut self, slices: &[IoSlice<'_>], taken: usize) {
        self.written(slices, taken);
    }
}

/// A server's socket whose bytes are metered.
pub(super) struct Metered<S, M> {
    stream: S,
    meter: M,
}

impl<S, M> Metered<S, M> {
    pub(super) fn new(stream: S, meter: M) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin, M: Meter + Unpin> AsyncRead for Metered<S, M> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut me.stream).poll_read(cx, buffer))?;
        Poll::Ready(me.meter.read(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin, M: Meter + Unpin> AsyncWrite for Metered<S, M> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let taken = ready!(Pin::new(&mut me.stream).poll_write(cx, bytes))?;
        me.meter.written(&[IoSlice::new(bytes)], taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let taken = ready!(Pin::new(&mut me.stream).poll_write_vectored(cx, slices))?;
        me.meter.written(slices, taken);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Enough for the largest head behind some interim answers, and for the beginning of a body that
/// was read along with it.
const MOST: usize = 1 << 20;

const STOPPED: usize = usize::MAX;
