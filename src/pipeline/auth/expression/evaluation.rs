//! How far a request has come in the evaluation of its route's rule.

use std::{ops::Range, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    super::method::{Grant, Verdict},
    Decision, Step,
    failure::Failure,
};
use crate::exchange::Reason;

/// What the methods have said that were asked so far.
pub(in crate::pipeline::auth) struct Evaluation {
    /// The method to be asked next, and the alternative that it belongs to.
    pub(super) at: usize,
    pub(super) alternative: usize,
    /// Of the alternative that is being tried, or holds.
    pub(super) grants: SmallVec<[Arc<Grant>; 1]>,
    /// The methods that have granted something, those too whose alternative has failed.
    pub(super) granting: SmallVec<[usize; 2]>,
    /// The methods that have granted something else since an alternative holds, in this order.
    pub(super) others: SmallVec<[usize; 1]>,
    /// What the client is told from, each with its method.
    failures: SmallVec<[(usize, Failure); 1]>,
    /// What guesses are counted from: whichever failure the client is told, all of these stay.
    pub(super) refused: SmallVec<[Refused; 1]>,
    /// The alternative that holds; what follows only looks for bad credentials elsewhere.
    pub(super) granted: Option<Range<usize>>,
    /// How long the client's address has to wait before a credential is looked at.
    pub(super) throttled: Option<Duration>,
}

/// A method has refused something.
pub(super) struct Refused {
    pub(super) at: usize,
    pub(super) reason: Reason,
}

impl Evaluation {
    pub(in crate::pipeline::auth) fn new(throttled: Option<Duration>) -> Self {
        Self {
            at: 0,
            alternative: 0,
            grants: SmallVec::new(),
            granting: SmallVec::new(),
            others: SmallVec::new(),
            failures: SmallVec::new(),
            refused: SmallVec::new(),
            granted: None,
            throttled,
        }
    }

    /// Whether a method has refused anything.
    pub(in crate::pipeline::auth) fn has_refusals(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The method at hand has granted: the next one of its alternative is asked too.
    pub(super) fn grant(&mut self, grant: Arc<Grant>) {
        self.grants.push(grant);
        self.granting.push(self.at);
        self.at += 1;
    }

    /// An alternative holds: all methods are looked at once more, from the first.
    pub(super) fn hold(&mut self, alternative: Range<usize>) {
        self.granted = Some(alternative);
        self.at = 0;
        // Of several credentials nothing was read, and that guesses at nothing.
        self.refused.retain(|it| it.reason != Reason::AuthAmbiguous);
    }

    /// Forgets why these methods have failed, so that they are asked again. What they have refused stays: an
    /// earlier method may end the evaluation before it comes to them, and guesses count all the same.
    pub(super) fn forget_failures(&mut self, of: impl Fn(usize) -> bool) {
        self.failures.retain(|(by, _)| !of(*by));
    }

    /// The method at hand has not granted: its alternative, which ends there, has failed.
    pub(super) fn leave_alternative(&mut self, verdict: Verdict, end: usize) {
        match verdict {
            Verdict::Absent if !self.grants.is_empty() => {
                self.failures.push((self.at, Failure::Incomplete));
            }
            verdict => self.fail(verdict),
        }
        self.grants.clear();
        self.at = end;
        self.alternative += 1;
    }

    /// The method at hand has granted something beside the alternative that holds: all methods are looked at
    /// once more.
    pub(super) fn grant_another(&mut self) {
        self.others.push(self.at);
        self.at = 0;
    }

    /// Takes a verdict that has granted nothing, while an alternative holds.
    pub(super) fn take_of_another(&mut self, verdict: Verdict) {
        self.fail(verdict);
        self.at += 1;
    }

    /// The alternative that holds lets the request in.
    pub(super) fn conclude(&mut self, granted: &Range<usize>) -> Step {
        let grants = std::mem::take(&mut self.grants);
        Step::Done(Decision::Granted(grants, granted.clone()))
    }

    fn fail(&mut self, verdict: Verdict) {
        let Some(failure) = Failure::of(verdict) else {
            return;
        };
        let at = self.at;
        if let Some(reason) = failure.reason() {
            self.refused.push(Refused { at, reason });
        }
        self.failures.push((at, failure));
    }

    /// Whether a method has refused, for what is not forgotten.
    pub(super) fn has_refused(&self, method: usize) -> bool {
        let mut failures = self.failures.iter();
        failures.any(|(by, failure)| *by == method && failure.reason().is_some())
    }

    /// Of several failures the one that tells most.
    pub(super) fn nearest_failure(&mut self) -> Option<Decision> {
        self.nearest(|_, _| true)
    }

    /// Of what these methods have refused, the same.
    pub(super) fn nearest_refusal(&mut self, of: impl Fn(usize) -> bool) -> Option<Decision> {
        self.nearest(|by, failure| failure.reason().is_some() && of(by))
    }

    fn nearest(&mut self, counts: impl Fn(usize, &Failure) -> bool) -> Option<Decision> {
        let failures = self.failures.iter().enumerate();
        let counted = failures.filter(|(_, (by, failure))| counts(*by, failure));
        let (at, _) = counted.min_by_key(|(_, (_, failure))| failure.distance())?;
        let (by, failure) = self.failures.remove(at);
        Some(failure.decision(by))
    }
}
