//! How long an answer is fresh, and how old it came (RFC 9111 4.2).

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{AGE, DATE, EXPIRES, HeaderName, LAST_MODIFIED},
};

use super::{
    Moment, Options,
    date::parse_http_date,
    directives::{LONGEST, clamped, delta_seconds},
    targeted::Said,
};

/// How long an answer is fresh, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// The origin, in the answer.
    Stated(Duration),
    /// `override_ttl`.
    Overridden(Duration),
    /// `default_ttl`: the answer does not say.
    Default(Duration),
    /// The age of its content (RFC 9111 4.2.2).
    Heuristic(Duration),
    /// Nobody.
    None,
}

/// What the lifetime depends on, beside the answer's own fields.
pub(super) struct Basis<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) said: &'a Said,
    pub(super) received: Moment,
    pub(super) options: &'a Options,
    /// Whether the answer sets cookies, and the request brought some.
    pub(super) set_cookie: bool,
    pub(super) cookie: bool,
}

impl Basis<'_> {
    /// The lifetime in force.
    pub(super) fn lifetime(&self) -> Lifetime {
        if let Some(ttl) = self.overriding() {
            return Lifetime::Overridden(ttl);
        }
        if let Some(span) = self.stated() {
            return Lifetime::Stated(span);
        }
        if let Some(ttl) = self.default_ttl() {
            return Lifetime::Default(ttl);
        }
        self.heuristic().map_or(Lifetime::None, Lifetime::Heuristic)
    }

    /// Whether `default_ttl` or a guess would hold but for the request's cookies.
    pub(super) fn only_cookies_forbid(&self) -> bool {
        let apart = Basis {
            cookie: false,
            ..*self
        };
        self.cookie && apart.default_ttl().or_else(|| apart.heuristic()).is_some()
    }

    /// The first of `s-maxage`, `max-age` and `Expires` (RFC 9111 4.2.1). A targeted field takes
    /// the place of `Expires` too (RFC 9213 2.2).
    fn stated(&self) -> Option<Duration> {
        let directives = &self.said.directives;
        let stated = directives.s_maxage.or(directives.max_age);
        stated.or_else(|| self.expires().filter(|_| !self.said.targeted))
    }

    /// From the origin's own `Date` to its `Expires`, whatever our clock says; one that is no date
    /// has passed (RFC 9111 5.3). The first of several counts.
    fn expires(&self) -> Option<Duration> {
        let text = self.headers.get(EXPIRES)?.as_bytes();
        let expires = parse_http_date(text, self.received);
        let date = date_of(self.headers, self.received);
        Some(expires.map_or(Duration::ZERO, |at| seconds_between(date, at)))
    }

    fn overriding(&self) -> Option<Duration> {
        let holds = !self.set_cookie && takes_our_ttl(self.status);
        self.options.override_ttl.filter(|_| holds)
    }

    fn default_ttl(&self) -> Option<Duration> {
        let holds = !self.set_cookie && !self.cookie && takes_our_ttl(self.status);
        self.options.default_ttl.filter(|_| holds)
    }

    /// A tenth of the time that the content had not changed for, where the status or `public`
    /// allows it (RFC 9111 4.2.2, 5.2.2.9). Cookies may name somebody, and then it is no guess of
    /// ours to make.
    fn heuristic(&self) -> Option<Duration> {
        let allowed = is_heuristic(self.status) || self.said.directives.public;
        (self.options.heuristics && allowed && !self.cookie).then_some(())?;
        let modified = date_field(self.headers, &LAST_MODIFIED, self.received)?;
        let date = date_of(self.headers, self.received);
        let tenth = seconds_between(modified, date) / 10;
        (!tenth.is_zero()).then(|| tenth.min(LONGEST_GUESS))
    }
}

/// How old an answer was when it came (RFC 9111 4.2.3): `corrected_initial_age`.
pub(super) fn initial_age(headers: &HeaderMap, requested: Moment, received: Moment) -> Duration {
    // Dates have whole seconds: an answer of this very second is not up to a second old.
    let apparent = seconds_between(date_of(headers, received), received.seconds());
    let corrected = age_value(headers).saturating_add(received.since(requested));
    apparent.max(corrected).min(LONGEST)
}

/// How old it was when it was asked for, as far as the upstream tells by `Age`, and by a date that lies behind:
/// how long it took to come is no part of that.
pub(super) fn told_age(headers: &HeaderMap, requested: Moment, received: Moment) -> Duration {
    let behind = seconds_between(date_of(headers, received), requested.seconds());
    behind.max(age_value(headers)).min(LONGEST)
}

/// `Age`: the first member counts, and one that is no number does not (RFC 9111 5.1).
fn age_value(headers: &HeaderMap) -> Duration {
    let first = headers.get(AGE).map(http::HeaderValue::as_bytes);
    let member = first.and_then(|line| line.split(|byte| *byte == b',').next());
    let age = member.and_then(|member| delta_seconds(member.trim_ascii()));
    age.unwrap_or_default()
}

/// `Date`, or when the answer came, where it is missing or wrong (RFC 9110 6.6.1).
pub(super) fn date_of(headers: &HeaderMap, received: Moment) -> i64 {
    date_field(headers, &DATE, received).unwrap_or_else(|| received.seconds())
}

/// The first line of a field as a date.
pub(super) fn date_field(headers: &HeaderMap, name: &HeaderName, now: Moment) -> Option<i64> {
    parse_http_date(headers.get(name)?.as_bytes(), now)
}

fn seconds_between(from: i64, to: i64) -> Duration {
    clamped(u64::try_from(to.saturating_sub(from)).unwrap_or_default())
}

/// The statuses that may be reused without a stated lifetime (RFC 9110 15.1). 206 is not stored.
fn is_heuristic(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// The statuses that a rule's TTLs are for: what says that something is, is gone or is elsewhere.
fn takes_our_ttl(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 410
    )
}

/// A guess is not trusted for more than a day.
const LONGEST_GUESS: Duration = Duration::from_secs(86_400);
