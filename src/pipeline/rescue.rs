//! Turns an upstream's failure into an answer.
//!
//! It stands innermost: below it failures are typed, because retries and breakers need to know
//! whose fault it was; above it everything is an answer, which the cache may replace by a stale one.

use std::sync::Arc;

use http::header::RETRY_AFTER;

use crate::exchange::{
    BoxFuture, Context, Handle, Reason, Rejection, Request, Response, UpstreamError,
    UpstreamService,
};

/// The end of a route's pipeline and the beginning of its upstream.
pub struct Rescue<U>(Arc<U>);

impl<U: UpstreamService> Rescue<U> {
    /// Rescues the failures of an upstream.
    #[must_use]
    pub fn new(upstream: U) -> Self {
        Self(Arc::new(upstream))
    }
}

impl<U: UpstreamService> Handle for Rescue<U> {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let (upstream, context) = (Arc::clone(&self.0), Arc::clone(context));
        Box::pin(async move {
            match upstream.call(request, &context).await {
                Ok(response) => response,
                Err(error) => rescue(&error, &context),
            }
        })
    }
}

fn rescue(error: &UpstreamError, context: &Context) -> Response {
    tracing::debug!(request_id = context.id.as_str(), %error, "the upstream failed");
    let rejection = Rejection::new(error.reason);
    let rejection = match error.reason {
        // The client's own body was at fault; what is left of it can't be told from a request.
        Reason::BodyInvalid | Reason::BodyTooLarge | Reason::BodyTimeout => rejection.close(),
        Reason::Overloaded | Reason::NoHealthyServer => rejection.header(RETRY_AFTER, 1.into()),
        _ => rejection,
    };
    rejection.respond(context)
}
