//! `WWW-Authenticate`: what a caller without an accepted credential is told.

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

use super::method::Method;
use crate::exchange::Reason;

/// A challenge of RFC 6750: without a word about errors when there was no credential, else with the
/// code of its section 3.1.
#[must_use]
pub fn bearer(refused: Option<Reason>) -> Option<HeaderValue> {
    let Some(reason) = refused else {
        return Some(HeaderValue::from_static("Bearer realm=\"tollgate\""));
    };
    let code = match reason.status().as_u16() {
        400 => "invalid_request",
        401 => "invalid_token",
        _ => return None,
    };
    // Our messages have no quotes and no backslashes.
    let text = format!(
        "Bearer realm=\"tollgate\", error=\"{code}\", error_description=\"{}\"",
        reason.message()
    );
    HeaderValue::try_from(text).ok()
}

/// One challenge for each scheme. That of the method that refused stands for its scheme.
pub(super) fn challenges<'m>(
    methods: impl Iterator<Item = &'m dyn Method>,
    refused: Option<(usize, Reason)>,
) -> Vec<HeaderValue> {
    let mut methods: Vec<_> = methods
        .enumerate()
        .map(|(at, method)| {
            (
                refused
                    .filter(|(by, _)| *by == at)
                    .map(|(_, reason)| reason),
                method,
            )
        })
        .collect();
    methods.sort_by_key(|(refused, _)| refused.is_none());
    let mut made: Vec<HeaderValue> = Vec::with_capacity(methods.len());
    for (refused, method) in methods {
        let Some(challenge) = method.challenge(refused) else {
            continue;
        };
        if !made.iter().any(|known| scheme(known) == scheme(&challenge)) {
            made.push(challenge);
        }
    }
    made
}

/// Adds the challenges of a route's methods to a 401 that another service wrote, which knows of its own
/// alone. A scheme that the service asks for is left to it.
pub(super) fn complete<'m>(headers: &mut HeaderMap, methods: impl Iterator<Item = &'m dyn Method>) {
    let told = headers.get_all(WWW_AUTHENTICATE).iter();
    let told: Vec<String> = told.map(scheme).collect();
    for challenge in challenges(methods, None) {
        if !told.contains(&scheme(&challenge)) {
            headers.append(WWW_AUTHENTICATE, challenge);
        }
    }
}

/// RFC 9110 11.1: the first token.
fn scheme(challenge: &HeaderValue) -> String {
    let text = challenge.as_bytes();
    let end = text.iter().position(|byte| *byte == b' ');
    let scheme = &text[..end.unwrap_or(text.len())];
    String::from_utf8_lossy(scheme).to_ascii_lowercase()
}
