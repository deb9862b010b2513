//! The client side of HTTP/1.1: one exchange at a time on one connection.
//!
//! hyper's client runs each connection in a task of its own and hands messages over by channels: four
//! wake-ups, two more header maps and a third of the instructions of a whole proxied request. Here
//! the task of the request itself writes the head from the client's fields, reads the answer, and
//! streams its body from the socket as the client takes it. Nothing is read ahead of a slow client.
//!
//! ```text
//! encode    the request's head and its body's framing               bytes out
//! upload    what is still to be sent, and sending it
//! input     the socket's bytes, until they are used                 bytes in
//! head      an answer's head and what it says of its body
//! decode    the body's framing                                      RFC 9112 6 and 7
//! exchange  upload and answer side by side, until the head is there
//! answer    the body, and whether the connection can be used again
//! ```
//!
//! An answer may overtake its request's body. The rest of that body is then sent by a task of its
//! own, since the answer may have to wait for a client that is still sending, and the connection is
//! not used again.

mod answer;
mod decode;
mod encode;
mod exchange;
mod head;
mod input;
mod stream;
mod upload;

pub(super) use answer::Answer;
pub use decode::{Broken, Decoded, Decoder};
pub(super) use encode::{Framing, request_head};
pub(super) use exchange::{Exchange, SendError};
pub use head::{Head, Malformed};
pub(super) use stream::{Stream, Switched};
pub(super) use upload::Upload;

use self::input::Input;
use crate::telemetry::OpenConnection;

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
        !self.input.is_empty() || self.input.has_news(&self.stream)
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
