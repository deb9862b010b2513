//! `[upstreams.*]`: the servers behind the gateway.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpstreamProtocol {
    /// `http://`: HTTP/1.1.
    Http1,
    /// `h2c://`: HTTP/2 with prior knowledge.
    Http2,
}

/// A server's address: `http://host:port`, `h2c://host:port`, `unix:/path` or `h2c+unix:/path`.
/// It has no path, query or user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerUrl {
    /// A host, by name or address, and a port (80 by default).
    Tcp {
        /// What it speaks.
        protocol: UpstreamProtocol,
        /// A name or an address; an IPv6 address without brackets.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// What it speaks.
        protocol: UpstreamProtocol,
        /// The socket's path.
        path: PathBuf,
    },
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// `url`. As written it is the server's name in logs and metrics.
    pub url: ServerUrl,
    /// The url as written.
    pub name: Arc<str>,
    /// `weight`: its share relative to the others. Default 1.
    pub weight: NonZeroU32,
}

/// `[upstreams.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The table's name, or the URL of an inline upstream.
    pub name: Arc<str>,
    /// `servers`: one at least. A list of URLs, or `[[upstreams.NAME.servers]]` tables.
    pub servers: Vec<UpstreamServer>,
    /// `connect_timeout`. Default 2 s.
    pub connect_timeout: Duration,
    /// `pool_idle_timeout`: how long an unused connection is kept. Default 30 s; keep it below the
    /// server's own keep-alive time.
    pub pool_idle_timeout: Duration,
    /// `pool_max_idle`: unused connections kept per server and worker. Default 128.
    pub pool_max_idle: usize,
    /// `max_in_flight`: requests under way to all servers together; more get 503. No limit by default.
    pub max_in_flight: Option<usize>,
    /// `[upstreams.NAME.health_check]`.
    pub health_check: Option<HealthCheck>,
}

impl Upstream {
    /// An upstream with every default.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, servers: Vec<UpstreamServer>) -> Self {
        Self {
            name: name.into(),
            servers,
            connect_timeout: Duration::from_secs(2),
            pool_idle_timeout: Duration::from_secs(30),
            pool_max_idle: 128,
            max_in_flight: None,
            health_check: None,
        }
    }
}

/// `[upstreams.NAME.health_check]`: an active check of each server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `path`: requested with GET; 200 to 399 is healthy. Default `/`.
    pub path: String,
    /// `host`: the Host sent. Default: the server's own.
    pub host: Option<String>,
    /// `interval` between two checks of a server. Default 5 s.
    pub interval: Duration,
    /// `timeout` of one check. Default 2 s.
    pub timeout: Duration,
    /// `rise`: successes until an unhealthy server is healthy again. Default 2.
    pub rise: u32,
    /// `fall`: failures until a healthy server is unhealthy. Default 3.
    pub fall: u32,
    /// `required`: `/health/ready` fails while no server of this upstream is healthy. Default true.
    pub required: bool,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            host: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            required: true,
        }
    }
}
