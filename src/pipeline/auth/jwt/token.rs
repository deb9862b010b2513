//! A token where it stands in a request, and its parts.

use std::borrow::Cow;

use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

use super::super::credential;
use crate::{
    config::CredentialPlace,
    exchange::{Reason, Request},
};

/// A token as it came.
pub(super) struct Token<'r>(Cow<'r, str>);

/// The parts of a token in compact form (RFC 7515 3.1).
pub(super) struct Parts<'t> {
    pub(super) header: &'t str,
    pub(super) claims: &'t str,
    pub(super) signature: &'t str,
    /// What is signed: header, dot, claims.
    pub(super) message: &'t str,
}

impl Token<'_> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_owned(self) -> Token<'static> {
        Token(Cow::Owned(self.0.into_owned()))
    }

    /// What it is remembered by: nobody can make another token with the same.
    pub(super) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// Three parts, neither fewer (a token without a signature) nor more (one that is encrypted).
    pub(super) fn parts(&self) -> Option<Parts<'_>> {
        let (message, signature) = self.0.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        (!claims.contains('.')).then_some(Parts {
            header,
            claims,
            signature,
            message,
        })
    }
}

/// Finds the token at one of its places that is not used. RFC 6750 2: a client must not send it in more
/// than one way.
pub(super) fn find<'r>(
    request: &'r Request,
    places: &[CredentialPlace],
    used: &[&CredentialPlace],
) -> Result<Option<Token<'r>>, Reason> {
    credential::find_only(request, places, used, token)
}

/// Whether what stands at a place is for us: an Authorization field may be of another scheme.
pub(super) fn is_ours(request: &Request, place: &CredentialPlace) -> bool {
    match place {
        CredentialPlace::Header(name) if *name == AUTHORIZATION => {
            let mut values = request.headers().get_all(name).iter();
            values.all(|value| bearer(value.as_bytes()).is_some())
        }
        _ => true,
    }
}

/// `None` when it is a credential of another scheme.
fn token<'r>(value: Cow<'r, [u8]>, place: &CredentialPlace) -> Result<Option<Token<'r>>, Reason> {
    let bare = match (&value, place) {
        (_, CredentialPlace::Header(name)) => match bearer(&value) {
            Some(token) => Some(value.len() - token.len()),
            None if *name == AUTHORIZATION => None,
            None => Some(0),
        },
        _ => Some(0),
    };
    let Some(start) = bare else { return Ok(None) };
    let text = match value {
        Cow::Borrowed(bytes) => std::str::from_utf8(&bytes[start..]).map(Cow::Borrowed).ok(),
        Cow::Owned(mut bytes) => String::from_utf8(bytes.split_off(start))
            .map(Cow::Owned)
            .ok(),
    };
    text.map(|text| Some(Token(text)))
        .ok_or(Reason::JwtMalformed)
}

/// What follows `Bearer` (RFC 6750 2.1); the scheme's case makes no difference (RFC 9110 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    match rest.first() {
        None => Some(rest),
        Some(b' ') => Some(rest.trim_ascii_start()),
        Some(_) => None,
    }
}

const SCHEME: &[u8] = b"bearer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_follows_its_scheme() {
        assert_eq!(bearer(b"Bearer a.b.c"), Some(&b"a.b.c"[..]));
        assert_eq!(bearer(b"bEARER   a"), Some(&b"a"[..]));
        assert_eq!(bearer(b"Bearer"), Some(&b""[..]));
        assert_eq!(bearer(b"Bearera.b.c"), None);
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b""), None);
    }

    #[test]
    fn a_token_has_three_parts() {
        let parts = |text| Token(Cow::Borrowed(text)).parts().is_some();
        assert!(parts("a.b.c"));
        assert!(parts("a.b."));
        assert!(!parts("a.b"));
        assert!(!parts("a.b.c.d"));
        assert!(!parts("a.b.c.d.e"));
        assert!(!parts(""));
    }
}
