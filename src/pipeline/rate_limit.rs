//! Rate limits: how much who may ask for.
//!
//! A limit stands where its key is known: what is known of every request (the client's address, a
//! field) is counted before authentication, which it spares; what only authentication finds out (the
//! principal, a claim) behind it. So a route has up to two stages of this layer. Within one stage all
//! limits must let a request pass, and none is charged when another refuses.
//!
//! ```text
//! ask      request, caller -> for each limit: key, quota (tier), cost          key.rs, tier.rs
//! take     key, quota, cost, now -> granted or refused; all or none             stage.rs, store
//! answer   429, or on with it: fields, permits, costs that the answer tells     refusal.rs, grant.rs
//! ```
//!
//! Asking comes before taking, so that a store in which taking has to wait can stand between them.
//!
//! ```toml
//! [rate_limits.public_api]
//! key = "caller"
//! quota = ["20/1s", "5000/1h"]
//! ```
//!
//! Hazards: a key that callers can make up limits nobody (the configuration refuses it); keys are
//! hashed before they are kept; a request's own value never becomes a label or a field.

mod book;
mod fields;
mod grant;
mod held;
mod key;
mod limit;
mod refusal;
mod stage;
mod tier;

use std::sync::Arc;

use tower::Layer;

pub use book::{LimitBook, LimitKeyState, LimitWindowState};
pub use limit::Limit;

use crate::{
    config::Route,
    exchange::{BoxFuture, Context, Handle, Request, Response, RouteService},
};
use stage::{Stage, Verdict};

/// One stage of a route's limits.
pub struct RateLimitLayer(Arc<Stage>);

impl RateLimitLayer {
    /// The limits on what is known before authentication, if the route has any.
    #[must_use]
    pub fn before_auth(route: &Route, limits: &LimitBook) -> Option<Self> {
        Stage::layer(route, limits, |limit| !limit.is_by_caller(), false)
    }

    /// The limits by caller, if the route has any.
    #[must_use]
    pub fn by_caller(route: &Route, limits: &LimitBook) -> Option<Self> {
        let of_route = route.rate_limits.iter();
        let outer = of_route
            .filter_map(|name| limits.get(name))
            .any(|limit| !limit.is_by_caller());
        Stage::layer(route, limits, Limit::is_by_caller, outer)
    }
}

impl From<Stage> for RateLimitLayer {
    fn from(stage: Stage) -> Self {
        Self(Arc::new(stage))
    }
}

impl Layer<RouteService> for RateLimitLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        let stage = Arc::clone(&self.0);
        RouteService::new(RateLimited { stage, inner })
    }
}

struct RateLimited {
    stage: Arc<Stage>,
    inner: RouteService,
}

impl Handle for RateLimited {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        match self.stage.decide(&request, context) {
            Verdict::Unlimited => self.inner.handle(request, context),
            Verdict::Refused(answer) => Box::pin(std::future::ready(answer)),
            Verdict::Granted(grant) => {
                let answer = self.inner.handle(request, context);
                Box::pin(async move { grant.conclude(answer.await) })
            }
        }
    }
}
