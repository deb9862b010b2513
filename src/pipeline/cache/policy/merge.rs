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

/// What a 304 means for the stored answer that it validated.
#[derive(Debug)]
pub enum Merge {
    /// The stored body is served with these fields, and stored again with them when the verdict
    /// says so. An answer that may not be stored any more is served this once.
    Updated {
        /// The merged fields, without `Age`.
        headers: HeaderMap,
        /// Whether the merged answer may be stored.
        verdict: Result<Verdict, NotStored>,
    },
    /// The 304 is about another representation than ours (RFC 9111 4.3.4): the origin must be
    /// asked again without conditions.
    Mismatch,
}

/// Merges a 304 into the stored answer that was to be validated.
#[must_use]
pub fn merge(
    stored: &StoredHead,
    asked: &Asked,
    url: &Url<'_>,
    answer: &Answer<'_>,
    options: &Options,
) -> Merge {
    if is_about_another(stored, answer.headers) {
        return Merge::Mismatch;
    }
    let headers = merged(stored, answer);
    let whole = Answer {
        status: stored.status,
        headers: &headers,
        ..*answer
    };
    let verdict = judge(asked, url, &whole, options);
    Merge::Updated { headers, verdict }
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
