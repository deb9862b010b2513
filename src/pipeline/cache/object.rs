//! What is stored of one answer.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AGE, CONTENT_LENGTH, TRANSFER_ENCODING},
};

use super::{
    body::StoredBody,
    demand::Demand,
    fetch::REMEMBERED,
    key::{Key, Label},
    kinds::Kinds,
    policy::{Audience, Facts, Moment, Nominated, StoredHead, VariantKey, Verdict},
    purge::{Marks, Purges, Reached, Stamp},
    rivalry::Rivalry,
    store::Kept,
};
use crate::exchange::fields::{X_REQUEST_ID, withhold};

/// A head that is being stored: all that is known before the body has come.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// The status, the fields as a hit sends them, and what decides on reuse.
    ///
    /// The fields have a place for each that a hit writes, so that a copy of them need not grow:
    /// `Age`, `Cache-Status` (which says `hit` already) and the request id.
    pub(super) head: StoredHead,
    /// `Cache-Status` of caches nearer to the origin.
    pub(super) nearer: Option<HeaderValue>,
    /// By which request fields the answer varies, and the values that select it.
    pub(super) nominated: Nominated,
    pub(super) variant: VariantKey,
    /// Who may have it.
    pub(super) audience: Audience,
    /// What it can be purged by.
    pub(super) origin: Origin,
    /// The kinds of requests of which each has to validate such an answer: as it says for those of the
    /// request that brought it, and as others before it said for theirs.
    pub(super) validating: Kinds,
    /// The fields that no trailers but those of its first reader have. What is stored has none any more.
    pub(super) withheld: Box<[HeaderName]>,
}

/// Where an answer comes from, as far as purges need to know.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) marks: Marks,
    pub(super) began: Stamp,
    /// The tags, a line each, where others have to be told of them.
    pub(super) tags: Box<str>,
}

/// A whole stored answer. What a look reads of it is in one piece of memory.
#[derive(Debug)]
pub(super) struct Object {
    label: Label,
    pub(super) draft: Draft,
    pub(super) body: StoredBody,
    /// Few answers have some.
    pub(super) trailers: Option<Box<HeaderMap>>,
    /// The last ban that it was compared with.
    checked: AtomicU64,
    /// How much it is asked for, as one of several variants.
    demand: Demand,
    /// Whether another shall have its place, where the two do not fit beside each other.
    rivalry: Rivalry,
    /// How many answers, since it came or was last validated, were to requests that select it and vary by
    /// other fields; [`MOST_DEPARTURES`] where one tells that all do.
    departures: AtomicU8,
    weight: u64,
}

impl Draft {
    /// What is stored of an answer to a request with these fields.
    pub(super) fn new(
        verdict: Verdict,
        status: StatusCode,
        headers: HeaderMap,
        request: &HeaderMap,
        origin: Origin,
    ) -> Self {
        let nominated = verdict.nominated.clone();
        let audience = verdict.audience;
        let variant = nominated.key(request);
        let withheld = verdict.withheld().into();
        let validating = Kinds::all(verdict.each_validates);
        let head = verdict.store(status, headers);
        let selected = (nominated, variant);
        Self {
            withheld,
            ..Self::of(&head, selected, audience, validating, origin)
        }
    }

    /// What is stored of a head; `selected` is by which request fields, and their values.
    pub(super) fn of(
        head: &StoredHead,
        selected: (Nominated, VariantKey),
        audience: Audience,
        validating: Kinds,
        origin: Origin,
    ) -> Self {
        let (nominated, variant) = selected;
        let nearer = joined(&head.headers, &CACHE_STATUS);
        let headers = ready(&head.headers, nearer.as_ref());
        Self {
            variant,
            nominated,
            audience,
            nearer,
            origin,
            validating,
            withheld: Box::default(),
            head: StoredHead { headers, ..*head },
        }
    }

    /// The head as the upstream sent it, without the places for what a hit writes.
    pub(super) fn as_received(&self) -> StoredHead {
        let mut head = self.head.clone();
        head.headers.remove(AGE);
        head.headers.remove(X_REQUEST_ID);
        match &self.nearer {
            Some(nearer) => drop(head.headers.insert(CACHE_STATUS, nearer.clone())),
            None => drop(head.headers.remove(CACHE_STATUS)),
        }
        head
    }

    /// Whether a request selects it by the fields that it varies by.
    pub(super) fn is_selected_by(&self, request: &HeaderMap) -> bool {
        self.nominated.is_empty() || self.nominated.key(request) == self.variant
    }

    /// Whether it takes the place of another.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.nominated == other.nominated && self.variant == other.variant
    }

    /// What decides on reuse, unless a purge has reached it: a soft one lets it be stale.
    pub(super) fn facts(
        &self,
        purges: &Purges,
        checked: &AtomicU64,
        (now, stamp): (Moment, Stamp),
    ) -> Option<Facts> {
        match purges.reached(&self.origin.marks, self.origin.began, checked) {
            Reached::No => Some(self.head.facts),
            Reached::Gone => None,
            Reached::Stale(at) => {
                let ago = stamp.saturating_sub(at) / NANOS_PER_MILLI;
                let at = Moment::from_millis(now.millis().saturating_sub(ago));
                Some(self.head.facts.expired_at(at))
            }
        }
    }

    /// A digest of what it is selected by. It is remembered for a comparison and tells no answers apart.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.nominated.hash(&mut hasher);
        self.variant.hash(&mut hasher);
        hasher.finish()
    }

    /// Bytes on the heap.
    fn heap(&self) -> usize {
        let fields: usize = fields_weight(&self.head.headers);
        let names = size_of_val(self.nominated.names());
        // A long variant is there.
        let variant = self.variant.as_bytes().len();
        let nearer = self.nearer.as_ref().map_or(0, HeaderValue::len);
        fields + names + variant + nearer + self.origin.marks.weight() + self.origin.tags.len()
    }
}

impl Object {
    /// A whole answer, and the key under which it is kept.
    pub(super) fn new(
        key: &Key,
        draft: Arc<Draft>,
        body: StoredBody,
        trailers: Option<HeaderMap>,
    ) -> Self {
        // Readers who came while it arrived hold the other one.
        let mut draft = Arc::unwrap_or_clone(draft);
        let withheld = std::mem::take(&mut draft.withheld);
        let trailers = trailers.and_then(|fields| kept(fields, &withheld));
        let draft = complete(draft, &body, trailers.is_some());
        let mut object = Self {
            label: Label::of(key),
            draft,
            body,
            trailers,
            checked: AtomicU64::new(0),
            demand: Demand::default(),
            rivalry: Rivalry::default(),
            departures: AtomicU8::new(0),
            weight: 0,
        };
        object.weight = object.weighed() as u64;
        object
    }

    fn weighed(&self) -> usize {
        let of_trailers = |fields: &HeaderMap| size_of_val(fields) + fields_weight(fields);
        let trailers = self.trailers.as_deref().map_or(0, of_trailers);
        let heap = self.label.heap() + self.draft.heap() + self.body.weight() + trailers;
        size_of::<Self>() + COUNTS + heap
    }

    /// What decides on reuse, unless it was purged.
    pub(super) fn facts(&self, purges: &Purges, now: (Moment, Stamp)) -> Option<Facts> {
        self.draft.facts(purges, &self.checked, now)
    }

    /// Whether it was purged.
    pub(super) fn is_gone(&self, purges: &Purges) -> bool {
        let origin = &self.draft.origin;
        purges.reached(&origin.marks, origin.began, &self.checked) == Reached::Gone
    }

    /// Notes by what an answer varies that has come for a request that selects this one, which is stale. `serves`
    /// is whether this one may still be served to some.
    pub(super) fn note_newer(&self, newer: &Draft, request: &HeaderMap, serves: bool) {
        let (ours, theirs) = (&self.draft.nominated, &newer.nominated);
        let tells = match self.draft.audience == newer.audience {
            // What varies alike takes its place anyway.
            true => ours != theirs,
            // A caller who gets what is for all gets its own no more. What is a caller's own is so for no other.
            false => newer.audience == Audience::Everyone,
        };
        if !tells {
            return;
        }
        let departures = match theirs.names_more_of(request, ours) {
            // Whatever selects this one and is like this request selects the newer one too, which goes before it
            // (RFC 9111 4.1); and others are answered by those fields too.
            false => MOST_DEPARTURES,
            // Who sends a field that the upstream names to those alone who send it, and makes up its values, would
            // take what all others select from them.
            true if serves => return,
            true => self.departures.load(Relaxed).saturating_add(1),
        };
        self.departures.store(departures, Relaxed);
    }

    /// Whether the upstream does not vary by these fields any more, or gives a caller none of its own, as far as its
    /// answers tell.
    pub(super) fn is_outdated(&self) -> bool {
        self.departures.load(Relaxed) >= MOST_DEPARTURES
    }

    /// Notes that it is asked for.
    pub(super) fn ask(&self, now: Stamp) {
        self.demand.note(now);
    }
}

impl Kept for Object {
    fn weight(&self) -> u64 {
        self.weight
    }

    fn label(&self) -> &Label {
        &self.label
    }

    fn standing(&self) -> u64 {
        self.demand.standing(self.draft.origin.began)
    }

    fn last_asked(&self) -> u64 {
        self.demand.last(self.draft.origin.began)
    }

    fn others_since(&self) -> Option<u64> {
        let remembered = REMEMBERED.as_nanos() as u64;
        let varies = !self.draft.nominated.is_empty();
        varies.then(|| self.draft.origin.began.saturating_sub(remembered))
    }

    fn succeed(&self, replaced: &Self) {
        self.demand.succeed(&replaced.demand);
        self.rivalry.succeed(&replaced.rivalry);
    }

    fn refuses(&self, new: &Self) -> bool {
        if self.standing() <= new.standing() {
            return false;
        }
        let (digest, began) = (new.draft.digest(), new.draft.origin.began);
        let gives_way = self.rivalry.refuse(digest, began, self.demand.total());
        if gives_way {
            // Or this one would have its place back at once.
            new.demand.succeed(&self.demand);
        }
        !gives_way
    }
}

/// What is stored of an answer's trailers.
fn kept(mut fields: HeaderMap, withheld: &[HeaderName]) -> Option<Box<HeaderMap>> {
    withhold(&mut fields, withheld);
    (!fields.is_empty()).then(|| Box::new(owned(&fields, 0, |_| true)))
}

/// Now that the body is there its length is told, so that HEAD gets it too.
fn complete(mut draft: Draft, body: &StoredBody, trailers: bool) -> Draft {
    let head = &draft.head;
    let told = head.headers.contains_key(CONTENT_LENGTH);
    // RFC 9110 8.6: none in a 204. Trailers need chunks (RFC 9112 7.1.2).
    if told || trailers || head.status == StatusCode::NO_CONTENT {
        return draft;
    }
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 1);
    for (name, value) in &head.headers {
        headers.append(name, value.clone());
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length()));
    draft.head.headers = headers;
    draft
}

/// The fields as a hit sends them.
fn ready(headers: &HeaderMap, nearer: Option<&HeaderValue>) -> HeaderMap {
    let keeps = |name: &HeaderName| *name != CACHE_STATUS && *name != TRANSFER_ENCODING;
    let mut ready = owned(headers, OF_A_HIT, keeps);
    ready.insert(AGE, HeaderValue::from_static("0"));
    ready.insert(CACHE_STATUS, behind(nearer, HIT));
    ready.insert(X_REQUEST_ID, HeaderValue::from_static("-"));
    ready
}

/// Fields with their values in one piece of memory of their own, and places for more. As they came
/// they are slices of a reader's buffer, or of all that was read out of Redis, which each of them would
/// keep alive.
fn owned(headers: &HeaderMap, more: usize, keeps: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let kept: Vec<_> = headers.iter().filter(|(name, _)| keeps(name)).collect();
    // What is not kept would take room in that piece too, and be in no account.
    let length = kept.iter().map(|(_, value)| value.len()).sum();
    let mut text = BytesMut::with_capacity(length);
    for (_, value) in &kept {
        text.extend_from_slice(value.as_bytes());
    }
    let mut text = text.freeze();
    let mut fields = HeaderMap::with_capacity(kept.len() + more);
    for (name, value) in kept {
        fields.append(name, same(value, text.split_to(value.len())));
    }
    fields
}

fn same(value: &HeaderValue, bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| value.clone())
}

/// Our member of `Cache-Status` behind those of others (RFC 9211 2).
pub(super) fn behind(nearer: Option<&HeaderValue>, ours: HeaderValue) -> HeaderValue {
    let Some(nearer) = nearer else { return ours };
    let all = [nearer.as_bytes(), b", ", ours.as_bytes()].concat();
    HeaderValue::from_maybe_shared(Bytes::from(all)).unwrap_or(ours)
}

/// All lines of a field as one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if lines.is_empty() {
        return None;
    }
    HeaderValue::from_maybe_shared(Bytes::from(lines.join(&b", "[..]))).ok()
}

fn fields_weight(headers: &HeaderMap) -> usize {
    let fields = headers.iter();
    let weight = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    fields.map(|field| weight(field) + FIELD).sum()
}

/// `Cache-Status` (RFC 9211).
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Our name there.
pub(super) const NAME: &str = "tollgate";
const HIT: HeaderValue = HeaderValue::from_static("tollgate; hit");
/// The fields that a hit adds.
const OF_A_HIT: usize = 4;
/// What a map holds for each of its fields, free places included.
const FIELD: usize = 136;
/// The counts of a shared object.
const COUNTS: usize = 16;
const NANOS_PER_MILLI: u64 = 1_000_000;
/// Behind so many answers by fields that their requests have, and none by its own, it goes. Were it one, each who
/// sends a field that the upstream names to those alone who send it would take from all others what a validation
/// saves.
const MOST_DEPARTURES: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_fields_is_a_copy_of_them_alone() {
        let read = Bytes::from(vec![b'x'; 1 << 20]);
        let mut fields = HeaderMap::new();
        for (name, at) in [("x-a", 0), ("x-b", 500_000)] {
            let value = HeaderValue::from_maybe_shared(read.slice(at..at + 10)).unwrap();
            fields.insert(name, value);
        }
        let own = owned(&fields, 1, |name| name != "x-a");
        fields.remove("x-a");
        assert_eq!(own, fields);
        let lies_in =
            |value: &HeaderValue| read.as_ptr_range().contains(&value.as_bytes().as_ptr());
        assert!(fields.values().all(lies_in));
        assert!(!own.values().any(lies_in));
    }

    /// A value that is skipped would lie between those that are kept.
    #[test]
    fn what_is_not_kept_of_fields_takes_no_memory_among_those_that_are() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("x-a", "first"), ("x-b", "skipped"), ("x-c", "second")] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        let own = owned(&fields, 0, |name| name != "x-b");
        let place = |name: &str| own[name].as_bytes().as_ptr_range();
        let (one, other) = (place("x-a"), place("x-c"));
        assert!(one.end == other.start || other.end == one.start);
    }
}
