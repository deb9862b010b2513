//! `[server]`: listeners, limits, HTTP/2 and drain.

use std::{fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use ipnet::IpNet;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `0.0.0.0:8080`, `[::]:8080`.
    Tcp(SocketAddr),
    /// `unix:/run/tollgate.sock`.
    Unix(PathBuf),
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `listen`: one or more addresses. Default `["0.0.0.0:8080"]`.
    pub listen: Vec<Address>,
    /// `workers`: threads that serve; `None` (`"auto"`) is one per available CPU.
    pub workers: Option<NonZeroUsize>,
    /// `trusted_proxies`: networks whose forwarding headers are believed; none by default.
    pub trusted_proxies: Vec<IpNet>,
    /// `forwarded`: send RFC 7239 `Forwarded` as well as `X-Forwarded-*`.
    pub forwarded: bool,
    /// `[server.limits]`.
    pub limits: Limits,
    /// `[server.http2]`.
    pub http2: Http2,
    /// `[server.drain]`.
    pub drain: Drain,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![Address::Tcp(SocketAddr::from(([0, 0, 0, 0], 8080)))],
            workers: None,
            trusted_proxies: Vec::new(),
            forwarded: false,
            limits: Limits::default(),
            http2: Http2::default(),
            drain: Drain::default(),
        }
    }
}

/// `[server.limits]`: what one client may cost. All on by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `header_timeout`: from a head's first byte (or the connection's start) to its last.
    pub header_timeout: Duration,
    /// `header_bytes`: the largest request head, 8 KiB at least.
    pub header_bytes: usize,
    /// `max_headers`: the most header fields of a request.
    pub max_headers: usize,
    /// `target_bytes`: the longest request target.
    pub target_bytes: usize,
    /// `keep_alive`: how long a connection may idle between requests.
    pub keep_alive: Duration,
    /// `write_timeout`: how long a client may take no byte of an answer.
    pub write_timeout: Duration,
    /// `max_connections`: over all listeners; more are closed at once.
    pub max_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            header_bytes: 64 << 10,
            max_headers: 100,
            target_bytes: 16 << 10,
            keep_alive: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            max_connections: 20_000,
        }
    }
}

/// `[server.http2]`: flow control and abuse limits of HTTP/2 clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// `max_streams`: concurrent streams of one connection.
    pub max_streams: u32,
    /// `stream_window`: bytes that a client may send ahead on one stream.
    pub stream_window: u32,
    /// `connection_window`: bytes that a client may send ahead on one connection.
    pub connection_window: u32,
    /// `send_buffer`: bytes of an answer that are buffered per stream.
    pub send_buffer: usize,
    /// `max_resets`: streams reset by the client before they were served, until the connection is
    /// closed (rapid reset, CVE-2023-44487).
    pub max_resets: usize,
    /// `ping_interval`: how often a quiet connection is asked for a sign of life.
    pub ping_interval: Duration,
    /// `ping_timeout`: how long the sign of life may take.
    pub ping_timeout: Duration,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            max_streams: 100,
            stream_window: 64 << 10,
            connection_window: 256 << 10,
            send_buffer: 64 << 10,
            max_resets: 20,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

/// `[server.drain]`: how the gateway stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// `delay`: after SIGTERM new connections are still accepted for this long, so that a load
    /// balancer sees readiness fail first.
    pub delay: Duration,
    /// `grace`: after the delay idle connections are kept for this long, so that a request already
    /// under way to us is not lost.
    pub grace: Duration,
    /// `deadline`: what is still open this long after SIGTERM is aborted.
    pub deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            grace: Duration::from_secs(1),
            deadline: Duration::from_secs(30),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
