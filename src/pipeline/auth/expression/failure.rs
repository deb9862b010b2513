//! Why an alternative of a rule has failed, as the client may be told.

use super::{
    super::method::{Refusal, Verdict},
    Decision,
    knowledge::is_of_another_issuer,
};
use crate::exchange::{Reason, Response};

/// Why one of its methods has not granted.
pub(super) enum Failure {
    Refused(Refusal),
    Answered(Reason, Box<Response>),
    /// One of several methods that must all hold has no credential.
    Incomplete,
}

impl Failure {
    /// What is wrong by a verdict; `None` when that has refused nothing.
    pub(super) fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Refused(refusal) => Some(Self::Refused(refusal)),
            Verdict::Answer(reason, response) => Some(Self::Answered(reason, response)),
            Verdict::Absent | Verdict::Granted(_) | Verdict::Pending(_) => None,
        }
    }

    /// Why the method has refused, if it has.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason),
            Self::Answered(reason, _) => Some(*reason),
            Self::Incomplete => None,
        }
    }

    /// How little it tells: an issuer that does not know a token says less than one that finds it expired.
    pub(super) fn distance(&self) -> u8 {
        match self {
            Self::Refused(refusal) if is_of_another_issuer(refusal.reason) => 1,
            Self::Refused(_) | Self::Answered(..) => 0,
            Self::Incomplete => 2,
        }
    }

    /// What the rule comes to if this is what the client is told.
    pub(super) fn decision(self, by: usize) -> Decision {
        match self {
            Self::Refused(refusal) => Decision::Refused(by, refusal),
            Self::Answered(reason, response) => Decision::Answered(by, reason, response),
            Self::Incomplete => Decision::Missing,
        }
    }
}
