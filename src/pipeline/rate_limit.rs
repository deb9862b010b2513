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
//! answer   429, or on with it: permits, costs that the answer tells              stage.rs, grant.rs
//! ```
//!
//! What they say is noted in the context; the frame writes the fields that tell it. Asking comes before
//! taking, so that a store in which taking has to wait can stand between them.
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
mod busiest;
mod grant;
mod held;
mod key;
mod lease;
mod limit;
mod shared;
mod stage;
mod tier;

use std::sync::Arc;

use tower::Layer;

pub use book::{LimitBook, LimitKeyState, LimitWindowState};
pub use busiest::LimitKeyList;
pub use limit::Limit;

use crate::{
    config::Route,
    exchange::{BoxFuture, Context, Handle, Rejection, Request, Response, RouteService},
};
use shared::AllPending;
use stage::{Questions, Stage, Verdict};

/// One stage of a route's limits.
pub struct RateLimitLayer(Arc<Stage>);

impl RateLimitLayer {
    /// The limits on what is known before authentication, if the route has any.
    #[must_use]
    pub fn before_auth(route: &Route, limits: &LimitBook) -> Option<Self> {
        Self::of(route, limits, false)
    }

    /// The limits by caller, if the route has any.
    #[must_use]
    pub fn by_caller(route: &Route, limits: &LimitBook) -> Option<Self> {
        Self::of(route, limits, true)
    }

    fn of(route: &Route, limits: &LimitBook, by_caller: bool) -> Option<Self> {
        let belongs = |limit: &Limit| limit.is_by_caller() == by_caller;
        Stage::layer(route, limits, belongs)
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
        let stage = &*self.stage;
        let mut questions = Questions::new();
        if let Err(reason) = stage.ask(&request, context, &mut questions) {
            return at_once(Rejection::new(reason).respond(context));
        }
        if questions.is_empty() {
            return self.inner.handle(request, context);
        }
        // Those in memory first, which cost least.
        let taken = stage.take(&mut questions, context);
        if stage.shared && taken.is_ok() {
            let pending = stage.take_leased(&mut questions, context);
            if !pending.is_empty() {
                return self.handle_shared(request, context, (questions, pending));
            }
        }
        match stage.verdict(taken, &mut questions, context) {
            Verdict::Refused(refusal) => {
                let room = request.into_parts().0.headers;
                at_once(refusal.respond_in(room, context))
            }
            Verdict::Granted(grant) => {
                let answer = self.inner.handle(request, context);
                let Some(grant) = grant else { return answer };
                let context = Arc::clone(context);
                Box::pin(async move { grant.conclude(answer.await, &context) })
            }
        }
    }
}

impl RateLimited {
    /// The same where deciding has to wait for Redis.
    fn handle_shared(
        &self,
        request: Request,
        context: &Arc<Context>,
        (mut questions, pending): (Questions, AllPending),
    ) -> BoxFuture<Response> {
        let (stage, inner) = (Arc::clone(&self.stage), self.inner.clone());
        let context = Arc::clone(context);
        Box::pin(async move {
            let taken = stage.take_shared(pending, &mut questions, &context).await;
            match stage.verdict(taken, &mut questions, &context) {
                Verdict::Refused(refusal) => refusal.respond(&context),
                Verdict::Granted(grant) => {
                    let answer = inner.handle(request, &context).await;
                    match grant {
                        Some(grant) => grant.conclude(answer, &context),
                        None => answer,
                    }
                }
            }
        })
    }
}

fn at_once(answer: Response) -> BoxFuture<Response> {
    Box::pin(std::future::ready(answer))
}
