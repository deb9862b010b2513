//! What a route adds to each of its answers.

use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

use super::{Context, Response};

/// Adds header fields to every answer of a route, whoever made it.
///
/// It is no middleware: it stands outside even of the panic guard, so that a refusal, a 405 and the
/// answer to a panic get the same fields as an answer of the upstream; and it costs no future.
pub trait Decorate: Send + Sync + 'static {
    /// Changes the head of an answer that is about to go out.
    fn decorate(&self, context: &Context, response: &mut Response);
}

/// The method that a CORS preflight asks for: an OPTIONS request with `Origin` and one
/// `Access-Control-Request-Method` (Fetch standard, "CORS-preflight request").
///
/// Any other OPTIONS request is one like any other.
#[must_use]
pub fn preflight_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    let mut asked = headers.get_all(ACCESS_CONTROL_REQUEST_METHOD).iter();
    let method = asked.next().map(HeaderValue::as_bytes)?;
    let method = Method::from_bytes(method).ok()?;
    asked.next().is_none().then_some(method)
}
