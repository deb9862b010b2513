//! Requests on their way to the upstream and answers on their way back: whole, streamed, cut, late,
//! repeated, tunnelled.

#[path = "forwarding/aborts.rs"]
mod aborts;
#[path = "forwarding/bodies.rs"]
mod bodies;
#[path = "forwarding/connections.rs"]
mod connections;
#[path = "forwarding/grpc.rs"]
mod grpc;
#[path = "forwarding/health.rs"]
mod health;
#[path = "forwarding/limits.rs"]
mod limits;
#[path = "forwarding/streaming.rs"]
mod streaming;
#[path = "forwarding/targets.rs"]
mod targets;
#[path = "forwarding/timeouts.rs"]
mod timeouts;
#[path = "forwarding/tunnels.rs"]
mod tunnels;

mod support;

/// A GET without anything besides.
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An answer that says `ok`.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
