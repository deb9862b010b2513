//! One connection of HTTP/2, and its streams.
//!
//! A client that leaves its window closed holds an answer, and whatever feeds it, for as long as it
//! likes: the body is not polled then, so no timer in the body fires, and the connection may be busy
//! with other streams or with PINGs. So each stream is watched where it is run: after each poll it is
//! known whether its body was asked (then the upstream is slow) or gave a frame (then the client is).
//! A stream that the client does not take for `write_timeout` is reset. How much of a frame has gone h2
//! tells nobody, and upstreams' frames are large: so they are handed out in pieces, each of which has that
//! time.
//!
//! h2 itself caps CONTINUATION frames, header lists, resets before a stream is served
//! (`max_resets`), resets for the client's own faults, and small or empty DATA frames. Floods of PING,
//! SETTINGS, PRIORITY and WINDOW_UPDATE are ended by the I/O wrapper's frame meter.
//! Resets of streams that are being served are counted by the guard. The streams of all connections
//! together are limited here, and what the heads of those that wait for their answers take. A head
//! that does not end has `header_timeout`, as over HTTP/1.1, while no stream is under way; the frame
//! meter sees it. Half of any other frame is idling.
//!
//! Not limited in time: the end of an answer that h2 has taken over whole, a chunk at most, for as
//! long as the connection has other streams. `max_streams` limits how many.

use std::{
    error::Error,
    future::Future,
    io, mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    Request, Response,
    body::Incoming,
    rt::Executor,
    server::conn::http2,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    connection::Serving,
    guard::{End, Guard, Served},
    hub::Hub,
    io::Io,
    state::{Polled, State},
    worker::Worker,
};
use crate::exchange::{Body as AnyBody, BodyError, Connection, Handler, LazyTimer, Reason};

/// Serves the connection.
pub(super) async fn serve<H: Handler>(serving: Serving<'_, H>, guard: Guard<'_>, mut io: Io) {
    io.meter_frames();
    let streams = Streams(Arc::new(Shared {
        state: Arc::clone(serving.state),
        worker: Arc::clone(serving.worker),
        connection: Arc::clone(serving.connection),
        hub: Arc::clone(&serving.server.hub),
        total_streams: serving.settings.http2.total_streams,
        total_heads: serving.settings.http2.total_heads,
        write_timeout: serving.settings.limits.write_timeout,
    }));
    let shared = Arc::clone(&streams.0);
    let handler = Arc::clone(&serving.server.handler);
    let service = service_fn(move |request| {
        let request: Request<Incoming> = request;
        let answer = shared.admit(request.headers()).map(|head| {
            shared.state.note_call();
            (
                head,
                handler.handle(request.map(AnyBody::from), &shared.connection),
            )
        });
        let state = Arc::clone(&shared.state);
        async move {
            let (head, answer) = answer?;
            let Ok(answer) = answer.await;
            // Whoever answers has dropped the request's head.
            drop(head);
            state.note_answer();
            let watched = |body| Watched {
                body,
                rest: Bytes::new(),
                state,
            };
            Ok::<_, h2::Error>(answer.map(watched))
        }
    });
    let http2 = serving.settings.http2(streams);
    let mut served = pin!(http2.serve_connection(TokioIo::new(io), service));
    let tell = |end: &End| serving.tell(end);
    guard.serve(served.as_mut(), tell).await;
}

/// Whether h2 ended the connection for what the client sent.
pub(super) fn is_protocol_error(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_library() && !error.is_io();
        }
        // The frame meter's word for a flood.
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::InvalidData;
        }
        cause = error.source();
    }
    false
}

impl<S, B> Served for http2::Connection<TokioIo<Io>, S, Streams>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = h2::Error>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = BodyError> + Send + 'static,
{
    type Error = hyper::Error;

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// What the streams of one connection share.
struct Shared {
    state: Arc<State>,
    worker: Arc<Worker>,
    connection: Arc<Connection>,
    hub: Arc<Hub>,
    total_streams: usize,
    total_heads: usize,
    write_timeout: Duration,
}

impl Shared {
    /// A head is a few hundred bytes on the wire and many times that here and on its way to the
    /// upstream, and a connection may hold many: so their number is limited for all connections,
    /// and so is what they take. RFC 9113 8.7: the client may send a refused request again.
    fn admit(&self, head: &HeaderMap) -> Result<Head, h2::Error> {
        let size = size(head);
        let detail = if self.hub.streams() >= self.total_streams {
            "too many streams are open: stream refused"
        } else if self.hub.heads() + size > self.total_heads {
            "the heads of open streams take too much memory: stream refused"
        } else {
            return Ok(Head::new(&self.worker, size));
        };
        self.complain(Reason::TooManyStreams, detail);
        Err(h2::Reason::REFUSED_STREAM.into())
    }

    fn complain(&self, reason: Reason, detail: &str) {
        let observer = self.hub.observer();
        observer.malformed(&self.connection, reason, &detail);
    }
}

/// What a head takes here: each field a place in a map, whose cost is many times that of a byte on
/// the wire (HPACK sends a field that was sent before in one).
fn size(head: &HeaderMap) -> usize {
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    head.len() * FIELD + head.iter().map(bytes).sum::<usize>()
}

/// A head counts until its request is answered.
struct Head {
    worker: Arc<Worker>,
    size: usize,
}

impl Head {
    fn new(worker: &Arc<Worker>, size: usize) -> Self {
        worker.head_came(size);
        Self {
            worker: Arc::clone(worker),
            size,
        }
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.worker.head_gone(self.size);
    }
}

/// What a field's place in a map of fields takes, in the client's map and the upstream's.
const FIELD: usize = 200;

/// Runs the streams of one connection on its worker.
#[derive(Clone)]
pub(super) struct Streams(Arc<Shared>);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(Stream {
            stream,
            timer: LazyTimer::default(),
            open: Open::new(Arc::clone(&self.0)),
        });
    }
}

/// Counts a stream until it is dropped.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.state.stream_opened();
        shared.worker.stream_opened();
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state.stream_closed();
        self.0.worker.stream_closed();
    }
}

pin_project! {
    /// One stream: hyper's future of it, from the handler's call to the last byte of the answer.
    struct Stream<F> {
        #[pin]
        stream: F,
        timer: LazyTimer,
        open: Open,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.project();
        let shared = &me.open.0;
        shared.state.note_polled(Polled::Not);
        if me.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match shared.state.polled() {
            Polled::Not => {}
            Polled::Empty => me.timer.disarm(),
            Polled::Frame => me.timer.arm(Instant::now(), shared.write_timeout),
        }
        ready!(me.timer.poll_expired(cx));
        let detail = "the client's window stayed closed: stream reset";
        shared.complain(Reason::WriteTimeout, detail);
        // hyper's future is dropped with us, and h2 resets the stream.
        Poll::Ready(())
    }
}

pin_project! {
    /// A response's body, in pieces, that tells what its last poll gave.
    struct Watched<B> {
        #[pin]
        body: B,
        // What is left of a large frame.
        rest: Bytes,
        state: Arc<State>,
    }
}

impl<B: Body<Data = Bytes>> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let me = self.project();
        let frame = match me.rest.is_empty() {
            true => me.body.poll_frame(cx),
            false => Poll::Ready(Some(Ok(Frame::data(mem::take(me.rest))))),
        };
        me.state.note_polled(match frame {
            Poll::Pending => Polled::Empty,
            Poll::Ready(_) => Polled::Frame,
        });
        frame.map_ok(|frame| first_piece(frame, me.rest))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

/// A frame as it is, or the beginning of a large one.
fn first_piece(frame: Frame<Bytes>, rest: &mut Bytes) -> Frame<Bytes> {
    let mut data = match frame.into_data() {
        Ok(data) => data,
        Err(other) => return other,
    };
    if data.len() > PIECE {
        *rest = data.split_off(PIECE);
    }
    Frame::data(data)
}

/// As much as h2 puts into one DATA frame.
const PIECE: usize = 16 << 10;
