//! Bytes from a server that are not used yet.

use std::{
    future::Future,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::stream::Stream;

/// A buffer that grows for servers that fill it, and shares what it holds without copying.
pub(super) struct Input {
    pub(super) buffer: BytesMut,
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
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads once; 0 is the server's end.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let free = self.buffer.capacity() - self.buffer.len();
        let read = ready!(pin!(stream.read_buf(&mut self.buffer)).poll(cx))?;
        if read == free {
            self.room = (self.room * 2).min(LARGE);
        } else if read < self.room / 4 {
            // What is read pins the whole buffer until the client has taken it.
            self.room = (self.room / 2).max(SMALL);
        }
        Poll::Ready(Ok(read))
    }

    /// Whether anything has come, the server's end included. Asks no runtime, so that no used-up budget
    /// makes a closed connection look open.
    pub(super) fn has_news(&mut self, stream: &Stream) -> bool {
        self.make_room();
        let read = stream.try_read(&mut self.buffer);
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// What is left of the buffer is used up first: a new one for each small answer would cost more
    /// than the answer.
    fn make_room(&mut self) {
        let free = self.buffer.capacity() - self.buffer.len();
        let enough = if self.room == SMALL { LEAST } else { self.room };
        if free < enough {
            self.buffer.reserve(self.room);
        }
    }

    /// The next bytes, without a copy.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        self.buffer.split_to(length).freeze()
    }

    /// Gives a grown buffer back.
    pub(super) fn rest(&mut self) {
        self.room = SMALL;
        if self.buffer.is_empty() && self.buffer.capacity() > SMALL {
            self.buffer = BytesMut::new();
        }
    }
}

const SMALL: usize = 8 << 10;
const LEAST: usize = 2 << 10;
/// How much of an answer is read at once at most.
const LARGE: usize = 128 << 10;
