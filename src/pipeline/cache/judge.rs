//! What becomes of an upstream's answer: stored, merged into what is stored, or nobody else's.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};

use super::{
    CacheRoute, Visit,
    found::Found,
    object::{Draft, Object, Origin},
    policy::{self, Answer, Failure, Moment, Verdict, judge, merge, serves_stale, stale_instead},
    tags::{self, Tags},
    unkept::Unkept,
};
use crate::exchange::{Body, EndsWithConnection, Response};

/// What is to be done with a head.
pub(super) enum Head {
    Store(Box<Draft>),
    Refreshed(Arc<Object>),
    /// Not stored, for this reason.
    Own(Unkept),
    Failed(Failure),
    /// The upstream's 304 is about something that we do not have.
    AskAgain,
}

impl CacheRoute {
    /// Decides what becomes of an answer.
    pub(super) fn judge(
        &self,
        visit: &Visit,
        response: &mut Response,
        requested: Moment,
        mut origin: Origin,
    ) -> Head {
        let tags = Tags::take(response.headers_mut());
        let made = response.body().is_own();
        if let Some(failure) = self.failure(visit, response, made) {
            return Head::Failed(failure);
        }
        if made {
            return Head::Own(Unkept::UpstreamFailed);
        }
        if response.extensions().get::<EndsWithConnection>().is_some() {
            return Head::Own(Unkept::Unframed);
        }
        if !tags.can_be_kept() {
            return Head::Own(Unkept::Tags);
        }
        self.cache
            .purges
            .tag(&mut origin.marks, tags.iter().flatten());
        if self.second.is_some() {
            origin.tags = tags.lines();
        }
        let received = self.cache.moment();
        let answer = Answer {
            status: response.status(),
            headers: response.headers(),
            requested,
            received,
        };
        let mut head = match &visit.stale {
            Some(stale) if answer.status == StatusCode::NOT_MODIFIED => self
                .merge(visit, stale, &answer, origin)
                .into_head(response),
            _ => self.store(visit, &answer, origin),
        };
        if let Head::Store(draft) = &mut head {
            learn(visit, draft);
        }
        head
    }

    fn store(&self, visit: &Visit, answer: &Answer<'_>, origin: Origin) -> Head {
        if self.is_too_large(answer.headers) {
            return Head::Own(Unkept::TooLarge);
        }
        if is_stream(answer.headers) {
            return Head::Own(Unkept::Stream);
        }
        match judge(&visit.asked, &visit.url(), answer, &self.options) {
            Ok(verdict) => Head::Store(Box::new(Draft::new(
                verdict,
                answer.status,
                answer.headers.clone(),
                &visit.headers,
                origin,
            ))),
            Err(why) => Head::Own(why.into()),
        }
    }

    /// Whether a 304 to the client's own conditions says that the whole could be kept. It has the fields that
    /// tell it (RFC 9110 15.4.5).
    pub(super) fn says_that_it_keeps(&self, visit: &Visit, response: &Response) -> bool {
        let now = self.cache.moment();
        let whole = Answer {
            status: StatusCode::OK,
            headers: response.headers(),
            requested: now,
            received: now,
        };
        let is_kept = |headers| !is_stream(headers) && !self.is_too_large(headers);
        response.status() == StatusCode::NOT_MODIFIED
            && is_kept(whole.headers)
            && judge(&visit.asked, &visit.url(), &whole, &self.options).is_ok()
    }

    /// RFC 9111 4.3.4.
    fn merge(
        &self,
        visit: &Visit,
        stale: &Found,
        answer: &Answer<'_>,
        mut origin: Origin,
    ) -> Merged {
        // What was purged meanwhile is not made good by who can't know of it.
        if self.cache.is_gone(&stale.object) {
            return Merged::Mismatch;
        }
        let stored = stale.object.draft.as_received();
        let merged = merge(&stored, &visit.asked, &visit.url(), answer, &self.options);
        let Some(policy::Merged { headers, verdict }) = merged else {
            return Merged::Mismatch;
        };
        // Its tags are those that it had, and new ones.
        let known = &stale.object.draft.origin;
        origin.marks.extend(&known.marks);
        origin.tags = tags::joined(&known.tags, &origin.tags);
        let why = match verdict {
            Ok(verdict) if origin.marks.len() <= MOST_MARKS => {
                return Merged::Kept(refreshed(stale, headers, verdict, visit, origin));
            }
            Ok(_) => Unkept::Tags,
            Err(why) => why.into(),
        };
        let body = stale.object.body.whole(None);
        Merged::Once(stored.status, headers, body, why)
    }

    fn is_too_large(&self, headers: &HeaderMap) -> bool {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        length.is_some_and(|length| length > self.cache.largest)
    }

    /// A failure in whose place this request may have what is stale.
    fn failure(&self, visit: &Visit, response: &Response, made: bool) -> Option<Failure> {
        let failure = match made {
            true => Failure::Unreachable,
            false => Failure::Status(response.status()),
        };
        let (stale, now) = (visit.stale.as_ref()?, self.cache.moment());
        let instead = self.stands_in(visit, stale, failure, now);
        instead.map(|_| failure)
    }

    /// Which of what is stale a request may have in the place of a failure.
    pub(super) fn stands_in<'f>(
        &self,
        visit: &Visit,
        stale: &'f Found,
        failure: Failure,
        now: Moment,
    ) -> Option<&'f Found> {
        let mut all = stale
            .newest_first()
            .filter(|found| !self.cache.is_gone(&found.object));
        // What the newest forbids, an older one can't allow (RFC 9111 4).
        let may = |found: &Found| stale_instead(&visit.asked, &found.facts, now, failure);
        let decides = all.find(|found| found.facts.never_stale || may(found));
        decides.filter(|found| may(found))
    }
}

impl Visit {
    /// Notes what a new answer tells of the stale one in whose place it was asked for. One that breaks off, or
    /// turns out too large to be kept, tells nothing: it takes no place.
    pub(super) fn note_newer(&self, newer: &Object) {
        let now = newer.draft.head.facts.received;
        // What is fresh, and validated since a client wants that, is others' to use still.
        if let Some(stale) = &self.stale
            && !stale.facts.is_fresh(now)
        {
            let serves = serves_stale(&stale.facts, now);
            let request = &self.headers;
            stale.object.note_newer(&newer.draft, request, serves);
        }
    }
}

/// What a 304 has made of what was stored.
enum Merged {
    Kept(Arc<Object>),
    /// It is served this once.
    Once(StatusCode, HeaderMap, Body, Unkept),
    Mismatch,
}

impl Merged {
    fn into_head(self, response: &mut Response) -> Head {
        match self {
            Self::Kept(object) => Head::Refreshed(object),
            Self::Mismatch => Head::AskAgain,
            Self::Once(status, headers, body, why) => {
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                *response.body_mut() = body;
                Head::Own(why)
            }
        }
    }
}

/// What is stored with the fields of a 304.
fn refreshed(
    stale: &Found,
    headers: HeaderMap,
    verdict: Verdict,
    visit: &Visit,
    origin: Origin,
) -> Arc<Object> {
    let old = &stale.object;
    let status = old.draft.head.status;
    let mut draft = Draft::new(verdict, status, headers, &visit.headers, origin);
    learn(visit, &mut draft);
    let (key, trailers) = (visit.keys.of(&draft), old.trailers.as_deref().cloned());
    let object = Object::new(key, Arc::new(draft), old.body.clone(), trailers);
    Arc::new(object)
}

/// Notes of which kinds of requests each has to validate a new answer, and the one in whose place it was asked for.
fn learn(visit: &Visit, draft: &mut Draft) {
    let (kind, stale) = (visit.kind(), visit.stale.as_ref());
    let known = stale.map(|stale| stale.object.draft.validating);
    let validates = draft.validating.has(kind);
    draft.validating = known.unwrap_or_default().with(kind, validates);
}

/// What goes on for as long as somebody listens is no answer to keep.
fn is_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    media_type.is_some_and(|media_type| {
        STREAMS.iter().any(|stream| {
            let start = media_type.get(..stream.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(stream))
        })
    })
}

/// An upstream that gives each 304 tags of its own could make them any number.
const MOST_MARKS: usize = 1024;
const STREAMS: [&[u8]; 3] = [
    b"text/event-stream",
    b"application/grpc",
    b"multipart/x-mixed",
];
