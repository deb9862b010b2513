//! `[server]`: listeners, limits, HTTP/2 and drain.

use std::{fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::{
    address::{Listen, Networks},
    decode::{
        Choice, Count, Flag, Format, Node, Off, OrWord, Problem, Reader, Show, Size, Sub,
        TableNode, Time, TimeOrZero, Word, table,
    },
    diagnostic::Finding,
};
use toml::de::DeValue;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `0.0.0.0:8080`, `[::]:8080`.
    Tcp(SocketAddr),
    /// `unix:/run/tollgate.sock`.
    Unix(PathBuf),
}

table! {
    /// `[server]`: where clients connect.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Server ["server"] {
        /// `listen`: one or more addresses: `"0.0.0.0:8080"`, `"[::]:8080"`, `"unix:/run/tollgate.sock"`.
        pub listen: Vec<Address> => Listen =
            vec![Address::Tcp(SocketAddr::from(([0, 0, 0, 0], 8080)))],
        /// `workers`: threads that serve; `"auto"` (`None`) is one per available CPU.
        pub workers: Option<NonZeroUsize> => Workers = None,
        /// `trusted_proxies`: networks whose forwarding headers are believed; none by default.
        pub trusted_proxies: Vec<IpNet> => Networks = Vec::new(),
        /// `trusted_headers`: which fields those proxies write, `X-Forwarded-*` or `Forwarded` (RFC
        /// 7239); the other ones are the client's own and not read. `auto` reads what is there, and
        /// refuses a request with both that disagree.
        pub trusted_headers: TrustedHeaders => Choice<TrustedHeaders> = TrustedHeaders::Auto,
        /// `forwarded`: send RFC 7239 `Forwarded` as well as `X-Forwarded-*`.
        pub forwarded: bool => Flag = false,
        /// `limits`: what one client may cost.
        pub limits: Limits => Sub<Limits> = Limits::default(); "see there",
        /// `http2`: flow control and abuse limits of HTTP/2 clients.
        pub http2: Http2 => Sub<Http2> = Http2::default(); "see there",
        /// `drain`: how the gateway stops.
        pub drain: Drain => Sub<Drain> = Drain::default(); "see there",
    }
}

/// Which header fields trusted proxies write about their clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustedHeaders {
    /// `"auto"`: whichever are there; where both are, they must agree. The default.
    #[default]
    Auto,
    /// `"x-forwarded"`: `X-Forwarded-For`, `-Proto` and `-Host`.
    XForwarded,
    /// `"forwarded"`: `Forwarded` (RFC 7239).
    Forwarded,
}

impl Word for TrustedHeaders {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("x-forwarded", Self::XForwarded),
        ("forwarded", Self::Forwarded),
    ];
}

table! {
    /// `[server.limits]`: what one client may cost. All on by default.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Limits ["server.limits"] {
        /// `header_timeout`: from a head's first byte (or the connection's start) to its last. On
        /// HTTP/2 the time counts while no other request of the connection is under way, and the
        /// client's first SETTINGS have it too.
        pub header_timeout: Duration => Time = Duration::from_secs(10),
        /// `header_bytes`: the largest request head, 8 KiB at least; on HTTP/2 `header_list` is
        /// the limit, if it is smaller.
        pub header_bytes: usize => Size<usize, 8192, 16_777_216> = 64 << 10,
        /// `max_headers`: the most header fields of a request.
        pub max_headers: usize => Count<usize, 1, 10_000> = 100,
        /// `target_bytes`: the longest request target.
        pub target_bytes: usize => Size<usize, 64, 65_534> = 16 << 10,
        /// `keep_alive`: how long a connection may idle between requests.
        pub keep_alive: Duration => Time = Duration::from_secs(75),
        /// `write_timeout`: how long a client may take no byte of an answer.
        pub write_timeout: Duration => Time = Duration::from_secs(30),
        /// `max_connections`: over all listeners; more are closed at once.
        pub max_connections: usize => Count<usize, 1, { u32::MAX as u64 }> = 20_000,
        /// `max_connections_per_client`: of one IPv4 address or IPv6 /64; more are closed at once.
        /// Not counted are `trusted_proxies`, unix sockets, and connections that are older than the
        /// limit.
        pub max_connections_per_client: Option<usize> =>
            OrWord<Count<usize, 1, { u32::MAX as u64 }>, Off> = None,
    }
}

table! {
    /// `[server.http2]`: flow control and abuse limits of HTTP/2 clients.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Http2 ["server.http2"] {
        /// `max_streams`: concurrent streams of one connection.
        pub max_streams: u32 => Count<u32, 1, 100_000> = 100,
        /// `total_streams`: concurrent streams of all connections together; more are refused with
        /// REFUSED_STREAM, so that the client may try again.
        pub total_streams: usize => Count<usize, 1, { u32::MAX as u64 }> = 20_000,
        /// `total_heads`: memory for the heads of all requests together that wait for their answers,
        /// each field counted with 200 bytes more than it has; more streams are refused like that.
        pub total_heads: usize => Size<usize, 65_536, { 1 << 40 }> = 128 << 20,
        /// `header_list`: the largest request head, uncompressed and with 32 bytes added for each
        /// field (RFC 9113 6.5.2). A client sends it in a few hundred bytes, so it is smaller than
        /// `header_bytes`; 16 KiB of cookies and a long path find room.
        pub header_list: usize => Size<usize, 8192, 16_777_216> = 32 << 10,
        /// `stream_window`: bytes that a client may send ahead on one stream.
        pub stream_window: u32 => Size<u32, 1024, LARGEST_WINDOW> = 64 << 10,
        /// `connection_window`: bytes that a client may send ahead on one connection.
        pub connection_window: u32 => Size<u32, 65_535, LARGEST_WINDOW> = 256 << 10,
        /// `send_buffer`: bytes of an answer that are buffered per stream.
        pub send_buffer: usize => Size<usize, 1024, LARGEST_WINDOW> = 64 << 10,
        /// `max_resets`: streams reset by the client before they were served, until the connection
        /// is closed (rapid reset, CVE-2023-44487).
        pub max_resets: usize => Count<usize, 1, 100_000> = 20,
        /// `ping_interval`: how often a quiet connection is asked for a sign of life.
        pub ping_interval: Duration => Time = Duration::from_secs(30),
        /// `ping_timeout`: how long the sign of life may take.
        pub ping_timeout: Duration => Time = Duration::from_secs(10),
    }
}

table! {
    /// `[server.drain]`: how the gateway stops.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Drain ["server.drain", check check_drain] {
        /// `delay`: after SIGTERM new connections are still accepted for this long, so that a load
        /// balancer sees readiness fail first.
        pub delay: Duration => TimeOrZero = Duration::from_secs(5),
        /// `grace`: after the delay idle connections are kept for this long, so that a request
        /// already under way to us is not lost.
        pub grace: Duration => TimeOrZero = Duration::from_secs(1),
        /// `deadline`: what is still open this long after SIGTERM is aborted.
        pub deadline: Duration => Time = Duration::from_secs(30),
    }
}

fn check_drain(drain: &Drain, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if drain.deadline > drain.delay + drain.grace {
        return;
    }
    let place = table.value_place("deadline", reader);
    let [deadline, delay, grace] =
        [drain.deadline, drain.delay, drain.grace].map(|time| TimeOrZero::show(&time));
    let message = format!(
        "`deadline` ({deadline}) must be longer than `delay` ({delay}) and `grace` ({grace}) together"
    );
    reader.report(Finding::error(place, message).help("requests need time to end: 30s is usual"));
}

/// `"auto"` or a number of threads.
struct Workers;

impl Format for Workers {
    type Value = Option<NonZeroUsize>;

    fn expected() -> String {
        "\"auto\" or a whole number, 1 to 1024".to_owned()
    }

    fn example() -> String {
        "4".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let expected = Self::expected();
        match node.value {
            DeValue::String(_) => reader.parse(node, &expected, workers),
            DeValue::Integer(number) => match workers(number.as_str()) {
                Ok(number) => Some(number),
                Err(problem) => reader.refuse(node, &expected, problem),
            },
            _ => reader.wrong(node, &expected, None),
        }
    }
}

impl Show for Workers {
    fn show(value: &Self::Value) -> String {
        value.map_or("\"auto\"".to_owned(), |workers| workers.to_string())
    }
}

fn workers(text: &str) -> Result<Option<NonZeroUsize>, Problem> {
    if text == "auto" {
        return Ok(None);
    }
    let number: Option<NonZeroUsize> = text.parse().ok();
    match number.filter(|number| number.get() <= MOST_WORKERS) {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::plain()),
    }
}

/// As it is written in the file.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

const MOST_WORKERS: usize = 1024;
/// RFC 9113 6.9.1.
const LARGEST_WINDOW: u64 = (1 << 31) - 1;
