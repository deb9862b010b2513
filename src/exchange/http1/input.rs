//! Bytes from a socket that are not used yet.

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// A buffer that grows for sockets that fill it, and shares what it holds without copying.
#[derive(Debug)]
pub struct Input {
    /// What has come.
    pub buffer: BytesMut,
    /// How much the next read has room for at least.
    room: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            room: SMALL,
        }
    }
}

impl Input {
    /// Whether all that has come is used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads once; 0 is the other side's end.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let free = self.buffer.capacity() - self.buffer.len();
        let read = ready!(pin!(stream.read_buf(&mut self.buffer)).poll(cx))?;
        if read == free {
            self.room = (self.room * 2).min(LARGE);
        } else if read < self.room / 4 {
            // What is read pins the whole buffer until the other side has taken it.
            self.room = (self.room / 2).max(SMALL);
        }
        Poll::Ready(Ok(read))
    }

    /// Reads once into an empty buffer, which has no room until something comes and then no more than
    /// that: what waits for a long time costs nothing, and what is kept of a head pins only the head.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn poll_first<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); FIRST];
        let mut space = ReadBuf::uninit(&mut space);
        ready!(Pin::new(stream).poll_read(cx, &mut space))?;
        self.buffer = BytesMut::from(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    }

    /// What is left of the buffer is used up first: a new one for each small answer would cost more
    /// than the answer.
    pub fn make_room(&mut self) {
        let free = self.buffer.capacity() - self.buffer.len();
        let enough = if self.room == SMALL { LEAST } else { self.room };
        if free < enough {
            self.buffer.reserve(self.room);
        }
    }

    /// The next bytes, without a copy.
    pub fn take(&mut self, length: usize) -> Bytes {
        self.buffer.split_to(length).freeze()
    }

    /// Between two messages: an empty buffer has no room, and what stands in a grown one pins no more
    /// than itself.
    pub fn settle(&mut self) {
        if self.buffer.is_empty() {
            *self = Self::default();
        } else if self.room > SMALL {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.room = SMALL;
        }
    }

    /// Gives a grown buffer back.
    pub fn rest(&mut self) {
        self.room = SMALL;
        if self.buffer.is_empty() && self.buffer.capacity() > SMALL {
            self.buffer = BytesMut::new();
        }
    }
}

/// How much a first read takes in.
const FIRST: usize = 4 << 10;
const SMALL: usize = 8 << 10;
const LEAST: usize = 2 << 10;
/// How much of a body is read at once at most.
const LARGE: usize = 128 << 10;
