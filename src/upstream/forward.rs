//! One exchange with one server.
//!
//! The client's head is kept until the answer's head is there, so that a request which met a pooled
//! connection in the moment of its death can be sent once more, silently, when that is safe: when
//! nothing was written, or when the method is idempotent and there is no body.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use http::{
    HeaderMap, HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
    request::Parts,
};
use hyper::{body::Incoming, client::conn::TrySendError, upgrade::OnUpgrade};
use tokio::time::Instant;

use super::{
    body::{AnswerBody, Lease, release},
    connect, failure,
    head::{self, HeadOptions},
    pool::{Http1Connection, Http2Stream},
    registry::{Permit, UpstreamGroup},
    server::Server,
    tunnel,
};
use crate::{
    config::{HostRewrite, Timeouts, UpstreamProtocol},
    exchange::{
        Attempt, Body, Context, LazyTimer, Reason, Request, Response, Retry, UpstreamError,
        UpstreamService,
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

    fn target(&self) -> Result<&Arc<UpstreamGroup>, UpstreamError> {
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
    async fn call(&self, mut request: Request) -> Result<Response, UpstreamError> {
        let context = Context::of(&request);
        let group = self.target()?;
        let permit = group.admit()?;
        let server = group.choose()?;
        let upgrade = self.wants_upgrade(&context, server);
        // Taken before sending: hyper hands the client's side over only if somebody waits for it.
        let client = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let exchange = Exchange {
            options: &self.options,
            group,
            server,
            context: &context,
            parts: &parts,
            upgrade,
        };
        let answer = exchange.run(body, permit).await?;
        exchange.finish(answer, client)
    }
}

impl Forward {
    fn wants_upgrade(&self, context: &Context, server: &Server) -> bool {
        self.options.upgrade
            && context.head.upgrade.is_some()
            && server.protocol() == UpstreamProtocol::Http1
    }
}

struct Exchange<'a> {
    options: &'a ForwardOptions,
    group: &'a Arc<UpstreamGroup>,
    server: &'a Arc<Server>,
    context: &'a Arc<Context>,
    parts: &'a Parts,
    upgrade: bool,
}

/// A send that failed; the message is there if none of it was written.
struct Unsent {
    error: UpstreamError,
    message: Option<http::Request<Body>>,
}

/// An answer's head, and all that is freed when its body ends.
struct Answer {
    response: http::Response<Incoming>,
    lease: Lease,
    timer: LazyTimer,
    permit: Option<Permit>,
}

impl Exchange<'_> {
    async fn run(&self, body: Body, permit: Option<Permit>) -> Result<Answer, UpstreamError> {
        let started = Instant::now();
        self.context.attempt(Attempt {
            upstream: Arc::clone(&self.group.config.name),
            server: Arc::clone(&self.server.name),
            connect: None,
            response: None,
        });
        let outcome = match self.server.protocol() {
            UpstreamProtocol::Http1 => self.http1(body).await,
            UpstreamProtocol::Http2 => self.http2(body).await,
        };
        let took = started.elapsed();
        match outcome {
            Ok((response, lease, timer)) => {
                self.server.metrics.answered(response.status(), took);
                self.context
                    .finish_attempt(|attempt| attempt.response = Some(took));
                Ok(Answer {
                    response,
                    lease,
                    timer,
                    permit,
                })
            }
            Err(error) => {
                self.server.metrics.failed(error.reason, took);
                Err(error)
            }
        }
    }

    async fn http1(
        &self,
        body: Body,
    ) -> Result<(http::Response<Incoming>, Lease, LazyTimer), UpstreamError> {
        use http_body::Body as _;
        let worker = self.context.connection.worker;
        let config = &self.group.config;
        let has_body = !body.is_end_stream();
        let repeatable = !has_body && self.parts.method.is_idempotent();
        let mut message = self.message(body)?;
        while let Some(connection) = self.server.pool.take(worker, config.pool_idle_timeout) {
            match self.send_http1(connection, message, has_body).await {
                Ok(answer) => return Ok(answer),
                // The connection died in the pool and took none of the request with it.
                Err(Unsent {
                    message: Some(unsent),
                    ..
                }) => message = unsent,
                Err(unsent) if repeatable && unsent.error.retry == Retry::IfIdempotent => {
                    message = self.message(Body::empty())?;
                    break;
                }
                Err(unsent) => return Err(unsent.error),
            }
        }
        let connection = self.connect_http1().await?;
        let sent = self.send_http1(connection, message, has_body).await;
        sent.map_err(|unsent| unsent.error)
    }

    fn message(&self, body: Body) -> Result<http::Request<Body>, UpstreamError> {
        let options = HeadOptions {
            host: &self.options.host,
            forwarded: self.options.forwarded,
            upgrade: self.upgrade,
            via: &self.options.via,
        };
        head::request(self.parts, self.context, self.server, &options, body)
    }

    async fn connect_http1(&self) -> Result<Http1Connection, UpstreamError> {
        let started = Instant::now();
        let connected = connect::http1(self.server, self.group.config.connect_timeout).await;
        self.note_connect(started, connected.is_err());
        Ok(Http1Connection {
            sender: connected?,
            timer: LazyTimer::default(),
        })
    }

    fn note_connect(&self, started: Instant, failed: bool) {
        let took = started.elapsed();
        self.context
            .finish_attempt(|attempt| attempt.connect = Some(took));
        if failed {
            self.server.metrics.connect_error();
        }
    }

    async fn send_http1(
        &self,
        mut connection: Http1Connection,
        message: http::Request<Body>,
        sent_body: bool,
    ) -> Result<(http::Response<Incoming>, Lease, LazyTimer), Unsent> {
        let ready = poll_fn(|cx| connection.sender.poll_ready(cx)).await;
        if let Err(error) = ready {
            return Err(Unsent {
                error: failure::of_send(error, false),
                message: Some(message),
            });
        }
        let mut timer = std::mem::take(&mut connection.timer);
        let response = connection.sender.try_send_request(message);
        let response = self.answer(response, &mut timer).await?;
        let lease = Lease::Http1 {
            connection,
            worker: self.context.connection.worker,
            most_idle: self.group.config.pool_max_idle,
            sent_body,
        };
        Ok((response, lease, timer))
    }

    async fn http2(
        &self,
        body: Body,
    ) -> Result<(http::Response<Incoming>, Lease, LazyTimer), UpstreamError> {
        use http_body::Body as _;
        let repeatable = body.is_end_stream() && self.parts.method.is_idempotent();
        let message = self.message(body)?;
        let (stream, pooled) = self.stream().await?;
        let unsent = match self.send_http2(stream, message).await {
            Ok(answer) => return Ok(answer),
            Err(unsent) => unsent,
        };
        let message = match unsent.message {
            Some(message) if pooled => message,
            None if pooled && repeatable && unsent.error.retry != Retry::Never => {
                self.message(Body::empty())?
            }
            _ => return Err(unsent.error),
        };
        let (stream, _) = self.stream().await?;
        let sent = self.send_http2(stream, message).await;
        sent.map_err(|unsent| unsent.error)
    }

    /// A stream, and whether its connection had served before.
    async fn stream(&self) -> Result<(Http2Stream, bool), UpstreamError> {
        let (pool, worker) = (&self.server.pool, self.context.connection.worker);
        if let Some(stream) = pool.stream(worker) {
            return Ok((stream, true));
        }
        // One opens, the others of this worker wait and then share what it opened.
        let opening = pool.opening(worker).await;
        if let Some(stream) = pool.stream(worker) {
            return Ok((stream, true));
        }
        let started = Instant::now();
        let connected = connect::http2(self.server, self.group.config.connect_timeout).await;
        self.note_connect(started, connected.is_err());
        let connection = connected?;
        let stream = connection.stream();
        pool.share(worker, connection);
        drop(opening);
        let stream = stream.ok_or_else(|| {
            UpstreamError::new(Reason::UpstreamClosed, Retry::Always).because("no stream allowed")
        })?;
        Ok((stream, false))
    }

    async fn send_http2(
        &self,
        mut stream: Http2Stream,
        message: http::Request<Body>,
    ) -> Result<(http::Response<Incoming>, Lease, LazyTimer), Unsent> {
        let mut timer = LazyTimer::default();
        let response = stream.sender.try_send_request(message);
        let response = self.answer(response, &mut timer).await?;
        Ok((response, Lease::Http2(stream.permit), timer))
    }

    /// Waits for the head, no longer than the route allows.
    async fn answer(
        &self,
        response: impl Future<
            Output = Result<http::Response<Incoming>, TrySendError<http::Request<Body>>>,
        >,
        timer: &mut LazyTimer,
    ) -> Result<http::Response<Incoming>, Unsent> {
        let mut response = pin!(response);
        let (wait, reason) = self.patience();
        if let Some(wait) = wait {
            timer.arm(Instant::now(), wait);
        }
        let outcome = poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => timer.poll_expired(cx).map(|()| None),
        })
        .await;
        timer.disarm();
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => {
                let message = error.take_message();
                let error = failure::of_send(error.into_error(), message.is_none());
                Err(Unsent { error, message })
            }
            None => Err(Unsent {
                error: UpstreamError::new(reason, Retry::Never),
                message: None,
            }),
        }
    }

    /// How long the head may take: `response`, or what is left of the whole time if that is less.
    fn patience(&self) -> (Option<Duration>, Reason) {
        let response = self.options.timeouts.response;
        let left = self
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        match (response, left) {
            (Some(response), Some(left)) if left < response => (Some(left), Reason::TotalTimeout),
            (None, Some(left)) => (Some(left), Reason::TotalTimeout),
            (response, _) => (response, Reason::ResponseTimeout),
        }
    }

    /// When the exchange must be over: `total`, or the caller's `grpc-timeout` if that is sooner.
    fn deadline(&self) -> Option<Instant> {
        let grpc = self
            .parts
            .headers
            .get("grpc-timeout")
            .and_then(grpc_timeout);
        let total = [self.options.timeouts.total, grpc]
            .into_iter()
            .flatten()
            .min();
        self.context.started.checked_add(total?)
    }

    fn finish(&self, answer: Answer, client: Option<OnUpgrade>) -> Result<Response, UpstreamError> {
        let (mut head, incoming) = answer.response.into_parts();
        // RFC 9110 6.2: a version is of one hop. Left at 1.0, hyper would answer the client so too,
        // without chunks and without keep-alive.
        head.version = Version::HTTP_11;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let response = http::Response::from_parts(head, incoming);
            return self.switch(response, client);
        }
        head::clean_answer(head.status, &self.parts.method, &mut head.headers)?;
        let body = self.body(
            &head.headers,
            incoming,
            answer.lease,
            answer.timer,
            answer.permit,
        );
        Ok(http::Response::from_parts(head, body))
    }

    fn body(
        &self,
        headers: &HeaderMap,
        incoming: Incoming,
        lease: Lease,
        timer: LazyTimer,
        permit: Option<Permit>,
    ) -> Body {
        use http_body::Body as _;
        if incoming.is_end_stream() {
            release(self.server, Some(lease), timer);
            return Body::empty();
        }
        Body::boxed(AnswerBody {
            incoming,
            lease: Some(lease),
            permit,
            server: Arc::clone(self.server),
            context: Arc::clone(self.context),
            idle: self.idle(headers),
            deadline: self.deadline(),
            timer,
        })
    }

    /// Event streams and gRPC may be silent for as long as a tunnel may.
    fn idle(&self, headers: &HeaderMap) -> Option<Duration> {
        let streams = headers.get(CONTENT_TYPE).is_some_and(|media_type| {
            let media_type = media_type.as_bytes();
            media_type.starts_with(b"text/event-stream")
                || media_type.starts_with(b"application/grpc")
        });
        match streams {
            true => self.options.timeouts.tunnel_idle,
            false => self.options.timeouts.idle,
        }
    }

    /// RFC 9110 7.8: a 101 is only an answer to a request for it.
    fn switch(
        &self,
        mut response: http::Response<Incoming>,
        client: Option<OnUpgrade>,
    ) -> Result<Response, UpstreamError> {
        let unasked = || UpstreamError::new(Reason::UpstreamUpgrade, Retry::Never);
        let client = client.ok_or_else(unasked)?;
        let protocol = response
            .headers()
            .get(UPGRADE)
            .cloned()
            .ok_or_else(unasked)?;
        if !tunnel::was_asked_for(&protocol, self.context.head.upgrade.as_ref()) {
            return Err(unasked());
        }
        let server = hyper::upgrade::on(&mut response);
        let (mut head, _) = response.into_parts();
        head::clean_answer(head.status, &self.parts.method, &mut head.headers)?;
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol);
        let idle = self.options.timeouts.tunnel_idle;
        head.extensions.insert(tunnel::open(client, server, idle));
        Ok(http::Response::from_parts(head, Body::empty()))
    }
}

/// gRPC over HTTP/2, "Requests": up to eight digits and a unit.
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read_in_every_unit_and_refused_when_malformed() {
        let read = |text| grpc_timeout(&HeaderValue::from_static(text));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("150m"), Some(Duration::from_millis(150)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        for bad in ["", "S", "2", "123456789S", "2x", "-1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
