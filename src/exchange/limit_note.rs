//! What the rate limits said about one request, in the word of one of them.

use std::{cmp::Reverse, sync::Arc};

/// The limit that weighed most for a request, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitNote {
    /// The limit's name.
    pub limit: Arc<str>,
    /// What it said.
    pub said: LimitSaid,
}

/// What a limit said about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSaid {
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
    Deny,
}

impl LimitSaid {
    /// The word for it, which the metrics use too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::ShadowDeny => "shadow_deny",
            Self::Deny => "deny",
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
            Self::Allow { remaining, reset } => (0, Reverse(remaining), reset),
            Self::ShadowDeny => (1, Reverse(0), None),
            Self::Deny => (2, Reverse(0), None),
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
            allow(9, Some(5)),
            allow(0, None),
            allow(0, Some(5)),
            allow(0, Some(6)),
            LimitSaid::ShadowDeny,
            LimitSaid::Deny,
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
