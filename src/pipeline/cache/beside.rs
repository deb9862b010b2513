//! Requests that the store is not asked for, and what their answers do to it.

use std::sync::{Arc, atomic::AtomicU64};

use http::{HeaderValue, header::CONTENT_LOCATION};

use super::{
    CacheRoute, Visit,
    judge::Head,
    object::{CACHE_STATUS, Draft, NAME, Origin},
    policy::{Asked, Bypass, CacheStatus, Class, Forwarded},
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
            return told(response, &asked, false);
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
                let response = self.keep_aside(*draft, response, &visit);
                told(response, &asked, self.can_store(&visit))
            }
            _ => told(response, &asked, false),
        }
    }

    /// What is known of a POST whose answer may be stored (RFC 9110 9.3.3).
    fn posted(self: &Arc<Self>, asked: &Asked, request: &Request, context: &Arc<Context>) -> Visit {
        let look = self.look_with(asked, request, context);
        look.visit(None, Forwarded::Method, None)
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
    context.cached(CacheNote {
        result: "bypass",
        detail: Some(why(asked).as_str()),
    });
}

/// Why the store is not asked.
fn why(asked: &Asked) -> Bypass {
    match asked.class {
        Class::Bypass(why) => why,
        _ => Bypass::Method,
    }
}

/// Tells the client that the store was not asked, and why (RFC 9211 2.2).
fn told(mut response: Response, asked: &Asked, stored: bool) -> Response {
    let status = match why(asked) {
        // What nearly all of them are.
        Bypass::Method if !stored => METHOD,
        Bypass::Method => CacheStatus {
            stored,
            ..CacheStatus::forwarded(NAME, Forwarded::Method)
        }
        .header(),
        why => CacheStatus {
            detail: Some(why.as_str()),
            ..CacheStatus::forwarded(NAME, Forwarded::Bypass)
        }
        .header(),
    };
    response.headers_mut().append(CACHE_STATUS, status);
    response
}

const METHOD: HeaderValue = HeaderValue::from_static("tollgate; fwd=method");
