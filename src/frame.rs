//! What surrounds every request, those that match no route included.
//!
//! ```text
//! context and id > log and metrics guard > panic guard > request checks > router
//! ```
//!
//! One hand-written service and one future. The panic guard stands inside the log, or a panic would
//! be logged as a client's abort. The checks stand before the router: it sees only heads that have
//! one meaning.

pub mod access_log;
pub mod client;
mod end;
mod head;
mod own_fields;

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{ALLOW, CONNECTION, HOST, VARY},
    request::Parts,
};

use http_body::Body as _;

use client::{Client, Trust};
pub use end::AnswerBody;
use end::{End, has_no_body};
use head::{Checks, Seen};
use own_fields::Own;

use crate::{
    config::{EncodedSlash, OverrideHeaders, Server},
    exchange::{
        Body, Clock, Connection, Context, ContextParts, Decorate, Handler, InFlight, OddNames,
        Reason, Rejection, Request, RequestHead, Response, RouteService, Tunnel,
        fields::remove_overrides,
        host::{Host, HostError},
        preflight_method, target,
    },
    router::{Found, Lookup, Router},
    telemetry::{AccessLogWriter, Metrics, RouteMetrics},
};

/// A route as the frame meets it: a name, a stack of middleware, its figures.
pub struct Route {
    /// The table's name.
    pub name: Arc<str>,
    /// Its middleware and target.
    pub service: RouteService,
    /// Its figures, looked up once.
    pub metrics: Arc<RouteMetrics>,
    /// What becomes of `%2F` and `%5C`.
    pub encoded_slash: EncodedSlash,
    /// What becomes of fields that name another method or path than the request's own.
    pub override_headers: OverrideHeaders,
    /// What becomes of fields whose names servers may read as others.
    pub odd_names: OddNames,
    /// Whether its pipeline answers CORS preflights for the methods that it serves.
    pub preflights: bool,
    /// What it adds to all of its answers.
    pub decorations: Box<[Box<dyn Decorate>]>,
}

impl Route {
    /// A tunnel's 101 is no answer that a page could read.
    fn decorate(&self, context: &Context, response: &mut Response) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            for decoration in &self.decorations {
                decoration.decorate(context, response);
            }
        }
    }
}

/// A request that matched no route in the end.
struct Refused {
    rejection: Rejection,
    /// The route that would have served it, but for its method or the form of its path.
    near: Option<Arc<Route>>,
}

impl Refused {
    fn respond(self, context: &Context) -> Response {
        let mut response = self.rejection.respond(context);
        if let Some(route) = self.near {
            route.decorate(context, &mut response);
        }
        response
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            near: None,
        }
    }
}

/// What the frame takes from one configuration; swapped as a whole by a reload.
pub struct Snapshot {
    router: Router<Arc<Route>>,
    trust: Trust,
    /// What no client may send: it tells who the caller is.
    identity: Arc<Vec<HeaderName>>,
    checks: Checks,
}

impl Snapshot {
    /// The frame's view of a configuration. `identity` are the headers that the gateway alone may
    /// set, on whatever route, and `pseudonym` is our own name in `Via`.
    #[must_use]
    pub fn new(
        server: &Server,
        router: Router<Arc<Route>>,
        identity: &Arc<Vec<HeaderName>>,
        pseudonym: &str,
    ) -> Self {
        Self {
            router,
            trust: Trust {
                networks: server.trusted_proxies.clone(),
                headers: server.trusted_headers,
            },
            identity: Arc::clone(identity),
            checks: Checks {
                target_bytes: server.limits.target_bytes,
                max_headers: server.limits.max_headers,
                pseudonym: pseudonym.to_owned(),
            },
        }
    }
}

/// Where ends are told: the access log and the metrics that no route owns.
pub struct Recorder {
    unrouted: Arc<RouteMetrics>,
    metrics: Arc<Metrics>,
    log: Option<Arc<AccessLogWriter>>,
    options: ArcSwap<access_log::LineOptions>,
}

impl Recorder {
    /// Writes to a log, or to none.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        log: Option<Arc<AccessLogWriter>>,
        options: access_log::LineOptions,
    ) -> Self {
        Self {
            unrouted: metrics.unrouted(),
            metrics,
            log,
            options: ArcSwap::from_pointee(options),
        }
    }

    /// Takes over the options of a new configuration.
    pub fn reconfigure(&self, options: access_log::LineOptions) {
        self.options.store(Arc::new(options));
    }

    fn record(&self, context: &Context, end: &access_log::End) {
        let Some(log) = &self.log else { return };
        let options = self.options.load();
        if options.keep(context, end) {
            log.write(context.connection.worker, |line| {
                access_log::line(line, context, end, &options);
            });
        }
    }

    fn trailers_dropped(&self) {
        self.metrics.trailers_dropped();
    }
}

/// The service that listeners hand every request to.
pub struct Frame {
    snapshot: Arc<ArcSwap<Snapshot>>,
    recorder: Arc<Recorder>,
    clock: Clock,
}

impl Frame {
    /// Surrounds the routes of whatever snapshot is current.
    #[must_use]
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, recorder: Arc<Recorder>, clock: Clock) -> Self {
        Self {
            snapshot,
            recorder,
            clock,
        }
    }
}

impl Handler for Frame {
    type Body = AnswerBody;

    fn handle(
        &self,
        request: Request,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Result<http::Response<AnswerBody>, Infallible>>
    + Send
    + Unpin
    + 'static
    + use<> {
        let in_flight = connection.begin();
        let (mut parts, body) = request.into_parts();
        let snapshot = self.snapshot.load();
        let seen = Seen::of(&parts.headers);
        let trusted = client::is_trusted(connection.peer.ip(), &snapshot.trust.networks);
        let caller = caller(&parts, connection, trusted, &snapshot.trust);
        let contradicts = caller.is_err();
        let whom = (trusted, caller.unwrap_or_default());
        let context = Arc::new(context(&parts, &seen, connection, whom, &self.clock));
        self.recorder
            .options
            .load()
            .capture(&parts.headers, &snapshot.identity, &context);
        let admit = || match contradicts {
            true => Err(Rejection::new(Reason::ForwardedAmbiguous).close().into()),
            false => admit(&mut parts, &seen, trusted, &context, &snapshot),
        };
        let admitted = checked(&context, admit);
        let end = End::new(
            Arc::clone(&context),
            Arc::clone(&self.recorder),
            admitted.as_ref().ok().map(|(route, _)| &**route),
        );
        // Boxed: a connection keeps room for this future, an idle one too.
        Box::pin(async move {
            let response = match admitted {
                Err(refused) => refused.respond(&context),
                Ok((route, vary)) => {
                    let request = Request::from_parts(parts, body);
                    let mut response = guarded(&route, request, &context).await;
                    if let Some(vary) = vary {
                        response.headers_mut().append(VARY, vary);
                    }
                    route.decorate(&context, &mut response);
                    response
                }
            };
            Ok(finish(response, &context, (end, in_flight)))
        })
    }
}

/// Runs the checks of a head. On HTTP/2 a panic in them would end the other streams of the connection
/// too.
fn checked<T>(context: &Context, check: impl FnOnce() -> Result<T, Refused>) -> Result<T, Refused> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| {
        tracing::error!(request_id = context.id.as_str(), "checking a head panicked");
        Err(Rejection::new(Reason::Panic).close().into())
    })
}

/// Runs a route; a panic in it is an answer, and not the end of the connection.
async fn guarded(route: &Route, request: Request, context: &Arc<Context>) -> Response {
    let answer = async { route.service.handle(request, context).await };
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(
                request_id = context.id.as_str(),
                route = &*route.name,
                "a handler panicked"
            );
            Rejection::new(Reason::Panic).close().respond(context)
        }
    }
}

/// The caller behind the peer, where that is a proxy that is trusted.
fn caller(
    parts: &Parts,
    connection: &Connection,
    trusted: bool,
    trust: &Trust,
) -> Result<Option<Client>, client::Contradiction> {
    if !trusted {
        return Ok(None);
    }
    let (peer, scheme) = (connection.peer.ip(), connection.scheme());
    client::behind_proxy(peer, scheme, &parts.headers, trust).map(Some)
}

/// With whether the peer is trusted, and whom it told of.
fn context(
    parts: &Parts,
    seen: &Seen,
    connection: &Arc<Connection>,
    (trusted, caller): (bool, Option<Client>),
    clock: &Clock,
) -> Context {
    let peer = connection.peer.ip();
    let (client, forwarded_for, scheme, forwarded_host) = match caller {
        Some(caller) => (caller.address, caller.hops, caller.scheme, caller.host),
        None => (peer, None, connection.scheme(), None),
    };
    let now = clock.wall();
    Context::new(ContextParts {
        connection: Arc::clone(connection),
        id: seen.request_id(trusted, now),
        trace: seen.trace(),
        client,
        forwarded_for,
        scheme,
        forwarded_host,
        head: request_head(parts, seen, trusted),
        clock: clock.clone(),
        started_at: now,
    })
}

fn request_head(parts: &Parts, seen: &Seen, trusted: bool) -> RequestHead {
    RequestHead {
        method: parts.method.clone(),
        target: parts.uri.clone(),
        version: parts.version,
        host: host_value(parts),
        origin: seen.origin.clone(),
        user_agent: seen.user_agent.clone(),
        accept: seen.accept.clone(),
        grpc: seen.is_grpc_call(parts),
        upgrade: head::upgrade(seen, parts.version, &parts.headers),
        trailers: head::takes_trailers(seen, &parts.headers),
        told_more: trusted && seen.told_more,
    }
}

/// Checks the head, brings it into its one form and finds its route.
fn admit(
    parts: &mut Parts,
    seen: &Seen,
    trusted: bool,
    context: &Context,
    snapshot: &Snapshot,
) -> Result<(Arc<Route>, Option<HeaderValue>), Refused> {
    let refuse = |reason: Reason| Rejection::new(reason).close();
    head::check(parts, seen, &snapshot.checks).map_err(|reason| match reason {
        Reason::MethodRefused => refuse(reason).header(ALLOW, SERVED_METHODS),
        reason => refuse(reason),
    })?;
    let host = host(parts, seen, context)
        .map_err(|error| refuse(Reason::HostInvalid).detail("host", error.to_string()))?;
    let encoded_slash = normalise(parts, context)?;
    let client = trusted.then_some(context.client);
    head::clean(&mut parts.headers, seen, client, context.trace.continued);
    // Names that servers may read as these go with the route's odd names.
    for name in &*snapshot.identity {
        parts.headers.remove(name);
    }
    let (route, captures, vary) = match find(parts, &host, &snapshot.router) {
        Found::Route {
            payload,
            captures,
            vary,
        } => (payload, captures, vary),
        Found::MethodNotAllowed { allow, payload } => {
            return Err(Refused {
                rejection: Rejection::new(Reason::MethodNotAllowed).header(ALLOW, allow),
                near: Some(Arc::clone(payload)),
            });
        }
        Found::NotFound => return Err(Rejection::new(Reason::RouteNotFound).into()),
    };
    context.matched(&route.name, captures);
    let lookup = lookup(parts, &host);
    if let Some(what) = hidden(route, encoded_slash, &snapshot.router, &lookup) {
        return Err(Refused {
            rejection: refuse(Reason::TargetInvalid).detail("target", what),
            near: Some(Arc::clone(route)),
        });
    }
    if seen.overrides && route.override_headers == OverrideHeaders::Strip {
        remove_overrides(&mut parts.headers);
    }
    clean_odd_names(&mut parts.headers, seen, &route.odd_names, context);
    Ok((Arc::clone(route), vary))
}

/// Takes out which odd names don't go on. No route's conditions are about such names, so nothing has
/// looked at them by now.
fn clean_odd_names(headers: &mut HeaderMap, seen: &Seen, names: &OddNames, context: &Context) {
    if !seen.ambiguous && !names.concerns_plain() {
        return;
    }
    names.clean(headers);
    if names.has_unkeyed(headers) {
        context.keep_odd_names();
    }
}

/// What a path hides from the rules of its route, but not from every server behind it.
fn hidden(
    route: &Route,
    encoded_slash: bool,
    router: &Router<Arc<Route>>,
    lookup: &Lookup<'_>,
) -> Option<&'static str> {
    if encoded_slash && route.encoded_slash == EncodedSlash::Refuse {
        return Some("%2F and %5C are refused");
    }
    // RFC 3986 3.3: what a parameter means is for the server to say, and many cut it off.
    let other = router.hides_another_route(lookup);
    other.then_some("without its parameters it is the path of another route")
}

fn lookup<'a>(parts: &'a Parts, host: &'a Host<'_>) -> Lookup<'a> {
    Lookup {
        host: &host.name,
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: &parts.method,
        headers: &parts.headers,
        preflight: None,
    }
}

/// Looks the route up. A CORS preflight goes to the route of the request that it precedes if that
/// one answers preflights; else it is an OPTIONS request like any other, for the server to answer.
fn find<'r>(
    parts: &Parts,
    host: &Host<'_>,
    router: &'r Router<Arc<Route>>,
) -> Found<'r, Arc<Route>> {
    let lookup = lookup(parts, host);
    if let Some(asked) = preflight_method(&parts.method, &parts.headers) {
        let found = router.find(&Lookup {
            preflight: Some(&asked),
            ..lookup
        });
        if matches!(&found, Found::Route { payload, .. } if payload.preflights) {
            return found;
        }
    }
    router.find(&lookup)
}

/// The one host. It borrows from the context, since the head is about to change.
fn host<'a>(parts: &Parts, seen: &Seen, context: &'a Context) -> Result<Host<'a>, HostError> {
    if parts.uri.authority().is_some() || !seen.has_one_host() {
        Host::of(parts.version, &parts.uri, &parts.headers)?;
    }
    let text = context.head.host.as_ref().ok_or(HostError::Missing)?;
    Host::parse(text.to_str().map_err(|_| HostError::Invalid)?)
}

/// `:authority`, or that of an absolute target, stands above `Host` (RFC 9112 3.2.2, RFC 9113
/// 8.3.1); where both must agree, [`Host::of`] checks it.
fn host_value(parts: &Parts) -> Option<HeaderValue> {
    match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => parts.headers.get(HOST).cloned(),
    }
}

/// What the router matches is what the upstream gets: the target in its normal form, and only the
/// path and query of an absolute one. Tells whether `%2F` or `%5C` stands in it.
fn normalise(parts: &mut Parts, context: &Context) -> Result<bool, Rejection> {
    let invalid = |what: String| {
        Rejection::new(Reason::TargetInvalid)
            .close()
            .detail("target", what)
    };
    let target = parts
        .uri
        .path_and_query()
        .ok_or_else(|| invalid("the target is not a path".into()))?;
    let normalised = target::normalise(target).map_err(|error| invalid(error.to_string()))?;
    let absolute = parts.uri.authority().is_some();
    if let Some(changed) = normalised.changed {
        context.normalise(changed.clone());
        parts.uri = changed.into();
    } else if absolute {
        parts.uri = target.clone().into();
    }
    Ok(normalised.encoded_slash)
}

/// The last touches to every answer, and its end tied to its body.
fn finish(
    mut response: Response,
    context: &Context,
    (mut end, in_flight): (End, InFlight),
) -> http::Response<AnswerBody> {
    let status = response.status();
    // The connection of a tunnel ends with the tunnel, and its 101 says `upgrade`.
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let http2 = context.head.version == Version::HTTP_2;
    if !switches && !http2 && context.connection.is_draining() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    let empty = has_no_body(&context.head.method, status, response.body());
    end.answered(status, empty);
    // The end of an answer with a body knows what they tell until the head is written.
    let own = (!http2 && !switches && !empty).then(|| Own::of(context));
    if own.is_none() {
        own_fields::insert(response.headers_mut(), context);
    }
    if switches {
        return tunnel(response, (end, in_flight));
    }
    let (head, body) = response.into_parts();
    // RFC 9110 9.3.2: over HTTP/2 hyper would send it to HEAD.
    let body = if empty { Body::empty() } else { body };
    let mut body = AnswerBody::new(body, Some((end, in_flight)), empty, &head.headers);
    body.own = own;
    http::Response::from_parts(head, body)
}

/// The end of an upgraded request is its tunnel's.
fn tunnel(mut response: Response, end: (End, InFlight)) -> http::Response<AnswerBody> {
    let run = response
        .extensions_mut()
        .remove::<Tunnel>()
        .and_then(|tunnel| tunnel.take());
    let headers = response.headers().clone();
    if let Some(run) = run {
        tokio::spawn(async move {
            let (end, _in_flight) = end;
            end.tunnelled(run.await);
        });
        return response.map(|body| AnswerBody::new(body, None, true, &headers));
    }
    response.map(|body| {
        let empty = body.is_end_stream();
        AnswerBody::new(body, Some(end), empty, &headers)
    })
}

const SERVED_METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
