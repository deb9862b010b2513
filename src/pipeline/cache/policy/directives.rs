//! `Cache-Control` of requests and responses (RFC 9111 5.2).

use std::time::Duration;

use http::{HeaderMap, HeaderName, header::CACHE_CONTROL};
use smallvec::SmallVec;

/// What an answer says of its storage and reuse, from `Cache-Control` or a targeted field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `no-store`.
    pub no_store: bool,
    /// `private` without field names.
    pub private: bool,
    /// `no-cache` without field names.
    pub no_cache: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `max-age`; zero when its value is none.
    pub max_age: Option<Duration>,
    /// `s-maxage`; zero when its value is none.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 4).
    pub stale_if_error: Option<Duration>,
    /// The fields that `no-cache` and `private` name: everything but them may be stored and
    /// reused (RFC 9111 5.2.2.4, 5.2.2.7).
    pub withheld: SmallVec<[HeaderName; 2]>,
}

impl ResponseDirectives {
    /// Reads `Cache-Control`; without the field all is unsaid.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for (name, value) in Directives::of(line.as_bytes()) {
                read.take(name, value);
            }
        }
        read
    }

    /// Takes a directive; an unknown one is ignored (RFC 9111 5.2.3).
    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            first(&mut self.max_age, value);
        } else if is("s-maxage") {
            first(&mut self.s_maxage, value);
        } else if is("stale-while-revalidate") {
            first(&mut self.stale_while_revalidate, value);
        } else if is("stale-if-error") {
            first(&mut self.stale_if_error, value);
        } else if is("no-cache") {
            self.no_cache |= !self.withhold(value);
        } else if is("private") {
            self.private |= !self.withhold(value);
        } else if let Some(flag) = self.flag(name) {
            *flag = true;
        }
    }

    /// A directive without a value. It is in force with one too, since each but `public` forbids
    /// something.
    pub(super) fn flag(&mut self, name: &[u8]) -> Option<&mut bool> {
        let flags = [
            ("no-store", &mut self.no_store),
            ("public", &mut self.public),
            ("must-revalidate", &mut self.must_revalidate),
            ("proxy-revalidate", &mut self.proxy_revalidate),
            ("must-understand", &mut self.must_understand),
        ];
        let mut flags = flags.into_iter();
        let found = flags.find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|(_, flag)| flag)
    }

    /// Takes the field names of `no-cache` or `private`; false when there are none, or when one is
    /// no name, and so the whole answer is meant.
    pub(super) fn withhold(&mut self, value: Option<&[u8]>) -> bool {
        let members = value.unwrap_or_default().split(|byte| *byte == b',');
        let names: Result<SmallVec<[HeaderName; 2]>, _> = members
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
            .map(HeaderName::from_bytes)
            .collect();
        let Ok(names) = names else { return false };
        let named = !names.is_empty();
        self.withheld.extend(names);
        named
    }

    /// Whether an answer to a known caller may serve others (RFC 9111 3.5).
    #[must_use]
    pub fn shareable(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }

    /// Whether a stale answer may be used in no case (RFC 9111 4.2.4): `s-maxage` implies
    /// `proxy-revalidate` (5.2.2.10).
    #[must_use]
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.no_cache || self.s_maxage.is_some()
    }
}

/// What a request wants of the cache (RFC 9111 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache`: nothing without validation.
    pub no_cache: bool,
    /// `no-store`: the answer is not to be stored.
    pub no_store: bool,
    /// `only-if-cached`: a 504 rather than a request to the origin.
    pub only_if_cached: bool,
    /// `max-age`: nothing older.
    pub max_age: Option<Duration>,
    /// `min-fresh`: fresh for so much longer.
    pub min_fresh: Option<Duration>,
    /// `max-stale`: stale by so much; by anything, when it has no value.
    pub max_stale: Option<Duration>,
    /// `stale-if-error` (RFC 5861 4): stale by so much, should the origin fail.
    pub stale_if_error: Option<Duration>,
}

impl RequestDirectives {
    /// Reads `Cache-Control`. A value that is no number takes its directive out of force.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for (name, value) in Directives::of(line.as_bytes()) {
                read.take(name, value);
            }
        }
        read
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            self.max_age = self.max_age.or(value.and_then(delta_seconds));
        } else if is("min-fresh") {
            self.min_fresh = self.min_fresh.or(value.and_then(delta_seconds));
        } else if is("max-stale") {
            let any = || value.map_or(Some(LONGEST), delta_seconds);
            self.max_stale = self.max_stale.or_else(any);
        } else if is("stale-if-error") {
            self.stale_if_error = self.stale_if_error.or(value.and_then(delta_seconds));
        }
    }
}

/// The directives of one line: names, and values without their quotes.
pub(super) struct Directives<'a>(Members<'a>);

impl<'a> Directives<'a> {
    pub(super) fn of(line: &'a [u8]) -> Self {
        Self(Members::of(line))
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut members = self.0.by_ref().map(<[u8]>::trim_ascii);
        members.find(|member| !member.is_empty()).map(split)
    }
}

/// The members of a list as they stand between its commas, but for commas in quotes.
///
/// A quote that does not end is an ordinary character: what stands behind it may be `no-store`.
/// Behind one no other ends, since all that follow are escaped; so none is looked at any more, and
/// the list is read in one pass whatever a client has put into it.
pub(super) struct Members<'a> {
    rest: Option<&'a [u8]>,
    endless: bool,
}

impl<'a> Members<'a> {
    pub(super) fn of(list: &'a [u8]) -> Self {
        Self {
            rest: Some(list),
            endless: false,
        }
    }

    /// Where a list's first member ends: at a comma outside of quotes, or with the text.
    fn end(&mut self, list: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = list.get(at) {
            at += match byte {
                b',' => return at,
                b'"' if !self.endless => quoted_length(&list[at..]).unwrap_or_else(|| {
                    self.endless = true;
                    1
                }),
                _ => 1,
            }
        }
        at
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let list = self.rest?;
        let end = self.end(list);
        self.rest = list.get(end + 1..);
        Some(&list[..end])
    }
}

/// The length of the quoted string that a text begins with, quotes included (RFC 9110 5.6.4).
fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Name and value. Spaces around `=` are not allowed, so they stay and spoil what they touch.
fn split(member: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else {
        return (member, None);
    };
    (&member[..equals], Some(unquoted(&member[equals + 1..])))
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// Keeps the first of several values; one that is no number counts as zero, which is stale
/// (RFC 9111 4.2.1).
fn first(slot: &mut Option<Duration>, value: Option<&[u8]>) {
    let read = || value.and_then(delta_seconds).unwrap_or_default();
    slot.get_or_insert_with(read);
}

/// A number of seconds, of digits only (RFC 9111 1.2.2); too great a number is the greatest.
pub(super) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    number(text).map(clamped)
}

/// A number of digits only; too great a number is the greatest.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let number = text.iter().try_fold(0_u64, |number, byte| {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        (digit < 10).then(|| number.saturating_mul(10).saturating_add(digit))
    })?;
    (!text.is_empty()).then_some(number)
}

/// A number of seconds within what is told apart.
pub(super) fn clamped(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(LONGEST)
}

/// 2^31 seconds: where a number of seconds may stop (RFC 9111 1.2.2).
pub(super) const LONGEST: Duration = Duration::from_secs(1 << 31);

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn response(line: &str) -> ResponseDirectives {
        ResponseDirectives::read(&headers(&[line]))
    }

    fn max_age(line: &str) -> Option<u64> {
        response(line).max_age.map(|span| span.as_secs())
    }

    #[test]
    fn a_max_age_is_digits_and_nothing_else() {
        for (line, expected) in [
            ("max-age=3600", Some(3600)),
            ("MaX-aGe=3600", Some(3600)),
            ("max-age=003600", Some(3600)),
            ("max-age=\"3600\"", Some(3600)),
            ("foo,,  max-age=3600 ,bar=1", Some(3600)),
            ("max-age=99999999999999999999999", Some(1 << 31)),
            ("max-age='3600'", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=+1", Some(0)),
            ("max-age=3600.0", Some(0)),
            ("max-age=3600a", Some(0)),
            ("max-age= 3600", Some(0)),
            ("max-age=", Some(0)),
            ("max-age", Some(0)),
            ("max-age =3600", None),
            ("x-max-age=3600", None),
            ("", None),
        ] {
            assert_eq!(max_age(line), expected, "{line}");
        }
    }

    #[test]
    fn what_stands_in_a_quoted_string_is_no_directive() {
        assert_eq!(max_age("ext=\"max-age=3600\", max-age=1"), Some(1));
        assert_eq!(max_age("max-age=1, ext=\"a, max-age=3600\""), Some(1));
        assert_eq!(max_age("ext=\"a\\\", max-age=3600\", max-age=2"), Some(2));
    }

    #[test]
    fn a_quote_without_an_end_hides_nothing() {
        assert!(response("ext=\"oops, no-store").no_store);
        assert!(response("ext=\"oops\\").max_age.is_none());
        let members = |list: &'static str| Members::of(list.as_bytes()).collect::<Vec<_>>();
        assert_eq!(members("\"a,\\\",b"), [&b"\"a"[..], b"\\\"", b"b"]);
        assert_eq!(members("a,\"b,c\","), [&b"a"[..], b"\"b,c\"", b""]);
    }

    /// In one pass: looked at anew from each of its quotes, this would take minutes.
    #[test]
    fn quotes_without_an_end_take_no_time() {
        for open in ["\"\\", "\"\\\",", "\\\","] {
            let list = format!("\"{}", open.repeat(300_000));
            assert!(Members::of(list.as_bytes()).count() <= 300_001);
        }
    }

    #[test]
    fn the_first_of_two_values_counts() {
        let read = ResponseDirectives::read(&headers(&["max-age=1800", "max-age=1"]));
        assert_eq!(read.max_age, Some(Duration::from_secs(1800)));
        assert_eq!(max_age("max-age=1, max-age=1800"), Some(1));
    }

    #[test]
    fn named_fields_are_withheld_instead_of_the_answer() {
        let read = response("no-cache=\"a, B\", private=c, max-age=1");
        assert!(!read.no_cache && !read.private);
        assert_eq!(read.withheld.as_slice(), ["a", "b", "c"]);
    }

    #[test]
    fn names_that_are_none_withhold_the_whole_answer() {
        assert!(response("no-cache=\"a b\"").no_cache);
        assert!(response("private=\"\"").private);
        assert!(response("private=").private);
    }

    #[test]
    fn prohibitions_hold_whatever_value_they_have() {
        assert!(response("no-store=foo").no_store);
        assert!(response("No-StOrE").no_store);
        assert!(response("must-revalidate=1").forbids_stale());
    }

    #[test]
    fn a_request_says_what_it_wants() {
        let lines = ["nothing-to-see-here, no-cache", "max-stale, min-fresh=x"];
        let read = RequestDirectives::read(&headers(&lines));
        assert!(read.no_cache && !read.no_store);
        assert_eq!(read.max_stale, Some(LONGEST));
        assert_eq!(read.min_fresh, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(0x20_u8..=0xff, 0..80)) {
            let listed: Vec<_> = Directives::of(&bytes).collect();
            prop_assert!(listed.len() <= bytes.len());
        }

        #[test]
        fn a_prohibition_is_found_among_anything(noise in "[ -~&&[^\"]]{0,40}") {
            let line = format!("{noise}, no-store, {noise}");
            prop_assert!(response(&line).no_store, "{line}");
        }
    }
}
