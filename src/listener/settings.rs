//! From `[server]` to what one connection needs.

use std::net::IpAddr;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use ipnet::IpNet;

use crate::config::{Http2, Limits, Server};

/// The settings of connections; each keeps those it was opened with.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) http1: http1::Builder,
    pub(super) http2: Http2,
    trusted: Vec<IpNet>,
}

impl Settings {
    pub(super) fn new(config: &Server) -> Self {
        Self {
            limits: config.limits.clone(),
            http1: http1_builder(&config.limits),
            http2: config.http2.clone(),
            trusted: config.trusted_proxies.clone(),
        }
    }

    /// Whether the peer is a proxy of ours, behind which are many clients.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&peer))
    }

    /// hyper's builder, with an executor that belongs to one connection.
    pub(super) fn http2<E: Clone>(&self, executor: E) -> http2::Builder<E> {
        let mut builder = http2::Builder::new(executor);
        builder
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(self.http2.stream_window)
            .initial_connection_window_size(self.http2.connection_window)
            .max_send_buf_size(self.http2.send_buffer)
            .max_concurrent_streams(self.http2.max_streams)
            .max_pending_accept_reset_streams(self.http2.max_resets)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .max_header_list_size(u32::try_from(self.header_list()).unwrap_or(u32::MAX))
            .keep_alive_interval(self.http2.ping_interval)
            .keep_alive_timeout(self.http2.ping_timeout);
        builder
    }

    fn header_list(&self) -> usize {
        self.http2.header_list.min(self.limits.header_bytes)
    }
}

/// Without hyper's `header_read_timeout` (the guard has it), hence without a timer; without
/// `half_close` (hyper would no longer notice that a client is gone; the I/O wrapper sees to
/// clients that half-close); without `pipeline_flush` (it copies every body into the write buffer).
fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(BUFFER));
    // Any other number moves the parser's table from the stack to the heap, once a message.
    if limits.max_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    builder
}

/// The most that hyper buffers of one connection's request or answer. Its own default is 408 KiB.
const BUFFER: usize = 64 << 10;

/// hyper's default for `max_headers`.
const HYPER_MAX_HEADERS: usize = 100;

/// Streams that a client's own faults may cost, over a connection's life (h2's default).
const LOCAL_RESETS: usize = 1024;
