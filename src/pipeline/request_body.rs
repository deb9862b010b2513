//! The request's body on its way in: how large it may be and how long it may pause.
//!
//! It stands before everything that would read or send the body. A length that is told is refused
//! at once; a body without one is cut when it has passed the limit, which aborts the upstream's
//! half-sent request and answers 413. Requests without a body pass untouched.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tower::Layer;

use crate::{
    config::Route,
    exchange::{
        Body, BodyError, BodyFault, BoxFuture, Context, Handle, LazyTimer, OddNames, Reason,
        Rejection, Request, Response, RouteService,
        fields::{announced_trailers, clean_trailers, has_name, remove_where},
    },
};

/// Puts [`RequestBody`] around a service.
#[derive(Clone, Debug)]
pub struct RequestBodyLayer(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    most: Option<u64>,
    /// Whether gRPC is limited too, because the route itself says so.
    streams_too: bool,
    idle: Option<Duration>,
    stream_idle: Option<Duration>,
    /// What clients must not send in trailers either.
    identity: Arc<Vec<HeaderName>>,
    odd_names: OddNames,
}

impl RequestBodyLayer {
    /// A route's limits, the headers that tell who the caller is, and what becomes of odd names.
    #[must_use]
    pub fn from_config(
        route: &Route,
        identity: &Arc<Vec<HeaderName>>,
        odd_names: OddNames,
    ) -> Self {
        Self(Arc::new(Limits {
            most: route.max_body,
            streams_too: route.max_body_is_own,
            idle: route.timeouts.idle,
            stream_idle: route.timeouts.tunnel_idle,
            identity: Arc::clone(identity),
            odd_names,
        }))
    }
}

impl Layer<RouteService> for RequestBodyLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(RequestBody {
            limits: Arc::clone(&self.0),
            inner,
        })
    }
}

/// Limits the request's body and hands the request on.
struct RequestBody {
    limits: Arc<Limits>,
    inner: RouteService,
}

impl Handle for RequestBody {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        if request.body().is_end_stream() {
            return self.inner.handle(request, context);
        }
        // A tunnel's bytes never come through here. The body of a request that asks for one is a
        // body like any other, or the mere wish would lift every limit.
        let streams = context.head.grpc;
        let most = self
            .limits
            .most
            .filter(|_| !streams || self.limits.streams_too);
        if let Some(most) = most.filter(|most| request.body().size_hint().lower() > *most) {
            let refusal = too_large(most).respond(context);
            return Box::pin(std::future::ready(refusal));
        }
        let idle = match streams {
            true => self.limits.stream_idle,
            false => self.limits.idle,
        };
        let announced = announced(&request, context);
        let request = request.map(|body| {
            Body::boxed(LimitedBody {
                body,
                announced,
                context: Arc::clone(context),
                limits: Arc::clone(&self.limits),
                left: most,
                idle,
                timer: LazyTimer::default(),
            })
        });
        self.inner.handle(request, context)
    }
}

/// The only trailers that may come: on HTTP/1.1 those that `Trailer` names, whatever the server
/// speaks. By then it names none that `Connection` nominated, which are of one hop as trailers too
/// (RFC 9110 7.6.1); HTTP/2 has no nominations. Without `Trailer` this allocates nothing.
fn announced(request: &Request, context: &Context) -> Option<Vec<HeaderName>> {
    let http1 = context.head.version != Version::HTTP_2;
    http1.then(|| announced_trailers(request.headers()))
}

fn too_large(most: u64) -> Rejection {
    Rejection::new(Reason::BodyTooLarge)
        .detail("max_bytes", most)
        .close()
}

struct LimitedBody {
    body: Body,
    /// Which trailers may come; `None` for any.
    announced: Option<Vec<HeaderName>>,
    context: Arc<Context>,
    limits: Arc<Limits>,
    left: Option<u64>,
    idle: Option<Duration>,
    timer: LazyTimer,
}

impl LimitedBody {
    fn fault(&self, reason: Reason) -> BodyError {
        self.context.note(reason);
        BodyFault(reason).into()
    }

    fn clean(&self, trailers: &mut HeaderMap) {
        clean_trailers(trailers);
        for name in &*self.limits.identity {
            trailers.remove(name);
        }
        self.limits.odd_names.clean(trailers);
        if let Some(announced) = &self.announced {
            remove_where(trailers, |name| !has_name(announced, name));
        }
    }

    fn admit(&mut self, data: &Bytes) -> Result<(), BodyError> {
        let length = data.len() as u64;
        self.context.received(length);
        if let Some(left) = &mut self.left {
            match left.checked_sub(length) {
                Some(rest) => *left = rest,
                None => return Err(self.fault(Reason::BodyTooLarge)),
            }
        }
        Ok(())
    }

    /// hyper takes a client's RST_STREAM with NO_ERROR for the body's end. Passed on as one, half an
    /// upload would reach the upstream as a whole request.
    fn was_reset(&self) -> bool {
        self.context.head.version == Version::HTTP_2 && !self.body.is_end_stream()
    }

    /// Waiting for the client counts; a server that does not take the body does not poll for it.
    fn poll_stalled(&mut self, task: &mut Task<'_>) -> Poll<()> {
        if let (Some(idle), false) = (self.idle, self.timer.is_armed()) {
            self.timer.arm(Instant::now(), idle);
        }
        self.timer.poll_expired(task)
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(task) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.timer.disarm();
                if let Some(trailers) = frame.trailers_mut() {
                    self.clean(trailers);
                }
                let admitted = frame.data_ref().map_or(Ok(()), |data| self.admit(data));
                Poll::Ready(Some(admitted.map(|()| frame)))
            }
            // Bad chunking, or the client left: the half-sent request is aborted either way.
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(self.fault(Reason::BodyInvalid)))),
            Poll::Ready(None) if self.was_reset() => {
                Poll::Ready(Some(Err(self.fault(Reason::BodyInvalid))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self
                .poll_stalled(task)
                .map(|()| Some(Err(self.fault(Reason::BodyTimeout)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
