//! What the benchmarks share.

use std::sync::Arc;

use tollgate::exchange::{
    Clock, Connection, Context, ContextParts, Peer, Protocol, RequestHead, RequestId, TraceContext,
};

/// The record of a request with this head, from somebody on this machine.
pub(crate) fn context(head: RequestHead) -> Context {
    let connection = Connection::new(0, "bench".into(), Peer::Unix, false, Protocol::Http1);
    let clock = Clock::system();
    let started_at = clock.wall();
    Context::new(ContextParts {
        connection: Arc::new(connection),
        id: RequestId::generate(started_at),
        trace: TraceContext::generate(),
        client: Peer::Unix.ip(),
        forwarded_for: None,
        scheme: "http",
        forwarded_host: None,
        head,
        clock,
        started_at,
    })
}
