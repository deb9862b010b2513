//! Requests on their way to the upstream and answers on their way back: whole, streamed, cut, late,
//! repeated, tunnelled.

mod aborts;
mod attacks;
mod bodies;
mod connections;
mod contract;
mod frame;
mod framing;
mod grpc;
mod health;
mod interim;
mod limits;
mod streaming;
mod targets;
mod timeouts;
mod tunnels;

#[path = "../support/mod.rs"]
mod support;

/// A GET without anything besides.
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An answer that says `ok`.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
