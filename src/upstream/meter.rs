//! How much a server may send before its answer's head is there.
//!
//! hyper reads interim answers (1xx) as long as they come and hands none of them on, so nothing holds
//! a server back that sends them without end: it would keep the worker, and all that is served
//! there, for itself. So what comes while a head is awaited is counted where it is read.

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

/// Counts from the connection's start, and from each [`start`](Self::start), to the next
/// [`stop`](Self::stop).
#[derive(Clone, Debug, Default)]
pub(super) struct HeadMeter(Arc<AtomicUsize>);

impl HeadMeter {
    /// A head is awaited.
    pub(super) fn start(&self) {
        self.0.store(0, Relaxed);
    }

    /// The head is there.
    pub(super) fn stop(&self) {
        self.0.store(STOPPED, Relaxed);
    }

    fn admit(&self, read: usize) -> io::Result<()> {
        let before = self.0.load(Relaxed);
        if before == STOPPED {
            return Ok(());
        }
        self.0.store(before + read, Relaxed);
        if before + read > MOST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the head never ends",
            ));
        }
        Ok(())
    }
}

/// A server's socket whose reads are counted.
pub(super) struct Metered<S> {
    stream: S,
    meter: HeadMeter,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: HeadMeter) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.meter.admit(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
