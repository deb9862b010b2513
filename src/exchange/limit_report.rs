//! What the rate limits said about one request: for the fields of its answer, and for the log.

use std::{cmp::Reverse, sync::Arc};

use http::HeaderValue;

/// What is told of a quota to every request that it counts; made once.
#[derive(Debug)]
pub struct LimitPolicy {
    /// The limit's name.
    pub limit: Arc<str>,
    /// Whether the limit refuses, or only watches.
    pub enforced: bool,
    /// Whether answers tell in `RateLimit` and `RateLimit-Policy`.
    pub draft: bool,
    /// Whether they tell in `X-RateLimit-*`.
    pub legacy: bool,
    /// The `RateLimit-Policy` list of all its windows.
    pub text: HeaderValue,
    /// Its windows.
    pub windows: Box<[PolicyWindow]>,
}

/// A window as it is told.
#[derive(Debug)]
pub struct PolicyWindow {
    /// The beginning of its `RateLimit` item: `"name";r=`. Printable: it is written into heads as it is.
    pub item: Box<str>,
    /// All that does not change of both fields as lines of a head: the policy, and the item.
    pub lines: Box<str>,
    /// How many fit into it.
    pub quota: u32,
}

impl PolicyWindow {
    /// A window by the beginning of its item, the list of policies that it belongs to, and its quota.
    #[must_use]
    pub fn new(item: String, policies: &str, quota: u32) -> Self {
        Self {
            lines: format!("ratelimit-policy: {policies}\r\nratelimit: {item}").into(),
            item: item.into(),
            quota,
        }
    }
}

/// What one limit said about a request.
#[derive(Clone, Debug)]
pub struct LimitReport {
    /// The quota.
    pub policy: Arc<LimitPolicy>,
    /// Its window that is told: the tightest, or the one that refused.
    pub window: usize,
    /// What it said.
    pub said: LimitSaid,
}

impl LimitReport {
    /// The limit that weighed most: one that refused, else one that would have, else the tightest. Of
    /// equals the first.
    #[must_use]
    pub fn heaviest(reports: &[Self]) -> Option<&Self> {
        let said = reports.iter().filter(|it| it.said != LimitSaid::Nothing);
        said.reduce(|known, next| match next.said.outweighs(known.said) {
            true => next,
            false => known,
        })
    }
}

/// What a limit said about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSaid {
    /// Nothing: nobody could count the request, or another limit refused it. Its policy is told.
    Nothing,
    /// It let the request pass.
    Allow {
        /// How many more would fit now.
        remaining: u32,
        /// Nanoseconds until more would, if time alone brings it.
        reset: Option<u64>,
    },
    /// It would have refused, and only watches.
    ShadowDeny,
    /// It refused.
    Deny {
        /// Nanoseconds until it would fit, if time alone brings it.
        reset: Option<u64>,
    },
    /// It refused what it could not count. The client is told nothing about a quota then.
    DenyUncounted,
}

impl LimitSaid {
    /// The word for it, which the metrics use too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Allow { .. } => "allow",
            Self::ShadowDeny => "shadow_deny",
            Self::Deny { .. } | Self::DenyUncounted => "deny",
        }
    }

    /// How many are left, and for how many nanoseconds no more, where a quota has been counted.
    #[must_use]
    pub fn standing(self) -> Option<(u32, Option<u64>)> {
        match self {
            Self::Allow { remaining, reset } => Some((remaining, reset)),
            Self::Deny { reset } => Some((0, reset)),
            Self::Nothing | Self::ShadowDeny | Self::DenyUncounted => None,
        }
    }

    /// Whether this is what is told of the two: a refusal before one that would have been, and that
    /// before the tightest limit that let the request pass. Of equals the first stays.
    #[must_use]
    pub fn outweighs(self, other: Self) -> bool {
        self.weight() > other.weight()
    }

    fn weight(self) -> (u8, Reverse<u32>, Option<u64>) {
        match self {
            Self::Nothing => (0, Reverse(u32::MAX), None),
            Self::Allow { remaining, reset } => (1, Reverse(remaining), reset),
            Self::ShadowDeny => (2, Reverse(0), None),
            Self::Deny { .. } | Self::DenyUncounted => (3, Reverse(0), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_outweighs_what_passed_and_less_outweighs_more() {
        let allow = |remaining, reset| LimitSaid::Allow { remaining, reset };
        let by_weight = [
            LimitSaid::Nothing,
            allow(9, Some(5)),
            allow(0, None),
            allow(0, Some(5)),
            allow(0, Some(6)),
            LimitSaid::ShadowDeny,
            LimitSaid::Deny { reset: None },
        ];
        for (at, one) in by_weight.iter().enumerate() {
            assert!(!one.outweighs(*one), "{one:?}: the first stays");
            for heavier in &by_weight[at + 1..] {
                assert!(heavier.outweighs(*one), "{heavier:?} {one:?}");
                assert!(!one.outweighs(*heavier), "{one:?} {heavier:?}");
            }
        }
    }
}
