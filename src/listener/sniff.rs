//! Which protocol the first bytes of a cleartext connection speak.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use tokio::io::ReadBuf;

use super::{
    io::Io,
    state::{Stage, State},
};
use crate::exchange::{LazyTimer, Protocol};

/// The first bytes of a connection: as many as HTTP/2's preface has, or fewer.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    bytes: [u8; PREFACE.len()],
    read: u8,
    replayed: u8,
}

impl Prefix {
    /// Whether the bytes tell the protocol: all of the preface, or something else.
    pub(super) fn is_decided(&self) -> bool {
        let bytes = self.bytes();
        bytes.len() == PREFACE.len() || !PREFACE.starts_with(bytes)
    }

    /// What the bytes speak, once decided.
    pub(super) fn protocol(&self) -> Protocol {
        if self.bytes() == PREFACE {
            Protocol::Http2
        } else {
            Protocol::Http1
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read == 0
    }

    /// Where more bytes go.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[usize::from(self.read)..]
    }

    /// Bytes have been put into the [`space`](Self::space).
    pub(super) fn advance(&mut self, read: usize) {
        // The space is shorter than 256 bytes.
        self.read = self
            .read
            .saturating_add(u8::try_from(read).unwrap_or(u8::MAX));
    }

    /// Hands out what was sniffed; `false` when all of it has been handed out.
    pub(super) fn replay(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.replayed == self.read {
            return false;
        }
        let rest = &self.bytes()[usize::from(self.replayed)..];
        let bytes = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..bytes]);
        self.replayed += u8::try_from(bytes).unwrap_or(u8::MAX);
        true
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.read)]
    }
}

/// How sniffing ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// The protocol is known.
    Protocol(Protocol),
    /// The client left, or the gateway ends: nothing to tell.
    Gone,
    /// The client began and did not go on in time.
    Timeout,
}

/// Reads until the protocol is known.
pub(super) async fn sniff(io: &mut Io, state: &State, timer: &mut LazyTimer) -> Sniffed {
    poll_fn(|cx| poll(io, state, timer, cx)).await
}

fn poll(io: &mut Io, state: &State, timer: &mut LazyTimer, cx: &mut Context<'_>) -> Poll<Sniffed> {
    state.driven_by(cx.waker());
    match io.poll_sniff(cx) {
        Poll::Ready(Ok(())) => return Poll::Ready(Sniffed::Protocol(io.prefix().protocol())),
        Poll::Ready(Err(error)) => return Poll::Ready(left(io, &error)),
        Poll::Pending => {}
    }
    let silent = io.prefix().is_empty();
    let stage = state.stage();
    if stage == Stage::Aborted || (stage == Stage::Closing && silent) {
        return Poll::Ready(Sniffed::Gone);
    }
    // Browsers open connections ahead of need: one that never spoke did nothing wrong.
    timer.poll_expired(cx).map(|()| {
        if silent {
            Sniffed::Gone
        } else {
            Sniffed::Timeout
        }
    })
}

/// A client that half-closed behind a few bytes gets them parsed, and an answer if they deserve one.
fn left(io: &Io, error: &io::Error) -> Sniffed {
    if error.kind() == io::ErrorKind::UnexpectedEof && !io.prefix().is_empty() {
        return Sniffed::Protocol(Protocol::Http1);
    }
    Sniffed::Gone
}

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(bytes: &[u8]) -> Prefix {
        let mut prefix = Prefix::default();
        prefix.space()[..bytes.len()].copy_from_slice(bytes);
        prefix.advance(bytes.len());
        prefix
    }

    #[test]
    fn the_preface_alone_is_http2() {
        assert_eq!(prefix(PREFACE).protocol(), Protocol::Http2);
        assert!(prefix(PREFACE).is_decided());
        assert_eq!(prefix(b"GET / HTTP/1.1\r\n").protocol(), Protocol::Http1);
    }

    #[test]
    fn a_method_that_begins_like_the_preface_is_http1_as_soon_as_it_differs() {
        assert!(!prefix(b"").is_decided());
        assert!(!prefix(b"P").is_decided());
        assert!(!prefix(b"PR").is_decided());
        assert!(prefix(b"PRO").is_decided());
        assert!(prefix(b"PO").is_decided());
        assert!(!prefix(&PREFACE[..23]).is_decided());
    }

    #[test]
    fn what_was_sniffed_is_replayed_once_however_small_the_buffer() {
        let mut prefix = prefix(b"GET / HT");
        let (mut small, mut large) = ([0; 3], [0; 64]);
        let mut buf = ReadBuf::new(&mut small);
        assert!(prefix.replay(&mut buf));
        assert_eq!(buf.filled(), b"GET");
        let mut buf = ReadBuf::new(&mut large);
        assert!(prefix.replay(&mut buf));
        assert_eq!(buf.filled(), b" / HT");
        assert!(!prefix.replay(&mut buf));
    }
}
