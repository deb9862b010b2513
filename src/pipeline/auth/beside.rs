//! Credentials that have granted nothing and go on to the upstream all the same.
//!
//! The upstream may take one of them for the caller: an `Authorization` that no method of the route asks
//! for, a token beside the key that was enough, or what another service has let pass as such a subject's.
//! What a cache keeps for a caller (RFC 9111 3.5) may then be nobody's who comes with another, so a digest
//! of them is a part of who the caller is to it.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::{credential, expression::Expression, method::Method};
use crate::{
    config::{CacheScope, CredentialPlace, Route},
    exchange::Request,
};

/// The places at which a route's requests may bring credentials, where callers have answers of their own
/// in a cache; none where they don't, since nobody asks then.
pub(super) struct Beside(Box<[CredentialPlace]>);

/// The places that the credentials which were accepted stand at.
pub(super) type Own<'m> = SmallVec<[&'m CredentialPlace; 2]>;

impl Beside {
    pub(super) fn of(route: &Route, expression: &Expression) -> Self {
        let scope = route.cache.as_ref().and_then(|rule| rule.scope);
        match scope {
            Some(CacheScope::Principal) => Self(places(&expression.methods)),
            Some(CacheScope::Shared) | None => Self(Box::default()),
        }
    }

    /// Where the credentials of those who have granted stand: their principals say all of these. It is
    /// asked before anything is taken out of the request.
    pub(super) fn own<'m>(&self, granted: &'m [Arc<dyn Method>], request: &Request) -> Own<'m> {
        if self.0.is_empty() {
            return Own::new();
        }
        let own = granted.iter();
        own.filter_map(|method| used(method.places(), request))
            .collect()
    }

    /// What stands for all others that are still there, in the same form in every process; `None` for most
    /// requests, which have none.
    pub(super) fn digest(&self, own: &[&CredentialPlace], request: &Request) -> Option<Arc<str>> {
        let is_beside =
            |place: &&CredentialPlace| !own.contains(place) && credential::is_at(request, place);
        let mut beside = self.0.iter().filter(is_beside).peekable();
        beside.peek()?;
        let mut hash = Sha256::new();
        for place in beside {
            add(&mut hash, place.to_string().as_bytes());
            credential::each(request, place, |value: Cow<'_, [u8]>| {
                add(&mut hash, &value);
            });
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
fn places(methods: &[Arc<dyn Method>]) -> Box<[CredentialPlace]> {
    let mut places = vec![AUTHORIZATION_FIELD];
    let read = |method: &Arc<dyn Method>| [method.places(), method.unread()].concat();
    for place in methods.iter().flat_map(read) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.into()
}

/// The one of a method's places at which its accepted credential stands. Of two credentials it accepts
/// none, and `Authorization` alone may hold what is another scheme's: so where there is anything at
/// another place, it is that.
fn used<'m>(places: &'m [CredentialPlace], request: &Request) -> Option<&'m CredentialPlace> {
    let elsewhere = credential::occupied(request, places, &[&AUTHORIZATION_FIELD]);
    elsewhere.or_else(|| credential::occupied(request, places, &[]))
}

/// With its length, so that no two look like one.
fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

const AUTHORIZATION_FIELD: CredentialPlace = CredentialPlace::Header(AUTHORIZATION);

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

    fn beside() -> Beside {
        let cookie = CredentialPlace::Cookie("session".into());
        let query = CredentialPlace::Query("token".into());
        Beside(Box::new([AUTHORIZATION_FIELD, cookie, query]))
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
    fn a_credential_elsewhere_than_in_authorization_is_the_one_that_granted() {
        let key = CredentialPlace::Header(http::HeaderName::from_static("x-api-key"));
        let places = [AUTHORIZATION_FIELD, key.clone()];
        let both = request("/", &[("authorization", "Bearer a"), ("x-api-key", "k")]);
        assert_eq!(used(&places, &both), Some(&key));
        let one = request("/", &[("authorization", "Bearer a")]);
        assert_eq!(used(&places, &one), Some(&AUTHORIZATION_FIELD));
        assert_eq!(used(&[], &both), None);
    }
}
