//! `security_headers`: what browsers are told to be strict about.

use http::HeaderValue;
use toml::de::DeValue;

use super::decode::{
    Choice, Flag, Format, Node, Off, OptionOf, OrWord, Problem, Reader, Show, Sub, Word, quoted,
    table,
};

table! {
    /// `security_headers`: fields that make browsers strict, added to every answer of the route,
    /// refusals too, that has no such field yet. `"strict"` is this table as it stands; a table
    /// changes it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SecurityHeaders ["routes.NAME.security_headers"] {
        /// `hsts`: `Strict-Transport-Security`; sent only to clients that came by https.
        pub hsts: Option<HeaderValue> => OrWord<Hsts, Off> =
            Some(HeaderValue::from_static("max-age=31536000")),
        /// `nosniff`: `X-Content-Type-Options: nosniff`.
        pub nosniff: bool => Flag = true,
        /// `frame`: `X-Frame-Options`: who may show the page in a frame.
        pub frame: Option<Frame> => OrWord<Choice<Frame>, Off> = Some(Frame::Deny),
        /// `referrer`: `Referrer-Policy`.
        pub referrer: Option<ReferrerPolicy> => OrWord<Choice<ReferrerPolicy>, Off> =
            Some(ReferrerPolicy("strict-origin-when-cross-origin")),
        /// `csp`: `Content-Security-Policy`.
        pub csp: Option<HeaderValue> => OptionOf<Csp> = None; "none",
    }
}

/// `frame`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `"deny"`: nobody.
    Deny,
    /// `"sameorigin"`: pages of the same origin.
    SameOrigin,
}

impl Word for Frame {
    const WORDS: &'static [(&'static str, Self)] =
        &[("deny", Self::Deny), ("sameorigin", Self::SameOrigin)];
}

/// A value of `Referrer-Policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferrerPolicy(pub &'static str);

impl Word for ReferrerPolicy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("same-origin", Self("same-origin")),
        ("origin", Self("origin")),
        ("strict-origin", Self("strict-origin")),
        ("origin-when-cross-origin", Self("origin-when-cross-origin")),
        (
            "strict-origin-when-cross-origin",
            Self("strict-origin-when-cross-origin"),
        ),
        (
            "no-referrer-when-downgrade",
            Self("no-referrer-when-downgrade"),
        ),
        ("unsafe-url", Self("unsafe-url")),
        ("no-referrer", Self("no-referrer")),
    ];
}

/// `security_headers` of a route; `None` is `"off"`.
pub(super) struct Strictness;

impl Format for Strictness {
    type Value = Option<SecurityHeaders>;

    fn expected() -> String {
        "\"strict\", \"off\", or a table".to_owned()
    }

    fn example() -> String {
        "\"strict\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        match node.value {
            DeValue::String(_) => reader.parse(node, &Self::expected(), |text| match text {
                "strict" => Ok(Some(SecurityHeaders::default())),
                "off" => Ok(None),
                _ => Err(Problem::plain()),
            }),
            DeValue::Table(_) => Sub::<SecurityHeaders>::read(node, reader).map(Some),
            _ => reader.wrong(node, &Self::expected(), None),
        }
    }
}

struct Hsts;

impl Format for Hsts {
    type Value = HeaderValue;

    fn expected() -> String {
        "text such as \"max-age=63072000; includeSubDomains\"".to_owned()
    }

    fn example() -> String {
        "\"max-age=63072000; includeSubDomains\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderValue> {
        reader.parse(node, &Self::expected(), |text| {
            // RFC 6797 6.1.1: without it browsers ignore the field.
            let age = text
                .split(';')
                .find_map(|part| part.trim().strip_prefix("max-age="));
            let digits =
                |age: &str| !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit());
            if !age.is_some_and(digits) {
                return Err(Problem::what("it needs `max-age`, in seconds"));
            }
            HeaderValue::from_str(text).map_err(|_| Problem::plain())
        })
    }
}

impl Show for Hsts {
    fn show(value: &HeaderValue) -> String {
        quoted(value.to_str().unwrap_or_default())
    }
}

struct Csp;

impl Format for Csp {
    type Value = HeaderValue;

    fn expected() -> String {
        "a policy such as \"default-src 'self'\"".to_owned()
    }

    fn example() -> String {
        "\"default-src 'self'\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderValue> {
        reader.parse(node, &Self::expected(), |text| {
            let value = HeaderValue::from_str(text).ok();
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(Problem::plain)
        })
    }
}
