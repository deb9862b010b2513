//! The body of an upstream's answer, and what its end sets free.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    pool::{Http1Connection, StreamPermit},
    registry::Permit,
    server::Server,
};
use crate::exchange::{
    Body, BodyError, BodyFault, Context, LazyTimer, Reason, fields::clean_trailers,
};

/// What an exchange holds on to until its answer has ended.
pub(super) enum Lease {
    /// An HTTP/1.1 connection, and whether it may be used again.
    Http1 {
        connection: Http1Connection,
        worker: usize,
        most_idle: usize,
    },
    /// A stream of a shared connection.
    Http2(#[expect(dead_code, reason = "held for its drop")] StreamPermit),
    /// The same with a body, which may outlive its answer: the stream is in use until both have ended.
    Http2Upload(#[expect(dead_code, reason = "held for its drop")] Arc<StreamPermit>),
}

impl Lease {
    /// A stream for this body.
    pub(super) fn http2(stream: StreamPermit, body: Body) -> (Self, Body) {
        if body.is_end_stream() {
            return (Self::Http2(stream), body);
        }
        let stream = Arc::new(stream);
        let body = Body::boxed(HeldBody {
            body,
            _held: Arc::clone(&stream),
        });
        (Self::Http2Upload(stream), body)
    }
}

/// An answer on its way from a server.
///
/// When it ends whole, its connection goes back to the pool; when it is dropped early or breaks
/// off, the connection is closed with it.
pub(super) struct AnswerBody {
    pub(super) incoming: Incoming,
    pub(super) lease: Option<Lease>,
    pub(super) permit: Option<Permit>,
    pub(super) server: Arc<Server>,
    pub(super) context: Arc<Context>,
    pub(super) idle: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    pub(super) timer: LazyTimer,
}

impl AnswerBody {
    /// Gives the connection back. Also called at once for an answer that has no body.
    pub(super) fn finish(&mut self) {
        self.permit = None;
        let timer = std::mem::take(&mut self.timer);
        release(&self.server, self.lease.take(), timer);
    }

    fn fail(&mut self, reason: Reason, error: BodyError) -> BodyError {
        self.lease = None;
        self.permit = None;
        self.context.note(reason);
        self.server.metrics.body_failed();
        error
    }

    /// hyper takes RST_STREAM with NO_ERROR for an end. Behind a whole answer it is one (RFC 9113
    /// 8.1), but without END_STREAM the answer was cut.
    fn was_reset(&self) -> bool {
        let http2 = matches!(self.lease, Some(Lease::Http2(_) | Lease::Http2Upload(_)));
        http2 && !self.incoming.is_end_stream()
    }

    /// Whether the whole time has passed; it does so for a slow reader too, whose answer is always
    /// ready and never waited for.
    fn is_over(&self) -> bool {
        self.lease.is_some() && self.deadline.is_some_and(|at| Instant::now() >= at)
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

/// Ends the use of a connection whose answer was read to its end.
pub(super) fn release(server: &Server, lease: Option<Lease>, timer: LazyTimer) {
    let Some(Lease::Http1 {
        mut connection,
        worker,
        most_idle,
    }) = lease
    else {
        return;
    };
    // An early answer may leave a body half sent; hyper is then not ready for another request.
    if connection.upload.is_some() && !connection.sender.is_ready() {
        return;
    }
    connection.upload = None;
    connection.timer = timer;
    connection.timer.disarm();
    server.pool.put(worker, connection, most_idle);
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
        if self.is_over() {
            let reason = Reason::TotalTimeout;
            let error = self.fail(reason, BodyFault(reason).into());
            return Poll::Ready(Some(Err(error)));
        }
        match Pin::new(&mut self.incoming).poll_frame(task) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer.disarm();
                let mut frame = frame;
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                }
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = self.fail(Reason::UpstreamCut, error.into());
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) if self.was_reset() => {
                let error = self.fail(Reason::UpstreamCut, BodyFault(Reason::UpstreamCut).into());
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => match self.poll_stalled(task) {
                Some(reason) => {
                    let error = self.fail(reason, BodyFault(reason).into());
                    Poll::Ready(Some(Err(error)))
                }
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
