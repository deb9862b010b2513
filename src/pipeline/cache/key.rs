//! What tells stored answers apart: the first of the two levels of the key.
//!
//! Everything in it comes from the request as the gateway understood it: the host and the scheme
//! that the client used, the path in its normal form, before any rewrite. What the upstream can see
//! and the key does not hold must be in the answer's `Vary`, or in the rule's `key_headers`.
//!
//! The second level, the fields that `Vary` names, is looked at among the answers of one key.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::{HeaderMap, HeaderName};
use quick_cache::Equivalent;

use crate::{config::CacheQuery, exchange::Context};

/// A key as it is looked up: borrowed from the request, so that a hit copies nothing.
#[derive(Clone, Debug)]
pub struct KeyRef<'a> {
    parts: [Cow<'a, str>; PARTS],
}

/// A key as it is kept.
///
/// One allocation: the ends of the parts and then their text. No text can pass for two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Arc<[u8]>);

/// What of a request makes its key.
pub struct KeyParts<'a> {
    /// What routes share, by default the upstream's name.
    pub zone: &'a str,
    /// The route's name: two routes may say different things of one answer.
    pub route: &'a str,
    /// The parameters that count.
    pub query: &'a CacheQuery,
    /// More fields of the request.
    pub headers: &'a [HeaderName],
}

impl<'a> KeyRef<'a> {
    /// The key of a request.
    #[must_use]
    pub fn of(parts: &KeyParts<'a>, context: &'a Context, headers: &HeaderMap) -> Self {
        Self {
            parts: [
                Cow::Borrowed(parts.zone),
                Cow::Borrowed(parts.route),
                Cow::Borrowed(context.scheme),
                host(context),
                target(context.target(), parts.query),
                Cow::Borrowed(""),
                extra(parts.headers, headers),
            ],
        }
    }

    /// The same key for what is kept for one caller alone: a principal, or all who are nobody.
    pub(super) fn of_caller(mut self, context: &'a Context) -> Self {
        let name = context.principal().map(|principal| &*principal.name);
        self.parts[CALLER] = Cow::Borrowed(name.unwrap_or(NOBODY));
        self
    }

    /// The path and what counts of the query.
    pub(super) fn target(&self) -> &str {
        &self.parts[TARGET]
    }

    /// A copy to keep.
    #[must_use]
    pub fn to_key(&self) -> Key {
        let length: usize = self.parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(HEAD + length);
        let mut end = HEAD;
        for part in &self.parts {
            end += part.len();
            bytes.extend_from_slice(&(end as u32).to_ne_bytes());
        }
        for part in &self.parts {
            bytes.extend_from_slice(part.as_bytes());
        }
        Key(bytes.into())
    }
}

impl Key {
    /// Bytes of memory that it takes.
    pub(super) fn weight(&self) -> usize {
        self.0.len() + ARC
    }

    /// All of it, in the same form in every process.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len());
        for index in 0..PARTS {
            let part = self.part(index);
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// As `Cache-Status` shows it; whom it is kept for is not shown.
    pub(super) fn show(&self) -> String {
        let part = |index| String::from_utf8_lossy(self.part(index)).into_owned();
        format!(
            "{}:{} {}://{}{}",
            part(0),
            part(1),
            part(2),
            part(HOST),
            part(TARGET)
        )
    }

    fn part(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(HEAD, |before| self.end(before));
        self.0.get(start..self.end(index)).unwrap_or_default()
    }

    fn end(&self, index: usize) -> usize {
        let bytes = self.0.get(index * 4..index * 4 + 4);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(bytes) as usize)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for index in 0..PARTS {
            hash_part(self.part(index), state);
        }
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for part in &self.parts {
            hash_part(part.as_bytes(), state);
        }
    }
}

fn hash_part(part: &[u8], state: &mut impl Hasher) {
    state.write(part);
    state.write_u8(0xff);
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        let mut parts = self.parts.iter().enumerate();
        parts.all(|(index, part)| key.part(index) == part.as_bytes())
    }
}

/// The host that the client asked for, as purges know it.
pub(super) fn public_host(context: &Context) -> Cow<'_, str> {
    let host = context.forwarded_host.as_ref();
    normal(text(host.or(context.head.host.as_ref())), context.scheme)
}

/// The host that the client used, in lower case and without the scheme's own port.
///
/// Where a trusted proxy told another host than it sent, the upstream sees both, so both count.
fn host(context: &Context) -> Cow<'_, str> {
    let own = text(context.head.host.as_ref());
    match &context.forwarded_host {
        None => normal(own, context.scheme),
        Some(told) => {
            let told = normal(text(Some(told)), context.scheme);
            let own = normal(own, context.scheme);
            match told == own {
                true => told,
                false => Cow::Owned(format!("{told} {own}")),
            }
        }
    }
}

fn text(value: Option<&http::HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// A host in its one form; [`purge`](super::purge) brings what it is told into it too.
pub(super) fn normal<'a>(host: &'a str, scheme: &str) -> Cow<'a, str> {
    let port = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    let host = host.strip_suffix(port).unwrap_or(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

fn target<'a>(target: &'a str, query: &CacheQuery) -> Cow<'a, str> {
    let Some((path, parameters)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    let mut kept: Vec<&str> = parameters.split('&').collect();
    match query {
        CacheQuery::AsIs => return Cow::Borrowed(target),
        CacheQuery::Sorted => {}
        CacheQuery::Only(names) => kept.retain(|parameter| is_named(parameter, names)),
    }
    // Stable: of one name the order may mean something.
    kept.sort_by_key(|parameter| parameter_name(parameter));
    match kept.is_empty() {
        true => Cow::Borrowed(path),
        false => Cow::Owned(format!("{path}?{}", kept.join("&"))),
    }
}

/// Whether a parameter is one of those, in any spelling: `%70age` is `page`.
fn is_named(parameter: &str, names: &[Box<str>]) -> bool {
    let name = parameter_name(parameter).replace('+', " ");
    let name = percent_encoding::percent_decode_str(&name);
    let name = name.collect::<Vec<u8>>();
    names.iter().any(|known| known.as_bytes() == name)
}

fn parameter_name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

/// The rule's header fields. Absent and empty differ, and so do one line and two.
fn extra(names: &[HeaderName], headers: &HeaderMap) -> Cow<'static, str> {
    if names.is_empty() {
        return Cow::Borrowed("");
    }
    let mut extra = String::new();
    for name in names {
        for value in headers.get_all(name) {
            // Escaped, so that nothing in a value looks like the next one.
            extra.push_str(&value.as_bytes().escape_ascii().to_string());
            extra.push('\n');
        }
        extra.push('\r');
    }
    Cow::Owned(extra)
}

const PARTS: usize = 7;
const HOST: usize = 3;
const TARGET: usize = 4;
const CALLER: usize = 5;
/// No principal's name: those have a colon.
const NOBODY: &str = "=";
/// The ends of the parts.
const HEAD: usize = PARTS * 4;
/// The counts of an [`Arc`].
const ARC: usize = 16;

#[cfg(test)]
pub(super) mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    /// A key that differs by its target alone.
    pub(in crate::pipeline::cache) fn key(target: &str) -> KeyRef<'_> {
        KeyRef {
            parts: ["zone", "route", "http", "a.test", target, "", ""].map(Cow::Borrowed),
        }
    }

    fn only(names: &[&str]) -> CacheQuery {
        CacheQuery::Only(names.iter().map(|&name| name.into()).collect())
    }

    #[test]
    fn a_query_counts_as_the_rule_says() {
        let of = |query: &CacheQuery| target("/a?b=2&a=1&b=1", query).into_owned();
        assert_eq!(of(&CacheQuery::AsIs), "/a?b=2&a=1&b=1");
        assert_eq!(of(&CacheQuery::Sorted), "/a?a=1&b=2&b=1");
        assert_eq!(of(&only(&["a"])), "/a?a=1");
        assert_eq!(of(&only(&["c"])), "/a");
        assert_eq!(target("/a?%61=1&c", &only(&["a"])), "/a?%61=1");
    }

    #[test]
    fn a_host_has_one_form() {
        assert_eq!(normal("A.Test:80", "http"), "a.test");
        assert_eq!(normal("a.test:443", "https"), "a.test");
        assert_eq!(normal("a.test:443", "http"), "a.test:443");
        assert_eq!(normal("a.test", "http"), "a.test");
    }

    fn key_of(parts: &[String; PARTS]) -> KeyRef<'_> {
        KeyRef {
            parts: std::array::from_fn(|index| Cow::Borrowed(parts[index].as_str())),
        }
    }

    proptest! {
        #[test]
        fn a_kept_key_is_found_by_its_own_parts_alone(
            one in prop::array::uniform7("[a-c/\u{0}]{0,3}"),
            other in prop::array::uniform7("[a-c/\u{0}]{0,3}"),
        ) {
            let kept = key_of(&one).to_key();
            prop_assert!(key_of(&one).equivalent(&kept));
            prop_assert_eq!(key_of(&other).equivalent(&kept), one == other);
            let hasher = RandomState::new();
            prop_assert_eq!(hasher.hash_one(key_of(&one)), hasher.hash_one(&kept));
            let same = key_of(&other).to_key().canonical() == kept.canonical();
            prop_assert_eq!(same, one == other);
        }
    }
}
