//! What is kept of an answer's head.

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ETAG, LAST_MODIFIED},
};

use super::Moment;

/// Who may be served a stored answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Everybody.
    Everyone,
    /// The caller whose request it answered: that principal, or those without one. Only under
    /// [`Scope::Principal`](super::Scope::Principal).
    Caller,
}

/// A stored answer's head: what a hit is answered with, and the facts that decide on it.
#[derive(Clone, Debug)]
pub struct StoredHead {
    /// The status.
    pub status: StatusCode,
    /// The header fields to be sent; `Age` is not among them.
    pub headers: HeaderMap,
    /// What decides on reuse.
    pub facts: Facts,
}

impl StoredHead {
    /// `ETag`, byte for byte as it came.
    #[must_use]
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG)
    }

    /// `Last-Modified`, byte for byte as it came.
    #[must_use]
    pub fn last_modified(&self) -> Option<&HeaderValue> {
        self.headers.get(LAST_MODIFIED)
    }
}

/// What decides on the reuse of a stored answer, computed when it is stored.
///
/// Plain values, to be kept with the answer wherever it is: they depend on the rule that was in
/// force, so they can't be computed anew from the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When the answer, or the 304 that validated it last, came.
    pub received: Moment,
    /// How old it was then (RFC 9111 4.2.3).
    pub initial_age: Duration,
    /// How long it is fresh, counted from an age of zero.
    pub lifetime: Duration,
    /// How long after that it is served while it is fetched anew; zero where forbidden.
    pub while_revalidate: Duration,
    /// How long after that it is served instead of an error; zero where forbidden.
    pub if_error: Duration,
    /// How long after that it is served when no upstream answers; zero where forbidden.
    pub if_unreachable: Duration,
    /// How long after that it is worth keeping, to be validated.
    pub keep: Duration,
    /// `no-cache`: never used without validation.
    pub always_validate: bool,
    /// Whether a stale answer may be used in no case (RFC 9111 4.2.4).
    pub never_stale: bool,
    /// `Last-Modified` as seconds since 1970, or `Date` where there is none: what
    /// `If-Modified-Since` is compared with (RFC 9111 4.3.2).
    pub modified: i64,
}

impl Facts {
    /// How old the answer is (RFC 9111 4.2.3): `current_age`.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        self.initial_age.saturating_add(now.since(self.received))
    }

    /// `Age`, which every answer from the store carries (RFC 9111 5.1).
    #[must_use]
    pub fn age_header(&self, now: Moment) -> HeaderValue {
        // 2^31 is where the count may stop (RFC 9111 1.2.2).
        let mut digits = itoa::Buffer::new();
        let age = digits.format(self.age(now).as_secs().min(1 << 31));
        // Made of a number it would be allocated twice. Digits are always a value.
        HeaderValue::from_str(age).unwrap_or(HeaderValue::from_static("0"))
    }

    /// Fresh if and only if the lifetime is greater than the age (RFC 9111 4.2).
    #[must_use]
    pub fn is_fresh(&self, now: Moment) -> bool {
        self.lifetime > self.age(now)
    }

    /// For how long the answer has been stale; zero while it is fresh.
    #[must_use]
    pub fn staleness(&self, now: Moment) -> Duration {
        self.age(now).saturating_sub(self.lifetime)
    }

    /// The seconds until it is stale, negative afterwards: `ttl` of `Cache-Status` (RFC 9211 2.4).
    #[must_use]
    pub fn ttl(&self, now: Moment) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime) - seconds(self.age(now))
    }

    /// When the answer is of no more use, not even stale or to be validated: the store may drop it.
    #[must_use]
    pub fn useful_until(&self) -> Moment {
        let after = [self.if_error, self.if_unreachable, self.keep];
        let longest = after.into_iter().fold(self.while_revalidate, Duration::max);
        let fresh = self.lifetime.saturating_sub(self.initial_age);
        self.received.plus(fresh.saturating_add(longest))
    }

    /// The same answer, stale since a moment at the latest: a soft purge. The windows of staleness
    /// count from there.
    #[must_use]
    pub fn expired_at(self, moment: Moment) -> Self {
        Self {
            lifetime: self.lifetime.min(self.age(moment)),
            ..self
        }
    }
}
