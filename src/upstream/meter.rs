//! How many frames an HTTP/2 server may send: counted where they are read.
//!
//! hyper takes in what a peer sends as long as it comes, whether it serves an exchange or not, so
//! nothing else holds a server back that sends frames without end: it would keep the worker, and all
//! that is served there, for itself.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::exchange::FrameMeter;

/// A server's socket whose frames are metered.
pub(super) struct Metered<S> {
    stream: S,
    meter: FrameMeter,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: FrameMeter) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
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
