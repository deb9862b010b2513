//! What the conditions of a client make of an answer that was asked for without them.

use std::time::Duration;

use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{
    CacheRoute, Visit,
    fill::LITTLE,
    policy::{Moment, has_already, not_modified},
};
use crate::exchange::{Body, Response};

impl CacheRoute {
    /// An answer, or a 304 in its place: a client gets no body that it has (RFC 9110 13.2.1).
    pub(super) fn conditioned(&self, visit: &Visit, response: Response, now: Moment) -> Response {
        let (status, headers) = (response.status(), response.headers());
        if !visit.asked.conditional || !has_already(&visit.headers, status, headers, now) {
            return response;
        }
        let (head, body) = response.into_parts();
        self.read_out(body);
        let mut same = Response::new(Body::empty());
        *same.status_mut() = StatusCode::NOT_MODIFIED;
        *same.headers_mut() = not_modified(&head.headers);
        same
    }

    /// Reads a body that nobody gets to its end, if that is near: its connection serves another request then,
    /// and would be closed else. That takes a place, as any fetch without a client does.
    fn read_out(&self, body: Body) {
        let left = body.size_hint().exact();
        if body.is_end_stream() || left.is_none_or(|left| left > LITTLE) {
            return;
        }
        let Some(place) = self.cache.places.take() else {
            return;
        };
        self.cache.spawn(async move {
            tokio::select! {
                biased;
                _ = timeout(LONGEST_REST, ended(body)) => {}
                () = place.lost() => {}
            }
        });
    }
}

async fn ended(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// How long it may take until the rest of an answer is there.
const LONGEST_REST: Duration = Duration::from_secs(1);
