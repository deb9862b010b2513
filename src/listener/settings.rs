//! From `[server]` to what one connection needs.

use std::net::IpAddr;

use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use ipnet::IpNet;

use super::http1::HeadLimits;
use crate::config::{Http2, Limits, Server};

/// The settings of connections; each keeps those it was opened with.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) heads: HeadLimits,
    pub(super) http2: Http2,
    trusted: Vec<IpNet>,
}

impl Settings {
    pub(super) fn new(config: &Server) -> Self {
        Self {
            limits: config.limits.clone(),
            heads: HeadLimits {
                bytes: config.limits.header_bytes,
                fields: config.limits.max_headers,
            },
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

/// Streams that a client's own faults may cost, over a connection's life (h2's default).
const LOCAL_RESETS: usize = 1024;
