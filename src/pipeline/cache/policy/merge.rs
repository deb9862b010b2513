//! What a 304 changes in what is stored (RFC 9111 3.2, 4.3.4).

use http::{
    HeaderMap, HeaderName,
    header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG},
};

use super::{
    Answer, Asked, NotStored, Options, StoredHead, Url, Verdict, conditional::equals_weakly,
    date::format_http_date, judge,
};
use crate::exchange::fields;

/// What a 304 makes of the stored answer that it validated: the stored body is served with these
/// fields.
#[derive(Debug)]
pub struct Merged {
    /// The merged fields. `Age` among them is the 304's own.
    pub headers: HeaderMap,
    /// Whether the merged answer may be stored. One that may not be any more is served this once.
    pub verdict: Result<Verdict, NotStored>,
}

/// Merges a 304 into the stored answer that was to be validated.
///
/// `None` when it is about another representation than ours (RFC 9111 4.3.4), or when fields have become
/// too many: the origin must be asked again without conditions.
#[must_use]
pub fn merge(
    stored: &StoredHead,
    asked: &Asked,
    url: &Url<'_>,
    answer: &Answer<'_>,
    options: &Options,
) -> Option<Merged> {
    if is_about_another(stored, answer.headers) {
        return None;
    }
    let headers = merged(stored, answer);
    if headers.len() > MOST_FIELDS {
        return None;
    }
    let whole = Answer {
        status: stored.status,
        headers: &headers,
        ..*answer
    };
    let verdict = judge(asked, url, &whole, options);
    Some(Merged { headers, verdict })
}

/// A validator that we did not send: it selects no stored answer (RFC 9111 4.3.4).
fn is_about_another(stored: &StoredHead, validated: &HeaderMap) -> bool {
    match (stored.etag(), validated.get(ETAG)) {
        (Some(ours), Some(theirs)) => !equals_weakly(ours.as_bytes(), theirs.as_bytes()),
        _ => false,
    }
}

fn merged(stored: &StoredHead, answer: &Answer<'_>) -> HeaderMap {
    let mut update = answer.headers.clone();
    fields::remove_hop_by_hop(&mut update, true);
    for name in KEPT {
        update.remove(name);
    }
    // The 304 is as old as it says; without a date, of now (RFC 9110 6.6.1).
    if !update.contains_key(DATE) {
        update.insert(DATE, format_http_date(answer.received));
    }
    let mut headers = stored.headers.clone();
    for name in update.keys() {
        headers.remove(name);
    }
    for (name, value) in &update {
        headers.append(name, value.clone());
    }
    // `judge` reads it of the 304; it is computed on every reuse.
    if let Some(age) = answer.headers.get(AGE) {
        headers.insert(AGE, age.clone());
    }
    headers
}

/// Fields that a 304 does not change: the length (RFC 9111 3.2), and those that the stored bytes
/// depend on, which a wrong 304 would make unreadable. `Age` is told anew.
const KEPT: [HeaderName; 4] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, AGE];
/// Heads have a hundred fields at most, but an upstream that names others in each 304 could have any
/// number stored.
const MOST_FIELDS: usize = 512;
