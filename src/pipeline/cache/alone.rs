//! Asking the upstream for one request alone: nobody waits for it.

use std::sync::Arc;

use super::{
    CacheRoute, Visit,
    fetch::{Outcome, fill_request},
    fill::{Fetching, Fill},
    judge::Head,
    object::{Draft, NAME, Object, Origin},
    policy::{CacheStatus, NotStored, make_conditional, unconditional},
    tags::Tags,
    unkept::Unkept,
};
use crate::exchange::{Body, Request, Response};

impl CacheRoute {
    /// Asks for one request alone. What comes may still be stored.
    pub(super) async fn alone(self: Arc<Self>, mut request: Request, mut visit: Visit) -> Response {
        let again = visit.stale.as_ref().map(|stale| {
            let again = fill_request(&request);
            make_conditional(request.headers_mut(), &stale.object.draft.head);
            again
        });
        let whole = self.may_heed(&visit).then(|| fill_request(&request));
        let brings = self.brings_for_all(&visit);
        if brings {
            unconditional(request.headers_mut());
        }
        // Where the client's conditions do not go to the upstream, they are for us to compare.
        let compares = brings || again.is_some();
        let (mut response, mut head) = self.ask_alone(request, &visit).await;
        if let (Head::AskAgain, Some(mut again)) = (&head, again) {
            unconditional(again.headers_mut());
            visit.stale = None;
            (response, head) = self.ask_alone(again, &visit).await;
        }
        let mut status = CacheStatus::forwarded(NAME, visit.why);
        match head {
            Head::Store(draft) => {
                visit.note("miss", None);
                status.stored = self.can_store(&visit);
                let key = visit.keys.of(&draft);
                let mut response = self.keep_aside(*draft, response, &visit);
                if compares {
                    response = self.conditioned(&visit, response, self.cache.moment());
                }
                self.told(response, key, status)
            }
            Head::Refreshed(object) => {
                self.put(&visit, &object);
                status.stored = self.can_store(&visit);
                self.revalidated(&visit, &object, status)
            }
            Head::Failed(failure) => {
                let (stale, now) = (visit.stale.as_ref(), self.cache.moment());
                let instead = self.stale_instead(&visit, stale, failure, now);
                // By now it may be too old for that, or purged: the failure stands.
                instead.unwrap_or_else(|| self.unkept(response, &visit, Unkept::UpstreamFailed))
            }
            head => {
                let why = match head {
                    Head::Own(why) => why,
                    // Without conditions of ours a 304 is the client's.
                    _ => Unkept::Rules(NotStored::Status),
                };
                if brings {
                    // Its group has its answers marked too, or each of its conditions would cost a whole.
                    self.pass_for_a_while(&visit, &response, why);
                }
                if compares {
                    response = self.conditioned(&visit, response, self.cache.moment());
                } else if let Some(whole) = whole {
                    self.heed(&visit, &response, &whole);
                }
                self.unkept(response, &visit, why)
            }
        }
    }

    /// Whether a 304 may say to a request that more is kept of what it asks for than was learnt.
    fn may_heed(&self, visit: &Visit) -> bool {
        // What it would bring itself is nobody else's.
        visit.keeps_conditions && visit.stale.is_none() && !visit.is_known_apart()
    }

    /// Has the whole fetched where the upstream's 304 says that it may be kept: that conditions go on was learnt of
    /// an answer to another, or of an older one. It is fetched at once, beside the 304: the next one to ask may be
    /// that other again, of whose answer the same is learnt.
    fn heed(self: &Arc<Self>, visit: &Visit, response: &Response, whole: &Request) {
        if !self.says_that_it_keeps(visit, response) {
            return;
        }
        let (key, asker) = (visit.keys.of_flight(), visit.keys.asker);
        let now = self.cache.stamp();
        let is_heeded = self.cache.store.wait_again_as_told(key, asker, now);
        // A part says nothing of who wants the whole, and without waiting conditions are the upstream's.
        if is_heeded && visit.asked.may_lead() && self.wait.is_some() {
            self.refresh(whole, visit.clone());
        }
    }

    /// Whether the upstream is asked for the whole although nobody waits for it: that requests do not wait for
    /// each other was learnt of others, and what this one brings may be for all.
    fn brings_for_all(&self, visit: &Visit) -> bool {
        let learnt_of_others = visit.passes && !visit.keeps_conditions;
        let may_bring = visit.asked.may_lead() && visit.stale.is_none() && self.wait.is_some();
        visit.asked.conditional && learnt_of_others && may_bring && self.can_store(visit)
    }

    /// An answer that is not stored, and why.
    fn unkept(&self, response: Response, visit: &Visit, why: Unkept) -> Response {
        let why = why.as_str();
        visit.note("miss", Some(why));
        let mut status = CacheStatus::forwarded(NAME, visit.why);
        status.detail = Some(why);
        self.told(response, visit.keys.first(), status)
    }

    async fn ask_alone(&self, request: Request, visit: &Visit) -> (Response, Head) {
        let requested = self.cache.moment();
        let origin = Origin {
            marks: visit.marks.clone(),
            began: self.cache.stamp(),
            tags: Box::default(),
        };
        let mut response = self.inner.handle(request, &visit.context).await;
        let head = self.judge(visit, &mut response, requested, origin);
        (response, head)
    }

    /// What the upstream has said to be right still.
    pub(super) fn revalidated(
        &self,
        visit: &Visit,
        object: &Object,
        mut status: CacheStatus<'_>,
    ) -> Response {
        visit.note("revalidated", None);
        status.forwarded_status = Some(304);
        let (draft, now) = (&object.draft, self.cache.moment());
        self.serving(visit, draft, &draft.head.facts, now, &status)
            .object(object)
    }

    /// Stores an answer beside serving it.
    pub(super) fn keep_aside(
        self: &Arc<Self>,
        draft: Draft,
        response: Response,
        visit: &Visit,
    ) -> Response {
        let fill = Fill::new();
        let reader = fill.read_as_first(&visit.context);
        let (head, body) = response.into_parts();
        let (cache, visit) = (Arc::clone(self), visit.clone());
        let fetching = Fetching::new(&fill, Outcome::Lost);
        self.cache.spawn_fetch(&fill, None, async move {
            cache.keep(&fetching, Arc::new(draft), body, &visit).await;
        });
        Response::from_parts(head, reader.map_or_else(Body::empty, Body::boxed))
    }

    /// Hands a request on; nothing is stored.
    pub(super) async fn pass(&self, request: Request, visit: &Visit, why: Unkept) -> Response {
        let mut response = self.inner.handle(request, &visit.context).await;
        drop(Tags::take(response.headers_mut()));
        self.unkept(response, visit, why)
    }
}
