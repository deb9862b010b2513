//! `/catalogue`: an answer that may be kept, and that tells whether it was.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::{Response, success, with_header};

/// How often the catalogue was made.
#[derive(Default)]
pub(super) struct Catalogue(AtomicU64);

impl Catalogue {
    /// `/catalogue`: good for five seconds, and for half a minute while a new one is made.
    pub(super) fn answer(&self) -> Response {
        let made = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let data = json!({ "made": made, "pages": ["tools", "spare parts"] });
        let response = success(StatusCode::OK, &data);
        let lifetime = HeaderValue::from_static("max-age=5, stale-while-revalidate=30");
        let response = with_header(response, header::CACHE_CONTROL, lifetime);
        let tags = HeaderName::from_static("x-cache-tags");
        with_header(response, tags, HeaderValue::from_static("catalogue"))
    }
}
