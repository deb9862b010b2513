//! Credentials where they stand in a request: found, and taken out.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Uri,
    header::{AUTHORIZATION, COOKIE},
    uri::PathAndQuery,
};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use crate::{
    config::CredentialPlace,
    exchange::{Reason, Request},
};

/// What was found at one place.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'r> {
    /// Nothing.
    Nothing,
    /// One value. In a header it is the whole field.
    One(Cow<'r, [u8]>),
    /// More than one: nobody can tell which of them another reader would take.
    Several,
}

/// Places of one request. More than two are rare, and these cost no allocation.
pub(super) type Places<'m> = SmallVec<[&'m CredentialPlace; 2]>;

/// Looks at a place.
#[must_use]
pub fn find<'r>(request: &'r Request, place: &CredentialPlace) -> Found<'r> {
    let mut found = Found::Nothing;
    each(request, place, |value| {
        found = match std::mem::replace(&mut found, Found::Several) {
            Found::Nothing => Found::One(value),
            Found::One(_) | Found::Several => Found::Several,
        };
    });
    found
}

/// Takes each value at a place, in their order.
pub fn each<'r>(request: &'r Request, place: &CredentialPlace, take: impl FnMut(Cow<'r, [u8]>)) {
    match place {
        CredentialPlace::Header(name) => {
            let values = request.headers().get_all(name).iter();
            values
                .map(|value| Cow::Borrowed(value.as_bytes()))
                .for_each(take);
        }
        CredentialPlace::Cookie(name) => cookies(request.headers())
            .filter(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| Cow::Borrowed(value))
            .for_each(take),
        CredentialPlace::Query(name) => parameters(request.uri())
            .filter(|(known, _)| is_called(known, name))
            .map(|(_, value)| Cow::<[u8]>::from(percent_decode_str(value)))
            .for_each(take),
    }
}

/// The one credential at a method's places, without those that another method's credential has used.
/// `read` makes it of what stands at a place; `None` is another method's.
///
/// # Errors
///
/// When there are several: nobody can tell which of them another reader would take. And what `read`
/// says.
pub fn find_only<'r, T>(
    request: &'r Request,
    places: &[CredentialPlace],
    used: &[&CredentialPlace],
    read: impl Fn(Cow<'r, [u8]>, &CredentialPlace) -> Result<Option<T>, Reason>,
) -> Result<Option<T>, Reason> {
    let mut found = None;
    for place in places.iter().filter(|place| !used.contains(place)) {
        let value = match find(request, place) {
            Found::Nothing => continue,
            Found::Several => return Err(Reason::AuthAmbiguous),
            Found::One(value) => value,
        };
        let Some(credential) = read(value, place)? else {
            continue;
        };
        if found.replace(credential).is_some() {
            return Err(Reason::AuthAmbiguous);
        }
    }
    Ok(found)
}

/// Whether there is anything at a place.
#[must_use]
pub fn is_at(request: &Request, place: &CredentialPlace) -> bool {
    match place {
        CredentialPlace::Header(name) => request.headers().contains_key(name),
        place => find(request, place) != Found::Nothing,
    }
}

/// The first of these places at which there is anything, without those that are used.
#[must_use]
pub fn occupied<'p>(
    request: &Request,
    places: &'p [CredentialPlace],
    used: &[&CredentialPlace],
) -> Option<&'p CredentialPlace> {
    places
        .iter()
        .find(|place| is_at(request, place) && !used.contains(place))
}

/// The one of a method's places, without those that are used, at which the credential stands that it has
/// read. Of two it reads none, and `Authorization` alone may hold what is another scheme's: so where there is
/// anything at another place, it is that.
pub(super) fn read_place<'p>(
    request: &Request,
    places: &'p [CredentialPlace],
    used: &[&CredentialPlace],
) -> Option<&'p CredentialPlace> {
    let unused = places.iter().filter(|place| !used.contains(place));
    let occupied = unused.filter(|place| is_at(request, place));
    occupied.min_by_key(|place| is_authorization(place))
}

/// Whether a place is the field that holds credentials of every scheme (RFC 9110 11.6.2).
pub(super) fn is_authorization(place: &CredentialPlace) -> bool {
    matches!(place, CredentialPlace::Header(name) if *name == AUTHORIZATION)
}

/// Takes out what stands at a place, and nothing else.
pub fn strip(request: &mut Request, place: &CredentialPlace) {
    match place {
        CredentialPlace::Header(name) => {
            request.headers_mut().remove(name);
        }
        CredentialPlace::Cookie(name) => strip_cookie(request.headers_mut(), name),
        CredentialPlace::Query(name) => strip_parameter(request.uri_mut(), name),
    }
}

/// RFC 6265 4.2.1: pairs between semicolons, over all lines (RFC 9113 8.2.3: crumbs).
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(COOKIE).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';').map(pair))
}

fn pair(cookie: &[u8]) -> (&[u8], &[u8]) {
    let cookie = cookie.trim_ascii();
    match memchr::memchr(b'=', cookie) {
        Some(at) => (cookie[..at].trim_ascii(), cookie[at + 1..].trim_ascii()),
        None => (b"", cookie),
    }
}

fn strip_cookie(headers: &mut HeaderMap, name: &str) {
    let is_kept = |cookie: &&[u8]| pair(cookie).0 != name.as_bytes();
    let lines: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| {
            let kept: Vec<_> = line
                .as_bytes()
                .split(|byte| *byte == b';')
                .filter(is_kept)
                .collect();
            let kept = kept.join(&b";"[..]).trim_ascii().to_vec();
            HeaderValue::from_maybe_shared(Bytes::from(kept))
                .ok()
                .filter(|line| !line.is_empty())
        })
        .collect();
    headers.remove(COOKIE);
    for line in lines {
        headers.append(COOKIE, line);
    }
}

fn parameters(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    let query = uri.query().unwrap_or_default();
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Names are compared decoded: an upstream would see `%61` as `a` too.
fn is_called(known: &str, name: &str) -> bool {
    known == name || percent_decode_str(known).eq(name.bytes())
}

fn strip_parameter(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else { return };
    let is_kept =
        |pair: &&str| !is_called(pair.split_once('=').map_or(*pair, |(name, _)| name), name);
    let kept: Vec<_> = query.split('&').filter(is_kept).collect();
    let target = match kept.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), kept.join("&")),
    };
    // Parts of a valid target make a valid one.
    if let Ok(target) = PathAndQuery::from_maybe_shared(Bytes::from(target)) {
        *uri = target.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Body;

    fn request(uri: &str, cookies: &[&str]) -> Request {
        let mut request = http::Request::builder().uri(uri);
        for line in cookies {
            request = request.header("cookie", *line);
        }
        request.body(Body::empty()).unwrap()
    }

    fn cookie(name: &str) -> CredentialPlace {
        CredentialPlace::Cookie(name.into())
    }

    fn query(name: &str) -> CredentialPlace {
        CredentialPlace::Query(name.into())
    }

    fn one(value: &str) -> Found<'_> {
        Found::One(Cow::Borrowed(value.as_bytes()))
    }

    #[test]
    fn a_cookie_is_found_among_others_and_goes_alone() {
        let lines = ["a=1; session=x=y ;b=2", "session2=z"];
        let mut request = request("/", &lines);
        assert_eq!(find(&request, &cookie("session")), one("x=y"));
        assert_eq!(find(&request, &cookie("Session")), Found::Nothing);
        strip(&mut request, &cookie("session"));
        let left: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(left, ["a=1;b=2", "session2=z"]);
        strip(&mut request, &cookie("session2"));
        assert_eq!(request.headers().get_all("cookie").iter().count(), 1);
    }

    #[test]
    fn a_parameter_is_found_however_it_is_written_and_goes_alone() {
        let mut found = request("/p?x=%2F&access%5Ftoken=a%2Eb&y", &[]);
        assert_eq!(find(&found, &query("access_token")), one("a.b"));
        strip(&mut found, &query("access_token"));
        assert_eq!(*found.uri(), "/p?x=%2F&y");
        let mut alone = request("/p?t=1", &[]);
        strip(&mut alone, &query("t"));
        assert_eq!(*alone.uri(), "/p");
    }

    #[test]
    fn what_a_method_has_read_stands_elsewhere_than_in_authorization_where_there_is_anything() {
        let header = |name| CredentialPlace::Header(http::HeaderName::from_static(name));
        let (authorization, key) = (header("authorization"), header("x-api-key"));
        let places = [authorization.clone(), key.clone()];
        let one = http::Request::builder().header("authorization", "Bearer a");
        let one = one.body(Body::empty()).unwrap();
        assert_eq!(read_place(&one, &places, &[]), Some(&authorization));
        let mut both = one;
        let value = HeaderValue::from_static("k");
        both.headers_mut().insert("x-api-key", value);
        assert_eq!(read_place(&both, &places, &[]), Some(&key));
        assert_eq!(read_place(&both, &places, &[&key]), Some(&authorization));
        assert_eq!(read_place(&both, &[], &[]), None);
    }

    #[test]
    fn what_stands_there_twice_is_told() {
        let double = request("/?t=1&%74=2", &["c=1; c=1"]);
        assert_eq!(find(&double, &query("t")), Found::Several);
        assert_eq!(find(&double, &cookie("c")), Found::Several);
        assert_eq!(find(&double, &query("u")), Found::Nothing);
    }
}
