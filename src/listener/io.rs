//! A client's socket, with what the guard wants to know about it.
//!
//! It stands below who serves the connection, and below a tunnel after an upgrade. So what must last until the very end
//! is here: the connection's place in the counts, the abort, the lingering close.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::exchange::{Far, FrameMeter, poll_write_gathered};

use super::{sniff::Prefix, state::State, worker::Permit};

/// The socket itself.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that no runtime knows, on its way from one to another.
#[derive(Debug)]
pub(super) enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Takes the socket from its runtime.
    pub(super) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Self::Unix(stream) => stream.into_std().map(Detached::Unix),
        }
    }

    /// Makes the socket known to the current runtime.
    pub(super) fn attach(socket: Detached) -> io::Result<Self> {
        match socket {
            Detached::Tcp(stream) => TcpStream::from_std(stream).map(Self::Tcp),
            Detached::Unix(stream) => UnixStream::from_std(stream).map(Self::Unix),
        }
    }

    /// Small answers leave at once.
    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => poll_write_gathered(Pin::new(stream), cx, slices),
            Self::Unix(stream) => poll_write_gathered(Pin::new(stream), cx, slices),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A client's socket as those above it see it.
#[derive(Debug)]
pub(super) struct Io {
    stream: Stream,
    /// What sniffing read; it is read again.
    prefix: Prefix,
    state: Arc<State>,
    /// Only on HTTP/2.
    frames: Option<Box<FrameMeter>>,
    /// Bytes thrown away by the lingering close.
    discarded: usize,
    /// Counts the connection until it is dropped.
    _permit: Permit,
}

impl Io {
    pub(super) fn new(stream: Stream, state: Arc<State>, permit: Permit) -> Self {
        Self {
            stream,
            prefix: Prefix::default(),
            state,
            frames: None,
            discarded: 0,
            _permit: permit,
        }
    }

    /// Reads on until the first bytes tell the protocol.
    pub(super) fn poll_sniff(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.prefix.is_decided() {
            let mut space = ReadBuf::new(self.prefix.space());
            ready!(self.stream.poll_read(cx, &mut space))?;
            let read = space.filled().len();
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.state.note_read(read);
            self.prefix.advance(read);
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the client see a reset when the socket is dropped, and not an end. A unix socket has none.
    pub(super) fn reset(&self) {
        if let Stream::Tcp(stream) = &self.stream {
            // Where it can't be set, the client is gone.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// What comes behind the preface, which sniffing has read, is HTTP/2.
    pub(super) fn meter_frames(&mut self) {
        let frames = FrameMeter::new(Far::Client);
        self.state.note_amid_head(frames.is_amid_head());
        self.frames = Some(Box::new(frames));
    }

    /// Follows the frames of HTTP/2.
    fn meter(&mut self, read: &[u8]) -> io::Result<()> {
        let Some(frames) = &mut self.frames else {
            return Ok(());
        };
        frames.read(read)?;
        self.state.note_amid_head(frames.is_amid_head());
        Ok(())
    }

    pub(super) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// A client's FIN shows at once, or, behind a request, when the guard lets it.
    fn poll_fin(&self) -> Poll<io::Result<()>> {
        if self.state.hides_fin() {
            // No wake-up is lost: the guard polls the connection again when the request has ended.
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Notes that nothing can be read or written now. A tunnel must be woken by an abort; hyper is
    /// polled by the guard, which is woken itself.
    fn pending<T>(&self, cx: &Context<'_>) -> Poll<io::Result<T>> {
        if self.state.is_released() {
            self.state.driven_by(cx.waker());
            if self.state.is_aborted() {
                return Poll::Ready(Err(aborted()));
            }
        }
        Poll::Pending
    }

    fn written(
        &mut self,
        cx: &Context<'_>,
        slices: &[IoSlice<'_>],
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                self.state.note_written(bytes);
                if let Some(frames) = &mut self.frames {
                    frames.written(slices, bytes);
                }
                result
            }
            Poll::Pending => {
                self.state.note_blocked();
                self.pending(cx)
            }
            error @ Poll::Ready(Err(_)) => error,
        }
    }

    /// Throws away what still comes, so that the client reads our answer instead of a RST: the
    /// kernel sends one when a socket is closed with unread bytes. Behind the last byte that we
    /// are willing to read, only the guard's timer ends it.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 8 << 10];
        while !self.state.is_fin() && !self.state.is_linger_over() {
            if self.discarded >= MAX_DISCARDED {
                return Poll::Pending;
            }
            let mut space = ReadBuf::new(&mut space);
            if ready!(self.stream.poll_read(cx, &mut space)).is_err() || space.filled().is_empty() {
                self.state.note_fin();
            }
            self.discarded += space.filled().len();
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.state.is_aborted() {
            return Poll::Ready(Err(aborted()));
        }
        if me.prefix.replay(buf) {
            return Poll::Ready(Ok(()));
        }
        if me.state.is_fin() {
            return me.poll_fin();
        }
        let before = buf.filled().len();
        match me.stream.poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                let read = &buf.filled()[before..];
                me.state.note_read(read.len());
                Poll::Ready(me.meter(read))
            }
            Poll::Ready(Ok(())) if buf.remaining() > 0 => {
                me.state.note_fin();
                me.poll_fin()
            }
            Poll::Pending => me.pending(cx),
            other => other,
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.state.is_aborted() {
            return Poll::Ready(Err(aborted()));
        }
        let result = self.stream.poll_write(cx, bytes);
        self.written(cx, &[IoSlice::new(bytes)], result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.state.is_aborted() {
            return Poll::Ready(Err(aborted()));
        }
        let result = self.stream.poll_write_vectored(cx, slices);
        self.written(cx, slices, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The socket has no buffer of its own.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// For a tunnel it is the half-close it asks for; else it is the end, hence lingering.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.is_released() || self.state.is_aborted() {
            return self.stream.poll_shutdown(cx);
        }
        if !self.state.is_lingering() {
            ready!(self.stream.poll_shutdown(cx))?;
            self.state.note_lingering();
        }
        self.poll_linger(cx).map(Ok)
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the gateway is stopping")
}

/// How much a lingering close reads.
const MAX_DISCARDED: usize = 1 << 20;
