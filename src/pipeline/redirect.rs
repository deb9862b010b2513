//! `redirect`: sends the client elsewhere.

use std::sync::Arc;

use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, LOCATION},
};

use super::render;
use crate::{
    config::{Redirect, Template},
    exchange::{Body, BoxFuture, Context, Handle, Reason, Rejection, Request, Response},
};

/// Answers every request with a Location.
pub struct RedirectTo {
    to: Arc<Template>,
    status: StatusCode,
}

impl RedirectTo {
    /// The answer of a route's `redirect`.
    #[must_use]
    pub fn from_config(config: &Redirect) -> Self {
        Self {
            to: Arc::new(config.to.clone()),
            status: config.status,
        }
    }
}

impl Handle for RedirectTo {
    fn handle(&self, _: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let response = match location(&self.to, context) {
            Some(location) => redirect(self.status, location),
            None => Rejection::new(Reason::TargetInvalid).respond(context),
        };
        Box::pin(std::future::ready(response))
    }
}

/// A Location that begins with two slashes would lead to another host than the path's author
/// meant; the target's normal form has no such path, and a template can't make one either.
fn location(to: &Template, context: &Context) -> Option<HeaderValue> {
    let text = render(to, context);
    let open = text.starts_with("//") || text.starts_with("/\\");
    (!open).then(|| HeaderValue::from_str(&text).ok()).flatten()
}

fn redirect(status: StatusCode, location: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CONTENT_LENGTH, 0.into());
    response
}
