//! `Cache-Status` (RFC 9211): what the cache did with a request.

use std::fmt::Write as _;

use http::HeaderValue;

/// Why a request went forward (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The cache was told not to handle it.
    Bypass,
    /// Its method demands it.
    Method,
    /// Nothing is stored for its URL.
    UriMiss,
    /// Nothing that is stored for its URL matches it.
    VaryMiss,
    /// Nothing is stored, of whatever kind.
    Miss,
    /// What is stored is fresh, but the request wants it validated.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored has not all that was asked for.
    Partial,
}

impl Forwarded {
    /// The token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// The member of `Cache-Status` that one cache adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// The cache's name: a token, which the caller has checked.
    pub cache: &'a str,
    /// Why the request went forward; `None` is a hit.
    pub forwarded: Option<Forwarded>,
    /// The status that came back, where it is another than the client gets.
    pub forwarded_status: Option<u16>,
    /// How many seconds the answer is still fresh for, negative when it is stale.
    pub ttl: Option<i64>,
    /// Whether the answer was stored.
    pub stored: bool,
    /// Whether the request waited for another's answer.
    pub collapsed: bool,
    /// The key, where it may be shown.
    pub key: Option<&'a str>,
    /// More, in one word.
    pub detail: Option<&'static str>,
}

impl<'a> CacheStatus<'a> {
    /// A hit.
    #[must_use]
    pub fn hit(cache: &'a str, ttl: i64) -> Self {
        Self {
            ttl: Some(ttl),
            ..Self::of(cache, None)
        }
    }

    /// A request that went forward.
    #[must_use]
    pub fn forwarded(cache: &'a str, why: Forwarded) -> Self {
        Self::of(cache, Some(why))
    }

    fn of(cache: &'a str, forwarded: Option<Forwarded>) -> Self {
        Self {
            cache,
            forwarded,
            forwarded_status: None,
            ttl: None,
            stored: false,
            collapsed: false,
            key: None,
            detail: None,
        }
    }

    /// The member as the value of a line of its own, to be appended behind those of the caches
    /// nearer to the origin.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        let mut text = String::with_capacity(64);
        text.push_str(self.cache);
        match self.forwarded {
            Some(why) => {
                text.push_str("; fwd=");
                text.push_str(why.as_str());
            }
            None => text.push_str("; hit"),
        }
        // `fwd-status`, `stored` and `collapsed` tell of forwarding (RFC 9211 2.3, 2.5, 2.6).
        if self.forwarded.is_some() {
            self.outcome(&mut text);
        }
        if let Some(ttl) = self.ttl {
            number(&mut text, "; ttl=", ttl);
        }
        if let Some(key) = self.key {
            text.push_str("; key=");
            quote(&mut text, key);
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        // ASCII by construction but for a wrong name of the cache.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    fn outcome(&self, text: &mut String) {
        if let Some(status) = self.forwarded_status {
            number(text, "; fwd-status=", i64::from(status));
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
    }
}

fn number(text: &mut String, name: &str, value: i64) {
    text.push_str(name);
    text.push_str(itoa::Buffer::new().format(value));
}

/// A string of structured fields (RFC 8941 4.1.6). What such a string can't hold is shown by its
/// code, as URLs show it.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sfv::{FieldType, List, Parser};

    #[test]
    fn a_hit_tells_how_long_it_stays_fresh() {
        assert_eq!(
            CacheStatus::hit("tollgate", 376).header(),
            "tollgate; hit; ttl=376"
        );
        assert_eq!(
            CacheStatus::hit("tollgate", -3).header(),
            "tollgate; hit; ttl=-3"
        );
    }

    #[test]
    fn a_miss_tells_why_and_what_became_of_it() {
        let status = CacheStatus {
            forwarded_status: Some(304),
            ttl: Some(10),
            stored: true,
            collapsed: true,
            detail: Some("no-store"),
            ..CacheStatus::forwarded("tollgate", Forwarded::Stale)
        };
        let expected =
            "tollgate; fwd=stale; fwd-status=304; stored; collapsed; ttl=10; detail=no-store";
        assert_eq!(status.header(), expected);
    }

    proptest! {
        #[test]
        fn any_key_makes_a_member(key in ".{0,40}") {
            let status = CacheStatus { key: Some(&key), ..CacheStatus::hit("tollgate", 1) };
            let header = status.header();
            prop_assert!(List::parse(Parser::new(header.as_bytes())).is_ok(), "{header:?}");
        }
    }
}
