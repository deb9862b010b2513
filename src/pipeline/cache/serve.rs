//! Answers out of what is stored.

use http::{HeaderMap, HeaderValue, Response as HttpResponse, StatusCode, header::AGE};

use super::{
    object::{CACHE_STATUS, Draft, Object, behind},
    policy::{
        Asked, ByteRange, Facts, Moment, Selected, not_modified, partial, select, unsatisfiable,
    },
};
use crate::exchange::{Body, Response};

/// The answer to one request.
pub(super) struct Serving<'a> {
    pub(super) asked: &'a Asked,
    pub(super) request: &'a HeaderMap,
    pub(super) facts: &'a Facts,
    pub(super) now: Moment,
    /// Our member of `Cache-Status`, where it does not just say `hit`.
    pub(super) status: Option<HeaderValue>,
}

impl Serving<'_> {
    /// A stored answer, or what the request's conditions and range make of it.
    pub(super) fn object(&self, object: &Object) -> Response {
        let length = Some(object.body.length());
        let selected = self.select(&object.draft, length);
        match selected {
            Selected::Whole => {
                let body = object.body.whole(object.trailers.as_deref());
                self.whole(&object.draft, body)
            }
            Selected::Part(range) => {
                let body = object.body.part(range.first..range.last + 1);
                self.part(&object.draft, range, body)
            }
            other => self.bodiless(&object.draft, other),
        }
    }

    /// What has been selected of an answer, and its bytes.
    pub(super) fn selected(&self, draft: &Draft, selected: Selected, body: Body) -> Response {
        match selected {
            Selected::Whole => self.whole(draft, body),
            Selected::Part(range) => self.part(draft, range, body),
            other => self.bodiless(draft, other),
        }
    }

    /// An answer whose body is still on its way.
    pub(super) fn arriving(&self, draft: &Draft, body: Body) -> Response {
        match self.select(draft, None) {
            Selected::Whole | Selected::Part(_) => self.whole(draft, body),
            other => self.bodiless(draft, other),
        }
    }

    fn select(&self, draft: &Draft, length: Option<u64>) -> Selected {
        // What most requests are.
        if !self.asked.conditional && !self.asked.range {
            return Selected::Whole;
        }
        select(self.asked, self.request, &draft.head, length, self.now)
    }

    fn whole(&self, draft: &Draft, body: Body) -> Response {
        let mut response = HttpResponse::new(body);
        *response.status_mut() = draft.head.status;
        *response.headers_mut() = draft.head.headers.clone();
        self.finish(draft, &mut response);
        response
    }

    fn part(&self, draft: &Draft, range: ByteRange, body: Body) -> Response {
        let mut response = self.whole(draft, body);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        partial(response.headers_mut(), range);
        response
    }

    fn bodiless(&self, draft: &Draft, selected: Selected) -> Response {
        let mut response = HttpResponse::new(Body::empty());
        let stored = &draft.head.headers;
        let (status, headers) = match selected {
            Selected::Unsatisfiable(whole) => {
                let mut headers = unsatisfiable(whole);
                // What is stored says `hit`; a 416 has nothing else of it.
                if let Some(said) = stored.get(CACHE_STATUS) {
                    headers.insert(CACHE_STATUS, said.clone());
                }
                (StatusCode::RANGE_NOT_SATISFIABLE, headers)
            }
            _ => (StatusCode::NOT_MODIFIED, not_modified(stored)),
        };
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.finish(draft, &mut response);
        response
    }

    /// `Age` on every answer out of the store (RFC 9111 5.1), and how it came to be.
    fn finish(&self, draft: &Draft, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(AGE, self.facts.age_header(self.now));
        if let Some(status) = &self.status {
            let status = behind(draft.nearer.as_ref(), status.clone());
            headers.insert(CACHE_STATUS, status);
        }
    }
}
