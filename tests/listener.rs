//! The listener over real sockets, raw bytes in and out, with a small handler behind it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "listener/support.rs"]
mod support;

#[path = "listener/closing.rs"]
mod closing;
#[path = "listener/draining.rs"]
mod draining;
#[path = "listener/http2.rs"]
mod http2;
#[path = "listener/serving.rs"]
mod serving;
#[path = "listener/sockets.rs"]
mod sockets;
