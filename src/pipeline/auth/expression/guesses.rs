//! Which refusals of a request are guesses: they count against the client's address.
//!
//! A method refuses what it does not accept; whether it was made up the other methods may know better. What
//! has let the request in is no guess. What one method can't read may be another's, which knows it: then its
//! word does not count. All of this is about places: what a method says of one excuses nothing that stands at
//! another.

use super::{
    super::credential::{self, Places, is_authorization},
    Evaluation, Expression,
    evaluation::Refused,
    knowledge::Knowledge,
};
use crate::exchange::{Reason, Request};

/// Where what stands is no guess, whatever another method says of it.
struct Excuses<'m> {
    /// What has let the request in.
    good: Places<'m>,
    /// That, and what a method has accepted.
    accepted: Places<'m>,
    /// That, and what a method knows.
    known: Places<'m>,
    /// That, and what a method may know that has not said so.
    perhaps: Places<'m>,
}

impl<'m> Excuses<'m> {
    /// What one method can't read may be another's, even of one that is away. A service is asked about
    /// passwords though, and to have another one be away, or busy, or show its login page takes nothing.
    fn of(&self, refused: Reason) -> &Places<'m> {
        match Knowledge::of(refused) {
            Knowledge::Foreign if refused == Reason::ExternalUnauthorized => &self.known,
            Knowledge::Foreign => &self.perhaps,
            Knowledge::Known | Knowledge::Untold | Knowledge::Unread => &self.accepted,
        }
    }
}

impl Expression {
    /// Why credentials of a request were refused that nothing excuses, whoever has the last word: beside a
    /// token that is good, or has expired, a password would be guessed for nothing.
    pub(in crate::pipeline::auth) fn guesses<'w>(
        &'w self,
        evaluation: &'w Evaluation,
        request: &'w Request,
    ) -> impl Iterator<Item = Reason> + 'w {
        let excuses = self.excuses(evaluation, request);
        let refused = evaluation.refused.iter();
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
    fn excuses<'m>(&'m self, evaluation: &Evaluation, request: &Request) -> Excuses<'m> {
        let good = match &evaluation.granted {
            Some(granted) => self.used_places(granted, request),
            None => Places::new(),
        };
        let mut accepted = self.with_others(good.clone(), evaluation, request);
        accepted.extend(self.granted_places(evaluation, request));
        let mut known = accepted.clone();
        known.extend(self.refused_places(evaluation, request, Knowledge::Known));
        let mut perhaps = known.clone();
        perhaps.extend(self.refused_places(evaluation, request, Knowledge::Untold));
        Excuses {
            good,
            accepted,
            known,
            perhaps,
        }
    }

    /// Where credentials stand that are good, whatever became of the alternatives that asked for them.
    /// What a service has let pass is not among them: it may have said yes to something else.
    fn granted_places(&self, evaluation: &Evaluation, request: &Request) -> Places<'_> {
        let granting = evaluation.granting.iter();
        granting
            .filter_map(|at| credential::read_place(request, self.methods[*at].places(), &[]))
            .collect()
    }

    /// Where credentials stand of which a method that has refused them knows so much.
    fn refused_places(
        &self,
        evaluation: &Evaluation,
        request: &Request,
        knowledge: Knowledge,
    ) -> Places<'_> {
        let refused = evaluation.refused.iter();
        let such = refused.filter(|refused| Knowledge::of(refused.reason) == knowledge);
        let place = |refused: &Refused| {
            let method = &self.methods[refused.at];
            let read = credential::read_place(request, method.places(), &[]);
            read.or_else(|| method.guessed(&[], request))
        };
        such.filter_map(place).collect()
    }
}
