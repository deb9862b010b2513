//! What requests to routes without a cache change (RFC 9111 4.4).
//!
//! The gateway is one cache: an answer that one route has stored must not outlive the change that
//! comes by another, as where `GET` and `DELETE` of a URL are two routes.

use std::sync::Arc;

use tower::Layer;

use super::{
    key::public_host,
    policy::{Url, invalidated, is_safe},
    purge::Aim,
    shared::Cache,
    target,
};
use crate::exchange::{BoxFuture, Context, Handle, Request, Response, RouteService};

/// Puts a watch for changes around a service.
#[derive(Clone)]
pub struct ChangesLayer(Arc<Cache>);

impl ChangesLayer {
    /// For a route that stores nothing itself.
    #[must_use]
    pub fn new(cache: &Arc<Cache>) -> Self {
        Self(Arc::clone(cache))
    }
}

impl Layer<RouteService> for ChangesLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(Changes {
            cache: Arc::clone(&self.0),
            inner,
        })
    }
}

/// Hands requests on, and has what they changed forgotten.
struct Changes {
    cache: Arc<Cache>,
    inner: RouteService,
}

impl Handle for Changes {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        if is_safe(request.method()) {
            return self.inner.handle(request, context);
        }
        let target = target(&request).to_owned();
        let answer = self.inner.handle(request, context);
        let (cache, context) = (Arc::clone(&self.cache), Arc::clone(context));
        Box::pin(async move {
            let response = answer.await;
            cache.changed(&target, &response, &context);
            response
        })
    }
}

impl Cache {
    /// Forgets what an unsafe request for a target has changed, by its answer (RFC 9111 4.4).
    pub(super) fn changed(&self, target: &str, response: &Response, context: &Context) {
        if response.body().is_own() {
            return;
        }
        let host = public_host(context);
        let url = Url {
            scheme: context.scheme,
            authority: &host,
            target,
        };
        for target in invalidated(&url, response.status(), response.headers()) {
            let aim = Aim::Url {
                host: host.as_str().into(),
                target: target.into(),
            };
            self.invalidate(&aim.plain());
        }
    }
}
