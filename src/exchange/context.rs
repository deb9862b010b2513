//! What is known about one request, from its first line to the last byte of its answer.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, Method, Uri, Version, uri::PathAndQuery};
use tokio::time::Instant;

use super::{Connection, Reason, Request, RequestId, TraceContext};

/// The parts of a request's head that outlive it, for refusals, forwarding and the log.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target as it came.
    pub target: Uri,
    /// The protocol version.
    pub version: Version,
    /// `Host`, or `:authority` on HTTP/2.
    pub host: Option<HeaderValue>,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// `Accept`: the form in which the client wants refusals, read only when there is one.
    pub accept: Option<HeaderValue>,
    /// Whether it is a gRPC call, by its `Content-Type`.
    pub grpc: bool,
    /// The protocol that the client asks to switch to (`Upgrade`, nominated by `Connection`).
    pub upgrade: Option<HeaderValue>,
    /// Whether the client takes trailers (`TE: trailers`).
    pub trailers: bool,
}

/// One try at one server.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The server's name.
    pub server: Arc<str>,
    /// How long connecting took; `None` when a pooled connection served.
    pub connect: Option<Duration>,
    /// From sending until the answer's head.
    pub response: Option<Duration>,
}

/// The tries so far. Only the last is told of, so there is no list to allocate.
#[derive(Debug, Default)]
struct Attempts {
    made: u32,
    last: Option<Attempt>,
}

/// What a [`Context`] starts with.
#[derive(Debug)]
pub struct ContextParts {
    /// The connection that the request came on.
    pub connection: Arc<Connection>,
    /// The request's id.
    pub id: RequestId,
    /// Its trace.
    pub trace: TraceContext,
    /// The caller's address: the rightmost untrusted hop.
    pub client: IpAddr,
    /// The hops before us, as a trusted proxy told them: the `X-Forwarded-For` to extend.
    pub forwarded_for: Option<HeaderValue>,
    /// The scheme that the caller used, ours or as a trusted proxy told it.
    pub scheme: &'static str,
    /// The host that the caller asked for, where a trusted proxy told another than `Host`.
    pub forwarded_host: Option<HeaderValue>,
    /// What outlives the head.
    pub head: RequestHead,
}

/// The shared record of one request.
///
/// It is handed on beside the request. Each value is written once by one writer; the
/// access log reads all of them when the answer has ended.
#[derive(Debug)]
pub struct Context {
    /// The connection that the request came on.
    pub connection: Arc<Connection>,
    /// The request's id.
    pub id: RequestId,
    /// Its trace.
    pub trace: TraceContext,
    /// The caller's address, used by the log, limits, conditions and forwarding alike.
    pub client: IpAddr,
    /// The hops before us, as a trusted proxy told them.
    pub forwarded_for: Option<HeaderValue>,
    /// The scheme that the caller used.
    pub scheme: &'static str,
    /// The host that the caller asked for, where a trusted proxy told another than `Host`.
    pub forwarded_host: Option<HeaderValue>,
    /// What outlives the head.
    pub head: RequestHead,
    /// When the head was complete, on the clock that never jumps.
    pub started: Instant,
    /// The same moment on the wall clock.
    pub started_at: SystemTime,
    normalised: OnceLock<PathAndQuery>,
    route: OnceLock<Arc<str>>,
    captures: OnceLock<Vec<(Arc<str>, Box<str>)>>,
    reason: OnceLock<Reason>,
    logged_headers: OnceLock<Box<[(HeaderName, HeaderValue)]>>,
    attempts: Mutex<Attempts>,
    bytes_in: AtomicU64,
}

impl Context {
    /// The record of a request that starts now.
    #[must_use]
    pub fn new(parts: ContextParts) -> Self {
        Self {
            connection: parts.connection,
            id: parts.id,
            trace: parts.trace,
            client: parts.client,
            forwarded_for: parts.forwarded_for,
            scheme: parts.scheme,
            forwarded_host: parts.forwarded_host,
            head: parts.head,
            started: Instant::now(),
            started_at: SystemTime::now(),
            normalised: OnceLock::new(),
            route: OnceLock::new(),
            captures: OnceLock::new(),
            reason: OnceLock::new(),
            logged_headers: OnceLock::new(),
            attempts: Mutex::default(),
            bytes_in: AtomicU64::new(0),
        }
    }

    /// The context of a request that is on its way through foreign layers.
    ///
    /// # Panics
    ///
    /// When the request did not come through [`RouteService::foreign`](super::RouteService::foreign),
    /// which puts the context there, or a layer has lost the request's extensions.
    #[must_use]
    pub fn of(request: &Request) -> Arc<Self> {
        let context = request.extensions().get::<Arc<Self>>();
        Arc::clone(context.expect("a foreign layer keeps the request's extensions"))
    }

    /// The path and query as the router matched them and the upstream gets them.
    #[must_use]
    pub fn target(&self) -> &str {
        let raw = || self.head.target.path_and_query();
        self.normalised
            .get()
            .or_else(raw)
            .map_or("/", PathAndQuery::as_str)
    }

    /// Written by the frame when the target's normal form differs from what came.
    pub fn normalise(&self, target: PathAndQuery) {
        let _ = self.normalised.set(target);
    }

    /// The route's name, once the router has found it.
    #[must_use]
    pub fn route(&self) -> Option<&Arc<str>> {
        self.route.get()
    }

    /// Written by the router: the route and what its host and path patterns captured.
    pub fn matched(&self, route: &Arc<str>, captures: Vec<(Arc<str>, Box<str>)>) {
        let _ = self.route.set(Arc::clone(route));
        if !captures.is_empty() {
            let _ = self.captures.set(captures);
        }
    }

    /// What a `{name}` of the route's host (`host.name`) or path (`path.name`) captured.
    #[must_use]
    pub fn capture(&self, name: &str) -> Option<&str> {
        let captures = self.captures.get()?;
        let (_, value) = captures.iter().find(|(known, _)| &**known == name)?;
        Some(value)
    }

    /// Why the exchange was refused or cut; the first reason stays.
    pub fn note(&self, reason: Reason) {
        let _ = self.reason.set(reason);
    }

    /// Why the exchange was refused or cut, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.reason.get().copied()
    }

    /// Written by the frame: the header fields that the access log is configured to show.
    pub fn log_headers(&self, headers: Box<[(HeaderName, HeaderValue)]>) {
        let _ = self.logged_headers.set(headers);
    }

    /// The header fields that the access log is configured to show.
    #[must_use]
    pub fn logged_headers(&self) -> &[(HeaderName, HeaderValue)] {
        self.logged_headers.get().map_or(&[], |headers| headers)
    }

    /// Notes that a server is tried.
    pub fn attempt(&self, attempt: Attempt) {
        let mut attempts = self.attempts_locked();
        attempts.made += 1;
        attempts.last = Some(attempt);
    }

    /// Completes the last attempt.
    pub fn finish_attempt(&self, finish: impl FnOnce(&mut Attempt)) {
        if let Some(last) = &mut self.attempts_locked().last {
            finish(last);
        }
    }

    /// Reads the last attempt, whose answer or failure the client saw, and how many there were.
    pub fn with_last_attempt<T>(&self, read: impl FnOnce(&Attempt, u32) -> T) -> Option<T> {
        let attempts = self.attempts_locked();
        let last = attempts.last.as_ref()?;
        Some(read(last, attempts.made))
    }

    fn attempts_locked(&self) -> MutexGuard<'_, Attempts> {
        // Whole after a panic elsewhere: nothing here can panic half-way.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes of the request's body.
    pub fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of the request's body so far.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }
}
