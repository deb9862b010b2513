//! The socket below a connection, whole or in part.

use std::{
    future::poll_fn,
    io::{self, Cursor, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, ReadHalf},
    net::{TcpStream, UnixStream},
};

use crate::{exchange::http1::Outgoing, telemetry::OpenConnection};

/// A socket to a server.
pub(in super::super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// What is left when another task has taken over the sending.
    Reading(ReadHalf<Box<Stream>>),
}

impl Stream {
    /// Reads what is there already; no system call is made while nothing is.
    pub(super) fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
            // It never waits in a pool.
            Self::Reading(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Reading(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Reading(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Reading(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Sockets hold nothing back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Reading(_) => Poll::Ready(Ok(())),
        }
    }
}

/// The server's side of a tunnel: its socket, and what it sent right behind its 101.
pub(in super::super) struct Switched {
    /// What is left of the request, whose bytes must not be taken for the tunnel's.
    pub(super) unsent: Option<Box<Outgoing>>,
    pub(super) read: Bytes,
    pub(super) stream: Stream,
    /// Counts as a connection until the tunnel ends.
    pub(super) open: Option<OpenConnection>,
}

impl Switched {
    /// Sends the request to its end; only behind that the server's side has switched. With it comes
    /// what counts it as open.
    pub(in super::super) async fn ready(
        mut self,
    ) -> Option<(impl AsyncRead + AsyncWrite + Unpin, Option<OpenConnection>)> {
        if let Some(mut upload) = self.unsent.take() {
            let sent = poll_fn(|cx| upload.poll(&mut self.stream, cx)).await;
            sent.ok()?;
        }
        let (read, write) = tokio::io::split(self.stream);
        let read = Cursor::new(self.read).chain(read);
        Some((tokio::io::join(read, write), self.open))
    }
}
