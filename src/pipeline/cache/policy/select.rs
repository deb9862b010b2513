//! What of a stored answer a client gets: all of it, a 304, a part, or a 416 (RFC 9110 13.2, 14).

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
        ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, TRAILER,
    },
};

use super::{
    Asked, ByteRange, Moment, RangeSet, StoredHead,
    conditional::{equals_strongly, lists},
    date::parse_http_date,
};

/// What a client gets of a stored answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// The answer as it is stored.
    Whole,
    /// A 304: the client has it already.
    NotModified,
    /// A 206 with a part.
    Part(ByteRange),
    /// A 416: the range lies behind the end of a whole of this length.
    Unsatisfiable(u64),
}

/// Applies a request's conditions and range to an answer that may be used for it.
///
/// `length` is that of the stored body; without it, as while it still arrives, ranges are ignored.
#[must_use]
pub fn select(
    asked: &Asked,
    request: &HeaderMap,
    stored: &StoredHead,
    length: Option<u64>,
    now: Moment,
) -> Selected {
    // Conditions are for what would else be a 2xx (RFC 9110 13.2.1).
    if asked.conditional && stored.status.is_success() && not_changed(request, stored, now) {
        return Selected::NotModified;
    }
    let Some(whole) = length else {
        return Selected::Whole;
    };
    if !is_for_part(asked, request, stored, now) {
        return Selected::Whole;
    }
    match RangeSet::of(request, whole) {
        RangeSet::Ignored => Selected::Whole,
        RangeSet::One(range) => Selected::Part(range),
        RangeSet::Unsatisfiable => Selected::Unsatisfiable(whole),
    }
}

/// Whether it takes the length of an answer to tell what a request selects of it, when its conditions do
/// not.
#[must_use]
pub fn needs_length(asked: &Asked, request: &HeaderMap, stored: &StoredHead, now: Moment) -> bool {
    is_for_part(asked, request, stored, now) && RangeSet::needs_length(request)
}

/// Whether a request's `Range` counts.
fn is_for_part(asked: &Asked, request: &HeaderMap, stored: &StoredHead, now: Moment) -> bool {
    // A range is for what would else be a 200 (RFC 9110 14.2).
    asked.range && stored.status == StatusCode::OK && range_applies(request, stored, now)
}

/// `If-None-Match` rules where it is there (RFC 9110 13.2.2), else `If-Modified-Since`.
fn not_changed(request: &HeaderMap, stored: &StoredHead, now: Moment) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return lists(request, stored.etag().map(HeaderValue::as_bytes));
    }
    let since = request.get(IF_MODIFIED_SINCE).map(HeaderValue::as_bytes);
    // A wrong date is ignored (RFC 9110 13.1.3).
    let since = since.and_then(|text| parse_http_date(text, now));
    since.is_some_and(|since| stored.facts.modified <= since)
}

/// Whether a client has the very answer that came to its conditional request without the conditions
/// (RFC 9110 13.2): the upstream would have sent a 304.
#[must_use]
pub fn has_already(
    request: &HeaderMap,
    status: StatusCode,
    answer: &HeaderMap,
    now: Moment,
) -> bool {
    if !status.is_success() {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        return lists(request, answer.get(ETAG).map(HeaderValue::as_bytes));
    }
    let date = |headers: &HeaderMap, name: &HeaderName| {
        let value = headers.get(name)?;
        parse_http_date(value.as_bytes(), now)
    };
    let modified = date(answer, &LAST_MODIFIED);
    let since = date(request, &IF_MODIFIED_SINCE);
    // Without a date there is no condition (RFC 9110 13.1.3).
    matches!((modified, since), (Some(modified), Some(since)) if modified <= since)
}

/// `If-Range` (RFC 9110 13.1.5): the client's part must be of the very same bytes.
fn range_applies(request: &HeaderMap, stored: &StoredHead, now: Moment) -> bool {
    let Some(condition) = request.get(IF_RANGE).map(HeaderValue::as_bytes) else {
        return true;
    };
    if let Some(etag) = stored.etag()
        && equals_strongly(condition, etag.as_bytes())
    {
        return true;
    }
    let modified = stored.last_modified().map(HeaderValue::as_bytes);
    modified == Some(condition) && is_strong_date(stored, now)
}

/// A date tells versions apart when it is at least a second before the answer (RFC 9110 8.8.2.2).
fn is_strong_date(stored: &StoredHead, now: Moment) -> bool {
    let date = |name: &HeaderName| {
        let value = stored.headers.get(name)?;
        parse_http_date(value.as_bytes(), now)
    };
    let modified = stored.last_modified();
    let modified = modified.and_then(|value| parse_http_date(value.as_bytes(), now));
    matches!((modified, date(&DATE)), (Some(modified), Some(date)) if date > modified)
}

/// The fields of a 304 (RFC 9110 15.4.5): all but those that describe a body.
#[must_use]
pub fn not_modified(stored: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(stored.len());
    for (name, value) in stored {
        if !OF_A_BODY.contains(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// Makes the fields of a stored answer those of a 206 (RFC 9110 15.3.7.1).
pub fn partial(headers: &mut HeaderMap, range: ByteRange) {
    let ByteRange { first, last, whole } = range;
    headers.insert(
        CONTENT_RANGE,
        content_range(format!("bytes {first}-{last}/{whole}")),
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.length()));
    headers.remove(TRAILER);
}

/// The fields of a 416 for a whole of some length (RFC 9110 15.5.17).
#[must_use]
pub fn unsatisfiable(whole: u64) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_RANGE, content_range(format!("bytes */{whole}")));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    headers
}

fn content_range(text: String) -> HeaderValue {
    // Digits and punctuation: always a value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

const OF_A_BODY: [HeaderName; 6] = [
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_RANGE,
    TRAILER,
];
