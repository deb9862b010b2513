//! The body of an upstream's answer, and what its end sets free.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    http1,
    pool::{Http1Connection, StreamPermit},
    registry::Permit,
    server::Server,
};
use crate::exchange::{
    Body, BodyError, BodyFault, Context, LazyTimer, Reason, fields::clean_trailers,
};

/// Where an answer's body comes from.
pub(super) enum Source {
    /// A connection, which waits in the pool when the answer has ended.
    Http1 {
        /// Until its end.
        answer: Option<http1::Answer>,
        worker: usize,
        most_idle: usize,
    },
    /// A stream of a shared connection.
    Http2 {
        incoming: Incoming,
        /// Held until its end.
        stream: Option<StreamUse>,
    },
}

/// A stream in use. One with a body may outlive its answer: it is in use until both have ended.
pub(super) enum StreamUse {
    /// There is only an answer to wait for.
    Answer(#[expect(dead_code, reason = "held for its drop")] StreamPermit),
    /// The request's body holds it too.
    Both(#[expect(dead_code, reason = "held for its drop")] Arc<StreamPermit>),
}

impl StreamUse {
    /// The use of a stream by a request with this body.
    pub(super) fn by(stream: StreamPermit, body: Body) -> (Self, Body) {
        if body.is_end_stream() {
            return (Self::Answer(stream), body);
        }
        let stream = Arc::new(stream);
        let body = Body::boxed(HeldBody {
            body,
            _held: Arc::clone(&stream),
        });
        (Self::Both(stream), body)
    }
}

impl Source {
    /// The whole body, if nothing of it has to be waited for.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Http1 { answer, .. } => answer.as_mut()?.take_whole(),
            Self::Http2 { incoming, .. } => incoming.is_end_stream().then(Bytes::new),
        }
    }

    /// Ends the exchange with an answer that was read to its end.
    pub(super) fn finish(&mut self, server: &Server, mut timer: LazyTimer) {
        match self {
            Self::Http1 {
                answer,
                worker,
                most_idle,
            } => {
                if let Some(connection) = answer.take().and_then(http1::Answer::finish) {
                    timer.disarm();
                    let connection = Http1Connection { connection, timer };
                    server.pool.put(*worker, connection, *most_idle);
                }
            }
            Self::Http2 { stream, .. } => *stream = None,
        }
    }

    /// Ends the exchange before its answer has ended.
    fn abort(&mut self) {
        match self {
            Self::Http1 { answer, .. } => *answer = None,
            Self::Http2 { stream, .. } => *stream = None,
        }
    }

    /// Whether the exchange still goes on.
    fn is_open(&self) -> bool {
        match self {
            Self::Http1 { answer, .. } => answer.is_some(),
            Self::Http2 { stream, .. } => stream.is_some(),
        }
    }

    /// hyper takes RST_STREAM with NO_ERROR for an end. Behind a whole answer it is one (RFC 9113
    /// 8.1), but without END_STREAM the answer was cut.
    fn was_reset(&self) -> bool {
        match self {
            Self::Http1 { .. } => false,
            Self::Http2 { incoming, stream } => stream.is_some() && !incoming.is_end_stream(),
        }
    }

    fn poll_frame(&mut self, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Http1 {
                answer: Some(answer),
                ..
            } => Pin::new(answer).poll_frame(task),
            Self::Http1 { answer: None, .. } => Poll::Ready(None),
            Self::Http2 { incoming, .. } => {
                let polled = Pin::new(incoming).poll_frame(task);
                polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1 { answer, .. } => answer.as_ref().is_none_or(HttpBody::is_end_stream),
            Self::Http2 { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1 {
                answer: Some(answer),
                ..
            } => answer.size_hint(),
            Self::Http1 { answer: None, .. } => SizeHint::with_exact(0),
            Self::Http2 { incoming, .. } => incoming.size_hint(),
        }
    }
}

/// An answer on its way from a server.
///
/// When it ends whole, its connection goes back to the pool; when it is dropped early or breaks
/// off, the connection is closed with it.
pub(super) struct AnswerBody {
    pub(super) source: Source,
    pub(super) permit: Option<Permit>,
    pub(super) server: Arc<Server>,
    pub(super) context: Arc<Context>,
    pub(super) idle: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    pub(super) timer: LazyTimer,
    /// What the server's `Connection` nominated: of one hop as trailers too (RFC 9110 7.6.1).
    pub(super) nominated: Vec<HeaderName>,
    /// Why it broke off, until the client's side is told.
    pub(super) broken: Option<BodyError>,
}

impl AnswerBody {
    fn finish(&mut self) {
        self.permit = None;
        let timer = std::mem::take(&mut self.timer);
        self.source.finish(&self.server, timer);
    }

    /// The error comes with the next poll: with this one hyper would throw away what it has not yet
    /// written, even the head.
    fn fail(
        &mut self,
        reason: Reason,
        error: BodyError,
        task: &Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.source.abort();
        self.permit = None;
        self.context.note(reason);
        self.server.metrics.body_failed();
        self.broken = Some(error);
        task.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the whole time has passed; it does so for a slow reader too, whose answer is always
    /// ready and never waited for.
    fn is_over(&self) -> bool {
        self.source.is_open() && self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    /// Waiting for the server counts against it; the client's own slowness never does, since a
    /// blocked client does not poll.
    fn poll_stalled(&mut self, task: &mut Task<'_>) -> Option<Reason> {
        if self.idle.is_none() && self.deadline.is_none() {
            return None;
        }
        if !self.timer.is_armed() {
            let now = Instant::now();
            let idle = self.idle.unwrap_or(Duration::MAX);
            let left = self.deadline.map(|at| at.saturating_duration_since(now));
            self.timer
                .arm(now, left.map_or(idle, |left| left.min(idle)));
        }
        if self.timer.poll_expired(task).is_pending() {
            return None;
        }
        Some(if self.is_over() {
            Reason::TotalTimeout
        } else {
            Reason::UpstreamIdle
        })
    }
}

/// A request's body that holds something until it has ended: its place under `max_in_flight`, its
/// stream.
pub(super) struct HeldBody<H> {
    body: Body,
    _held: H,
}

impl HeldBody<Permit> {
    /// Holds a place, where there is a limit and a body.
    pub(super) fn around(body: Body, permit: Option<&Permit>) -> Body {
        match permit {
            Some(permit) if !body.is_end_stream() => Body::boxed(Self {
                body,
                _held: permit.clone(),
            }),
            _ => body,
        }
    }
}

impl<H: Unpin> HttpBody for HeldBody<H> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.is_over() {
            let reason = Reason::TotalTimeout;
            return self.fail(reason, BodyFault(reason).into(), task);
        }
        match self.source.poll_frame(task) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.timer.disarm();
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                    for name in &self.nominated {
                        trailers.remove(name);
                    }
                }
                if self.source.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(Reason::UpstreamCut, error, task),
            Poll::Ready(None) if self.source.was_reset() => {
                let reason = Reason::UpstreamCut;
                self.fail(reason, BodyFault(reason).into(), task)
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => match self.poll_stalled(task) {
                Some(reason) => self.fail(reason, BodyFault(reason).into(), task),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
