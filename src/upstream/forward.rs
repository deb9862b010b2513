//! A route's requests to its upstream, and the upstream's answers back.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Version,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
    response::Parts,
};
use tokio::{sync::oneshot::Receiver, time::Instant};

use super::{
    attempt::{Attempt, Behind, Sent},
    body::{AnswerBody, HeldBody, Source},
    counted::Counted,
    head::{self, Seen},
    http1,
    registry::{Permit, UpstreamGroup},
    server::Server,
    tunnel::{self, Lifetime},
};
use crate::{
    config::{HostRewrite, Timeouts, UpstreamProtocol},
    exchange::{
        Body, Clock, Context, EndsWithConnection, LazyTimer, Reason, Request, Response, Retry,
        Upgrade, Upgraded, UpstreamError, UpstreamService,
    },
};

/// Our name in `Via` (RFC 9110 7.6.3): a pseudonym of this process, so that a loop can be told
/// from a chain of gateways.
#[derive(Clone, Debug)]
pub struct Via {
    http1: HeaderValue,
    http2: HeaderValue,
}

impl Via {
    /// The field for a pseudonym.
    ///
    /// # Errors
    ///
    /// When the pseudonym is not valid in a header field.
    pub fn new(pseudonym: &str) -> Result<Self, http::header::InvalidHeaderValue> {
        Ok(Self {
            http1: HeaderValue::from_str(&format!("1.1 {pseudonym}"))?,
            http2: HeaderValue::from_str(&format!("2 {pseudonym}"))?,
        })
    }

    /// The field for a request that came in this version.
    pub(super) fn of(&self, version: Version) -> HeaderValue {
        match version {
            Version::HTTP_2 => self.http2.clone(),
            _ => self.http1.clone(),
        }
    }
}

/// What a route says about forwarding.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// How long things may take.
    pub timeouts: Timeouts,
    /// The Host that the server sees.
    pub host: HostRewrite,
    /// Whether to send `Forwarded` too.
    pub forwarded: bool,
    /// Whether upgrades pass.
    pub upgrade: bool,
    /// Whether a tunnel ends when the caller's credential expires.
    pub close_on_token_expiry: bool,
    /// Our name.
    pub via: Via,
}

/// Sends a route's requests to its upstream, or to one of several by weight.
pub struct Forward {
    targets: Vec<(Arc<UpstreamGroup>, u32)>,
    options: ForwardOptions,
}

impl Forward {
    /// Forwards to one upstream, or splits over several by their relative weights.
    #[must_use]
    pub fn new(targets: Vec<(Arc<UpstreamGroup>, u32)>, options: ForwardOptions) -> Self {
        Self { targets, options }
    }

    fn target(&self, context: &Context) -> Result<&Arc<UpstreamGroup>, UpstreamError> {
        if let Some(name) = context.steered() {
            let mut groups = self.targets.iter().map(|(group, _)| group);
            let steered = groups.find(|group| group.config.name == *name);
            return steered
                .ok_or_else(|| UpstreamError::new(Reason::NoHealthyServer, Retry::Never));
        }
        let total: u32 = self.targets.iter().map(|(_, weight)| weight).sum();
        let mut point = match self.targets.len() {
            1 => 0,
            _ => fastrand::u32(..total.max(1)),
        };
        for (group, weight) in &self.targets {
            match point.checked_sub(*weight) {
                Some(rest) => point = rest,
                None => return Ok(group),
            }
        }
        Err(UpstreamError::new(Reason::NoHealthyServer, Retry::Never))
    }
}

impl UpstreamService for Forward {
    async fn call(
        &self,
        mut request: Request,
        context: &Arc<Context>,
    ) -> Result<Response, UpstreamError> {
        let group = self.target(context)?;
        let permit = group.admit()?;
        let server = group.choose()?;
        let upgrade = self.passes_upgrade(context, server);
        // Taken before sending: the client's side is handed over only if somebody waits for it.
        let client = upgrade.then(|| client_side(&mut request)).flatten();
        let (parts, body) = request.into_parts();
        let body = HeldBody::around(body, permit.as_ref());
        let attempt = Attempt {
            options: &self.options,
            group,
            server,
            context,
            parts: &parts,
            upgrade,
        };
        let started = Instant::now();
        let counted = Counted::new(&server.metrics, started);
        let (sent, took) = attempt.run(body, started).await;
        let outcome = sent.and_then(|sent| pass_on(&attempt, sent, client, permit));
        // An answer whose head can't be passed on is no good one.
        counted.finish(&outcome, took);
        outcome
    }
}

fn pass_on(
    attempt: &Attempt<'_>,
    sent: Sent,
    client: Option<Receiver<Upgraded>>,
    permit: Option<Permit>,
) -> Result<Response, UpstreamError> {
    let Sent {
        head,
        seen,
        behind,
        timer,
    } = sent;
    match behind {
        Behind::Body(source) => answer(attempt, (head, &seen), (source, timer), permit),
        Behind::Switch(server) => switch(attempt, (head, &seen), (client, server), permit),
    }
}

/// What the client's connection promises to hand over behind a 101.
fn client_side(request: &mut Request) -> Option<Receiver<Upgraded>> {
    request.extensions_mut().remove::<Upgrade>()?.take()
}

impl Forward {
    fn passes_upgrade(&self, context: &Context, server: &Server) -> bool {
        self.options.upgrade
            && context.head.upgrade.is_some()
            && server.protocol() == UpstreamProtocol::Http1
    }
}

fn answer(
    attempt: &Attempt<'_>,
    (mut head, seen): (Parts, &Seen),
    (mut source, timer): (Source, LazyTimer),
    permit: Option<Permit>,
) -> Result<Response, UpstreamError> {
    // RFC 9110 6.2: a version is of one hop. Left at 1.0, hyper would answer the client so too,
    // without chunks and without keep-alive.
    head.version = Version::HTTP_11;
    let (status, method) = (head.status, &attempt.parts.method);
    let nominated = head::clean_answer(status, method, &mut head.headers, seen)?;
    // A small body comes with its head, and needs no more of the server.
    if let Some(body) = source.take_whole() {
        source.finish(attempt.server, timer);
        return Ok(http::Response::from_parts(head, Body::full(body)));
    }
    if matches!(source, Source::Http1 { .. }) && !seen.tells_the_end() {
        head.extensions.insert(EndsWithConnection);
    }
    let body = AnswerBody {
        source,
        permit,
        server: Arc::clone(attempt.server),
        context: Arc::clone(attempt.context),
        idle: idle(&attempt.options.timeouts, &head.headers),
        deadline: attempt.deadline(),
        timer,
        nominated,
        broken: None,
    };
    Ok(http::Response::from_parts(head, Body::boxed(body)))
}

/// Event streams and gRPC may be silent for as long as a tunnel may.
fn idle(timeouts: &Timeouts, headers: &HeaderMap) -> Option<Duration> {
    let streams = headers.get(CONTENT_TYPE).is_some_and(|media_type| {
        let media_type = media_type.as_bytes();
        STREAMS.iter().any(|stream| media_type.starts_with(stream))
    });
    match streams {
        true => timeouts.tunnel_idle,
        false => timeouts.idle,
    }
}

/// RFC 9110 7.8: a 101 is only an answer to a request for it.
fn switch(
    attempt: &Attempt<'_>,
    (mut head, seen): (Parts, &Seen),
    (client, server): (Option<Receiver<Upgraded>>, Option<http1::Switched>),
    permit: Option<Permit>,
) -> Result<Response, UpstreamError> {
    let unasked = || UpstreamError::new(Reason::UpstreamUpgrade, Retry::Never);
    let (client, server) = client.zip(server).ok_or_else(unasked)?;
    let protocol = head.headers.get(UPGRADE).cloned();
    let protocol = protocol.ok_or_else(unasked)?;
    if !tunnel::was_asked_for(&protocol, attempt.context.head.upgrade.as_ref()) {
        return Err(unasked());
    }
    head::clean_answer(head.status, &attempt.parts.method, &mut head.headers, seen)?;
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, protocol);
    let lifetime = Lifetime {
        idle: attempt.options.timeouts.tunnel_idle,
        whole: attempt.options.timeouts.tunnel_lifetime,
        until: expiry(attempt),
    };
    head.extensions
        .insert(tunnel::open(client, server, lifetime, permit));
    Ok(http::Response::from_parts(head, Body::empty()))
}

/// When the caller's credential expires, if a tunnel of it has to end then: the wall clock's moment
/// on the clock that never jumps.
fn expiry(attempt: &Attempt<'_>) -> Option<(Clock, Duration)> {
    if !attempt.options.close_on_token_expiry {
        return None;
    }
    let clock = &attempt.context.clock;
    let expires = attempt.context.principal()?.expires?;
    let left = expires.duration_since(clock.wall()).unwrap_or_default();
    Some((clock.clone(), clock.now().saturating_add(left)))
}

const STREAMS: [&[u8]; 2] = [b"text/event-stream", b"application/grpc"];
