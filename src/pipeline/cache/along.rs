//! Reading along with another's fetch without making one: HEAD, and `Range` of what is not stored.
//!
//! A fetch is for the whole, which may be much more than these ask for: where none is under way they go
//! to the upstream as they are. Where one is, its answer is theirs too. To a HEAD that is its head. A
//! part is sent from what comes, as soon as its first byte is there; it does not have to come from the
//! upstream once more, and nobody gets a whole who asked for a byte (RFC 9110 14.2 would let us).

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    CacheRoute, Visit,
    fetch::Outcome,
    flights::{Flight, Id},
    object::{Draft, NAME},
    policy::{CacheStatus, Selected, needs_length, select},
    together::ROUNDS,
};
use crate::exchange::{Body, Response, http1::told_length};

impl CacheRoute {
    /// What a fetch under way has for a request that makes none. `None` when there is none, it is not
    /// for this request, or does not come to what this one needs in that time.
    pub(super) async fn along(&self, visit: &Visit, wait: Duration) -> Option<Response> {
        let deadline = Instant::now() + wait;
        let mut id = Id {
            key: visit.keys.of_flight().clone(),
            variant: visit.selection.digest(),
        };
        let mut selection = visit.selection.clone();
        for _ in 0..ROUNDS {
            let flight = self.cache.under_way(&id)?;
            let outcome = timeout_at(deadline, flight.fill.outcome()).await.ok()?;
            let response = match &outcome {
                Outcome::Storing(draft) if visit.asked.range => {
                    self.part(visit, &flight, draft, deadline).await
                }
                _ => self.follow(visit, &flight, &outcome),
            };
            if response.is_some() {
                return response;
            }
            // Another variant than ours: ours may be under way too.
            if !selection.learn(outcome.draft()?, &visit.headers, &self.cache.hasher) {
                return None;
            }
            id.variant = selection.digest();
        }
        None
    }

    /// What `Range` selects of a body that is on its way.
    async fn part(
        &self,
        visit: &Visit,
        flight: &Arc<Flight<Outcome>>,
        draft: &Draft,
        deadline: Instant,
    ) -> Option<Response> {
        let now = self.cache.moment();
        if !self.cache.will_do(flight) || !self.suits(visit, draft, now) {
            return None;
        }
        let read = || flight.fill.read_without(&visit.context, &draft.withheld);
        let (asked, request, head) = (&visit.asked, &visit.headers, &draft.head);
        // Where the head tells its length, the body has no other.
        let told = told_length(&head.headers);
        let mut selected = select(asked, request, head, told, now);
        // What the head decides waits for no body, nor does what is no part of any.
        let is_open = told.is_none() && selected == Selected::Whole;
        if is_open && needs_length(asked, request, head, now) {
            let length = timeout_at(deadline, read()?.length()).await.ok()??;
            selected = select(asked, request, head, Some(length), now);
        }
        let status = CacheStatus {
            collapsed: true,
            ..CacheStatus::forwarded(NAME, visit.why)
        };
        let body = match selected {
            Selected::Part(range) => {
                let part = read()?.part(range.first, range.length());
                Body::boxed(timeout_at(deadline, part).await.ok()??)
            }
            Selected::Whole => Body::boxed(read()?),
            Selected::NotModified | Selected::Unsatisfiable(_) => Body::empty(),
        };
        visit.note("coalesced", None);
        let now = self.cache.moment();
        let serving = self.serving(visit, draft, &draft.head.facts, now, &status);
        Some(serving.selected(draft, selected, body))
    }
}
