//! A route's `auth` over its methods: any one of several, all of several, nobody at all.
//!
//! A credential that is presented and not accepted refuses the request, even if another method
//! accepts another credential: whoever sends a bad one should hear of it, and not be taken for
//! somebody else. The same credential may be for another method of the list though, as with two
//! issuers that both use Authorization: then the one that accepts it decides. So does a service that
//! was shown it.

use std::{ops::Range, sync::Arc, time::Duration};

use http::header::AUTHORIZATION;
use smallvec::SmallVec;

use super::{
    credential,
    method::{Grant, Method, Refusal, Verdict},
};
use crate::{
    config::CredentialPlace,
    exchange::{BoxFuture, Context, Reason, Request, Response},
};

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

/// How far a walk has come.
pub(super) enum Step {
    Done(Decision),
    /// A method takes its time; its verdict goes into the walk when it goes on.
    Wait(BoxFuture<Verdict>),
}

/// One request's way through a rule.
pub(super) struct Walk {
    /// The method to be asked next, and the alternative that it belongs to.
    at: usize,
    alternative: usize,
    grants: SmallVec<[Arc<Grant>; 1]>,
    /// The methods that have granted something, those too whose alternative has failed.
    granting: SmallVec<[usize; 2]>,
    failures: SmallVec<[(usize, Failure); 1]>,
    /// Why methods have refused, whichever of them has the last word.
    refused: SmallVec<[Refused; 1]>,
    /// The alternative that holds; what follows only looks for bad credentials elsewhere.
    granted: Option<Range<usize>>,
    /// How long the client's address has to wait before a credential is looked at.
    throttled: Option<Duration>,
}

enum Failure {
    Refused(Refusal),
    Answered(Reason, Box<Response>),
    /// One of several methods that must all hold has no credential.
    Incomplete,
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

    /// Judges a request as far as it goes without waiting.
    pub(super) fn walk(&self, walk: &mut Walk, request: &Request, context: &Arc<Context>) -> Step {
        while walk.granted.is_none() && walk.at < self.methods.len() {
            match self.ask(walk, &[], request, context) {
                Verdict::Pending(verdict) => return Step::Wait(verdict),
                verdict => self.take(walk, verdict),
            }
        }
        match walk.granted.clone() {
            Some(granted) => self.seek_bad(walk, &granted, request, context),
            None => Step::Done(self.ungranted(walk, request)),
        }
    }

    /// Asks the method at hand about what stands elsewhere than at the used places. Where too much that was
    /// made up came from the client's address, only what is known to be good without work is good.
    fn ask(
        &self,
        walk: &Walk,
        used: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Verdict {
        let method = &self.methods[walk.at];
        let Some(wait) = walk
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

    /// Takes the verdict that was waited for and goes on.
    pub(super) fn resume(
        &self,
        walk: &mut Walk,
        verdict: Verdict,
        request: &Request,
        context: &Arc<Context>,
    ) -> Step {
        // A method that does not keep to the contract is one that can't tell.
        let verdict = match verdict {
            Verdict::Pending(_) => Verdict::refused(Reason::AuthUnavailable),
            verdict => verdict,
        };
        match walk.granted {
            Some(_) => walk.look(verdict),
            None => self.take(walk, verdict),
        }
        self.walk(walk, request, context)
    }

    /// Takes a verdict of the alternative that is being tried.
    fn take(&self, walk: &mut Walk, verdict: Verdict) {
        let range = &self.alternatives[walk.alternative];
        match verdict {
            Verdict::Granted(grant) => {
                walk.grants.push(grant);
                walk.granting.push(walk.at);
                walk.at += 1;
                if walk.at == range.end {
                    walk.granted = Some(range.clone());
                    walk.at = 0;
                    walk.forget_ambiguities();
                }
                return;
            }
            Verdict::Absent if !walk.grants.is_empty() => {
                walk.failures.push((walk.at, Failure::Incomplete));
            }
            verdict => walk.fail(verdict),
        }
        walk.grants.clear();
        walk.at = range.end;
        walk.alternative += 1;
    }

    /// The second half of a walk: an alternative holds, unless a bad credential stands elsewhere.
    fn seek_bad(
        &self,
        walk: &mut Walk,
        granted: &Range<usize>,
        request: &Request,
        context: &Arc<Context>,
    ) -> Step {
        let alone = self.alternatives.len() == 1;
        let used = match alone {
            true => Places::new(),
            false => self.used_places(granted, request),
        };
        while walk.at < self.methods.len() && !alone {
            let at = walk.at;
            if granted.contains(&at) || !self.is_elsewhere(at, &used, request) {
                walk.at += 1;
                continue;
            }
            if let Some(bad) = walk.failure_of(at) {
                return Step::Done(bad);
            }
            match self.ask(walk, &used, request, context) {
                Verdict::Pending(verdict) => return Step::Wait(verdict),
                verdict => walk.look(verdict),
            }
        }
        let grants = std::mem::take(&mut walk.grants);
        Step::Done(Decision::Granted(grants, granted.clone()))
    }

    /// Where the granted credentials stand.
    fn used_places(&self, granted: &Range<usize>, request: &Request) -> Places<'_> {
        let granted = self.methods[granted.clone()].iter();
        granted
            .flat_map(|method| {
                let judged = method.judged(request).iter();
                judged.chain(used_place(&**method, request))
            })
            .collect()
    }

    /// Whether a method finds a credential at a place that none of the granted ones has used: at any
    /// of its places, or a bad one would hide behind one that is another method's.
    fn is_elsewhere(&self, at: usize, used: &Places<'_>, request: &Request) -> bool {
        credential::occupied(request, self.methods[at].places(), used).is_some()
    }

    /// Why credentials of a request were refused, whoever has the last word: beside a token that is
    /// good, or has expired, a password would be guessed for nothing. What stands where the good
    /// credential does is no guess. And what one method can't read may be another's, which knows it: then
    /// its word does not count.
    pub(super) fn refusals<'w>(
        &'w self,
        walk: &'w Walk,
        request: &'w Request,
    ) -> impl Iterator<Item = Reason> + 'w {
        let excuses = self.excuses(walk, request);
        let refused = walk.refused.iter();
        let guesses = refused.filter(move |refused| self.is_guess(refused, &excuses, request));
        guesses.map(|refused| refused.reason)
    }

    /// Whether a method has refused what nothing excuses. A service does not say what it has refused: where
    /// it was sent the credential that has let the request in, it was that, and what else it was sent (the
    /// name of a tenant) no guess. But a password is one.
    fn is_guess<'m>(&'m self, refused: &Refused, excuses: &Excuses<'m>, request: &Request) -> bool {
        let method = &self.methods[refused.at];
        let mut explained = excuses.of(refused.reason).clone();
        let places = method.guessed_places();
        let was_sent_good = places.iter().any(|place| excuses.good.contains(&place));
        if refused.reason == Reason::ExternalUnauthorized && was_sent_good {
            explained.extend(places.iter().filter(|place| !is_authorization(place)));
        }
        method.guessed(&explained, request).is_some()
    }

    /// What the methods that were asked know of the request's credentials.
    fn excuses<'m>(&'m self, walk: &Walk, request: &Request) -> Excuses<'m> {
        let good = match &walk.granted {
            Some(granted) => self.used_places(granted, request),
            None => Places::new(),
        };
        let mut known = good.clone();
        known.extend(self.granted_places(walk, request));
        known.extend(self.refused_places(walk, request, is_known));
        let mut perhaps = known.clone();
        perhaps.extend(self.refused_places(walk, request, is_untold));
        Excuses {
            good,
            known,
            perhaps,
        }
    }

    /// Where credentials stand that are good, whatever became of the alternatives that asked for them.
    /// What a service has let pass is not among them: it may have said yes to something else.
    fn granted_places(&self, walk: &Walk, request: &Request) -> Places<'_> {
        let granting = walk.granting.iter();
        granting
            .filter_map(|at| used_place(&*self.methods[*at], request))
            .collect()
    }

    /// Where credentials stand that a method has refused for such a reason.
    fn refused_places(&self, walk: &Walk, request: &Request, such: Such) -> Places<'_> {
        let refused = walk.refused.iter().filter(|it| such(it.reason));
        let place = |refused: &Refused| {
            let method = &*self.methods[refused.at];
            used_place(method, request).or_else(|| method.guessed(&[], request))
        };
        refused.filter_map(place).collect()
    }

    fn ungranted(&self, walk: &mut Walk, request: &Request) -> Decision {
        if let Some(decision) = walk.nearest_failure() {
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

impl Walk {
    pub(super) fn new(throttled: Option<Duration>) -> Self {
        Self {
            at: 0,
            alternative: 0,
            grants: SmallVec::new(),
            granting: SmallVec::new(),
            failures: SmallVec::new(),
            refused: SmallVec::new(),
            granted: None,
            throttled,
        }
    }

    /// Takes a verdict that can only be bad: another alternative holds already.
    fn look(&mut self, verdict: Verdict) {
        let before = self.failures.len();
        self.fail(verdict);
        if self.failures.len() == before {
            self.at += 1;
        }
    }

    fn fail(&mut self, verdict: Verdict) {
        let failure = match verdict {
            Verdict::Refused(refusal) => {
                self.note_refusal(refusal.reason);
                Failure::Refused(refusal)
            }
            Verdict::Answer(reason, response) => {
                self.note_refusal(reason);
                Failure::Answered(reason, response)
            }
            Verdict::Absent | Verdict::Granted(_) | Verdict::Pending(_) => return,
        };
        self.failures.push((self.at, failure));
    }

    /// Whether a method has refused anything.
    pub(super) fn has_refusals(&self) -> bool {
        !self.refused.is_empty()
    }

    fn note_refusal(&mut self, reason: Reason) {
        let at = self.at;
        self.refused.push(Refused { at, reason });
    }

    /// Forgets that methods found more than one credential: one of them may be that which is good.
    /// About the rest they are asked again, and what they say then stands.
    fn forget_ambiguities(&mut self) {
        let ambiguous = Reason::AuthAmbiguous;
        self.refused.retain(|it| it.reason != ambiguous);
        self.failures.retain(|(_, failure)| {
            !matches!(failure, Failure::Refused(refusal) if refusal.reason == ambiguous)
        });
    }

    fn failure_of(&mut self, method: usize) -> Option<Decision> {
        let at = self
            .failures
            .iter()
            .position(|(by, failure)| *by == method && !matches!(failure, Failure::Incomplete))?;
        let (by, failure) = self.failures.remove(at);
        Some(failure.decision(by))
    }

    /// Of several failures the one that tells most: an issuer that does not know a token says less
    /// than one that finds it expired.
    fn nearest_failure(&mut self) -> Option<Decision> {
        let distances = self.failures.iter().map(|(_, failure)| failure.distance());
        let (at, _) = distances
            .enumerate()
            .min_by_key(|(_, distance)| *distance)?;
        let (by, failure) = self.failures.remove(at);
        Some(failure.decision(by))
    }
}

impl Failure {
    fn decision(self, by: usize) -> Decision {
        match self {
            Self::Refused(refusal) => Decision::Refused(by, refusal),
            Self::Answered(reason, response) => Decision::Answered(by, reason, response),
            Self::Incomplete => Decision::Missing,
        }
    }

    fn distance(&self) -> u8 {
        match self {
            Self::Refused(refusal) if FOREIGN.contains(&refusal.reason) => 1,
            Self::Refused(_) | Self::Answered(..) => 0,
            Self::Incomplete => 2,
        }
    }
}

/// What a method has refused.
struct Refused {
    at: usize,
    reason: Reason,
}

/// Where credentials stand.
type Places<'m> = SmallVec<[&'m CredentialPlace; 2]>;

/// Whether a reason is such a one.
type Such = fn(Reason) -> bool;

/// Where what stands is no guess, whatever another method says of it.
struct Excuses<'m> {
    /// What has let the request in.
    good: Places<'m>,
    /// That, and what a method knows.
    known: Places<'m>,
    /// That, and what a method may know that has not said so.
    perhaps: Places<'m>,
}

impl<'m> Excuses<'m> {
    /// What one method can't read may be another's, even of one that is away. A service is asked about
    /// passwords though, and to have another one be away, or busy, or show its login page takes nothing.
    fn of(&self, refused: Reason) -> &Places<'m> {
        match refused {
            Reason::ExternalUnauthorized => &self.known,
            reason if is_foreign(reason) => &self.perhaps,
            _ => &self.good,
        }
    }
}

/// Where the credential stands that a method has read. It takes one alone, so where there is
/// something at another of its places too, that is an Authorization of a scheme which is not its own.
fn used_place<'m>(method: &'m dyn Method, request: &Request) -> Option<&'m CredentialPlace> {
    let places = method.places().iter();
    let occupied = places.filter(|place| credential::is_at(request, place));
    occupied.min_by_key(|place| is_authorization(place))
}

fn is_authorization(place: &CredentialPlace) -> bool {
    matches!(place, CredentialPlace::Header(name) if *name == AUTHORIZATION)
}

/// Whether a refusal may be about a credential that is for another method.
fn is_foreign(reason: Reason) -> bool {
    let unread = [Reason::ApiKeyMalformed, Reason::ExternalUnauthorized];
    unread.contains(&reason) || FOREIGN.contains(&reason)
}

/// Whether a refusal is about a credential that the method has read and knows. Of several it has read
/// none. One whose keys are away has read a token at least, which is nothing to guess.
fn is_known(reason: Reason) -> bool {
    reason != Reason::AuthAmbiguous && !is_foreign(reason) && !is_untold(reason)
}

/// Whether a method may know the credential and has not said so: it can't tell now, or another service
/// forbids the request, or sends it to a login page. That one may do with whatever it is sent.
fn is_untold(reason: Reason) -> bool {
    let untold = [
        Reason::ExternalForbidden,
        Reason::ExternalRedirected,
        Reason::ExternalUnavailable,
        Reason::AuthUnavailable,
        Reason::AuthBusy,
    ];
    untold.contains(&reason)
}

/// What a method says of a credential that is another's. Whatever needs no signature to be said is among
/// them: anybody can write a token that asks for an extension, or a long one.
const FOREIGN: [Reason; 8] = [
    Reason::JwtTooLarge,
    Reason::JwtCritical,
    Reason::JwtMalformed,
    Reason::JwtWrongType,
    Reason::JwtWrongAlgorithm,
    Reason::JwtUnknownKey,
    Reason::JwtBadSignature,
    Reason::JwtWrongIssuer,
];
