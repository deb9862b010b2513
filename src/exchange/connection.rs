//! One client connection, as every room sees it.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::{HeaderName, HeaderValue};

use super::{AddressHash, BodyError, Interim, Request};

/// Who is at the other end of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A peer on a unix socket; it has no address.
    Unix,
}

impl Peer {
    /// The peer's address; loopback for a unix socket, whose peer is on this machine.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Tcp(address) => address.ip().to_canonical(),
            Self::Unix => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        }
    }
}

/// The HTTP version that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What an answer's body adds to its head.
pub trait BringsFields {
    /// Writes fields behind those of the head's map, a line each. Asked before the body is polled, and
    /// over HTTP/1.1 only: elsewhere a field has to stand in the map.
    fn write_fields(&self, _: &mut Vec<u8>) {}

    /// Whether what stands in the map under a name gives way to one of them.
    fn replaces(&self, _: &HeaderName) -> bool {
        false
    }
}

/// What a listener hands its requests to.
///
/// A listener knows neither the router nor the frame: it takes anything that answers.
pub trait Handler: Send + Sync + 'static {
    /// The body of the answers.
    type Body: http_body::Body<Data = bytes::Bytes, Error = BodyError>
        + BringsFields
        + Send
        + Unpin
        + 'static;

    /// Answers one request of one connection.
    ///
    /// It calls [`Connection::begin`] at the latest when the future is first polled, and keeps the
    /// permit until the answer's body is dropped, or the tunnel has ended: until then the listener
    /// closes the connection neither for idling nor in a drain. A request's body that goes on behind
    /// the end of an answer does not count: a server that answers and never reads the rest would
    /// hold the connection for ever. It has the time of a head (`header_timeout`). The future borrows neither argument (in an
    /// implementation: `use<>`).
    fn handle(
        &self,
        request: Request,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Result<http::Response<Self::Body>, Infallible>>
    + Send
    + Unpin
    + 'static
    + use<Self>;
}

/// One client connection. Requests share it behind an [`Arc`].
#[derive(Debug)]
pub struct Connection {
    /// The worker that the connection lives on; upstream connections of its requests do too.
    pub worker: usize,
    /// The listener's name, a metric label.
    pub listener: Arc<str>,
    /// Who connected.
    pub peer: Peer,
    /// Whether the client's side is encrypted.
    pub secure: bool,
    /// What it speaks; known once the first bytes were seen.
    pub protocol: Protocol,
    /// What servers say before their answers; over HTTP/1.1 only.
    pub interim: Interim,
    /// What the address of its client hashes to, for the limits that count by it.
    pub address_hash: AddressHash,
    /// The peer's address as a header value, made when a request first needs it.
    peer_text: OnceLock<HeaderValue>,
    in_flight: AtomicUsize,
    draining: AtomicBool,
}

impl Connection {
    /// A connection that has had no request yet.
    #[must_use]
    pub fn new(
        worker: usize,
        listener: Arc<str>,
        peer: Peer,
        secure: bool,
        protocol: Protocol,
    ) -> Self {
        Self {
            worker,
            listener,
            peer,
            secure,
            protocol,
            interim: Interim::default(),
            address_hash: AddressHash::default(),
            peer_text: OnceLock::new(),
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// `http` or `https`, as the client sees it.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The peer's address as text, formatted once a connection.
    pub fn peer_text(&self) -> &HeaderValue {
        self.peer_text.get_or_init(|| {
            HeaderValue::from_str(&self.peer.ip().to_string())
                .unwrap_or(HeaderValue::from_static("unknown"))
        })
    }

    /// Counts a request until the permit is dropped: when its answer, or its tunnel, has ended.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests that have begun and not ended, tunnels included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the gateway wants the connection to end: answers then carry `Connection: close`.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Asks the connection to end after the answers under way.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// One request in flight on a [`Connection`].
#[derive(Debug)]
pub struct InFlight(Arc<Connection>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
