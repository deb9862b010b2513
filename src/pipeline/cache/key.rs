//! What tells stored answers apart: the first of the two levels of the key.
//!
//! Everything in it comes from the request as the gateway understood it: the host and the scheme
//! that the client used, the path in its normal form, before any rewrite. What a rewrite puts into the
//! path of who calls is in it too: to the upstream those are several URLs, and it may well say of each
//! that its answer is for all. What else the upstream can see and the key does not hold must be in the
//! answer's `Vary`, or in the rule's `key_headers`.
//!
//! The second level, the fields that `Vary` names, is looked at among the answers of one key.

mod shown;

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use crate::{
    config::CacheQuery,
    exchange::{Context, fields::is_forwarding, host},
};

/// A key as it is looked up: hashed and compared in one go. It lies where it is made, so that a hit
/// allocates nothing for it.
#[derive(Clone, Debug)]
pub struct Sought(SmallVec<[u8; LONG]>);

/// A key as it is handed on: a copy of it counts a reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Arc<[u8]>);

/// The key of what is kept, as it lies in the same piece of memory: a look has to compare all of the
/// key, and finds it beside what it needs next. A long one has memory of its own.
#[derive(Clone, Debug)]
pub struct Label(SmallVec<[u8; SHORT]>);

/// The text of a key: the ends of its parts and then the parts. No text can pass for two parts.
#[derive(Clone, Copy)]
struct Text<'a>(&'a [u8]);

/// What of a request makes its key.
pub struct KeyParts<'a> {
    /// What routes share, by default the upstream's name.
    pub zone: &'a str,
    /// The route's name: two routes may say different things of one answer.
    pub route: &'a str,
    /// The path in its normal form, and the query.
    pub target: &'a str,
    /// The parameters that count.
    pub query: &'a CacheQuery,
    /// More fields of the request.
    pub headers: &'a [HeaderName],
    /// The path that the upstream gets, where it is another for each caller.
    pub rewritten: Option<String>,
    /// The fields that tell the upstream who calls: the gateway writes them.
    pub identity: &'a [HeaderName],
    /// Whether there may be forwarding fields that count: of most requests none is looked for.
    pub told_more: bool,
}

impl Sought {
    /// The key of a request.
    #[must_use]
    pub fn of(parts: &KeyParts<'_>, context: &Context, headers: &HeaderMap) -> Self {
        Self::made([
            parts.zone.as_bytes(),
            parts.route.as_bytes(),
            context.scheme.as_bytes(),
            host(context).as_bytes(),
            target(parts.target, parts.query).as_bytes(),
            b"",
            extra(parts, headers).as_bytes(),
        ])
    }

    /// The same key for what is kept for one caller alone: a principal, or all who are nobody.
    ///
    /// A caller is all that the gateway knows of who calls and tells the upstream in `identity`: one
    /// subject may call for several tenants, and a rule may ask for two credentials at once.
    pub(super) fn of_caller(
        &self,
        context: &Context,
        headers: &HeaderMap,
        identity: &[HeaderName],
    ) -> Self {
        self.with_caller(caller(context, headers, identity).as_bytes())
    }

    /// The same key for requests that wait for each other apart from others; nothing is stored
    /// under it.
    pub(super) fn of_kind(&self, kind: &str) -> Self {
        let caller = self.text().part(CALLER);
        self.with_caller(&[&b"+"[..], kind.as_bytes(), b":", caller].concat())
    }

    /// The path and what counts of the query.
    pub(super) fn target(&self) -> &str {
        // It was made of text.
        std::str::from_utf8(self.text().part(TARGET)).unwrap_or_default()
    }

    /// A copy to keep.
    #[must_use]
    pub fn to_key(&self) -> Key {
        Key(self.bytes().into())
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn with_caller(&self, caller: &[u8]) -> Self {
        let mut parts = self.text().parts();
        parts[CALLER] = caller;
        Self::made(parts)
    }

    fn made(parts: [&[u8]; PARTS]) -> Self {
        let mut ends = [0_u8; HEAD];
        let mut end = HEAD;
        for (place, part) in ends.chunks_exact_mut(END).zip(parts) {
            end += part.len();
            place.copy_from_slice(&(end as u32).to_ne_bytes());
        }
        let mut text = SmallVec::with_capacity(end);
        text.extend_from_slice(&ends);
        for part in parts {
            text.extend_from_slice(part);
        }
        Self(text)
    }

    fn text(&self) -> Text<'_> {
        Text(&self.0)
    }
}

impl Key {
    /// The same, to be looked up.
    pub(super) fn sought(&self) -> Sought {
        Sought(SmallVec::from_slice(&self.0))
    }

    /// All of it, in the same form in every process.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len());
        for part in self.text().parts() {
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    fn text(&self) -> Text<'_> {
        Text(&self.0)
    }
}

impl Label {
    /// That of a key.
    #[must_use]
    pub fn of(key: &Key) -> Self {
        Self(SmallVec::from_slice(&key.0))
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        match self.0.spilled() {
            true => self.0.capacity(),
            false => 0,
        }
    }
}

impl<'a> Text<'a> {
    fn parts(self) -> [&'a [u8]; PARTS] {
        std::array::from_fn(|index| self.part(index))
    }

    fn part(self, index: usize) -> &'a [u8] {
        let start = index.checked_sub(1).map_or(HEAD, |before| self.end(before));
        self.0.get(start..self.end(index)).unwrap_or_default()
    }

    fn end(self, index: usize) -> usize {
        let bytes = self.0.get(index * END..(index + 1) * END);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(bytes) as usize)
    }
}

/// Who calls. A principal's name begins with its method, a list of more with a digit.
fn caller<'a>(context: &'a Context, headers: &HeaderMap, identity: &[HeaderName]) -> Cow<'a, str> {
    let name = context.principal().map_or(NOBODY, |known| &*known.caller);
    let mut told = identity
        .iter()
        .filter(|name| headers.contains_key(*name))
        .peekable();
    if context.vouchers().is_empty() && told.peek().is_none() {
        return Cow::Borrowed(name);
    }
    let mut all = String::new();
    let vouchers = context.vouchers().iter().map(|name| &**name);
    for name in std::iter::once(name).chain(vouchers) {
        // With its length, so that no name looks like two.
        all.push_str(&format!("{}:{name}", name.len()));
    }
    for name in told {
        all.push_str(&format!("\r{name}\n"));
        push_values(&mut all, name, headers);
    }
    Cow::Owned(all)
}

/// The host that the client asked for, as purges know it.
///
/// Keys tell its spellings apart, since the upstream sees them; a purge reaches all of them.
pub(super) fn public_host(context: &Context) -> String {
    let host = context.forwarded_host.as_ref();
    let host = host::plain(text(host.or(context.head.host.as_ref())));
    normal(&host, context.scheme).into_owned()
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
    // Some servers part parameters by semicolons too: then they see others than we do.
    if *query == CacheQuery::AsIs || parameters.contains(';') {
        return Cow::Borrowed(target);
    }
    let mut kept: Vec<&str> = parameters.split('&').collect();
    if let CacheQuery::Only(names) = query {
        kept.retain(|parameter| counts(parameter, names));
    }
    // Stable: of one name the order may mean something.
    kept.sort_by_cached_key(|parameter| read_name(parameter));
    match kept.is_empty() {
        true => Cow::Borrowed(path),
        false => Cow::Owned(format!("{path}?{}", kept.join("&"))),
    }
}

/// Whether a parameter may make a difference where those are named: it is one of them in whatever
/// spelling, or of a name that servers read differently. Some take `Q`, `q[]`, ` q` and `q.` for `q`, and
/// with them a client could have its answer kept for others.
fn counts(parameter: &str, names: &[Box<str>]) -> bool {
    let name = read_name(parameter);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !name.iter().all(is_plain)
        || names
            .iter()
            .any(|known| known.as_bytes().eq_ignore_ascii_case(&name))
}

/// A parameter's name without escapes, in lower case: `%70age` is `page`.
fn read_name(parameter: &str) -> Vec<u8> {
    let name = parameter.split('=').next().unwrap_or_default();
    let name = name.replace('+', " ");
    let name = percent_encoding::percent_decode_str(&name);
    name.map(|byte| byte.to_ascii_lowercase()).collect()
}

/// The path behind the rewrite, the rule's header fields and what a trusted proxy tells beside scheme, host
/// and addresses. Absent and empty differ, and so do one line and two.
fn extra(parts: &KeyParts<'_>, headers: &HeaderMap) -> Cow<'static, str> {
    let told = match parts.told_more {
        true => told_by_proxies(headers, parts.identity),
        false => SmallVec::new(),
    };
    if parts.headers.is_empty() && told.is_empty() && parts.rewritten.is_none() {
        return Cow::Borrowed("");
    }
    let mut extra = String::new();
    if let Some(path) = &parts.rewritten {
        // With its length: alone of what is here it may hold any sign, line feeds too.
        extra.push_str(&format!("\u{b}{}:{path}", path.len()));
    }
    for name in parts.headers {
        push_values(&mut extra, name, headers);
        extra.push('\r');
    }
    for name in told {
        extra.push_str(&format!("\t{name}\n"));
        push_values(&mut extra, name, headers);
    }
    Cow::Owned(extra)
}

/// The forwarding fields that go on to the upstream as they came (`X-Forwarded-Prefix`): those of
/// trusted proxies alone, but many proxies let them pass from their clients, and many servers make links
/// of them, or take them for who calls. So all count that are not known to make no difference: the client's
/// address is no part of a URL, and the gateway's own fields are no proxy's word.
fn told_by_proxies<'a>(
    headers: &'a HeaderMap,
    identity: &[HeaderName],
) -> SmallVec<[&'a HeaderName; 4]> {
    let told = headers.keys().filter(|name| {
        is_forwarding(name.as_str()) && name.as_str() != "x-real-ip" && !identity.contains(name)
    });
    let mut told: SmallVec<[&HeaderName; 4]> = told.collect();
    told.sort_unstable_by_key(|name| name.as_str());
    told
}

fn push_values(text: &mut String, name: &HeaderName, headers: &HeaderMap) {
    for value in headers.get_all(name) {
        // Escaped, so that nothing in a value looks like the next one.
        text.push_str(&value.as_bytes().escape_ascii().to_string());
        text.push('\n');
    }
}

const PARTS: usize = 7;
const HOST: usize = 3;
const TARGET: usize = 4;
const CALLER: usize = 5;
const EXTRA: usize = 6;
/// No principal's name: those have a colon.
const NOBODY: &str = "=";
/// The end of a part, and the ends of all.
const END: usize = 4;
const HEAD: usize = PARTS * END;
/// Most keys are no longer.
const SHORT: usize = 128;
/// Hardly any is longer.
const LONG: usize = 256;

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key that differs by its target alone.
    pub(in crate::pipeline::cache) fn key(target: &str) -> Sought {
        Sought::made(["zone", "route", "http", "a.test", target, "", ""].map(str::as_bytes))
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
        // The order of one name's parameters stays, however they are spelt.
        assert_eq!(
            target("/a?b&a=2&%61=1", &CacheQuery::Sorted),
            "/a?a=2&%61=1&b"
        );
    }

    #[test]
    fn what_servers_may_take_for_a_named_parameter_counts() {
        for odd in [
            "A=x", "a[]=x", "a[k]=x", "%20a=x", "+a=x", "a.=x", "a%00=x", "%5Ba=x",
        ] {
            let spelt = format!("/a?{odd}");
            assert_eq!(target(&spelt, &only(&["a"])), spelt);
        }
        for query in [CacheQuery::Sorted, only(&["a"])] {
            let cloaked = "/a?utm=1;a=x&b";
            assert_eq!(target(cloaked, &query), cloaked);
        }
        assert_eq!(target("/a?utm_source=1&x-y=2&=", &only(&["a"])), "/a");
    }

    #[test]
    fn what_proxies_tell_beside_addresses_counts_in_whatever_order() {
        let text = |lines: &[(&'static str, &str)], identity: &[HeaderName]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, http::HeaderValue::from_str(value).unwrap());
            }
            let parts = KeyParts {
                zone: "",
                route: "",
                target: "/",
                query: &CacheQuery::AsIs,
                headers: &[],
                rewritten: None,
                identity,
                told_more: true,
            };
            extra(&parts, &headers).into_owned()
        };
        let (prefix, port) = (("x-forwarded-prefix", "/a"), ("x-forwarded-port", "1"));
        let none = text(&[("x-real-ip", "192.0.2.1"), ("accept", "*/*")], &[]);
        assert_eq!(none, "");
        assert_eq!(text(&[prefix, port], &[]), text(&[port, prefix], &[]));
        assert_ne!(text(&[prefix], &[]), none);
        assert_ne!(
            text(&[prefix], &[]),
            text(&[("x-forwarded-prefix", "/b")], &[])
        );
        assert_ne!(text(&[prefix], &[]), text(&[prefix, prefix], &[]));
        let user = HeaderName::from_static("x-forwarded-user");
        assert_eq!(text(&[("x-forwarded-user", "alice")], &[user]), none);
    }

    #[test]
    fn a_rewritten_path_takes_no_fields_place_whatever_is_in_it() {
        let text = |prefixes: &[&'static str], path: &str| {
            let mut headers = HeaderMap::new();
            for &value in prefixes {
                let value = http::HeaderValue::from_static(value);
                headers.append("x-forwarded-prefix", value);
            }
            let parts = KeyParts {
                zone: "",
                route: "",
                target: "/",
                query: &CacheQuery::AsIs,
                headers: &[],
                rewritten: Some(path.to_owned()),
                identity: &[],
                told_more: true,
            };
            extra(&parts, &headers).into_owned()
        };
        assert_ne!(text(&["", ""], "/a"), text(&[""], "\n/a"));
        assert_ne!(text(&["b"], "/a"), text(&[], "/a\tx-forwarded-prefix\nb\n"));
        assert_ne!(text(&[], "/a"), text(&[], "/b"));
    }

    #[test]
    fn a_host_has_one_form() {
        assert_eq!(normal("A.Test:80", "http"), "a.test");
        assert_eq!(normal("a.test:443", "https"), "a.test");
        assert_eq!(normal("a.test:443", "http"), "a.test:443");
        assert_eq!(normal("a.test", "http"), "a.test");
    }

    fn key_of(parts: &[String; PARTS]) -> Sought {
        Sought::made(std::array::from_fn(|index| parts[index].as_bytes()))
    }

    #[test]
    fn a_label_is_its_key_however_long_that_is() {
        for length in [0, 10, SHORT - HEAD, SHORT, LONG, 10 * LONG] {
            let target = format!("/{}", "x".repeat(length));
            let label = Label::of(&key(&target).to_key());
            assert_eq!(label.bytes(), key(&target).bytes(), "{length}");
            assert_ne!(label.bytes(), key(&target[..length]).bytes(), "{length}");
            assert_eq!(label.heap() > 0, label.bytes().len() > SHORT, "{length}");
            assert_eq!(key(&target).target(), target);
        }
    }

    #[test]
    fn of_a_kind_or_a_caller_a_key_differs_by_that_alone() {
        let (one, other) = (key("/a").of_kind("known"), key("/a").of_kind("cookie"));
        assert_ne!(one.bytes(), other.bytes());
        assert_ne!(one.bytes(), key("/a").bytes());
        assert_eq!(one.with_caller(b"").bytes(), key("/a").bytes());
        assert_eq!(
            (one.target(), one.text().part(CALLER)),
            ("/a", &b"+known:"[..])
        );
    }

    proptest! {
        #[test]
        fn keys_are_the_same_when_all_of_their_parts_are(
            one in prop::array::uniform7("[a-c/\u{0}]{0,3}"),
            other in prop::array::uniform7("[a-c/\u{0}]{0,3}"),
        ) {
            let kept = key_of(&one).to_key();
            let parts = kept.text().parts().map(<[u8]>::to_vec);
            prop_assert_eq!(parts, one.clone().map(String::into_bytes));
            prop_assert_eq!(key_of(&other).to_key() == kept, one == other);
            let same = key_of(&other).to_key().canonical() == kept.canonical();
            prop_assert_eq!(same, one == other);
        }
    }
}
