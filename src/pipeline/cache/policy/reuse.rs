//! Whether a stored answer may be used (RFC 9111 4).

use std::time::Duration;

use http::StatusCode;

use super::{Asked, Facts, Moment};

/// What is done with a stored answer that a request selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It is fresh: serve it.
    Fresh,
    /// It is stale: serve it, and fetch it anew beside that (RFC 5861 3).
    StaleWhileRevalidate,
    /// It is stale: serve it, since the client takes it so (`max-stale`, RFC 9111 5.2.1.2).
    StaleAsWanted,
    /// It is stale: the origin must be asked (`fwd=stale`).
    Validate,
    /// It is fresh, but the client wants it validated (`fwd=request`).
    ValidateAsWanted,
}

impl Reuse {
    /// Whether the answer is served as it is, before the origin is asked.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(
            self,
            Self::Fresh | Self::StaleWhileRevalidate | Self::StaleAsWanted
        )
    }
}

/// Decides on a stored answer that a request selects by its key and variant.
///
/// A request that says `only-if-cached` gets a 504 where this says to validate (RFC 9111 5.2.1.7).
#[must_use]
pub fn reuse(asked: &Asked, facts: &Facts, now: Moment) -> Reuse {
    // RFC 9111 5.2.2.4, which no wish of a client can lift.
    if facts.always_validate {
        return Reuse::Validate;
    }
    if facts.is_fresh(now) {
        return match asked.wants.no_cache || wants_fresher(asked, facts, now) {
            true => Reuse::ValidateAsWanted,
            false => Reuse::Fresh,
        };
    }
    stale(asked, facts, now)
}

/// Whether an answer that came so old has to be validated for each request, however soon that comes (RFC
/// 9111 4), but for those that take a stale one. It is used for who asked for it alone, and so are those
/// that follow it.
#[must_use]
pub fn each_validates(facts: &Facts, came: Duration) -> bool {
    let facts = Facts {
        initial_age: came,
        ..*facts
    };
    let now = facts.received;
    let may_be_stale = !facts.never_stale && within(facts.staleness(now), facts.while_revalidate);
    facts.always_validate || !(facts.is_fresh(now) || may_be_stale)
}

/// `max-age` (RFC 9111 5.2.1.1) and `min-fresh` (5.2.1.3).
fn wants_fresher(asked: &Asked, facts: &Facts, now: Moment) -> bool {
    let age = facts.age(now);
    let left = facts.lifetime.saturating_sub(age);
    asked.wants.max_age.is_some_and(|most| age > most)
        || asked.wants.min_fresh.is_some_and(|least| left < least)
}

fn stale(asked: &Asked, facts: &Facts, now: Moment) -> Reuse {
    let wants = &asked.wants;
    // Who says how fresh an answer must be does not want a stale one (RFC 9111 5.2.1.1, 5.2.1.3).
    let particular = wants.max_age.is_some() || wants.min_fresh.is_some();
    let too_old = wants.max_age.is_some_and(|most| facts.age(now) > most);
    let refused = wants.no_cache || too_old || particular && wants.max_stale.is_none();
    if facts.never_stale || refused {
        return Reuse::Validate;
    }
    let staleness = facts.staleness(now);
    if within(staleness, facts.while_revalidate) {
        return Reuse::StaleWhileRevalidate;
    }
    match wants.max_stale {
        Some(most) if within(staleness, most) => Reuse::StaleAsWanted,
        _ => Reuse::Validate,
    }
}

/// How asking the origin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It answered with this status.
    Status(StatusCode),
    /// It did not answer, or not in time.
    Unreachable,
}

/// Whether a stale answer is served in the place of a failure (RFC 9111 4.2.4, RFC 5861 4).
#[must_use]
pub fn stale_instead(asked: &Asked, facts: &Facts, now: Moment, failure: Failure) -> bool {
    // Where it is forbidden the failure stands (RFC 9111 5.2.2.2).
    if facts.never_stale {
        return false;
    }
    let wanted = asked.wants.stale_if_error.unwrap_or_default();
    let if_error = facts.if_error.max(wanted);
    let window = match failure {
        Failure::Status(status) if is_error(status) => if_error,
        Failure::Status(_) => return false,
        Failure::Unreachable => if_error.max(facts.if_unreachable),
    };
    within(facts.staleness(now), window)
}

/// Whether a stale answer may still be served to anybody as it is: while it is fetched anew, or in the place of a
/// failure. What single clients take beyond that does not count.
#[must_use]
pub fn serves_stale(facts: &Facts, now: Moment) -> bool {
    let windows = facts.while_revalidate.max(facts.if_error);
    let longest = windows.max(facts.if_unreachable);
    !facts.never_stale && within(facts.staleness(now), longest)
}

/// A window of no length admits nothing, not even what expired this very moment.
fn within(staleness: Duration, window: Duration) -> bool {
    !window.is_zero() && staleness <= window
}

/// The statuses of RFC 5861 4.
fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
