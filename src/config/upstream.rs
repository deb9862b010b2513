//! `[upstreams.*]`: the servers behind the gateway.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use super::{
    decode::{
        Count, Flag, Format, Node, OptionOf, OrWord, Problem, Reader, Show, Sub, TableNode, Time,
        Unlimited, quoted, table,
    },
    diagnostic::Finding,
    server_url::{Servers, looks_like_url},
};

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
        let keys = UpstreamKeys {
            servers,
            ..UpstreamKeys::default()
        };
        keys.named(name.into())
    }
}

table! {
    /// `[upstreams.NAME]`: servers that do the same work. A route can also name one URL directly.
    #[derive(Clone, Debug)]
    pub(super) struct UpstreamKeys ["upstreams.NAME", check check_upstream] {
        /// `servers`: a list of URLs, or `[[upstreams.NAME.servers]]` tables: `http://host:port`
        /// (HTTP/1.1), `h2c://host:port` (HTTP/2), `unix:/path`, `h2c+unix:/path`.
        pub(super) servers: Vec<UpstreamServer> => Servers = Vec::new(); "needed",
        /// `connect_timeout`: how long connecting to a server may take.
        connect_timeout: Duration => Time = Duration::from_secs(2),
        /// `pool_idle_timeout`: how long an unused connection is kept; keep it below the servers'
        /// own keep-alive time.
        pool_idle_timeout: Duration => Time = Duration::from_secs(30),
        /// `pool_max_idle`: unused connections kept per server and worker.
        pool_max_idle: usize => Count<usize, 0, 1_000_000> = 128,
        /// `max_in_flight`: requests under way to all servers together; more get 503.
        max_in_flight: Option<usize> =>
            OrWord<Count<usize, 1, { u32::MAX as u64 }>, Unlimited> = None,
        /// `health_check`: an active check of each server.
        health_check: Option<HealthCheck> => OptionOf<Sub<HealthCheck>> = None; "no check",
    }
}

impl UpstreamKeys {
    /// The upstream of that name.
    pub(super) fn named(self, name: Arc<str>) -> Upstream {
        Upstream {
            name,
            servers: self.servers,
            connect_timeout: self.connect_timeout,
            pool_idle_timeout: self.pool_idle_timeout,
            pool_max_idle: self.pool_max_idle,
            max_in_flight: self.max_in_flight,
            health_check: self.health_check,
        }
    }
}

fn check_upstream(upstream: &UpstreamKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let header = &table.node.scope.header;
    if looks_like_url(table.node.name) {
        let message = "the name of an upstream must not look like a URL";
        let help = "a route names a URL directly: `upstream = \"http://127.0.0.1:3000\"`";
        reader.report(Finding::error(table.node.key, message).help(help));
    }
    if upstream.servers.is_empty() && !table.has("servers") {
        let message = format!("`[{header}.{}]` has no servers", table.node.name);
        let help = "write `servers = [\"http://127.0.0.1:3000\"]`";
        reader.report(Finding::error(table.node.key, message).help(help));
    }
}

table! {
    /// `[upstreams.NAME.health_check]`: an active check of each server. Until the first result a
    /// server counts as usable.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HealthCheck ["upstreams.NAME.health_check"] {
        /// `path`: requested with GET; 200 to 399 is healthy.
        pub path: String => CheckPath = "/".to_owned(),
        /// `host`: the Host sent. Default: the server's own.
        pub host: Option<String> => OptionOf<HostText> = None; "the server's own",
        /// `interval`: between two checks of a server.
        pub interval: Duration => Time = Duration::from_secs(5),
        /// `timeout`: of one check.
        pub timeout: Duration => Time = Duration::from_secs(2),
        /// `rise`: successes until an unhealthy server is healthy again.
        pub rise: u32 => Count<u32, 1, 1000> = 2,
        /// `fall`: failures until a healthy server is unhealthy.
        pub fall: u32 => Count<u32, 1, 1000> = 3,
        /// `required`: `/health/ready` fails while no server of this upstream is healthy.
        pub required: bool => Flag = true,
    }
}

struct CheckPath;

impl Format for CheckPath {
    type Value = String;

    fn expected() -> String {
        "a path such as \"/health\"".to_owned()
    }

    fn example() -> String {
        "\"/health\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| {
            let is_target = text.parse::<http::uri::PathAndQuery>().is_ok();
            let sane = text.starts_with('/') && text.is_ascii() && !text.contains('#');
            (is_target && sane)
                .then(|| text.to_owned())
                .ok_or_else(Problem::plain)
        })
    }
}

impl Show for CheckPath {
    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// A host, perhaps with a port.
struct HostText;

impl Format for HostText {
    type Value = String;

    fn expected() -> String {
        "a host such as \"api.example.com\"".to_owned()
    }

    fn example() -> String {
        "\"api.example.com\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| {
            let authority = text.parse::<http::uri::Authority>();
            let sane = authority.is_ok() && !text.contains('@');
            sane.then(|| text.to_owned()).ok_or_else(Problem::plain)
        })
    }
}
