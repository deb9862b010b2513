//! User and password as a request has them.

use std::hash::{BuildHasher, RandomState};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};

use crate::exchange::{Reason, Request};

/// A user and a password. There is no `Debug`: a password is not shown.
pub(super) struct Credentials {
    pub(super) user: Box<str>,
    pub(super) password: Box<str>,
}

/// What user and password are remembered by.
pub(super) type Digest = [u8; 32];

/// Makes digests that nobody outside of this process can.
pub(super) struct Secret([u8; 32]);

impl Credentials {
    /// `None` when Authorization has another scheme or is not there.
    pub(super) fn of(request: &Request) -> Result<Option<Self>, Reason> {
        let mut values = request.headers().get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Reason::AuthAmbiguous);
        }
        let Some(encoded) = basic(value.as_bytes()) else {
            return Ok(None);
        };
        decoded(encoded).map(Some).ok_or(Reason::BasicMalformed)
    }
}

/// What follows the scheme, whose case does not matter (RFC 9110 11.1).
fn basic(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let ours = scheme.eq_ignore_ascii_case(SCHEME);
    let separated = rest.is_empty() || rest[0] == b' ';
    (ours && separated).then(|| rest.trim_ascii())
}

/// RFC 7617 2: base64 of `user:password`. The first colon ends the user, who has none; the password
/// may have more. Control characters are allowed in neither.
fn decoded(encoded: &[u8]) -> Option<Credentials> {
    if encoded.len() > LONGEST {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    let sane = !user.is_empty() && !text.chars().any(char::is_control);
    sane.then(|| Credentials {
        user: user.into(),
        password: password.into(),
    })
}

impl Secret {
    /// From the randomness that hash maps get from the system.
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        let mut secret = [0; 32];
        for (number, part) in (0_u8..).zip(secret.chunks_exact_mut(8)) {
            part.copy_from_slice(&random.hash_one(number).to_le_bytes());
        }
        Self(secret)
    }

    pub(super) fn digest(&self, credentials: &Credentials) -> Digest {
        let Credentials { user, password } = credentials;
        let hash = Sha256::new()
            .chain_update(self.0)
            // A user has no colon: no other user and password give the same text.
            .chain_update(user.as_bytes())
            .chain_update(b":")
            .chain_update(password.as_bytes());
        hash.finalize().into()
    }
}

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const SCHEME: &[u8] = b"Basic";
/// Of the base64 text, in bytes. No hash should be asked for more.
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Body;

    fn read(values: &[&str]) -> Result<Option<(String, String)>, Reason> {
        let mut request = http::Request::builder();
        for value in values {
            request = request.header("authorization", *value);
        }
        let read = Credentials::of(&request.body(Body::empty()).unwrap())?;
        Ok(read.map(|it| (it.user.into(), it.password.into())))
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    fn pair(user: &str, password: &str) -> Result<Option<(String, String)>, Reason> {
        Ok(Some((user.to_owned(), password.to_owned())))
    }

    #[test]
    fn the_first_colon_ends_the_user() {
        assert_eq!(read(&[&basic("alice:secret")]), pair("alice", "secret"));
        assert_eq!(read(&[&basic("alice:a:b:")]), pair("alice", "a:b:"));
        assert_eq!(read(&[&basic("alice:")]), pair("alice", ""));
        assert_eq!(read(&[&basic("jürgen:päss")]), pair("jürgen", "päss"));
        assert_eq!(read(&["bAsIc  YTpi"]), pair("a", "b"));
        assert_eq!(read(&["Basic YTpiYw"]), pair("a", "bc"));
    }

    #[test]
    fn what_is_no_user_and_password_is_malformed() {
        let long = basic(&format!("a:{}", "b".repeat(2000)));
        for value in [
            "Basic",
            "Basic ",
            "Basic a:b",
            "Basic !!!!",
            &basic("alice"),
            &basic(":secret"),
            &basic("alice:se\ncret"),
            &basic("al\0ice:secret"),
            "Basic /zov",
            &long,
        ] {
            assert_eq!(read(&[value]), Err(Reason::BasicMalformed), "{value}");
        }
    }

    #[test]
    fn other_schemes_are_no_business_of_ours_and_two_fields_are_ambiguous() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer YTpi"]), Ok(None));
        assert_eq!(read(&["Basically YTpi"]), Ok(None));
        assert_eq!(
            read(&["Basic YTpi", "Bearer x"]),
            Err(Reason::AuthAmbiguous)
        );
    }

    #[test]
    fn digests_differ_by_user_password_and_process() {
        let credentials = |user: &str, password: &str| Credentials {
            user: user.into(),
            password: password.into(),
        };
        let secret = Secret::random();
        let one = secret.digest(&credentials("a", "b:c"));
        assert_eq!(one, secret.digest(&credentials("a", "b:c")));
        assert_ne!(one, secret.digest(&credentials("a", "b:d")));
        assert_ne!(one, Secret::random().digest(&credentials("a", "b:c")));
    }
}
