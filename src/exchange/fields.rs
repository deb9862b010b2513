//! Header fields that several rooms handle alike: those of one hop, and those we write.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, COOKIE, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

/// `X-Request-Id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `x-cache-tags`, in which an upstream names its answers to us, to purge them by.
pub const X_CACHE_TAGS: HeaderName = HeaderName::from_static("x-cache-tags");
/// `Surrogate-Key`, which is the same of others.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// `Keep-Alive`.
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// `Proxy-Connection`.
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// A text as a field value that every reader takes for just this text: printable ASCII, not empty, no
/// spaces at its ends (they would be trimmed, RFC 9110 5.5).
#[must_use]
pub fn exact_value(text: &str) -> Option<HeaderValue> {
    let exact = !text.is_empty() && text.is_ascii() && text.trim_ascii() == text;
    HeaderValue::from_str(text).ok().filter(|_| exact)
}

/// RFC 9113 8.2.1: no value begins or ends with a blank. h2 lets it pass, and over HTTP/1.1 its
/// reader takes the value without it: what our rules have compared would be another one.
#[must_use]
pub fn is_padded(value: &HeaderValue) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let bytes = value.as_bytes();
    bytes.first().is_some_and(is_blank) || bytes.last().is_some_and(is_blank)
}

/// The members of a comma list over all lines of a field, from left to right.
///
/// A member that is not plain ASCII is shown as `?`, which is no name, address or option. Only it is
/// lost and not its line: a client could else make its proxy's hop in `X-Forwarded-For` vanish by
/// putting one odd byte in front of it.
pub fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|member| plain(member).unwrap_or(UNREADABLE))
        .filter(|member| !member.is_empty())
}

fn plain(member: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(member.trim_ascii()).ok()?;
    text.is_ascii().then_some(text)
}

/// The cookies of a request in one value (RFC 9113 8.2.3: HTTP/2 clients send them as crumbs, and
/// outside of HTTP/2 there is one Cookie field). All at once: HPACK lets a client send a thousand
/// crumbs in a thousand bytes.
#[must_use]
pub fn joined_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let first = crumbs.next()?;
    let rest: Vec<_> = crumbs.map(HeaderValue::as_bytes).collect();
    if rest.is_empty() {
        return Some(first.clone());
    }
    let all = [&[first.as_bytes()], &rest[..]].concat();
    HeaderValue::from_maybe_shared(Bytes::from(all.join(&b"; "[..]))).ok()
}

/// Takes out what belongs to one hop (RFC 9110 7.6.1): first what `Connection` nominates, then the
/// fields that are always of one hop. `Trailer` stays: only trailers that it names are sent.
///
/// End-to-end fields can't be nominated: without one of them the message would mean something else.
///
/// `named` tells whether any of those fields but `Connection` is there at all.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, named: bool) {
    take_hop_by_hop(headers, named);
}

/// Does what [`remove_hop_by_hop`] does, and tells which names were nominated beside the fields that
/// are always of one hop: a trailer is a field like any other, and must not go on under them either.
/// `Trailer` no longer announces them. Mostly there are none, which allocates nothing.
pub fn take_hop_by_hop(headers: &mut HeaderMap, named: bool) -> Vec<HeaderName> {
    // Nearly all messages that have the field say just this, which nominates nothing.
    if !named && only_persistence(headers) {
        headers.remove(CONNECTION);
        return Vec::new();
    }
    let nominated = nominated(headers);
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if !nominated.is_empty() {
        withdraw_trailers(headers, &nominated);
    }
    nominated
}

/// What `Connection` nominates beyond the options that nearly everybody sends.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = list(headers, &CONNECTION)
        .filter(|name| !name.eq_ignore_ascii_case("close"))
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .filter(|name| !END_TO_END.contains(name) && !HOP_BY_HOP.contains(name));
    in_order(names)
}

/// Each name once, in order. A head has room for thousands in one field, and two such lists would be
/// compared name by name.
fn in_order(names: impl Iterator<Item = HeaderName>) -> Vec<HeaderName> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    names
}

/// Whether a list that is in order has a name.
#[must_use]
pub fn has_name(names: &[HeaderName], name: &str) -> bool {
    names
        .binary_search_by(|known| known.as_str().cmp(name))
        .is_ok()
}

/// Takes out fields that an answer lets only its first reader have, and what announces them as trailers.
pub fn withhold(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
    if !names.is_empty() && headers.contains_key(TRAILER) {
        withdraw_trailers(headers, &in_order(names.iter().cloned()));
    }
}

/// Takes names, which are in order, out of `Trailer`: what will not come must not be announced.
fn withdraw_trailers(headers: &mut HeaderMap, names: &[HeaderName]) {
    let announced = announced_trailers(headers);
    let stay = |name: &&HeaderName| !has_name(names, name.as_str());
    let staying: Vec<_> = announced
        .iter()
        .filter(stay)
        .map(HeaderName::as_str)
        .collect();
    if staying.len() == announced.len() {
        return;
    }
    headers.remove(TRAILER);
    // Names and commas are a value.
    if let Ok(value) = HeaderValue::try_from(staying.join(", "))
        && !value.is_empty()
    {
        headers.insert(TRAILER, value);
    }
}

/// The names in `Trailer` (RFC 9110 6.6.2), each once and in order.
#[must_use]
pub fn announced_trailers(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = list(headers, &TRAILER);
    in_order(names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()))
}

/// Whether `Connection` is one line of `keep-alive` or `close`.
fn only_persistence(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONNECTION).iter();
    let only = values.next().is_some_and(|value| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
    });
    only && values.next().is_none()
}

/// Takes out of trailers what must not stand there (RFC 9110 6.5.1): framing, routing, credentials,
/// controls of caches, and whatever would be trusted in a header. Tags are among them: who stores an answer
/// has asked for its tags by then, and clients don't see any.
///
/// Other odd names stay: an answer's are the upstream's word, as in its head.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    for name in HOP_BY_HOP.iter().chain(&END_TO_END).chain(&TOLD) {
        trailers.remove(name);
    }
    for name in [X_CACHE_TAGS, SURROGATE_KEY] {
        trailers.remove(name);
    }
    remove_overrides(trailers);
    remove_where(trailers, |name| {
        is_forwarding(name) || is_disguised(name) || reads_as(name, &OVERRIDES)
    });
}

/// Takes out what asks a server to take the request for another.
pub fn remove_overrides(headers: &mut HeaderMap) {
    for name in &OVERRIDES {
        headers.remove(name);
    }
}

/// Whether a request asks a server to take it for another; in whatever signs, since a route may keep odd
/// names too.
#[must_use]
pub fn has_overrides(headers: &HeaderMap) -> bool {
    let mut names = headers.keys();
    OVERRIDES.iter().any(|name| headers.contains_key(name))
        || names.any(|name| reads_as(name.as_str(), &OVERRIDES))
}

/// Whether a field tells whom a request came from, and how: by which scheme, too, since servers make links
/// of it.
#[must_use]
pub fn is_forwarding(name: &str) -> bool {
    let is_known = matches!(
        name,
        "forwarded" | "x-forwarded" | "x-real-ip" | "x-scheme" | "x-url-scheme" | "front-end-https"
    );
    is_known || name.starts_with("x-forwarded-")
}

/// The forwarding fields that tell which node of a proxy a request came through: Traefik writes its host's
/// name to the first, Apache its `ServerName` (so it may tell sites apart, too), and Tomcat reads the other.
pub const OF_NODES: [HeaderName; 2] = [
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-by"),
];

/// Takes out the fields whose names meet a condition.
pub fn remove_where(headers: &mut HeaderMap, condition: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| condition(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether a name may be read as another: it has more in it than letters, digits and hyphens. CGI and its
/// heirs read `a_b` and `a-b` as one name, and some of them (lighttpd, old Apaches) every sign: `a.b` too.
#[must_use]
pub fn is_ambiguous(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !name.bytes().all(plain)
}

/// Whether an odd name may be read as one of these.
#[must_use]
pub fn reads_as(name: &str, known: &[HeaderName]) -> bool {
    is_ambiguous(name) && known.iter().any(|known| is_alike(name, known.as_str()))
}

/// Whether an odd name may be read as one that frames a message, belongs to one hop, carries credentials or
/// tells where a request came from.
#[must_use]
pub fn is_disguised(name: &str) -> bool {
    if !is_ambiguous(name) {
        return false;
    }
    let mut words = words(name);
    let first = (words.next(), words.next());
    let is_known = |names: &[HeaderName]| reads_as(name, names);
    matches!(first, (Some("proxy"), _) | (Some("x"), Some("forwarded")))
        || is_known(&HOP_BY_HOP)
        || is_known(&END_TO_END)
        || is_known(&TOLD)
}

/// Whether two names differ in signs alone, be it in how many there are: nobody knows what a server makes
/// of `x__user` and `x_user_`.
#[must_use]
pub fn is_alike(one: &str, other: &str) -> bool {
    words(one).eq(words(other))
}

/// The letters and digits of a name, from sign to sign.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty())
}

/// What [`list`] shows of a member that can't be read.
const UNREADABLE: &str = "?";

const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What tells where a request came from, beside `X-Forwarded-*`.
const TOLD: [HeaderName; 9] = [
    X_REQUEST_ID,
    TRACEPARENT,
    http::header::FORWARDED,
    http::header::VIA,
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-scheme"),
    HeaderName::from_static("x-url-scheme"),
    HeaderName::from_static("front-end-https"),
];

/// What asks a server to take a request for one of another method, or to another path or host; to take it
/// for one of its own, which its checks let pass (`X-Middleware-Subrequest` of Next.js); or to send what it
/// asks others by the client's proxy (`Proxy`, which CGI reads as `HTTP_PROXY`).
/// `frame/head.rs` matches the same names.
pub static OVERRIDES: [HeaderName; 14] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-host-override"),
    HeaderName::from_static("x-backend-host"),
    HeaderName::from_static("x-http-destinationurl"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-middleware-subrequest"),
    HeaderName::from_static("proxy"),
];

const END_TO_END: [HeaderName; 13] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    HOST,
    http::header::ORIGIN,
    http::header::RANGE,
    SET_COOKIE,
    TRAILER,
    http::header::VARY,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(lines: &[(&'static str, &'static str)], named: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers, named);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn nominated_fields_go_whatever_else_connection_says() {
        let lines = [("connection", "close, X-One"), ("connection", "x-two")];
        let all = [
            &lines[..],
            &[("x-one", "1"), ("x-two", "2"), ("x-three", "3")],
        ]
        .concat();
        assert_eq!(cleaned(&all, false), ["x-three"]);
    }

    #[test]
    fn a_name_of_letters_digits_and_hyphens_is_read_in_one_way() {
        assert!(!is_ambiguous("x-user-id2"));
        for name in ["x_user-id", "x.user-id", "x-user~id", "x-user-id'"] {
            assert!(is_ambiguous(name), "{name}");
        }
    }

    #[test]
    fn names_are_alike_that_differ_in_signs_alone() {
        let known = [HeaderName::from_static("x-user-id")];
        for name in [
            "x_user-id",
            "x.user.id",
            "x__user-id",
            "_x-user-id",
            "x-user-id~",
        ] {
            assert!(reads_as(name, &known), "{name}");
        }
        for name in [
            "x-user-id",
            "x_user",
            "xuser_id",
            "x_user_ids",
            "x_userid",
            "_",
        ] {
            assert!(!reads_as(name, &known), "{name}");
        }
    }

    #[test]
    fn odd_names_are_disguises_of_what_no_client_may_say() {
        for name in [
            "content_length",
            "x_forwarded_for",
            "x.forwarded.anything",
            "x_real_ip",
            "x_scheme",
            "keep_alive",
            "proxy_authorization",
            "cookie_",
            "authorization.",
            "x_request_id",
        ] {
            assert!(is_disguised(name), "{name}");
        }
        for name in [
            "x_tenant",
            "x_forward",
            "proxied_by",
            "api_key",
            "x-forwarded-for",
        ] {
            assert!(!is_disguised(name), "{name}");
        }
    }

    #[test]
    fn trailers_keep_odd_names_but_for_disguises() {
        let mut trailers = HeaderMap::new();
        for name in [
            "my_sum",
            "content_length",
            "x_http_method_override",
            "via",
            "x-sum",
        ] {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        clean_trailers(&mut trailers);
        let mut names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["my_sum", "x-sum"]);
    }

    #[test]
    fn what_was_nominated_is_told_and_no_longer_announced() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, TE, X-One, trailer"),
            ("trailer", "x-one, x-two"),
            ("trailer", "X-Three"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(take_hop_by_hop(&mut headers, false), ["x-one"]);
        assert_eq!(headers[TRAILER], "x-three, x-two");
        assert_eq!(announced_trailers(&headers), ["x-three", "x-two"]);
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert!(take_hop_by_hop(&mut headers, true).is_empty());
    }

    /// Compared name by name these would be a thousand million comparisons.
    #[test]
    fn long_lists_of_names_cost_no_more_than_they_are_long() {
        let names = |letter: char| (0..30_000).map(move |number| format!("{letter}{number}"));
        let list = |names: Vec<String>| HeaderValue::try_from(names.join(",")).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, list(names('a').collect()));
        headers.insert(TRAILER, list(names('b').chain(names('a')).collect()));
        assert_eq!(take_hop_by_hop(&mut headers, false).len(), 30_000);
        assert_eq!(announced_trailers(&headers).len(), 30_000);
        assert_eq!(headers.get_all(TRAILER).iter().count(), 1);
    }

    #[test]
    fn a_plain_keep_alive_takes_nothing_but_itself() {
        let lines = [("connection", "Keep-Alive"), ("x-one", "1")];
        assert_eq!(cleaned(&lines, false), ["x-one"]);
    }

    #[test]
    fn named_fields_go_even_when_connection_nominates_none() {
        let lines = [
            ("connection", "close"),
            ("te", "gzip"),
            ("keep-alive", "timeout=5"),
        ];
        assert!(cleaned(&lines, true).is_empty());
    }

    #[test]
    fn end_to_end_fields_cannot_be_nominated() {
        let lines = [
            ("connection", "authorization, host"),
            ("authorization", "x"),
            ("host", "a"),
        ];
        assert_eq!(cleaned(&lines, false).len(), 2);
    }
}
