//! A route's `auth` as an expression over its methods: any one of several, all of several, nobody at all.
//!
//! A request is evaluated in two halves. The first tries the alternatives in their order until one holds. The
//! second asks all other methods about what stands elsewhere than the credentials that have granted: a
//! credential that is presented and not accepted refuses the request, even if another method accepts
//! another credential. Whoever sends a bad one should hear of it, and not be taken for somebody else. The
//! same credential may be for another method of the list though, as with two issuers that both use
//! Authorization: then the one that accepts it decides. So does a service that was shown it. Therefore
//! nothing is refused before all methods were asked.
//!
//! An [`Evaluation`] is how far a request has come. Which of its refusals count against the client's address is
//! for `guesses` to say.

mod evaluation;
mod failure;
mod guesses;
mod knowledge;

use std::{ops::Range, sync::Arc};

use smallvec::SmallVec;

use super::{
    credential::{self, Places},
    method::{Grant, Method, Refusal, Verdict},
};
use crate::{
    config::CredentialPlace,
    exchange::{BoxFuture, Context, Reason, Request, Response},
};
pub(super) use evaluation::Evaluation;

/// A route's rule.
pub(super) struct Expression {
    /// The methods of all alternatives, one alternative after the other.
    pub(super) methods: Vec<Arc<dyn Method>>,
    /// Where each alternative stands among them. None is empty.
    alternatives: Vec<Range<usize>>,
    anonymous: bool,
}

/// What a rule comes to.
pub(super) enum Decision {
    /// Let in, by these methods.
    Granted(SmallVec<[Arc<Grant>; 1]>, Range<usize>),
    /// Let in without a name.
    Anonymous,
    /// No credential.
    Missing,
    /// Refused by a method.
    Refused(usize, Refusal),
    /// Answered by a method.
    Answered(usize, Reason, Box<Response>),
}

/// What an evaluation has come to for now.
pub(super) enum Step {
    Done(Decision),
    /// A method takes its time; its verdict is what the evaluation is resumed with.
    Wait(BoxFuture<Verdict>),
}

impl Expression {
    pub(super) fn new(alternatives: Vec<Vec<Arc<dyn Method>>>, anonymous: bool) -> Self {
        let mut expression = Self {
            methods: Vec::new(),
            alternatives: Vec::with_capacity(alternatives.len()),
            anonymous,
        };
        for methods in alternatives {
            let start = expression.methods.len();
            expression.methods.extend(methods);
            let range = start..expression.methods.len();
            expression.alternatives.push(range);
        }
        expression
    }

    /// Evaluates a request as far as that goes without waiting.
    pub(super) fn evaluate(
        &self,
        evaluation: &mut Evaluation,
        request: &Request,
        context: &Arc<Context>,
    ) -> Step {
        while evaluation.granted.is_none() && evaluation.at < self.methods.len() {
            match self.ask(evaluation, &[], request, context) {
                Verdict::Pending(verdict) => return Step::Wait(verdict),
                verdict => self.take(evaluation, verdict),
            }
        }
        match evaluation.granted.clone() {
            Some(granted) => self.ask_others(evaluation, &granted, request, context),
            None => Step::Done(self.ungranted(evaluation, request)),
        }
    }

    /// Takes the verdict that was waited for and goes on.
    pub(super) fn resume(
        &self,
        evaluation: &mut Evaluation,
        verdict: Verdict,
        request: &Request,
        context: &Arc<Context>,
    ) -> Step {
        // A method that does not keep to the contract is one that can't tell.
        let verdict = match verdict {
            Verdict::Pending(_) => Verdict::refused(Reason::AuthUnavailable),
            verdict => verdict,
        };
        match evaluation.granted.clone() {
            Some(granted) => {
                let used = self.used_places(&granted, request);
                let used = self.with_others(used, evaluation, request);
                self.take_of_another(evaluation, verdict, &used, request);
            }
            None => self.take(evaluation, verdict),
        }
        self.evaluate(evaluation, request, context)
    }

    /// Asks the method at hand about what stands elsewhere than at the used places. Where too much that was
    /// made up came from the client's address, only what is known to be good without work is good.
    fn ask(
        &self,
        evaluation: &Evaluation,
        used: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Verdict {
        let method = &self.methods[evaluation.at];
        let Some(wait) = evaluation
            .throttled
            .filter(|_| method.guessed(used, request).is_some())
        else {
            return method.check_beside(used, request, context);
        };
        let refusal = || Refusal {
            reason: Reason::AuthTooManyFailures,
            retry_after: Some(wait),
        };
        let known = method.recall(used, request, context);
        known.map_or_else(|| Verdict::Refused(refusal()), Verdict::Granted)
    }

    /// Takes a verdict of the alternative that is being tried.
    fn take(&self, evaluation: &mut Evaluation, verdict: Verdict) {
        let alternative = &self.alternatives[evaluation.alternative];
        match verdict {
            Verdict::Granted(grant) => {
                evaluation.grant(grant);
                if evaluation.at == alternative.end {
                    evaluation.hold(alternative.clone());
                    evaluation.forget_failures(|method| self.may_have_refused_what_is_good(method));
                }
            }
            verdict => evaluation.leave_alternative(verdict, alternative.end),
        }
    }

    /// Whether what a method has refused may be the good credential, with something else at another of its
    /// places: about that it is asked again. A method with one place is not: it has judged all that stands
    /// there, and that may have taken a hash.
    fn may_have_refused_what_is_good(&self, method: usize) -> bool {
        self.methods[method].places().len() > 1
    }

    /// The second half: an alternative holds, unless a bad credential stands elsewhere.
    fn ask_others(
        &self,
        evaluation: &mut Evaluation,
        granted: &Range<usize>,
        request: &Request,
        context: &Arc<Context>,
    ) -> Step {
        // There are no others.
        if self.alternatives.len() == 1 {
            return evaluation.conclude(granted);
        }
        let used = self.used_places(granted, request);
        let mut used = self.with_others(used, evaluation, request);
        while evaluation.at < self.methods.len() {
            let at = evaluation.at;
            let asked = granted.contains(&at) || evaluation.has_refused(at);
            if asked || !self.is_elsewhere(at, &used, request) {
                evaluation.at += 1;
                continue;
            }
            match self.ask(evaluation, &used, request, context) {
                Verdict::Pending(verdict) => return Step::Wait(verdict),
                verdict => {
                    let good = self.take_of_another(evaluation, verdict, &used, request);
                    used.extend(good);
                }
            }
        }
        match evaluation.nearest_refusal(|method| self.is_elsewhere(method, &used, request)) {
            Some(bad) => Step::Done(bad),
            None => evaluation.conclude(granted),
        }
    }

    /// Takes a verdict on what stands elsewhere than at the used places. Another good credential is not for
    /// other methods to judge either: its place is used from then on, and all are looked at once more.
    fn take_of_another<'m>(
        &'m self,
        evaluation: &mut Evaluation,
        verdict: Verdict,
        used: &[&CredentialPlace],
        request: &Request,
    ) -> Option<&'m CredentialPlace> {
        let places = self.methods[evaluation.at].places();
        let good = match &verdict {
            Verdict::Granted(_) => credential::read_place(request, places, used),
            _ => None,
        };
        if good.is_some() {
            evaluation.grant_another();
            evaluation.forget_failures(|method| self.may_have_refused_what_is_good(method));
        } else {
            evaluation.take_of_another(verdict);
        }
        good
    }

    /// Where the credentials stand that have let the request in. What is there no other method judges.
    fn used_places(&self, granted: &Range<usize>, request: &Request) -> Places<'_> {
        let granted = self.methods[granted.clone()].iter();
        granted
            .flat_map(|method| {
                let judged = method.judged(request).iter();
                judged.chain(credential::read_place(request, method.places(), &[]))
            })
            .collect()
    }

    /// These places, and those at which the second half has found good credentials beside them.
    fn with_others<'m>(
        &'m self,
        mut used: Places<'m>,
        evaluation: &Evaluation,
        request: &Request,
    ) -> Places<'m> {
        for other in &evaluation.others {
            // Each was asked beside what was used by then.
            let places = self.methods[*other].places();
            let read = credential::read_place(request, places, &used);
            used.extend(read);
        }
        used
    }

    /// Whether a method finds a credential at a place that none of the granted ones has used: at any
    /// of its places, or a bad one would hide behind one that is another method's.
    fn is_elsewhere(&self, at: usize, used: &Places<'_>, request: &Request) -> bool {
        credential::occupied(request, self.methods[at].places(), used).is_some()
    }

    /// No alternative holds.
    fn ungranted(&self, evaluation: &mut Evaluation, request: &Request) -> Decision {
        if let Some(decision) = evaluation.nearest_failure() {
            return decision;
        }
        let presents = |method: &Arc<dyn Method>| method.presented(request).is_some();
        // A credential of a scheme that nobody here knows is a credential too.
        match self.anonymous && !self.methods.iter().any(presents) {
            true => Decision::Anonymous,
            false => Decision::Missing,
        }
    }
}
