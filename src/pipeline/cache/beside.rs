//! Requests that the store is not asked for, and what their answers do to it.

use std::sync::{Arc, atomic::AtomicU64};

use http::header::CONTENT_LOCATION;

use super::{
    CacheRoute, Visit,
    judge::Head,
    object::{Draft, Origin},
    policy::{Asked, Class, Forwarded},
    purge::{Reached, Stamp},
    tags::Tags,
    target,
};
use crate::exchange::{CacheNote, Context, Request, Response, fields::has_overrides};

impl CacheRoute {
    /// Hands a request on. What it has changed is forgotten, and what a POST brings for later GETs is
    /// stored.
    pub(super) async fn beside(
        self: Arc<Self>,
        asked: Asked,
        request: Request,
        context: Arc<Context>,
    ) -> Response {
        note(&asked, &context);
        // An upstream may have taken it for another, and its answer for that one's.
        let may_be_stored = asked.post && !has_overrides(request.headers());
        let posted = may_be_stored.then(|| self.posted(&asked, &request, &context));
        let changes = asked.class == Class::Unsafe;
        let target = changes.then(|| target(&request).to_owned());
        let (requested, began) = (self.cache.moment(), self.cache.stamp());
        let mut response = self.inner.handle(request, &context).await;
        let changed = posted
            .as_ref()
            .is_some_and(|visit| self.is_purged(visit, began));
        if let Some(target) = target {
            self.cache.changed(&target, &response, &context);
        }
        let is_located = response.headers().contains_key(CONTENT_LOCATION);
        let Some(visit) = posted.filter(|_| is_located && !changed) else {
            drop(Tags::take(response.headers_mut()));
            return response;
        };
        let origin = Origin {
            marks: visit.marks.clone(),
            // Behind what it has just invalidated itself.
            began: self.cache.stamp() + 1,
            tags: Box::default(),
        };
        let head = self.judge(&visit, &mut response, requested, origin);
        match head {
            Head::Store(draft) if !self.is_purged_by_others(&draft, began) => {
                self.keep_aside(*draft, response, &visit)
            }
            _ => response,
        }
    }

    /// What is known of a POST whose answer may be stored (RFC 9110 9.3.3).
    fn posted(self: &Arc<Self>, asked: &Asked, request: &Request, context: &Arc<Context>) -> Visit {
        let look = self.look_with(asked, request, context);
        look.visit(None, Forwarded::Method, 0)
    }

    /// Whether a purge, or another's change, has reached a URL since then.
    fn is_purged(&self, visit: &Visit, began: Stamp) -> bool {
        let reached = self
            .cache
            .purges
            .reached(&visit.marks, began, &AtomicU64::new(0));
        reached != Reached::No
    }

    /// Whether a purge of anything but its URL has reached an answer since its request began: its tags
    /// are known only now.
    fn is_purged_by_others(&self, draft: &Draft, began: Stamp) -> bool {
        let (purges, origin) = (&self.cache.purges, &draft.origin);
        purges.reached_elsewhere(&origin.marks, began, origin.began) != Reached::No
    }
}

fn note(asked: &Asked, context: &Context) {
    let why = match asked.class {
        Class::Bypass(why) => why.as_str(),
        _ => "method",
    };
    context.cached(CacheNote {
        result: "bypass",
        detail: Some(why),
    });
}
