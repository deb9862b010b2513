//! Credentials that have granted nothing and go on to the upstream all the same.
//!
//! The upstream may take one of them for the caller: an `Authorization` that no method of the route asks
//! for, a token beside the key that was enough, or what another service has let pass as such a subject's.
//! What a cache keeps for a caller (RFC 9111 3.5) may then be nobody's who comes with another, so a digest
//! of them is a part of who the caller is to it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{
    HeaderName,
    header::{AUTHORIZATION, COOKIE},
};
use sha2::{Digest, Sha256};

use super::{
    credential::{self, Places},
    expression::Expression,
    method::Method,
};
use crate::{
    config::{CacheScope, CredentialPlace, Route},
    exchange::{Request, fields::joined_cookies},
};

/// The places at which a route's requests may bring credentials to the upstream, where callers have answers
/// of their own in a cache; none where they don't, since nobody asks then.
#[derive(Default)]
pub(super) struct Beside {
    places: Box<[CredentialPlace]>,
    /// Those that several other services read: what one makes of it says nothing of what another would.
    contested: Box<[CredentialPlace]>,
}

impl Beside {
    pub(super) fn of(route: &Route, expression: &Expression) -> Self {
        let scope = route.cache.as_ref().and_then(|rule| rule.scope);
        match scope {
            Some(CacheScope::Principal) => Self::among(&expression.methods, route),
            Some(CacheScope::Shared) | None => Self::default(),
        }
    }

    fn among(methods: &[Arc<dyn Method>], route: &Route) -> Self {
        let mut places = places(methods);
        places.retain(|place| arrives(place, route));
        let contested = places.iter().filter(|place| is_contested(place, methods));
        Self {
            contested: contested.cloned().collect(),
            places: places.into(),
        }
    }

    /// Where nothing makes another caller: at the places of the credentials that were accepted, of which
    /// the principals say all. It is asked before anything is taken out of the request.
    pub(super) fn own<'m>(&self, granted: &'m [Arc<dyn Method>], request: &Request) -> Places<'m> {
        if self.places.is_empty() {
            return Places::new();
        }
        let own = |method: &'m Arc<dyn Method>| {
            let settled = method.settled();
            let settled = settled.filter(|place| !self.contested.contains(place));
            let read = credential::read_place(request, method.places(), &[]);
            read.into_iter().chain(settled)
        };
        granted.iter().flat_map(own).collect()
    }

    /// What stands for all others that are still there, in the same form in every process; `None` for most
    /// requests, which have none.
    pub(super) fn digest(&self, own: &[&CredentialPlace], request: &Request) -> Option<Arc<str>> {
        let is_beside =
            |place: &&CredentialPlace| !own.contains(place) && credential::is_at(request, place);
        let mut beside = self.places.iter().filter(is_beside).peekable();
        beside.peek()?;
        let mut hash = Sha256::new();
        for place in beside {
            add(&mut hash, place.to_string().as_bytes());
            each_sent(request, place, |value| add(&mut hash, value));
            // No value is so long: it ends those of a place.
            hash.update(u64::MAX.to_be_bytes());
        }
        // No principal's name: those have a colon.
        Some(format!("beside={}", URL_SAFE_NO_PAD.encode(hash.finalize())).into())
    }
}

/// `Authorization`, which every upstream may know (RFC 9110 11.6.2), and those of the route's methods: one
/// alternative's credential is not looked at when another has granted, and what another service has read
/// of one nobody tells us.
fn places(methods: &[Arc<dyn Method>]) -> Vec<CredentialPlace> {
    let mut places = vec![AUTHORIZATION_FIELD];
    let read = |method: &Arc<dyn Method>| [method.places(), method.unread()].concat();
    for place in methods.iter().flat_map(read) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Whether the upstream gets what a client has sent there: a route's edits stand behind authentication, and
/// what they take out or write over is nobody's any more.
fn arrives(place: &CredentialPlace, route: &Route) -> bool {
    let edits = &route.request_headers;
    let is_lost = |field: &HeaderName| {
        edits.remove.contains(field) || edits.set.iter().any(|(name, _)| name == field)
    };
    match place {
        CredentialPlace::Header(name) => !is_lost(name),
        CredentialPlace::Cookie(_) => !is_lost(&COOKIE),
        CredentialPlace::Query(_) => true,
    }
}

/// One service may stand in several alternatives, and is no other than itself.
fn is_contested(place: &CredentialPlace, methods: &[Arc<dyn Method>]) -> bool {
    let readers = methods.iter().filter(|it| it.unread().contains(place));
    let mut names = readers.map(|method| method.name());
    let first = names.next();
    names.any(|name| Some(name) != first)
}

/// Takes each value as the upstream gets it: the crumbs of a cookie are one (RFC 9113 8.2.3), or who comes by
/// HTTP/2 would be another than by HTTP/1.1.
fn each_sent(request: &Request, place: &CredentialPlace, mut take: impl FnMut(&[u8])) {
    if *place == COOKIE_FIELD {
        if let Some(cookies) = joined_cookies(request.headers()) {
            take(cookies.as_bytes());
        }
    } else {
        credential::each(request, place, |value| take(&value));
    }
}

/// With its length, so that no two look like one.
fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

const AUTHORIZATION_FIELD: CredentialPlace = CredentialPlace::Header(AUTHORIZATION);
const COOKIE_FIELD: CredentialPlace = CredentialPlace::Header(COOKIE);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Body;

    fn request(uri: &str, fields: &[(&str, &str)]) -> Request {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    fn at(places: &[CredentialPlace]) -> Beside {
        Beside {
            places: places.into(),
            contested: Box::default(),
        }
    }

    fn beside() -> Beside {
        let cookie = CredentialPlace::Cookie("session".into());
        let query = CredentialPlace::Query("token".into());
        at(&[AUTHORIZATION_FIELD, cookie, query])
    }

    #[test]
    fn every_credential_that_granted_nothing_makes_a_difference() {
        let digest = |uri: &str, fields: &[(&str, &str)]| {
            let own = [&AUTHORIZATION_FIELD];
            beside().digest(&own, &request(uri, fields))
        };
        let authorization = ("authorization", "Bearer a");
        assert_eq!(digest("/", &[]), None);
        assert_eq!(digest("/", &[authorization, ("cookie", "a=b")]), None);
        let one = digest("/", &[("cookie", "a=b; session=1")]);
        assert!(one.is_some());
        assert_eq!(one, digest("/", &[("cookie", "session=1"), authorization]));
        assert_ne!(one, digest("/", &[("cookie", "session=2")]));
        assert_ne!(one, digest("/", &[("cookie", "session=1; session=1")]));
        assert_ne!(one, digest("/?token=1", &[]));
    }

    #[test]
    fn all_lines_of_authorization_make_a_difference() {
        let digest = |lines: &[&str]| {
            let fields: Vec<_> = lines.iter().map(|line| ("authorization", *line)).collect();
            beside().digest(&[], &request("/", &fields))
        };
        let all = [
            digest(&[]),
            digest(&["Bearer a"]),
            digest(&["Bearer b"]),
            digest(&["Bearer a", "Bearer b"]),
            digest(&["Bearer b", "Bearer a"]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
        assert_eq!(digest(&["Bearer a"]), all[1]);
    }

    #[test]
    fn crumbs_of_a_cookie_are_one_caller_with_the_whole() {
        let digest = |lines: &[&str]| {
            let fields: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            at(&[COOKIE_FIELD]).digest(&[], &request("/", &fields))
        };
        let whole = digest(&["a=1; b=2"]);
        assert!(whole.is_some());
        assert_eq!(digest(&["a=1", "b=2"]), whole);
        assert_ne!(digest(&["a=1"]), whole);
        assert_ne!(digest(&["b=2", "a=1"]), whole);
    }
}
