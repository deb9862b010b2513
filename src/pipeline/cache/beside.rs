//! Requests that the store is not asked for, and what their answers do to it.

use std::sync::{Arc, atomic::AtomicU64};

use http::header::CONTENT_LOCATION;

use super::{
    CacheRoute, Visit,
    judge::Head,
    key::public_host,
    object::Origin,
    policy::{Asked, Class, Forwarded, Url, invalidated},
    purge::{Aim, Reached, Stamp},
    tags::Tags,
};
use crate::exchange::{CacheNote, Context, GatewayMade, Request, Response};

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
        let posted = asked.post.then(|| self.posted(&asked, &request, &context));
        let (requested, began) = (self.cache.moment(), self.cache.stamp());
        let mut response = self.inner.handle(request, &context).await;
        let changed = posted
            .as_ref()
            .is_some_and(|visit| self.is_purged(visit, began));
        if asked.class == Class::Unsafe {
            self.invalidate(&response, &context);
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
        match self.judge(&visit, &mut response, requested, origin) {
            Head::Store(draft) => self.keep_aside(*draft, response, &visit),
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

    /// RFC 9111 4.4.
    fn invalidate(&self, response: &Response, context: &Context) {
        if response.extensions().get::<GatewayMade>().is_some() {
            return;
        }
        let host = public_host(context);
        let url = Url {
            scheme: context.scheme,
            authority: &host,
            target: context.target(),
        };
        for target in invalidated(&url, response.status(), response.headers()) {
            let aim = Aim::Url {
                host: (&*host).into(),
                target: target.into(),
            };
            match self.second {
                Some(_) => self.cache.invalidate(&aim),
                None => self.cache.forget(&aim, false),
            }
        }
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
