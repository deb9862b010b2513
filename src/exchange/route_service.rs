//! The type of every route and of every layer's inner service.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Layer, Service, ServiceExt};

use super::{Context as Exchange, Request, Response};

/// A boxed future of an answer.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers a request; what one middleware, or the end of the chain, is.
///
/// [`tower::Service::call`] takes `&mut self`, so a shared service would have to be cloned for each
/// request. This takes `&self`, and the context beside the request: in the request's extensions it
/// would cost three allocations and a hash. Foreign layers find it there.
pub trait Handle: Send + Sync + 'static {
    /// Answers the request. A refusal is an answer too.
    fn handle(&self, request: Request, context: &Arc<Exchange>) -> BoxFuture<Response>;
}

/// A route's whole stack of middleware behind one reference count.
///
/// It is always ready: overload is shed by permits, never by back-pressure through the router.
#[derive(Clone)]
pub struct RouteService(Arc<dyn Handle>);

impl RouteService {
    /// Erases a handler's type.
    #[must_use]
    pub fn new(handler: impl Handle) -> Self {
        Self(Arc::new(handler))
    }

    /// Takes in a tower service that was not written for Tollgate, such as one of tower-http's.
    ///
    /// It is cloned for each request and driven to readiness first.
    pub fn foreign<S>(service: S) -> Self
    where
        S: Service<Request, Response = Response, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        Self::new(Foreign(service))
    }

    /// Wraps the service in a layer.
    #[must_use]
    pub fn layer<L: Layer<Self, Service = Self>>(self, layer: &L) -> Self {
        layer.layer(self)
    }

    /// Answers the request.
    pub fn handle(&self, request: Request, context: &Arc<Exchange>) -> BoxFuture<Response> {
        self.0.handle(request, context)
    }
}

impl fmt::Debug for RouteService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteService")
    }
}

impl Service<Request> for RouteService {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let context = Exchange::of(&request);
        let answer = self.0.handle(request, &context);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// A layer that replaces an answer's body keeps whose it is by [`Body::within`](super::Body::within).
struct Foreign<S>(S);

impl<S> Handle for Foreign<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    fn handle(&self, mut request: Request, context: &Arc<Exchange>) -> BoxFuture<Response> {
        // An outer foreign layer may have put it there already.
        if request.extensions().get::<Arc<Exchange>>().is_none() {
            request.extensions_mut().insert(Arc::clone(context));
        }
        let service = self.0.clone();
        Box::pin(async move {
            match service.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    }
}
