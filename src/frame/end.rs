//! The end of a request, however it comes: once the answer's last bytes are written, or the client
//! has left, or the tunnel is closed, one log line is written and the figures are counted.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header::TRAILER};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{
    Recorder, Route, access_log,
    own_fields::{self, Own},
};
use crate::{
    exchange::{Body, BodyError, BringsFields, Context, InFlight, Reason, TunnelEnd},
    telemetry::RouteMetrics,
};

/// Holds what the end needs; its drop is the end.
pub(super) struct End {
    context: Arc<Context>,
    recorder: Arc<Recorder>,
    metrics: Arc<RouteMetrics>,
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    bytes_out: u64,
    complete: bool,
    upgraded: bool,
}

impl End {
    /// The figures are the route's, or those of what matches none.
    pub(super) fn new(
        context: Arc<Context>,
        recorder: Arc<Recorder>,
        route: Option<&Route>,
    ) -> Self {
        let metrics = Arc::clone(route.map_or(&recorder.unrouted, |route| &route.metrics));
        metrics.begin();
        Self {
            context,
            recorder,
            metrics,
            status: None,
            first_byte: None,
            bytes_out: 0,
            complete: false,
            upgraded: false,
        }
    }

    /// The answer's head is ready. A body that is empty from the start is never polled, so
    /// it is complete here already (HEAD, 204, 304 and the like).
    pub(super) fn answered(&mut self, status: StatusCode, empty: bool) {
        self.status = Some(status);
        self.first_byte = Some(self.context.started.elapsed());
        self.complete = empty;
    }

    /// RFC 9110 6.5.1: over HTTP/1.1 trailers are sent only to who asked, and only what
    /// `Trailer` named; others are lost here, and counted.
    fn trailers(&self, named: bool) {
        let head = &self.context.head;
        if head.version != Version::HTTP_2 && !(head.trailers && named) {
            self.recorder.trailers_dropped();
        }
    }

    /// The tunnel behind a 101 has closed.
    pub(super) fn tunnelled(mut self, end: TunnelEnd) {
        self.upgraded = true;
        self.complete = end.complete;
        self.bytes_out = end.bytes_out;
        self.context.received(end.bytes_in);
        if let Some(reason) = end.cut {
            self.context.note(reason);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.complete {
            // The first reason stays: an upstream's cut is not the client's doing.
            self.context.note(Reason::ClientGone);
        }
        let status = self.status.unwrap_or_else(|| Reason::ClientGone.status());
        let duration = self.context.started.elapsed();
        self.metrics.finished(
            &self.context.head.method,
            status,
            duration,
            self.context.bytes_in(),
            self.bytes_out,
        );
        if let Some(reason) = self.context.reason() {
            self.metrics.rejected(reason);
        }
        if let Some(note) = self.context.cache() {
            self.metrics.cached(note);
        }
        self.context.with_notes(|_, shadow| {
            for reason in shadow {
                self.metrics.shadow_refused(*reason);
            }
        });
        let end = access_log::End {
            status: status.as_u16(),
            bytes_out: self.bytes_out,
            first_byte: self.first_byte,
            duration,
            complete: self.complete,
            upgraded: self.upgraded,
        };
        self.recorder.record(&self.context, &end);
    }
}

/// An answer's body on its way to the client, with the end that it carries.
pub struct AnswerBody {
    body: Body,
    /// Until the last byte is written; where the last frame is small, until it is handed out: who has read
    /// such an answer finds it told. `None` for an upgrade, whose end is its tunnel's.
    end: Option<End>,
    /// Until the last byte is written.
    _in_flight: Option<InFlight>,
    /// Whether the last frame takes the client some time.
    large: bool,
    /// Whether the answer names trailers.
    names_trailers: bool,
    /// Our own fields, where the head's text is to have them and they are in no map.
    pub(super) own: Option<Own>,
}

impl AnswerBody {
    /// Of an answer that is `empty` the end comes at once.
    pub(super) fn new(
        body: Body,
        end: Option<(End, InFlight)>,
        empty: bool,
        headers: &HeaderMap,
    ) -> Self {
        let (end, in_flight) = end.unzip();
        Self {
            end: end.filter(|_| !empty),
            body,
            _in_flight: in_flight,
            large: false,
            names_trailers: headers.contains_key(TRAILER),
            own: None,
        }
    }

    fn seen(&mut self, frame: &Frame<Bytes>) {
        let Some(end) = &mut self.end else { return };
        match frame.data_ref() {
            Some(data) => {
                end.bytes_out += data.len() as u64;
                self.large = data.len() > SMALL;
            }
            None => end.trailers(self.names_trailers),
        }
        if self.body.is_end_stream() {
            self.over(true);
        }
    }
}

/// Nobody asks a body for more that has come to its end since its answer began.
impl Drop for AnswerBody {
    fn drop(&mut self) {
        if self.end.is_some() && self.body.is_end_stream() {
            self.over(true);
        }
    }
}

impl AnswerBody {
    fn over(&mut self, complete: bool) {
        let Some(end) = &mut self.end else { return };
        end.complete = complete;
        if !complete {
            end.context.note(Reason::UpstreamCut);
        }
        if !(complete && self.large) {
            self.end = None;
        }
    }
}

impl BringsFields for AnswerBody {
    fn write_fields(&self, out: &mut Vec<u8>) {
        if let (Some(_), Some(end)) = (self.own, &self.end) {
            own_fields::write(out, &end.context);
        }
    }

    fn replaces(&self, name: &HeaderName) -> bool {
        self.own.is_some_and(|own| own.replaces(name.as_str()))
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(task);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.seen(frame),
            Poll::Ready(None) => self.over(true),
            // The cut stays visible: the connection closes, or the stream is reset.
            Poll::Ready(Some(Err(_))) => self.over(false),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a socket takes at once.
const SMALL: usize = 4 << 10;

/// Whether nobody will ask for the body at all.
pub(super) fn has_no_body(method: &Method, status: StatusCode, body: &Body) -> bool {
    *method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || body.is_end_stream()
}
