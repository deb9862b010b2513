//! Entity tags, and the requests that validate what is stored (RFC 9111 4.3).

use http::{
    HeaderMap, HeaderName,
    header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE},
};

use super::{StoredHead, directives::Members};

/// Makes a request ask whether what is stored is still valid (RFC 9111 4.3.1).
///
/// The conditions are the stored answer's own, byte for byte; the client's are dropped, and so is
/// its range: they are applied to the outcome. All other fields stay, those that the answer varies
/// by among them.
pub fn make_conditional(request: &mut HeaderMap, stored: &StoredHead) {
    unconditional(request);
    if let Some(etag) = stored.etag() {
        request.insert(IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = stored.last_modified() {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Makes a request ask for the whole, whatever the client has of it already.
pub fn unconditional(request: &mut HeaderMap) {
    for name in CONDITIONS {
        request.remove(name);
    }
}

/// Whether two entity tags are equal by the weak comparison (RFC 9110 8.8.3.2).
pub(super) fn equals_weakly(one: &[u8], other: &[u8]) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").map_or(0, |_| 2);
    one[opaque(one)..] == other[opaque(other)..]
}

/// Whether two entity tags are equal by the strong comparison (RFC 9110 8.8.3.2).
pub(super) fn equals_strongly(one: &[u8], other: &[u8]) -> bool {
    one == other && one.starts_with(b"\"")
}

/// Whether `If-None-Match` lists an entity tag, at any place of any line (RFC 9110 13.1.2).
pub(super) fn lists(request: &HeaderMap, etag: Option<&[u8]>) -> bool {
    let lines = request.get_all(IF_NONE_MATCH).iter();
    let mut members = lines.flat_map(|line| Members::of(line.as_bytes()));
    members.any(|member| {
        let member = member.trim_ascii();
        // `*` is any stored answer.
        member == b"*" || etag.is_some_and(|etag| equals_weakly(member, etag))
    })
}

const CONDITIONS: [HeaderName; 6] = [
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_MATCH,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    RANGE,
];
