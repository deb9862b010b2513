//! `/slow` and `/fail`: what a gateway must cope with, on request.

use std::time::Duration;

use http::{StatusCode, Uri};
use serde_json::json;

use super::{Response, failure, number, success};

/// Answers after `?ms=` milliseconds: 1,000 by default, a minute at most.
pub(super) async fn slow(uri: &Uri) -> Response {
    let ms = number(uri, "ms", 1000, 0..=60_000);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    success(StatusCode::OK, &json!({ "waited_ms": ms }))
}

/// Answers with `?status=`: 500 by default, 400 to 599.
pub(super) fn fail(uri: &Uri) -> Response {
    let status = number(uri, "status", 500, 400..=599);
    let status = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    failure(status, "ON_REQUEST", "The backend was asked to fail.")
}
