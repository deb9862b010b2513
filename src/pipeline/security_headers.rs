//! `security_headers`: what browsers are told to be strict about.
//!
//! They stand on every answer of the route, refusals and redirects too: `Strict-Transport-Security`
//! is about the host, and an error page can be framed like any other. What an answer says itself
//! stays: an application that lets itself be framed does so on purpose, and which of two policies is
//! the stricter one can't be told from their text. Only `nosniff` has no other value.

use http::{
    HeaderName, HeaderValue,
    header::{
        CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

use crate::{
    config::{Frame, SecurityHeaders as Config},
    exchange::{Context, Decorate, Response},
};

/// Adds the fields where an answer has none.
pub struct SecurityHeaders {
    fields: Box<[(HeaderName, HeaderValue)]>,
    hsts: Option<HeaderValue>,
    nosniff: bool,
}

impl SecurityHeaders {
    /// The fields as configured.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        let frame = config.frame.map(|frame| match frame {
            Frame::Deny => "DENY",
            Frame::SameOrigin => "SAMEORIGIN",
        });
        let fields = [
            (X_FRAME_OPTIONS, frame.map(HeaderValue::from_static)),
            (
                REFERRER_POLICY,
                config
                    .referrer
                    .map(|policy| HeaderValue::from_static(policy.0)),
            ),
            (CONTENT_SECURITY_POLICY, config.csp.clone()),
        ];
        let fields = fields.into_iter();
        Self {
            fields: fields
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            hsts: config.hsts.clone(),
            nosniff: config.nosniff,
        }
    }
}

impl Decorate for SecurityHeaders {
    fn decorate(&self, context: &Context, response: &mut Response) {
        let headers = response.headers_mut();
        for (name, value) in &self.fields {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        if self.nosniff {
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        // RFC 6797 7.2: never over plain http.
        if let (Some(hsts), "https") = (&self.hsts, context.scheme) {
            headers
                .entry(STRICT_TRANSPORT_SECURITY)
                .or_insert_with(|| hsts.clone());
        }
    }
}
