//! `respond`: an answer of the gateway's own.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};

use crate::{
    config::Respond,
    exchange::{Body, BoxFuture, Context, Handle, Request, Response},
};

/// Answers every request alike.
pub struct RespondWith {
    status: StatusCode,
    headers: HeaderMap,
    body: bytes::Bytes,
}

impl RespondWith {
    /// The answer of a route's `respond`.
    #[must_use]
    pub fn from_config(config: &Respond) -> Self {
        let mut headers: HeaderMap = config.headers.iter().cloned().collect();
        if !config.body.is_empty() {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.entry(CONTENT_TYPE).or_insert(text);
        }
        // Said here, so that an answer to HEAD has it too.
        if config.status != StatusCode::NO_CONTENT && config.status != StatusCode::NOT_MODIFIED {
            headers.insert(CONTENT_LENGTH, config.body.len().into());
        }
        Self {
            status: config.status,
            headers,
            body: config.body.clone(),
        }
    }
}

impl Handle for RespondWith {
    fn handle(&self, _: Request, _: &Arc<Context>) -> BoxFuture<Response> {
        let mut response = Response::new(Body::full(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        Box::pin(std::future::ready(response))
    }
}
