//! One request sent to one server, until the answer's head is there.
//!
//! The client's head is kept meanwhile, so that a request which met a pooled connection in the
//! moment of its death can be sent once more, silently, when that is safe: when nothing was
//! written, or when the method is idempotent and there is no body.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use http::{HeaderValue, StatusCode, request::Parts};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::{Instant, timeout};

use super::{
    body::{Source, StreamUse},
    connect, failure,
    forward::ForwardOptions,
    head::{self, HeadOptions, Seen},
    http1,
    pool::{Http1Connection, Http2Stream},
    registry::UpstreamGroup,
    server::Server,
};
use crate::{
    config::UpstreamProtocol,
    exchange::{self, Body, Context, LazyTimer, Reason, Retry, UpstreamError, http1::Outgoing},
};

/// A request on its way to a server.
pub(super) struct Attempt<'a> {
    pub(super) options: &'a ForwardOptions,
    pub(super) group: &'a Arc<UpstreamGroup>,
    pub(super) server: &'a Arc<Server>,
    pub(super) context: &'a Arc<Context>,
    /// The client's head; each message to the server gets a head of its own.
    pub(super) parts: &'a Parts,
    /// Whether the client's wish to switch protocols is passed on.
    pub(super) upgrade: bool,
}

/// An answer's head, and where its body comes from.
pub(super) struct Sent {
    pub(super) head: http::response::Parts,
    /// What one pass over its fields told.
    pub(super) seen: Seen,
    pub(super) behind: Behind,
    pub(super) timer: LazyTimer,
}

/// What stands behind an answer's head.
pub(super) enum Behind {
    /// A body, perhaps an empty one.
    Body(Source),
    /// Another protocol, where the version of HTTP has such a thing.
    Switch(Option<http1::Switched>),
}

/// What is sent over HTTP/1.1.
enum Try {
    New(Body),
    /// A request of which nothing was written, as it stood.
    Again(Outgoing),
}

/// What is sent over HTTP/2. Whatever lives while a future waits makes it larger, and futures are
/// moved: so the message is made when its stream is ready, and a returned one is boxed.
enum Message {
    New(Body),
    Returned(Box<http::Request<Body>>),
}

/// A send that failed; what was to be sent is there if none of it was written.
struct Unsent<M> {
    error: UpstreamError,
    message: Option<M>,
}

impl<M> Unsent<M> {
    fn lost(error: UpstreamError) -> Self {
        Self {
            error,
            message: None,
        }
    }
}

/// What hyper makes of a send.
type Outcome = Result<http::Response<Incoming>, TrySendError<http::Request<Body>>>;

impl Attempt<'_> {
    /// Sends the request; tells too how long it took until the head of the answer, or the failure.
    pub(super) async fn run(
        &self,
        body: Body,
        started: Instant,
    ) -> (Result<Sent, UpstreamError>, Duration) {
        self.context.attempt(exchange::Attempt {
            upstream: Arc::clone(&self.group.config.name),
            server: Arc::clone(&self.server.name),
            connect: None,
            response: None,
        });
        let outcome = match self.server.protocol() {
            UpstreamProtocol::Http1 => self.http1(body, started).await,
            // Boxed, so that it does not make the future of every HTTP/1.1 request larger.
            UpstreamProtocol::Http2 => Box::pin(self.http2(body)).await,
        };
        let took = started.elapsed();
        if outcome.is_ok() {
            self.context
                .finish_attempt(|attempt| attempt.response = Some(took));
        }
        (outcome, took)
    }

    /// When the exchange must be over: `total`, or the caller's `grpc-timeout` if that is sooner.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let grpc = self.context.head.grpc.then(|| {
            let timeout = self.parts.headers.get("grpc-timeout");
            timeout.and_then(grpc_timeout)
        });
        let allowed = [self.options.timeouts.total, grpc.flatten()];
        let least = allowed.into_iter().flatten().min()?;
        self.context.started.checked_add(least)
    }

    async fn http1(&self, body: Body, started: Instant) -> Result<Sent, UpstreamError> {
        let repeatable = body.is_end_stream() && self.parts.method.is_idempotent();
        let mut outgoing = Try::New(body);
        let mut fresh = false;
        loop {
            let (connection, pooled) = self.http1_connection(started, fresh).await?;
            let unsent = match self.send_http1(connection, outgoing).await {
                Ok(sent) => return Ok(sent),
                Err(unsent) => unsent,
            };
            outgoing = match unsent.message {
                // It died in the pool and took none of the request with it.
                Some(unsent) if pooled => Try::Again(unsent),
                None if pooled && repeatable && unsent.error.retry == Retry::IfIdempotent => {
                    Try::New(Body::empty())
                }
                _ => return Err(unsent.error),
            };
            fresh = true;
        }
    }

    /// A connection, and whether it had served before.
    async fn http1_connection(
        &self,
        now: Instant,
        fresh: bool,
    ) -> Result<(Http1Connection, bool), UpstreamError> {
        let (worker, keep) = (
            self.context.connection.worker,
            self.group.config.pool_idle_timeout,
        );
        if !fresh && let Some(connection) = self.server.pool.take(worker, now, keep) {
            return Ok((connection, true));
        }
        // Boxed: connecting is rare.
        let limit = self.connect_limit();
        let connection = Box::pin(self.connect(connect::http1(self.server, limit))).await?;
        let timer = LazyTimer::default();
        Ok((Http1Connection { connection, timer }, false))
    }

    async fn connect<T>(
        &self,
        connect: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let started = Instant::now();
        let connected = connect.await;
        let took = started.elapsed();
        self.context
            .finish_attempt(|attempt| attempt.connect = Some(took));
        connected.map_err(|error| {
            self.server.metrics.connect_error();
            self.or_late(error)
        })
    }

    /// How long connecting may take: `connect_timeout`, or what is left of the whole time.
    fn connect_limit(&self) -> Duration {
        let limit = self.group.config.connect_timeout;
        let left = self
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        left.map_or(limit, |left| left.min(limit))
    }

    /// Behind the deadline no other failure matters.
    fn or_late(&self, error: UpstreamError) -> UpstreamError {
        match self.deadline() {
            Some(at) if Instant::now() >= at => {
                UpstreamError::new(Reason::TotalTimeout, Retry::Never)
            }
            _ => error,
        }
    }

    fn head_options(&self) -> HeadOptions<'_> {
        HeadOptions {
            host: &self.options.host,
            forwarded: self.options.forwarded,
            upgrade: self.upgrade,
            via: &self.options.via,
        }
    }

    fn message(&self, message: Message) -> Result<http::Request<Body>, Unsent<Message>> {
        let body = match message {
            Message::Returned(message) => return Ok(*message),
            Message::New(body) => body,
        };
        let options = self.head_options();
        head::request(self.parts, self.context, self.server, &options, body).map_err(Unsent::lost)
    }

    async fn send_http1(
        &self,
        connection: Http1Connection,
        outgoing: Try,
    ) -> Result<Sent, Unsent<Outgoing>> {
        let Http1Connection {
            mut connection,
            mut timer,
        } = connection;
        let method = self.parts.method.clone();
        let mut exchange = match outgoing {
            Try::Again(upload) => http1::Exchange::again(connection, method, upload),
            Try::New(body) => {
                let framing = http1::request_head(
                    connection.output(),
                    (self.parts, &body),
                    self.context,
                    self.server,
                    &self.head_options(),
                );
                http1::Exchange::new(connection, method, framing, body)
            }
        };
        let interim = |head| self.context.interim(&http1::interim_head(head));
        let outcome = self
            .answer(|cx| exchange.poll(cx, &interim), &mut timer)
            .await;
        match outcome {
            Ok(Ok(head)) => self.http1_sent(head, exchange, timer).map_err(Unsent::lost),
            Ok(Err(error)) => Err(self.http1_unsent(error, exchange)),
            Err(late) => Err(Unsent::lost(UpstreamError::new(late, Retry::Never))),
        }
    }

    fn http1_sent(
        &self,
        head: http1::Head,
        exchange: http1::Exchange,
        timer: LazyTimer,
    ) -> Result<Sent, UpstreamError> {
        let behind = if head.status == StatusCode::SWITCHING_PROTOCOLS {
            Behind::Switch(Some(exchange.switch()))
        } else {
            let answer = exchange.answer(&head, self.options.timeouts.idle);
            Behind::Body(Source::Http1 {
                answer: Some(answer.map_err(failure::malformed)?),
                worker: self.context.connection.worker,
                most_idle: self.group.config.pool_max_idle,
            })
        };
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = head.status;
        parts.headers = head.headers;
        if let Some(phrase) = head.phrase {
            parts.extensions.insert(phrase);
        }
        Ok(Sent {
            head: parts,
            seen: head.seen,
            behind,
            timer,
        })
    }

    fn http1_unsent(&self, error: http1::SendError, exchange: http1::Exchange) -> Unsent<Outgoing> {
        use http1::SendError::{Body, Closed, Length, Malformed};
        let lost = |error| Unsent::lost(self.blame_body(error));
        match error {
            Body(error) => lost(failure::of_body(error)),
            Length => lost(failure::of_body(
                "the body has another length than was told".into(),
            )),
            Malformed(what) => Unsent::lost(failure::malformed(what)),
            Closed {
                error,
                written,
                began,
            } => Unsent {
                error: failure::of_close(error, written, began),
                message: exchange.into_unsent(),
            },
        }
    }

    async fn http2(&self, body: Body) -> Result<Sent, UpstreamError> {
        let repeatable = body.is_end_stream() && self.parts.method.is_idempotent();
        let (stream, pooled) = self.stream().await?;
        let unsent = match self.send_http2(stream, Message::New(body)).await {
            Ok(sent) => return Ok(sent),
            Err(unsent) => unsent,
        };
        let message = match unsent.message {
            Some(message) if pooled => message,
            None if pooled && repeatable && unsent.error.retry != Retry::Never => {
                Message::New(Body::empty())
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
        // One opens, the others of this worker wait and then share what it opened. Each waits no
        // longer than it would for a connection of its own: behind a server that can't be reached
        // they would else try one after the other, and the last would wait for all of them.
        let limit = self.connect_limit();
        let opening = timeout(limit, pool.opening(worker))
            .await
            .map_err(|_| self.or_late(UpstreamError::new(Reason::ConnectTimeout, Retry::Always)))?;
        if let Some(stream) = pool.stream(worker) {
            return Ok((stream, true));
        }
        let limit = self.connect_limit();
        let connection = self.connect(connect::http2(self.server, limit)).await?;
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
        message: Message,
    ) -> Result<Sent, Unsent<Message>> {
        let mut timer = LazyTimer::default();
        let (stream_use, message) = match message {
            Message::New(body) => {
                let (stream_use, body) = StreamUse::by(stream.permit, body);
                (stream_use, Message::New(body))
            }
            // Its body holds the stream that it was meant for.
            returned @ Message::Returned(_) => (StreamUse::Answer(stream.permit), returned),
        };
        let message = self.message(message)?;
        let mut response = Box::pin(stream.sender.try_send_request(message));
        let outcome = self.answer(|cx| response.as_mut().poll(cx), &mut timer);
        let response = match outcome.await {
            Ok(outcome) => self.http2_response(outcome)?,
            Err(late) => return Err(Unsent::lost(UpstreamError::new(late, Retry::Never))),
        };
        let (head, incoming) = response.into_parts();
        let behind = match head.status {
            StatusCode::SWITCHING_PROTOCOLS => Behind::Switch(None),
            _ => Behind::Body(Source::Http2 {
                incoming,
                stream: Some(stream_use),
            }),
        };
        Ok(Sent {
            seen: Seen::of(&head.headers),
            head,
            behind,
            timer,
        })
    }

    fn http2_response(
        &self,
        outcome: Outcome,
    ) -> Result<http::Response<Incoming>, Unsent<Message>> {
        outcome.map_err(|mut error| {
            let message = error.take_message();
            let error = failure::of_send(error.into_error(), message.is_none());
            Unsent {
                error: self.blame_body(error),
                message: message.map(|message| Message::Returned(Box::new(message))),
            }
        })
    }

    /// Waits for the head, no longer than the route allows; fails with what that is called.
    async fn answer<T>(
        &self,
        mut poll: impl FnMut(&mut Task<'_>) -> Poll<T>,
        timer: &mut LazyTimer,
    ) -> Result<T, Reason> {
        let mut late = self.arm(timer, Instant::now());
        let mut received = self.context.bytes_in();
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(outcome) = poll(cx) {
                return Poll::Ready(Ok(outcome));
            }
            loop {
                ready!(timer.poll_expired(cx));
                // While the client's body still comes, the server can't be late: its time is counted
                // from what came last.
                let before = std::mem::replace(&mut received, self.context.bytes_in());
                if late != Reason::ResponseTimeout || before == received {
                    return Poll::Ready(Err(late));
                }
                late = self.arm(timer, self.context.last_received());
            }
        })
        .await;
        timer.disarm();
        outcome
    }

    /// Of a body that broke off, hyper's HTTP/2 tells only that the stream was reset; why, the body
    /// itself has noted.
    fn blame_body(&self, error: UpstreamError) -> UpstreamError {
        use Reason::{BodyInvalid, BodyTimeout, BodyTooLarge};
        match self.context.reason() {
            Some(reason @ (BodyInvalid | BodyTimeout | BodyTooLarge)) => {
                UpstreamError::new(reason, Retry::Never).because(error)
            }
            _ => error,
        }
    }

    /// Sets the time until which the head must be there, counted from a moment; what it is called
    /// when it was not.
    fn arm(&self, timer: &mut LazyTimer, from: Instant) -> Reason {
        let (wait, late) = self.patience(from);
        if let Some(wait) = wait {
            timer.arm(from, wait);
        }
        late
    }

    /// How long the head may take: `response`, or what is left of the whole time if that is less.
    fn patience(&self, from: Instant) -> (Option<Duration>, Reason) {
        let response = self.options.timeouts.response;
        let left = self.deadline().map(|at| at.saturating_duration_since(from));
        match (response, left) {
            (Some(response), Some(left)) if left < response => (Some(left), Reason::TotalTimeout),
            (None, Some(left)) => (Some(left), Reason::TotalTimeout),
            (response, _) => (response, Reason::ResponseTimeout),
        }
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
