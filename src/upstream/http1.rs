//! The client side of HTTP/1.1: one exchange at a time on one connection.
//!
//! hyper's client runs each connection in a task of its own and hands messages over by channels: four
//! wake-ups, two more header maps and a third of the instructions of a whole proxied request. Here
//! the task of the request itself writes the head from the client's fields, reads the answer, and
//! streams its body from the socket as the client takes it. Nothing is read ahead of a slow client.
//!
//! ```text
//! encode    the request's head and its body's framing               bytes out
//! head      an answer's head and what it says of its body           bytes in
//! exchange  request and answer side by side, until the head is there
//! answer    the body, and whether the connection can be used again
//! rest      what is left of a request behind its answer
//! ```
//!
//! An answer may overtake its request's body. The rest of that body is then sent by a task of its
//! own, since the answer may have to wait for a client that is still sending, and the connection is
//! not used again.

mod answer;
mod encode;
mod exchange;
mod head;
mod rest;
mod stream;

pub(super) use answer::Answer;
pub(super) use encode::{interim_head, request_head};
pub(super) use exchange::{Exchange, SendError};
pub use head::{Head, Malformed};
pub(super) use stream::{Stream, Switched};

use std::io;

use crate::{exchange::http1::Input, telemetry::OpenConnection};

/// A connection to a server, between two exchanges or inside one.
pub(super) struct Connection {
    stream: Stream,
    input: Input,
    /// What is to be sent; kept for its room.
    output: Vec<u8>,
    /// Counts it as open; with the rest of a request whose answer has come already.
    open: Option<OpenConnection>,
}

impl Connection {
    pub(super) fn new(stream: Stream, open: OpenConnection) -> Box<Self> {
        Box::new(Self {
            stream,
            input: Input::default(),
            output: Vec::new(),
            open: Some(open),
        })
    }

    /// The head of the next request is to be written here.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether it can't serve another request: it was closed, or bytes have come that nobody asked
    /// for and that would answer the next request. Costs no system call while nothing has come.
    pub(super) fn is_stale(&mut self) -> bool {
        !self.input.is_empty() || self.has_news()
    }

    /// Whether anything has come, the server's end included. Asks no runtime, so that no used-up budget
    /// makes a closed connection look open.
    fn has_news(&mut self) -> bool {
        self.input.make_room();
        let read = self.stream.try_read(&mut self.input.buffer);
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Gives back what a large exchange took, before it waits in a pool.
    pub(super) fn rest(&mut self) {
        self.input.rest();
        if self.output.capacity() > KEPT_OUTPUT {
            self.output = Vec::new();
        }
    }
}

const KEPT_OUTPUT: usize = 4 << 10;
