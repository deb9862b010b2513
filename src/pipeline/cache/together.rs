//! Waiting for the fetch of another: who joins which, and what of its answer is theirs.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    CacheRoute, Visit,
    fetch::Outcome,
    fill::Fill,
    flights::{Flight, Id, Role},
    found::Found,
    object::{Draft, NAME},
    policy::{CacheStatus, Class, Facts, Moment, Reuse, reuse},
    shared::Stored,
};
use crate::exchange::{Body, Request, Response};

impl CacheRoute {
    /// Waits for the fetch of another, or makes one that others wait for.
    pub(super) async fn together(
        self: Arc<Self>,
        request: Request,
        visit: Visit,
        wait: Duration,
    ) -> Response {
        let deadline = Instant::now() + wait;
        let key = visit.keys.of_flight().clone();
        let takes_anothers = visit.takes_anothers();
        let mut selection = visit.selection.clone();
        let mut in_vain = 0;
        for _ in 0..ROUNDS {
            let id = Id {
                key: key.clone(),
                variant: selection.digest(),
            };
            let role = match self.join(id, &request, &visit) {
                Ok(role) => role,
                Err(response) => return *response,
            };
            let flight = match role {
                // It leads whoever may wait for it, and waits for nobody.
                Role::Follow(_) if !takes_anothers => break,
                Role::Follow(flight) => flight,
                Role::Lead(flight, ticket) => {
                    return self.lead(request, visit, flight, ticket).await;
                }
            };
            let Ok(outcome) = timeout_at(deadline, flight.fill.outcome()).await else {
                break;
            };
            if let Some(response) = self.follow(&visit, &flight, &outcome) {
                return response;
            }
            match &outcome {
                // It is ours, and yet for who brought it alone. So will be what the next fetch brings.
                Outcome::Storing(draft) if self.is_to_be_validated(&visit, draft) => break,
                Outcome::Refreshed(object) if self.is_to_be_validated(&visit, &object.draft) => {
                    break;
                }
                Outcome::Own(_) => break,
                _ => {}
            }
            // Another variant than ours: who wants ours waits for each other.
            let (headers, digests) = (&visit.headers, &self.cache.hasher);
            let learn = |draft| selection.learn(draft, headers, digests);
            // It failed, or a purge has come.
            in_vain += usize::from(!outcome.draft().is_some_and(learn));
            if in_vain == IN_VAIN {
                break;
            }
        }
        self.alone(request, visit).await
    }

    /// Joins a fetch, or is to make it. Who looked before an answer stood in the store, and comes when the fetch that
    /// brought it has ended, is served it.
    fn join(
        self: &Arc<Self>,
        id: Id,
        request: &Request,
        visit: &Visit,
    ) -> Result<Role<Outcome>, Box<Response>> {
        let will_do = |flight: &Flight<Outcome>| self.cache.will_do(flight);
        let look = self.look_again(request, visit);
        let mut left = None;
        let begin = || match look.looked() {
            Stored::Found(found) if look.is_fresh(&found) => Err(Box::new(found)),
            // It is let go of behind the lock.
            stored => {
                left = Some(stored);
                Ok(self.flight(visit))
            }
        };
        let role = self.cache.flights.join(id, will_do, begin);
        drop(left);
        role.map_err(|found| Box::new(look.hit(&found)))
    }

    pub(super) fn flight(&self, visit: &Visit) -> Flight<Outcome> {
        Flight {
            fill: Fill::new(),
            began: self.cache.stamp(),
            marks: visit.marks.clone(),
            stale: OnceLock::new(),
        }
    }

    /// The answer that another's fetch has for this request, if it has one.
    pub(super) fn follow(
        &self,
        visit: &Visit,
        flight: &Flight<Outcome>,
        outcome: &Outcome,
    ) -> Option<Response> {
        // Now that the answer's tags are known, a purge may turn out to have reached it.
        if !self.cache.will_do(flight) {
            return None;
        }
        let now = self.cache.moment();
        let status = CacheStatus {
            collapsed: true,
            ..CacheStatus::forwarded(NAME, visit.why)
        };
        match outcome {
            Outcome::Storing(draft) if self.suits(visit, draft, now) => {
                let fill = &flight.fill;
                let body = match visit.asked.class {
                    Class::Head => Body::empty(),
                    _ => Body::boxed(fill.read_without(&visit.context, &draft.withheld)?),
                };
                visit.note("coalesced", None);
                let facts = &draft.head.facts;
                let serving = self.serving(visit, draft, facts, now, &status);
                Some(serving.arriving(draft, body))
            }
            Outcome::Refreshed(object) if self.suits(visit, &object.draft, now) => {
                visit.note("coalesced", None);
                let draft = &object.draft;
                let serving = self.serving(visit, draft, &draft.head.facts, now, &status);
                Some(serving.object(object))
            }
            Outcome::Brought(found) if self.suits(visit, &found.object.draft, now) => {
                let reuse = reuse(&visit.asked, &found.facts, now);
                Some(self.brought(visit, found, reuse))
            }
            Outcome::Failed(failure) => {
                let stale = stale_of(visit, flight, now);
                self.stale_instead(visit, stale.as_ref(), *failure, now)
            }
            _ => None,
        }
    }

    /// Whether an answer that was fetched for another may be this request's too.
    pub(super) fn suits(&self, visit: &Visit, draft: &Draft, now: Moment) -> bool {
        let reuse = reuse(&visit.asked, &draft.head.facts, now);
        draft.is_selected_by(&visit.headers) && reuse.serves()
    }

    /// Whether an answer that has just come for another is what this request selects, and still may not be
    /// its own without validation (RFC 9111 4).
    fn is_to_be_validated(&self, visit: &Visit, draft: &Draft) -> bool {
        draft.is_selected_by(&visit.headers) && !self.suits(visit, draft, self.cache.moment())
    }
}

impl Visit {
    /// Whether what another brings may be this request's, as far as the stored answer tells. One that has
    /// to be validated for each request however new it is (`no-cache`, RFC 9111 5.2.2.4, or stale when it
    /// comes) will be followed by such another: that is used for who asked for it alone, and saves no fetch.
    pub(super) fn may_share(&self) -> bool {
        self.stale.as_ref().is_none_or(|stale| {
            let draft = &stale.object.draft;
            // As the upstream said it: a purge does not speak of the next one.
            let facts = &draft.head.facts;
            let validates = reuse(&self.asked, facts, facts.received) == Reuse::Validate;
            // What others of another kind are told does not part those of this one.
            !validates || !draft.validating.has(self.kind())
        })
    }

    /// Whether it takes an answer that comes for another. One that wants a newer one than any that was asked
    /// for before it (RFC 9111 5.2.1.1, 5.2.1.4), or a longer time of it than the upstream gives (5.2.1.3),
    /// would have to ask for itself in the end.
    pub(super) fn takes_anothers(&self) -> bool {
        let wants = &self.asked.wants;
        if wants.no_cache || wants.max_age == Some(Duration::ZERO) {
            return false;
        }
        self.stale.as_ref().is_none_or(|stale| {
            // However old that one came: the next may be quicker.
            let facts = Facts {
                initial_age: Duration::ZERO,
                ..stale.object.draft.head.facts
            };
            reuse(&self.asked, &facts, facts.received) != Reuse::ValidateAsWanted
        })
    }
}

/// What a request may have in the place of a failure: of what it has found itself, and of what its fetch has
/// found elsewhere, which was for another and may be no variant of its own.
pub(super) fn stale_of(visit: &Visit, flight: &Flight<Outcome>, now: Moment) -> Option<Found> {
    let all = visit.stale.iter().chain(flight.stale.get());
    let selected = |found: &Found| found.object.draft.is_selected_by(&visit.headers);
    Found::newest(
        all.flat_map(Found::apart).filter(selected),
        &visit.asked,
        now,
    )
}

/// How often a request joins in before it goes alone: for its variant, of which each answer may tell more.
pub(super) const ROUNDS: usize = 8;
/// How often it does so when an answer tells nothing of that: behind failures and purges.
const IN_VAIN: usize = 3;
