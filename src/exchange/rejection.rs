//! The only place that writes error answers.
//!
//! One envelope in three forms: JSON, RFC 9457 problem details, or a gRPC trailers-only answer.
//! It tells the class, a stable reason and the request id, never internals and never which rule
//! denied.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response as HttpResponse, StatusCode, Version,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::Body as _;
use serde::Serialize;
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::{Body, Context, Reason, RequestHead, Response};

/// The form in which a client wants refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerForm {
    /// The envelope as `application/json`.
    Json,
    /// `application/problem+json` (RFC 9457).
    Problem,
    /// gRPC: status 200, the error in `grpc-status` (trailers-only).
    Grpc,
}

impl AnswerForm {
    /// Chooses by what the request is (gRPC) and what it accepts (problem details).
    fn of(head: &RequestHead) -> Self {
        match &head.accept {
            _ if head.grpc => Self::Grpc,
            Some(accept) if prefers_problem(accept) => Self::Problem,
            _ => Self::Json,
        }
    }
}

/// Whether `application/problem+json` is asked for by name with a weight at least that of
/// `application/json`.
fn prefers_problem(accept: &HeaderValue) -> bool {
    // Nearly all clients ask for something else, or for anything.
    if memchr::memchr(b'+', accept.as_bytes()).is_none() {
        return false;
    }
    let Ok(accept) = accept.to_str() else {
        return false;
    };
    let weight = |wanted: &str| {
        accept
            .split(',')
            .filter_map(|member| {
                let mut parts = member.split(';').map(str::trim);
                let named = parts.next()?.eq_ignore_ascii_case(wanted);
                let weight = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .map_or(Some(1.0), |text| text.parse::<f32>().ok());
                named.then_some(weight?)
            })
            .next()
    };
    match (
        weight("application/problem+json"),
        weight("application/json"),
    ) {
        (Some(problem), other) => problem > 0.0 && problem >= other.unwrap_or(0.0),
        (None, _) => false,
    }
}

/// A refusal that is about to become an answer.
#[derive(Debug)]
pub struct Rejection {
    reason: Reason,
    /// The limit that refuses: all that nearly every refusal of a flood tells.
    limit: Option<Arc<str>>,
    /// Boxed: refusals travel as the errors of results, whose good case should stay small.
    more: Option<Box<More>>,
}

/// What few refusals have.
#[derive(Debug, Default)]
struct More {
    details: SmallVec<[(&'static str, Value); 1]>,
    headers: SmallVec<[(HeaderName, HeaderValue); 2]>,
}

/// What a detail tells.
#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'r> {
    /// A name out of the configuration: a copy would be dear in a flood of refusals.
    Name(&'r str),
    Value(&'r Value),
}

impl From<Detail<'_>> for Value {
    fn from(detail: Detail<'_>) -> Self {
        match detail {
            Detail::Name(name) => name.into(),
            Detail::Value(value) => value.clone(),
        }
    }
}

impl Rejection {
    /// A refusal for a reason.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            limit: None,
            more: None,
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Adds a fact that helps the caller and tells nothing about the inside.
    #[must_use]
    pub fn detail(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        let more = self.more.get_or_insert_default();
        more.details.push((key, value.into()));
        self
    }

    /// Tells of the limit that refuses.
    #[must_use]
    pub fn limit(mut self, name: &Arc<str>) -> Self {
        self.limit = Some(Arc::clone(name));
        self
    }

    /// Adds a header field, such as `Allow` or `Retry-After`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        let more = self.more.get_or_insert_default();
        more.headers.push((name, value));
        self
    }

    /// Lets the connection end behind the answer: what follows on it can't be trusted or would
    /// have to be read only to be thrown away. HTTP/2 needs no such thing: hyper resets the stream.
    #[must_use]
    pub fn close(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Makes the answer and notes the reason for the access log.
    #[must_use]
    pub fn respond(self, context: &Context) -> Response {
        self.respond_in(HeaderMap::new(), context)
    }

    /// The same with the answer's fields where the request's were, which nobody needs any more: in a
    /// flood of refusals no map has to be made.
    #[must_use]
    pub fn respond_in(self, mut room: HeaderMap, context: &Context) -> Response {
        context.note(self.reason);
        // Second values of a name have a room of their own, which would be kept; and the heads of HTTP/2
        // are counted until an answer is made of them.
        let is_http2 = context.head.version == Version::HTTP_2;
        if is_http2 || room.len() != room.keys_len() {
            room = HeaderMap::new();
        }
        room.clear();
        // Once, for what is added on the way out too.
        room.reserve(FIELDS);
        let mut response = HttpResponse::new(Body::empty());
        *response.headers_mut() = room;
        match AnswerForm::of(&context.head) {
            AnswerForm::Json => self.json(context, &mut response),
            AnswerForm::Problem => self.problem(context, &mut response),
            AnswerForm::Grpc => self.grpc(&mut response),
        }
        let length = response.body().size_hint().exact().unwrap_or_default();
        let headers = response.headers_mut();
        // Whatever its form: the status of gRPC is 200, which a cache may keep.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if context.head.method == Method::HEAD {
            // Elsewhere whoever writes the answer says it, from the body itself.
            headers.insert(CONTENT_LENGTH, length.into());
        }
        for (name, value) in self.more.into_iter().flat_map(|more| more.headers) {
            if !(is_http2 && name == CONNECTION) {
                headers.append(name, value);
            }
        }
        response.map(Body::own)
    }

    /// The envelope, written as it stands: words and messages of reasons need no escapes, which a
    /// test sees to, and neither do ids.
    fn json(&self, context: &Context, response: &mut Response) {
        let mut text = Vec::with_capacity(ENVELOPE);
        text.extend_from_slice(self.reason.envelope().as_bytes());
        self.write_details(&mut text);
        text.extend_from_slice(br#"},"request_id":""#);
        text.extend_from_slice(context.id.as_str().as_bytes());
        text.extend_from_slice(br#""}"#);
        self.fill(response, "application/json", text);
    }

    fn write_details(&self, text: &mut Vec<u8>) {
        for (index, (name, value)) in self.details().enumerate() {
            let begin: &[u8] = if index == 0 {
                br#","details":{""#
            } else {
                br#",""#
            };
            text.extend_from_slice(begin);
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(br#"":"#);
            // Writing to memory can't fail, and a value always has a form.
            let _ = serde_json::to_writer(&mut *text, &value);
        }
        if self.details().next().is_some() {
            text.push(b'}');
        }
    }

    /// What it tells beside its reason.
    fn details(&self) -> impl Iterator<Item = (&'static str, Detail<'_>)> {
        let limit = self.limit.as_deref().map(Detail::Name);
        let more = self.more.iter().flat_map(|more| &more.details);
        let more = more.map(|(name, value)| (*name, Detail::Value(value)));
        limit.map(|limit| ("limit", limit)).into_iter().chain(more)
    }

    fn problem(&self, context: &Context, response: &mut Response) {
        let details = self.details();
        let mut problem: Map<String, Value> = details
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let status = self.reason.status();
        problem.insert("type".into(), "about:blank".into());
        problem.insert(
            "title".into(),
            status.canonical_reason().unwrap_or("Error").into(),
        );
        problem.insert("status".into(), status.as_u16().into());
        problem.insert("detail".into(), self.reason.message().into());
        problem.insert("code".into(), self.reason.code().as_str().into());
        problem.insert("reason".into(), self.reason.as_str().into());
        problem.insert("request_id".into(), context.id.as_str().into());
        let body = Value::Object(problem).to_string().into_bytes();
        self.fill(response, "application/problem+json", body);
    }

    fn grpc(&self, response: &mut Response) {
        let status = HeaderValue::from(grpc_status(self.reason.status()));
        let message = HeaderValue::from_static(self.reason.message());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(HeaderName::from_static("grpc-status"), status);
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }

    fn fill(&self, response: &mut Response, media_type: &'static str, text: Vec<u8>) {
        *response.status_mut() = self.reason.status();
        let media_type = HeaderValue::from_static(media_type);
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        *response.body_mut() = Body::full(Bytes::from(text));
    }
}

/// The mapping of the gRPC project ("HTTP to gRPC status code mapping"), with 413 and 504 added by
/// their plain meaning.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 | 431 | 414 => 13, // INTERNAL
        401 => 16,             // UNAUTHENTICATED
        403 => 7,              // PERMISSION_DENIED
        404 | 405 => 12,       // UNIMPLEMENTED
        413 => 8,              // RESOURCE_EXHAUSTED
        408 | 504 => 4,        // DEADLINE_EXCEEDED
        429 | 502 | 503 => 14, // UNAVAILABLE
        500 => 13,             // INTERNAL
        _ => 2,                // UNKNOWN
    }
}

/// Room for an envelope with a detail or two.
const ENVELOPE: usize = 320;
/// Of most refusals, with what a route adds.
const FIELDS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_messages_stand_in_json_as_they_are() {
        for reason in Reason::ALL {
            for text in [reason.as_str(), reason.message(), reason.code().as_str()] {
                let json = serde_json::to_string(text).unwrap();
                assert_eq!(json, format!("\"{text}\""));
            }
        }
    }

    #[test]
    fn details_are_escaped() {
        let rejection = Rejection::new(Reason::TargetInvalid)
            .detail("target", "a\"b\n")
            .detail("most", 7);
        let mut text = b"{\"x\":0".to_vec();
        rejection.write_details(&mut text);
        text.push(b'}');
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["details"]["target"], "a\"b\n");
        assert_eq!(json["details"]["most"], 7);
    }

    #[test]
    fn problem_details_are_sent_only_to_who_prefers_them() {
        let asked = |accept| prefers_problem(&HeaderValue::from_static(accept));
        assert!(asked("application/problem+json"));
        assert!(asked("text/html, application/problem+json;q=0.5"));
        assert!(!asked("*/*"));
        assert!(!asked("application/problem+json;q=0.5, application/json"));
        assert!(!asked("application/problem+json;q=0"));
    }
}
