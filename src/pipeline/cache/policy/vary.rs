//! Which variant of a URL a request selects (RFC 9111 4.1).

use http::{
    HeaderMap, HeaderName,
    header::{
        ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE,
        PROXY_AUTHORIZATION, VARY, VIA,
    },
};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::{Options, directives::Members};
use crate::exchange::fields::{TRACEPARENT, X_FORWARDED_PROTO, X_REQUEST_ID, is_forwarding};

/// Why no key can hold what an answer varies by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkeyed {
    /// `*`: by more than the request's fields.
    Everything,
    /// By more fields than are compared, or by what is no field's name.
    Malformed,
    /// By a field that forwarding writes, and that the client's request does not have.
    Forwarding,
    /// By a field that tells the upstream who calls, where callers share a store.
    Identity,
}

impl Unkeyed {
    /// One word for `Cache-Status` and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "vary-star",
            Self::Malformed => "vary-malformed",
            Self::Forwarding => "vary-forwarding",
            Self::Identity => "vary-identity",
        }
    }
}

/// The request fields that an answer's `Vary` nominates, sorted: what its variant is selected by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nominated {
    names: Box<[HeaderName]>,
    /// Whether fields are among them that the gateway writes from what it knows of the caller: the
    /// answer is for that caller only, and only as long as those are the same.
    pub(super) by_identity: bool,
}

impl Nominated {
    /// Reads `Vary` over all of its lines.
    ///
    /// # Errors
    ///
    /// When no request can be told to select the answer.
    pub fn by(answer: &HeaderMap, options: &Options) -> Result<Self, Unkeyed> {
        let mut names = Vec::new();
        let mut by_identity = false;
        for line in answer.get_all(VARY) {
            for member in line.as_bytes().split(|byte| *byte == b',') {
                let Some(name) = nominated(member.trim_ascii())? else {
                    continue;
                };
                by_identity |= options.identity_fields.contains(&name);
                names.push(name);
            }
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        if names.len() > MOST_NAMES {
            return Err(Unkeyed::Malformed);
        }
        let names = names.into();
        Ok(Self { names, by_identity })
    }

    /// What was stored: these names, taken as they are, and whether the gateway's own fields are
    /// among them.
    #[must_use]
    pub fn stored(mut names: Vec<HeaderName>, by_identity: bool) -> Self {
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        Self {
            names: names.into(),
            by_identity,
        }
    }

    /// Whether fields are among them that the gateway writes from what it knows of the caller.
    #[must_use]
    pub fn is_by_identity(&self) -> bool {
        self.by_identity
    }

    /// The names, lower case and sorted.
    #[must_use]
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// Whether a request has a field that is among these and not in another set. Many upstreams name `Origin` to
    /// those alone who send it: what they name beyond others tells of requests that have it, and of no other.
    #[must_use]
    pub fn names_more_of(&self, request: &HeaderMap, other: &Self) -> bool {
        let is_more = |name: &HeaderName| !other.names.contains(name);
        let mut names = self.names.iter();
        names.any(|name| is_more(name) && request.contains_key(name))
    }

    /// These and others. Where an upstream names to each who asks what that one has sent, requests of a variant
    /// learn from answer to answer by what they are told apart from others.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        let is_more = |name: &&HeaderName| !self.names.contains(name);
        let more = others.names.iter().filter(is_more);
        let names = self.names.iter().chain(more).cloned().collect();
        Self::stored(names, self.by_identity || others.by_identity)
    }

    /// Whether there is but one variant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The variant that a request selects. Requests with equal keys match in every nominated field
    /// after the normalisation that RFC 9111 4.1 allows.
    #[must_use]
    pub fn key(&self, request: &HeaderMap) -> VariantKey {
        let mut key = SmallVec::new();
        for name in &self.names {
            append(&mut key, name, request);
        }
        VariantKey(key)
    }
}

/// The values of the nominated fields, normalised. It holds no secret: credentials and long values
/// are in it by their digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VariantKey(SmallVec<[u8; 64]>);

impl VariantKey {
    /// The bytes, for a key of a store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Checks one member of `Vary`; `None` for one that adds nothing.
fn nominated(member: &[u8]) -> Result<Option<HeaderName>, Unkeyed> {
    if member.is_empty() {
        return Ok(None);
    }
    // RFC 9110 12.5.5: anywhere in the list.
    if member == b"*" {
        return Err(Unkeyed::Everything);
    }
    let name = HeaderName::from_bytes(member).map_err(|_| Unkeyed::Malformed)?;
    // The scheme that the client used is in the key of every URL.
    if name == X_FORWARDED_PROTO {
        return Ok(None);
    }
    match is_forwarding(name.as_str()) || WRITTEN.contains(&name) {
        true => Err(Unkeyed::Forwarding),
        false => Ok(Some(name)),
    }
}

/// Appends one field: nothing but a mark when it is absent, which is another value than an empty
/// one, else its normalised value and the length of that.
fn append(key: &mut SmallVec<[u8; 64]>, name: &HeaderName, request: &HeaderMap) {
    let mut lines = request.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        key.push(ABSENT);
        return;
    }
    let form = Form::of(name);
    let mut value: SmallVec<[u8; 128]> = SmallVec::new();
    for (at, line) in lines.enumerate() {
        // Lines of one field are one list (RFC 9110 5.3). An empty one stands in it: who reads the first
        // line alone sees nothing else.
        if at > 0 {
            value.extend_from_slice(form.between_lines());
        }
        form.append(&mut value, line.as_bytes());
    }
    if form == Form::Codings {
        sort_members(&mut value);
    }
    // The length fits into a byte: longer values are not spelt out.
    match u8::try_from(value.len()) {
        Ok(length) if !form.is_secret() && value.len() <= LONGEST_SPELT => {
            key.extend_from_slice(&[SPELT, length]);
            key.extend_from_slice(&value);
        }
        _ => {
            key.push(DIGEST);
            key.extend_from_slice(&Sha256::digest(&value));
        }
    }
}

/// How a field may be written in more than one way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A list of codings: neither case nor spaces around commas and semicolons nor their order mean
    /// anything.
    Codings,
    /// A list of ranges of languages or of charsets: neither case nor such spaces mean anything.
    /// Their order does not by RFC 9110 12.5.4, but many origins prefer the first.
    Ranges,
    /// Anything: spaces around commas mean nothing, outside of quotes.
    List,
    /// Cookies: their lines are one text of crumbs (RFC 9113 8.2.3), as the upstream gets it. It is
    /// kept by its digest.
    Crumbs,
    /// Credentials: as they are, by their digest.
    Secret,
}

impl Form {
    fn of(name: &HeaderName) -> Self {
        match *name {
            ACCEPT_ENCODING => Self::Codings,
            ACCEPT_LANGUAGE | ACCEPT_CHARSET => Self::Ranges,
            COOKIE => Self::Crumbs,
            AUTHORIZATION | PROXY_AUTHORIZATION => Self::Secret,
            _ => Self::List,
        }
    }

    /// Appends a line.
    fn append(self, value: &mut SmallVec<[u8; 128]>, line: &[u8]) {
        match self {
            Self::Codings | Self::Ranges => append_ranges(value, line),
            Self::List => append_members(value, line),
            Self::Crumbs | Self::Secret => value.extend_from_slice(line),
        }
    }

    /// What stands for the end of a line. A credential's could else be spelt within one.
    fn between_lines(self) -> &'static [u8] {
        match self {
            Self::Codings | Self::Ranges | Self::List => b",",
            Self::Crumbs => b"; ",
            Self::Secret => b"\n",
        }
    }

    fn is_secret(self) -> bool {
        matches!(self, Self::Crumbs | Self::Secret)
    }
}

/// Spaces within a member stay: to the origin `e n` is no `en`, and who sends it must not have its
/// answer kept for those who send that.
fn append_ranges(value: &mut SmallVec<[u8; 128]>, line: &[u8]) {
    for (at, member) in line.split(|byte| *byte == b',').enumerate() {
        if at > 0 {
            value.push(b',');
        }
        for (at, part) in member.split(|byte| *byte == b';').enumerate() {
            if at > 0 {
                value.push(b';');
            }
            value.extend(part.trim_ascii().iter().map(u8::to_ascii_lowercase));
        }
    }
}

fn append_members(value: &mut SmallVec<[u8; 128]>, line: &[u8]) {
    for (at, member) in Members::of(line).enumerate() {
        if at > 0 {
            value.push(b',');
        }
        value.extend_from_slice(member.trim_ascii());
    }
}

fn sort_members(value: &mut SmallVec<[u8; 128]>) {
    let list = value.clone();
    let mut members: SmallVec<[&[u8]; 8]> = list.split(|byte| *byte == b',').collect();
    members.sort_unstable();
    value.clear();
    for (at, member) in members.into_iter().enumerate() {
        if at > 0 {
            value.push(b',');
        }
        value.extend_from_slice(member);
    }
}

/// More than this nobody has had reason to vary by.
const MOST_NAMES: usize = 16;
/// Longer values are kept by their digest, so that clients can't make keys long.
const LONGEST_SPELT: usize = 128;
const ABSENT: u8 = 0;
const SPELT: u8 = 1;
const DIGEST: u8 = 2;
/// What forwarding writes, beside what [`is_forwarding`] tells.
const WRITTEN: [HeaderName; 3] = [X_REQUEST_ID, TRACEPARENT, VIA];

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn vary(lines: &[&str]) -> Result<Nominated, Unkeyed> {
        let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
        Nominated::by(&headers(&lines), &Options::default())
    }

    fn same(vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]) -> bool {
        let nominated = super::tests::vary(&[vary]).unwrap();
        nominated.key(&headers(one)) == nominated.key(&headers(other))
    }

    #[test]
    fn a_star_anywhere_has_no_key() {
        for lines in [
            &["*"][..],
            &[", *"],
            &["", "*"],
            &["*, *"],
            &["Foo, *"],
            &["*", "Foo"],
        ] {
            assert_eq!(vary(lines), Err(Unkeyed::Everything), "{lines:?}");
        }
    }

    #[test]
    fn names_are_one_set_over_all_lines() {
        let nominated = vary(&["Foo, bar", ",FOO,", "accept"]).unwrap();
        assert_eq!(nominated.names(), ["accept", "bar", "foo"]);
        assert!(vary(&[""]).unwrap().is_empty());
    }

    #[test]
    fn a_set_names_more_of_a_request_that_has_what_another_set_does_not_name() {
        let request = headers(&[("foo", "1"), ("bar", "")]);
        let more = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|names| vary(&[names]).unwrap());
            one.names_more_of(&request, &other)
        };
        assert!(!more("", "foo") && !more("foo", "bar, FOO") && !more("foo", "foo"));
        assert!(more("foo", "") && more("bar, foo", "foo") && more("foo", "bar"));
        assert!(!more("foo, absent", "foo") && !more("absent", "foo"));
    }

    #[test]
    fn what_is_no_name_or_too_much_has_no_key() {
        assert_eq!(vary(&["Foo Bar"]), Err(Unkeyed::Malformed));
        let many: Vec<_> = (0..17).map(|at| format!("x-{at}")).collect();
        assert_eq!(vary(&[&many.join(",")]), Err(Unkeyed::Malformed));
    }

    #[test]
    fn what_forwarding_writes_has_no_key_but_the_scheme() {
        for name in ["X-Forwarded-For", "Forwarded", "X-Request-Id", "Via"] {
            assert_eq!(vary(&[name]), Err(Unkeyed::Forwarding), "{name}");
        }
        assert!(vary(&["X-Forwarded-Proto"]).unwrap().is_empty());
    }

    #[test]
    fn an_absent_field_is_not_an_empty_one() {
        assert!(!same("foo", &[], &[("foo", "")]));
        assert!(same("foo", &[("foo", "")], &[("foo", "")]));
        assert!(!same("foo", &[("foo", "1")], &[]));
        assert!(same("foo, bar", &[("foo", "1")], &[("foo", "1")]));
    }

    #[test]
    fn lines_are_combined_and_spaces_around_commas_dropped() {
        assert!(same(
            "foo",
            &[("foo", "1, 2")],
            &[("foo", "1"), ("foo", "2")]
        ));
        assert!(same("foo", &[("foo", "1,2")], &[("foo", " 1 , 2 ")]));
        assert!(!same("foo", &[("foo", "\"1, 2\"")], &[("foo", "\"1,2\"")]));
        assert!(!same("foo", &[("foo", "1 2")], &[("foo", "12")]));
        assert!(!same("foo", &[("foo", "A")], &[("foo", "a")]));
    }

    #[test]
    fn an_empty_line_before_a_value_is_not_that_value() {
        for name in [
            "foo",
            "accept-language",
            "accept-encoding",
            "cookie",
            "authorization",
        ] {
            assert!(!same(name, &[(name, ""), (name, "a")], &[(name, "a")]));
            assert!(!same(name, &[(name, "a"), (name, "")], &[(name, "a")]));
            assert!(!same(name, &[(name, ""), (name, "")], &[(name, "")]));
        }
    }

    #[test]
    fn one_fields_value_does_not_reach_into_the_next() {
        let one = [("bar", "1"), ("foo", "2")];
        let other = [("bar", "1\u{1}"), ("foo", "2")];
        let shifted = [("bar", "1,2")];
        assert!(!same("foo, bar", &one, &shifted));
        assert!(headers_ok(&other).is_none() || !same("foo, bar", &one, &other));
    }

    fn headers_ok(lines: &[(&str, &str)]) -> Option<()> {
        lines
            .iter()
            .try_for_each(|(_, value)| HeaderValue::from_str(value).ok().map(drop))
    }

    #[test]
    fn languages_and_codings_are_told_apart_by_meaning() {
        let languages = |one, other| {
            same(
                "accept-language",
                &[("accept-language", one)],
                &[("accept-language", other)],
            )
        };
        assert!(languages("en, de", "eN,  De"));
        assert!(languages("en;q=0.5", "en ; q=0.5"));
        assert!(!languages("en, de", "de, en"));
        assert!(!languages("en", "e n"));
        assert!(!languages("en;q=0.5", "en;q=0 .5"));
        let codings = |one, other| {
            same(
                "accept-encoding",
                &[("accept-encoding", one)],
                &[("accept-encoding", other)],
            )
        };
        assert!(codings("gzip, br", "BR,gzip"));
        assert!(codings("br;q=0, gzip", "gzip , br ; q=0"));
        assert!(!codings("gzip, br;q=0", "gzip, br"));
        assert!(!codings("gzip", "g zip"));
    }

    #[test]
    fn a_key_holds_no_credential() {
        let nominated = vary(&["authorization, cookie, x-long"]).unwrap();
        let long = "x".repeat(1000);
        let key = nominated.key(&headers(&[
            ("authorization", "Bearer secret"),
            ("cookie", "session=secret"),
            ("x-long", &long),
        ]));
        assert_eq!(key.as_bytes().len(), 3 * 33);
        assert!(!key.as_bytes().windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn lines_of_a_credential_are_what_the_upstream_gets() {
        let lines = [("cookie", "a=1"), ("cookie", "b=2")];
        assert!(same("cookie", &lines, &[("cookie", "a=1; b=2")]));
        assert!(!same("cookie", &lines, &[("cookie", "a=1,b=2")]));
        let lines = [("authorization", "a"), ("authorization", "b")];
        assert!(!same("authorization", &lines, &[("authorization", "a,b")]));
    }

    #[test]
    fn fields_of_identity_are_noted_and_compared() {
        let options = Options {
            identity_fields: [HeaderName::from_static("x-user-id")].into(),
            ..Options::default()
        };
        let answer = headers(&[("vary", "X-User-Id, foo")]);
        let nominated = Nominated::by(&answer, &options).unwrap();
        assert!(nominated.by_identity);
        assert_eq!(nominated.names(), ["foo", "x-user-id"]);
    }

    proptest! {
        #[test]
        fn different_values_never_share_a_key(one in "[a-z]{0,200}", other in "[a-z]{0,200}") {
            prop_assert_eq!(
                same("foo", &[("foo", &one)], &[("foo", &other)]),
                one == other
            );
        }

        #[test]
        fn a_value_cannot_be_split_over_two_fields(a in "[a-z,]{0,9}", b in "[a-z,]{0,9}",
            c in "[a-z,]{0,9}", d in "[a-z,]{0,9}") {
            let equal = same("x-a, x-b", &[("x-a", &a), ("x-b", &b)], &[("x-a", &c), ("x-b", &d)]);
            prop_assert_eq!(equal, a == c && b == d);
        }

        #[test]
        fn any_bytes_have_a_key(bytes in prop::collection::vec(0x20_u8..=0xfe, 0..300)) {
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0x7f).collect();
            let mut request = HeaderMap::new();
            for name in [ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName::from_static("x-a")] {
                request.insert(name, HeaderValue::from_bytes(&bytes).unwrap());
            }
            let nominated = vary(&["accept-encoding, accept-language, x-a"]).unwrap();
            prop_assert_eq!(nominated.key(&request), nominated.key(&request.clone()));
        }
    }
}
