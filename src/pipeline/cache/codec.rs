//! Stored answers as bytes, for a store that gateways share.
//!
//! A value begins with a mark and the version of this form, and ends with a checksum. Every length
//! is checked against what is there, and nothing may be left over. What does not fit in any detail is
//! no value: it may come from another version, from another program, or from nobody.
//!
//! Numbers are big-endian. Spans are milliseconds, rounded so that no answer looks younger or is
//! used longer than it may be.

use std::{ops::Range, time::Duration};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    kinds,
    policy::{Audience, Facts, Moment, Nominated, StoredHead},
};

/// What stands under a key.
#[derive(Clone, Debug)]
pub enum Value {
    /// An answer.
    Answer(Box<Entry>),
    /// That answers vary, and by what: they stand under keys of their own.
    Varies(Varies),
}

/// A stored answer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is compared with to see whether it has been purged.
    pub birth: Birth,
    /// The whole first level of its key: what is found by a hash must also be what was looked for.
    pub key: Bytes,
    /// Who may have it.
    pub audience: Audience,
    /// Status, fields and what decides on reuse.
    pub head: StoredHead,
    /// By which request fields it varies.
    pub nominated: Nominated,
    /// Their values.
    pub variant: Bytes,
    /// The kinds of requests of which each has to validate it, a bit for each.
    pub validating: u8,
    /// Its tags, a line each.
    pub tags: Box<str>,
    /// What followed the body.
    pub trailers: Option<HeaderMap>,
    /// The body.
    pub body: Vec<Bytes>,
}

/// What was known of purges when the fetch of an answer began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Birth {
    /// The name of the log of purges.
    pub log: u64,
    /// The number of the last purge in it.
    pub last: u64,
    /// The guard of the URL: who it was, and its last soft purge.
    pub guard: u64,
    /// The last soft purge of the URL.
    pub soft: u64,
}

/// By what the answers of a key vary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Varies {
    /// The whole first level of the key.
    pub key: Bytes,
    /// The request fields.
    pub nominated: Nominated,
}

/// Writes an answer; `None` when it would be larger than so many bytes.
#[must_use]
pub fn encode(entry: &Entry, largest: usize) -> Option<Vec<u8>> {
    let body: usize = entry.body.iter().map(Bytes::len).sum();
    if body > largest {
        return None;
    }
    let mut out = Writer::new(ANSWER, body + USUAL_HEAD);
    let Birth {
        log,
        last,
        guard,
        soft,
    } = entry.birth;
    for number in [log, last, guard, soft] {
        out.long(number);
    }
    out.text(&entry.key);
    out.byte(match entry.audience {
        Audience::Everyone => EVERYONE,
        Audience::Caller => CALLER,
    });
    out.head(&entry.head);
    out.nominated(&entry.nominated);
    out.text(&entry.variant);
    out.byte(entry.validating);
    out.text(entry.tags.as_bytes());
    out.byte(u8::from(entry.trailers.is_some()));
    if let Some(trailers) = &entry.trailers {
        out.fields(trailers);
    }
    out.length(body);
    for piece in &entry.body {
        out.0.extend_from_slice(piece);
    }
    out.end(largest)
}

/// Writes by what answers vary.
#[must_use]
pub fn encode_varies(key: &[u8], nominated: &Nominated) -> Option<Vec<u8>> {
    let mut out = Writer::new(VARIES, USUAL_HEAD);
    out.text(key);
    out.nominated(nominated);
    out.end(usize::MAX)
}

/// Reads a value; `None` when it is none of ours.
#[must_use]
pub fn decode(bytes: &Bytes) -> Option<Value> {
    let inner = bytes.len().checked_sub(CHECKSUM)?;
    let (text, sum) = (bytes.slice(..inner), bytes.slice(inner..));
    let mut input = Reader(text.clone());
    let mark = input.take(MARK.len())?;
    if *mark != MARK || crc32fast::hash(&text).to_be_bytes() != *sum {
        return None;
    }
    let value = match input.byte()? {
        ANSWER => Value::Answer(Box::new(input.entry()?)),
        VARIES => Value::Varies(Varies {
            key: input.text()?,
            nominated: input.nominated()?,
        }),
        _ => return None,
    };
    input.0.is_empty().then_some(value)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u8, capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(&MARK);
        out.push(kind);
        Self(out)
    }

    fn end(mut self, largest: usize) -> Option<Vec<u8>> {
        let sum = crc32fast::hash(&self.0);
        self.0.extend_from_slice(&sum.to_be_bytes());
        (self.0.len() <= largest).then_some(self.0)
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn long(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// Nothing here is near four gigabytes: bodies are bounded, heads by what a connection takes.
    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.length(text.len());
        self.0.extend_from_slice(text);
    }

    fn head(&mut self, head: &StoredHead) {
        let facts = &head.facts;
        self.0
            .extend_from_slice(&head.status.as_u16().to_be_bytes());
        self.long(facts.received.millis());
        // Up: older rather than younger.
        let age = facts.initial_age.saturating_add(UP);
        for span in [
            age,
            facts.lifetime,
            facts.while_revalidate,
            facts.if_error,
            facts.if_unreachable,
            facts.keep,
        ] {
            self.long(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        }
        self.byte(u8::from(facts.always_validate));
        self.byte(u8::from(facts.never_stale));
        self.0.extend_from_slice(&facts.modified.to_be_bytes());
        self.fields(&head.headers);
    }

    fn nominated(&mut self, nominated: &Nominated) {
        self.byte(u8::from(nominated.is_by_identity()));
        self.length(nominated.names().len());
        for name in nominated.names() {
            self.text(name.as_str().as_bytes());
        }
    }

    fn fields(&mut self, fields: &HeaderMap) {
        self.length(fields.len());
        for (name, value) in fields {
            self.text(name.as_str().as_bytes());
            self.text(value.as_bytes());
        }
    }
}

struct Reader(Bytes);

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn byte(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    /// A byte that is a yes or a no.
    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn long(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.0.try_get_u32().ok()?).ok()
    }

    fn text(&mut self) -> Option<Bytes> {
        let length = self.length()?;
        self.take(length)
    }

    fn entry(&mut self) -> Option<Entry> {
        Some(Entry {
            birth: Birth {
                log: self.long()?,
                last: self.long()?,
                guard: self.long()?,
                soft: self.long()?,
            },
            key: self.text()?,
            audience: match self.byte()? {
                EVERYONE => Audience::Everyone,
                CALLER => Audience::Caller,
                _ => return None,
            },
            head: self.head()?,
            nominated: self.nominated()?,
            variant: self.text()?,
            validating: self.byte().filter(|bits| bits & !kinds::ALL == 0)?,
            tags: std::str::from_utf8(&self.text()?).ok()?.into(),
            trailers: match self.flag()? {
                true => Some(self.fields()?),
                false => None,
            },
            body: Vec::from([self.text()?]),
        })
    }

    fn head(&mut self) -> Option<StoredHead> {
        let status = self.0.try_get_u16().ok();
        let status = StatusCode::from_u16(status.filter(|code| FINAL.contains(code))?).ok()?;
        let facts = Facts {
            received: Moment::from_millis(self.long()?),
            initial_age: self.span()?,
            lifetime: self.span()?,
            while_revalidate: self.span()?,
            if_error: self.span()?,
            if_unreachable: self.span()?,
            keep: self.span()?,
            always_validate: self.flag()?,
            never_stale: self.flag()?,
            modified: self.0.try_get_i64().ok()?,
        };
        Some(StoredHead {
            status,
            facts,
            headers: self.fields()?,
        })
    }

    fn span(&mut self) -> Option<Duration> {
        self.long().map(Duration::from_millis)
    }

    fn nominated(&mut self) -> Option<Nominated> {
        let by_identity = self.flag()?;
        let count = self.length().filter(|count| *count <= MOST_NAMES)?;
        let names = (0..count).map(|_| self.name()).collect::<Option<_>>()?;
        Some(Nominated::stored(names, by_identity))
    }

    fn name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(&self.text()?).ok()
    }

    fn fields(&mut self) -> Option<HeaderMap> {
        let count = self.length().filter(|count| *count <= MOST_FIELDS)?;
        let mut fields = HeaderMap::with_capacity(count.min(USUAL_FIELDS));
        for _ in 0..count {
            let name = self.name()?;
            let value = HeaderValue::from_maybe_shared(self.text()?).ok()?;
            fields.append(name, value);
        }
        Some(fields)
    }
}

/// The mark, and the version. A new one is due whenever other requests than before may select an answer,
/// too: what was stored by the old rules would be served by the new ones.
pub(super) const MARK: [u8; 4] = *b"tgc\x03";
const ANSWER: u8 = 1;
const VARIES: u8 = 2;
const EVERYONE: u8 = 0;
const CALLER: u8 = 1;
const CHECKSUM: usize = 4;
/// Room for most heads.
const USUAL_HEAD: usize = 1 << 10;
const USUAL_FIELDS: usize = 32;
/// What an answer may vary by; more is not stored.
const MOST_NAMES: usize = 16;
/// More than any connection takes.
const MOST_FIELDS: usize = 4_096;
/// The statuses that an answer can have: others would not be stored, and 1xx could not be sent.
const FINAL: Range<u16> = 200..600;
/// Rounds a span up to milliseconds.
const UP: Duration = Duration::from_nanos(999_999);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields() -> impl Strategy<Value = HeaderMap> {
        let field = ("[a-z][a-z0-9-]{0,9}", "[ -~]{0,20}");
        prop::collection::vec(field, 0..6).prop_map(|fields| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, HeaderValue::from_str(&value).unwrap());
            }
            map
        })
    }

    fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
    }

    prop_compose! {
        fn facts()(spans: [u32; 7], flags: [bool; 2], modified: i64) -> Facts {
            let span = |at: usize| Duration::from_millis(spans[at].into());
            Facts {
                received: Moment::from_millis(spans[0].into()),
                initial_age: span(1),
                lifetime: span(2),
                while_revalidate: span(3),
                if_error: span(4),
                if_unreachable: span(5),
                keep: span(6),
                always_validate: flags[0],
                never_stale: flags[1],
                modified,
            }
        }
    }

    prop_compose! {
        fn entry()(
            (numbers, key, caller) in (any::<[u64; 4]>(), bytes(60), any::<bool>()),
            (status, facts, headers) in (FINAL, facts(), fields()),
            (names, by_identity) in (prop::collection::vec("[a-z]{1,9}", 0..4), any::<bool>()),
            (variant, validating, tags) in (bytes(40), 0..=kinds::ALL, "[a-z\n]{0,20}"),
            (trailers, body) in (prop::option::of(fields()), prop::collection::vec(bytes(300), 0..3)),
        ) -> Entry {
            let [log, last, guard, soft] = numbers;
            let names = names.iter().map(|name| name.parse().unwrap()).collect();
            Entry {
                birth: Birth { log, last, guard, soft },
                key,
                audience: match caller {
                    true => Audience::Caller,
                    false => Audience::Everyone,
                },
                head: StoredHead {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers,
                    facts,
                },
                nominated: Nominated::stored(names, by_identity),
                variant,
                validating,
                tags: tags.into(),
                trailers,
                body,
            }
        }
    }

    /// Facts whose spans are all the same.
    fn fresh(span: Duration) -> Facts {
        Facts {
            received: Moment::from_millis(0),
            initial_age: span,
            lifetime: span,
            while_revalidate: span,
            if_error: span,
            if_unreachable: span,
            keep: span,
            always_validate: false,
            never_stale: false,
            modified: 0,
        }
    }

    fn answer(bytes: &Bytes) -> Option<Entry> {
        match decode(bytes)? {
            Value::Answer(entry) => Some(*entry),
            Value::Varies(_) => None,
        }
    }

    #[test]
    fn by_what_answers_vary_reads_as_it_was_written() {
        let nominated = Nominated::stored(vec!["accept".parse().unwrap()], true);
        let written = Bytes::from(encode_varies(b"key", &nominated).unwrap());
        let Some(Value::Varies(read)) = decode(&written) else {
            panic!("no rule");
        };
        assert_eq!((&*read.key, read.nominated), (&b"key"[..], nominated));
        assert!(answer(&written).is_none());
    }

    #[test]
    fn what_is_no_final_answer_is_no_value() {
        for (status, is_read) in [
            (100, false),
            (101, false),
            (200, true),
            (599, true),
            (600, false),
        ] {
            let mut out = Writer(Vec::new());
            let head = StoredHead {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                facts: fresh(Duration::ZERO),
            };
            out.head(&head);
            assert_eq!(Reader(out.0.into()).head().is_some(), is_read, "{status}");
        }
    }

    #[test]
    fn kinds_of_requests_that_nobody_knows_are_no_value() {
        for (validating, is_read) in [(0, true), (kinds::ALL, true), (kinds::ALL + 1, false)] {
            let entry = Entry {
                birth: Birth::default(),
                key: Bytes::new(),
                audience: Audience::Everyone,
                head: StoredHead {
                    status: StatusCode::OK,
                    headers: HeaderMap::new(),
                    facts: fresh(Duration::ZERO),
                },
                nominated: Nominated::stored(Vec::new(), false),
                variant: Bytes::new(),
                validating,
                tags: Box::default(),
                trailers: None,
                body: Vec::new(),
            };
            let written = encode(&entry, usize::MAX).unwrap();
            assert_eq!(answer(&written.into()).is_some(), is_read, "{validating}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_reads_as_it_was_written(entry in entry()) {
            let written = Bytes::from(encode(&entry, usize::MAX).unwrap());
            let read = answer(&written).unwrap();
            prop_assert_eq!(read.birth, entry.birth);
            prop_assert_eq!(read.key, entry.key);
            prop_assert_eq!(read.audience, entry.audience);
            prop_assert_eq!(read.head.status, entry.head.status);
            prop_assert_eq!(read.head.facts, entry.head.facts);
            prop_assert_eq!(read.head.headers, entry.head.headers);
            prop_assert_eq!(read.nominated, entry.nominated);
            prop_assert_eq!(read.variant, entry.variant);
            prop_assert_eq!(read.validating, entry.validating);
            prop_assert_eq!(read.tags, entry.tags);
            prop_assert_eq!(read.trailers, entry.trailers);
            prop_assert_eq!(read.body.concat(), entry.body.concat());
        }

        #[test]
        fn a_value_that_is_cut_or_changed_is_none(entry in entry(), at: usize, by in 1_u8..) {
            let written = encode(&entry, usize::MAX).unwrap();
            let at = at % written.len();
            prop_assert!(decode(&Bytes::copy_from_slice(&written[..at])).is_none());
            let mut changed = written.clone();
            changed[at] ^= by;
            prop_assert!(decode(&changed.into()).is_none());
            let mut longer = written;
            longer.push(by);
            prop_assert!(decode(&longer.into()).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic(kind in 0_u8..4, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes.clone().into());
            // Past the checksum too.
            let mut out = Writer::new(kind, 0);
            out.0.extend_from_slice(&bytes);
            let _ = decode(&out.end(usize::MAX).unwrap().into());
        }

        #[test]
        fn nothing_is_larger_than_it_may_be(entry in entry(), largest in 0_usize..1_500) {
            let written = encode(&entry, largest);
            prop_assert!(written.is_none_or(|written| written.len() <= largest));
        }

        #[test]
        fn an_answer_never_grows_younger(nanos in 0_u64..5_000_000_000) {
            let mut out = Writer(Vec::new());
            let span = Duration::from_nanos(nanos);
            let facts = fresh(span);
            out.head(&StoredHead { status: StatusCode::OK, headers: HeaderMap::new(), facts });
            let read = Reader(out.0.into()).head().unwrap().facts;
            prop_assert!(read.initial_age >= span && read.lifetime <= span && read.keep <= span);
        }
    }
}
