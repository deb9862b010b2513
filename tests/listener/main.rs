//! The listener over real sockets, raw bytes in and out, with a small handler behind it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

mod closing;
mod draining;
mod http2;
mod serving;
mod sockets;
