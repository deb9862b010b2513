//! What is known about one request, from its first line to the last byte of its answer.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, Method, Uri, Version, uri::PathAndQuery};
use tokio::time::Instant;

use super::{
    Clock, Connection, LimitReport, LimitSaid, Principal, Reason, Request, RequestId, TraceContext,
};

/// The parts of a request's head that outlive it, for refusals, forwarding and the log.
///
/// The default is `GET /` over HTTP/1.1 without fields.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target as it came.
    pub target: Uri,
    /// The protocol version.
    pub version: Version,
    /// `Host`, or `:authority` on HTTP/2.
    pub host: Option<HeaderValue>,
    /// `Origin`: where a page that made the request comes from. An empty value, which no rule can
    /// name, when there is more than one.
    pub origin: Option<HeaderValue>,
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
    /// Whether a trusted proxy tells more of how the request was forwarded than addresses, the scheme and
    /// the host (`X-Forwarded-Prefix`).
    pub told_more: bool,
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

/// What the cache did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheNote {
    /// `hit`, `miss`, `stale`, `revalidated`, `bypass`, `coalesced`.
    pub result: &'static str,
    /// Why, in one word; a reason of a bypass, or why an answer was not stored.
    pub detail: Option<&'static str>,
}

/// What few requests have to tell.
#[derive(Debug, Default)]
struct Notes {
    detail: Option<String>,
    shadow: Vec<Reason>,
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
    /// The clocks of this process.
    pub clock: Clock,
    /// What the wall clock showed when the head was complete.
    pub started_at: SystemTime,
}

/// The shared record of one request.
///
/// It is handed on beside the request. Each value is written once by one writer, but for what an answer
/// tells a limit afterwards; the access log reads all of them when the answer has ended.
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
    /// The clocks of this process, for what lies later.
    pub clock: Clock,
    normalised: OnceLock<PathAndQuery>,
    route: OnceLock<Arc<str>>,
    captures: OnceLock<Vec<(Arc<str>, Box<str>)>>,
    reason: OnceLock<Reason>,
    logged_headers: OnceLock<Box<[(HeaderName, HeaderValue)]>>,
    principal: OnceLock<Arc<Principal>>,
    vouchers: OnceLock<Box<[Arc<str>]>>,
    cache: OnceLock<CacheNote>,
    steered: OnceLock<Arc<str>>,
    odd_names: AtomicBool,
    /// What a limit said. Most requests have one at most, and none waits for a lock to read it.
    limit: OnceLock<LimitReport>,
    /// What all of them said, where there are several, or an answer has told what it cost.
    limits: OnceLock<Box<Mutex<Vec<LimitReport>>>>,
    notes: OnceLock<Box<Mutex<Notes>>>,
    attempts: Mutex<Attempts>,
    bytes_in: AtomicU64,
    /// When the last of them came, in nanoseconds since `started`.
    last_in: AtomicU64,
    /// The connection's turn when the request came.
    turn: u64,
}

impl Context {
    /// The record of a request that starts now.
    #[must_use]
    pub fn new(parts: ContextParts) -> Self {
        Self {
            turn: parts.connection.interim.turn(),
            connection: parts.connection,
            id: parts.id,
            trace: parts.trace,
            client: parts.client,
            forwarded_for: parts.forwarded_for,
            scheme: parts.scheme,
            forwarded_host: parts.forwarded_host,
            head: parts.head,
            started: Instant::now(),
            started_at: parts.started_at,
            clock: parts.clock,
            normalised: OnceLock::new(),
            route: OnceLock::new(),
            captures: OnceLock::new(),
            reason: OnceLock::new(),
            logged_headers: OnceLock::new(),
            principal: OnceLock::new(),
            vouchers: OnceLock::new(),
            cache: OnceLock::new(),
            steered: OnceLock::new(),
            odd_names: AtomicBool::new(false),
            limit: OnceLock::new(),
            limits: OnceLock::new(),
            notes: OnceLock::new(),
            attempts: Mutex::default(),
            bytes_in: AtomicU64::new(0),
            last_in: AtomicU64::new(0),
        }
    }

    /// The record of a request that the gateway makes for this one and that outlives it: a fetch
    /// whose answer others wait for too.
    ///
    /// It is the same caller, route and trace. Its times are its own, and what becomes of it is told
    /// to this record only by [`follow`](Self::follow). It asks for no upgrade.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut child = Self::new(ContextParts {
            connection: Arc::clone(&self.connection),
            id: self.id.clone(),
            trace: self.trace,
            client: self.client,
            forwarded_for: self.forwarded_for.clone(),
            scheme: self.scheme,
            forwarded_host: self.forwarded_host.clone(),
            head: RequestHead {
                upgrade: None,
                ..self.head.clone()
            },
            started_at: self.clock.wall(),
            clock: self.clock.clone(),
        });
        child.turn = self.turn;
        child.normalised = self.normalised.clone();
        child.route = self.route.clone();
        child.captures = self.captures.clone();
        child.principal = self.principal.clone();
        child.vouchers = self.vouchers.clone();
        child.steered = self.steered.clone();
        child.odd_names = AtomicBool::new(self.has_odd_names());
        child
    }

    /// Takes over which server a [`child`](Self::child) was answered by.
    pub fn follow(&self, child: &Self) {
        let (made, last) = {
            let attempts = child.attempts_locked();
            (attempts.made, attempts.last.clone())
        };
        let mut attempts = self.attempts_locked();
        attempts.made += made;
        attempts.last = last.or_else(|| attempts.last.take());
    }

    /// Written by the frame when a field goes on of which only the server knows how it is read, and by
    /// which no stored answers are told apart.
    pub fn keep_odd_names(&self) {
        self.odd_names.store(true, Ordering::Relaxed);
    }

    /// Whether the request has such a field.
    #[must_use]
    pub fn has_odd_names(&self) -> bool {
        self.odd_names.load(Ordering::Relaxed)
    }

    /// Written by the cache on a route with a `split`: which upstream the answer is to come from,
    /// since it is part of the key.
    pub fn steer(&self, upstream: &Arc<str>) {
        let _ = self.steered.set(Arc::clone(upstream));
    }

    /// The upstream that the request must go to, if that has been decided.
    #[must_use]
    pub fn steered(&self) -> Option<&Arc<str>> {
        self.steered.get()
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

    /// When the request began, on the clock of quotas and ages.
    #[must_use]
    pub fn began(&self) -> Duration {
        self.clock.since_origin(self.started)
    }

    /// Written by authentication: who calls.
    pub fn identify(&self, principal: Arc<Principal>) {
        let _ = self.principal.set(principal);
    }

    /// Who calls, once authentication has found it out; nobody on a public route.
    #[must_use]
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.get()
    }

    /// Written by authentication where a request has several credentials: who vouches beside the principal,
    /// and a digest of what the upstream gets unread, as caches tell callers apart.
    pub fn vouched(&self, names: Box<[Arc<str>]>) {
        let _ = self.vouchers.set(names);
    }

    /// Those who vouch beside the principal, as caches tell callers apart.
    #[must_use]
    pub fn vouchers(&self) -> &[Arc<str>] {
        self.vouchers.get().map_or(&[], |names| names)
    }

    /// Written by the cache: what it did.
    pub fn cached(&self, note: CacheNote) {
        let _ = self.cache.set(note);
    }

    /// What the cache did, if the route has one.
    #[must_use]
    pub fn cache(&self) -> Option<CacheNote> {
        self.cache.get().copied()
    }

    /// Says to the log alone what the client must not be told: which permission was missing.
    pub fn explain(&self, detail: impl Into<String>) {
        self.noted(|notes| notes.detail = Some(detail.into()));
    }

    /// Notes what a rule in shadow mode would have refused.
    pub fn would_refuse(&self, reason: Reason) {
        self.noted(|notes| notes.shadow.push(reason));
    }

    /// Whether a rule in shadow mode would have refused the request.
    #[must_use]
    pub fn is_shadowed(&self) -> bool {
        let mut shadowed = false;
        self.with_notes(|_, shadow| shadowed = !shadow.is_empty());
        shadowed
    }

    /// Written by every limit that has something to say about the request; tells its place among them.
    pub fn limited(&self, report: LimitReport) -> usize {
        let Err(report) = self.limit.set(report) else {
            return 0;
        };
        let mut reports = self.all_limits();
        reports.push(report);
        reports.len() - 1
    }

    /// Written by a limit when the answer has told it the cost: how the quota stands then.
    pub fn settle(&self, place: usize, window: usize, said: LimitSaid) {
        if let Some(report) = self.all_limits().get_mut(place) {
            (report.window, report.said) = (window, said);
        }
    }

    fn all_limits(&self) -> MutexGuard<'_, Vec<LimitReport>> {
        let first = || Box::new(Mutex::new(self.limit.get().cloned().into_iter().collect()));
        locked(self.limits.get_or_init(first))
    }

    /// Whether the answer tells of limits in `RateLimit` and `RateLimit-Policy`, and in `X-RateLimit-*`.
    #[must_use]
    pub fn tells_limits(&self) -> (bool, bool) {
        let tells = |reports: &[LimitReport]| {
            let policies = || reports.iter().map(|report| &report.policy);
            let draft = policies().any(|policy| policy.draft);
            (draft, policies().any(|policy| policy.legacy))
        };
        self.with_limits(tells).unwrap_or_default()
    }

    /// Reads what the limits said. Not called when there is none.
    pub fn with_limits<T>(&self, read: impl FnOnce(&[LimitReport]) -> T) -> Option<T> {
        match self.limits.get() {
            Some(reports) => Some(read(&locked(reports))),
            None => self.limit.get().map(|it| read(std::slice::from_ref(it))),
        }
    }

    /// Reads what the log alone is told: the detail, and what rules in shadow mode would have refused.
    /// Not called when there is nothing to tell.
    pub fn with_notes(&self, read: impl FnOnce(Option<&str>, &[Reason])) {
        if let Some(notes) = self.notes_locked() {
            read(notes.detail.as_deref(), &notes.shadow);
        }
    }

    fn notes_locked(&self) -> Option<MutexGuard<'_, Notes>> {
        Some(locked(self.notes.get()?))
    }

    fn noted(&self, write: impl FnOnce(&mut Notes)) {
        write(&mut locked(self.notes.get_or_init(Box::default)));
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
        locked(&self.attempts)
    }

    /// Hands an interim answer of the server on to the client, if it still waits for its answer.
    pub fn interim(&self, head: &[u8]) {
        if self.head.version == Version::HTTP_11 {
            self.connection.interim.pass(self.turn, head);
        }
    }

    /// Counts bytes of the request's body.
    pub fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        let since = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last_in.store(since, Ordering::Relaxed);
    }

    /// Bytes of the request's body so far.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// When the last of these bytes came; when the head was complete, if none has.
    #[must_use]
    pub fn last_received(&self) -> Instant {
        let since = Duration::from_nanos(self.last_in.load(Ordering::Relaxed));
        self.started.checked_add(since).unwrap_or(self.started)
    }
}

/// Whole after a panic elsewhere: each write is one assignment or push.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
