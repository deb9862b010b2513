//! Keys that signatures are verified with: out of a secret, a PEM, or a JWK set (RFC 7517).
//!
//! A key says itself which algorithms it may be used with, out of those that the issuer is
//! configured for. A token chooses among these and never beyond: that a public RSA key could serve
//! as the secret of an HMAC (RFC 8725 2.1) has no way to happen.

use std::{fmt, sync::Arc};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde_json::Value;

use crate::config::Secret;

/// The keys of one issuer at one time.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<Arc<VerificationKey>>,
}

/// One key.
pub struct VerificationKey {
    /// Its name. A key without one takes tokens with any name if it is the only key by
    /// configuration (a secret, a PEM), and only tokens without a name in a JWK set.
    pub id: Option<Box<str>>,
    /// What it may be used with; never empty.
    pub algorithms: Vec<Algorithm>,
    /// The key itself.
    pub key: DecodingKey,
    any_id: bool,
}

impl KeySet {
    /// The key of an HMAC.
    #[must_use]
    pub fn from_secret(secret: &str, algorithms: &[Algorithm]) -> Self {
        let key = DecodingKey::from_secret(secret.as_bytes());
        Self::only(key, of_family(algorithms, AlgorithmFamily::Hmac))
    }

    /// A public key in PEM.
    ///
    /// # Errors
    ///
    /// When it is none, is a private key, or fits none of the algorithms. The message does not
    /// quote.
    pub fn from_pem(pem: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        if pem.contains("PRIVATE KEY") {
            return Err("this is a private key: give the gateway the public one".to_owned());
        }
        if pem.contains("CERTIFICATE") {
            let help =
                "this is a certificate: `openssl x509 -pubkey -noout -in FILE` prints its key";
            return Err(help.to_owned());
        }
        let bytes = pem.as_bytes();
        let key = DecodingKey::from_ec_pem(bytes)
            .or_else(|_| DecodingKey::from_ed_pem(bytes))
            .or_else(|_| DecodingKey::from_rsa_pem(bytes))
            .map_err(|_| "this is no public key of RSA, EC or Ed25519 in PEM".to_owned())?;
        let fitting = fitting(&key, algorithms);
        if fitting.is_empty() {
            return Err(format!(
                "the key fits none of the algorithms {}",
                listed(algorithms)
            ));
        }
        Ok(Self::only(key, fitting))
    }

    /// A JWK set. Keys that are not for verifying, or fit none of the algorithms, are left out.
    ///
    /// # Errors
    ///
    /// When it is none, or no key is left. The message does not quote.
    pub fn from_jwks(text: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        Self::read(text, algorithms, true)
    }

    /// A JWK set that came over the network: public keys only. A secret that stands at a URL is
    /// none, and whoever can read it could sign.
    ///
    /// # Errors
    ///
    /// As [`from_jwks`](Self::from_jwks).
    pub fn from_fetched_jwks(text: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        Self::read(text, algorithms, false)
    }

    fn read(text: &str, algorithms: &[Algorithm], secrets: bool) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
        let list = value.get("keys").and_then(Value::as_array);
        let list = list.ok_or("a JWK set has a list `keys`")?;
        if list.len() > MOST_KEYS {
            return Err(format!("the JWK set has more than {MOST_KEYS} keys"));
        }
        let read = list.iter().filter_map(|jwk| from_jwk(jwk, algorithms));
        let usable = |key: &VerificationKey| secrets || key.key.family() != AlgorithmFamily::Hmac;
        let keys = without_ambiguous(read.filter(usable).collect());
        if keys.is_empty() {
            return Err(format!(
                "the JWK set has no key for the algorithms {}",
                listed(algorithms)
            ));
        }
        Ok(Self {
            keys: keys.into_iter().map(Arc::new).collect(),
        })
    }

    fn only(key: DecodingKey, algorithms: Vec<Algorithm>) -> Self {
        let key = VerificationKey {
            id: None,
            algorithms,
            key,
            any_id: true,
        };
        Self {
            keys: vec![Arc::new(key)],
        }
    }

    /// The secret, where the key is one: for signing tokens to try things with.
    #[must_use]
    pub fn secret(&self) -> Option<Secret> {
        let [only] = &self.keys[..] else { return None };
        let is_hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        let given = only.any_id && only.algorithms.iter().all(is_hmac);
        let DecodingKeyKind::SecretOrDer(secret) = only.key.kind() else {
            return None;
        };
        let secret = std::str::from_utf8(secret).ok()?;
        given.then(|| Secret::new(secret))
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[Arc<VerificationKey>] {
        &self.keys
    }

    /// The keys that a token may be signed with: usually one, more when neither has a name.
    pub fn find<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a Arc<VerificationKey>> {
        let fits = move |key: &&Arc<VerificationKey>| {
            let named = match id {
                Some(id) => key.id.as_deref() == Some(id),
                // RFC 7515 4.1.4: `kid` is a hint, and optional.
                None => true,
            };
            (named || key.any_id) && key.algorithms.contains(&algorithm)
        };
        self.keys.iter().filter(fits)
    }
}

/// In whatever order they stand.
impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        let is_in = |key: &Arc<VerificationKey>| other.keys.contains(key);
        self.keys.len() == other.keys.len() && self.keys.iter().all(is_in)
    }
}

impl PartialEq for VerificationKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.any_id == other.any_id
            && self.algorithms == other.algorithms
            && is_same(&self.key, &other.key)
    }
}

/// Shows no key.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// A list of algorithms for a sentence.
fn listed(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms.iter().map(|one| format!("{one:?}")).collect();
    names.join(", ")
}

pub(super) fn of_family(algorithms: &[Algorithm], family: AlgorithmFamily) -> Vec<Algorithm> {
    let all = algorithms.iter().copied();
    all.filter(|one| one.family() == family).collect()
}

/// The algorithms that a key can be used with. The curve of an EC key decides (RFC 7518 3.4): its
/// point is 65 bytes long on P-256 and 97 on P-384.
fn fitting(key: &DecodingKey, algorithms: &[Algorithm]) -> Vec<Algorithm> {
    let mut fitting = of_family(algorithms, key.family());
    if key.family() == AlgorithmFamily::Ec {
        let curve = match key.try_get_as_bytes().map(<[u8]>::len) {
            Ok(65) => Some(Algorithm::ES256),
            Ok(97) => Some(Algorithm::ES384),
            _ => None,
        };
        fitting.retain(|one| Some(*one) == curve);
    }
    fitting
}

/// A key of a set, unless it is of a kind or for a use that we don't have.
fn from_jwk(value: &Value, algorithms: &[Algorithm]) -> Option<VerificationKey> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    if !is_for_verifying(&jwk) || !is_curve_known(&jwk) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    if key.family() == AlgorithmFamily::Hmac && key.try_get_as_bytes().ok()?.len() < SHORTEST_SECRET
    {
        return None;
    }
    if !is_strong(&key) {
        return None;
    }
    let mut algorithms = fitting(&key, algorithms);
    if let Some(own) = jwk.common.key_algorithm {
        let own: Algorithm = own.to_string().parse().ok()?;
        algorithms.retain(|one| *one == own);
    }
    (!algorithms.is_empty()).then(|| VerificationKey {
        id: jwk.common.key_id.map(Into::into),
        algorithms,
        key,
        any_id: false,
    })
}

/// Takes out keys that share a name and an algorithm with another: which of them the issuer means
/// can't be told, and one of them may be one that it no longer has. The same key twice is one.
fn without_ambiguous(keys: Vec<VerificationKey>) -> Vec<VerificationKey> {
    let mut unique: Vec<VerificationKey> = Vec::with_capacity(keys.len());
    for key in keys {
        if !unique.contains(&key) {
            unique.push(key);
        }
    }
    let is_ambiguous = |key| unique.iter().any(|other| are_rivals(key, other));
    let ambiguous: Vec<bool> = unique.iter().map(is_ambiguous).collect();
    let kept = unique.into_iter().zip(ambiguous);
    kept.filter_map(|(key, ambiguous)| (!ambiguous).then_some(key))
        .collect()
}

fn are_rivals(one: &VerificationKey, other: &VerificationKey) -> bool {
    let mut shared = one.algorithms.iter();
    one.id.is_some()
        && one.id == other.id
        && shared.any(|algorithm| other.algorithms.contains(algorithm))
        && one != other
}

/// RFC 7518 3.3 asks for 2048 bits; the upper bound is that of the library, and of the time that a
/// verification takes.
fn is_strong(key: &DecodingKey) -> bool {
    let DecodingKeyKind::RsaModulusExponent { n, .. } = key.kind() else {
        return true;
    };
    let zeros = n.iter().take_while(|byte| **byte == 0).count();
    let bits = n.get(zeros).map_or(0, |first| {
        8 * (n.len() - zeros) - first.leading_zeros() as usize
    });
    (2048..=8192).contains(&bits)
}

fn is_same(one: &DecodingKey, other: &DecodingKey) -> bool {
    use DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    let material = match (one.kind(), other.kind()) {
        (SecretOrDer(one), SecretOrDer(other)) => one == other,
        (RsaModulusExponent { n: n1, e: e1 }, RsaModulusExponent { n: n2, e: e2 }) => {
            n1 == n2 && e1 == e2
        }
        _ => false,
    };
    one.family() == other.family() && material
}

/// RFC 7517 4.2 and 4.3.
fn is_for_verifying(jwk: &Jwk) -> bool {
    let signature = |usage: &PublicKeyUse| *usage == PublicKeyUse::Signature;
    let verify = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
    jwk.common.public_key_use.as_ref().is_none_or(signature)
        && jwk.common.key_operations.as_ref().is_none_or(verify)
}

fn is_curve_known(jwk: &Jwk) -> bool {
    match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) => pair.curve == EllipticCurve::Ed25519,
        AlgorithmParameters::EllipticCurve(key) => {
            matches!(key.curve, EllipticCurve::P256 | EllipticCurve::P384)
        }
        _ => true,
    }
}

/// RFC 7518 3.2: as long as the hash, at least that of HS256.
pub(super) const SHORTEST_SECRET: usize = 32;
/// A set of more is not a set of one issuer's keys.
const MOST_KEYS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 2048 bits; no such key could sign.
    const MODULUS: &str = concat!(
        "_____________________________________________________________________________________",
        "_____________________________________________________________________________________",
        "_____________________________________________________________________________________",
        "______________________________________________________________________________________w",
    );
    const RSA: &str = r#"{"kty":"RSA","kid":"a","e":"AQAB","n":"MODULUS""#;

    fn set(keys: &str) -> Result<KeySet, String> {
        let all = [Algorithm::RS256, Algorithm::PS256, Algorithm::HS256];
        let text = format!("{{\"keys\":[{keys}]}}").replace("MODULUS", MODULUS);
        KeySet::from_jwks(&text, &all)
    }

    #[test]
    fn a_key_of_a_set_is_used_for_what_it_says_only() {
        let keys = set(&format!("{RSA}}}")).unwrap();
        assert_eq!(keys.find(Some("a"), Algorithm::RS256).count(), 1);
        assert_eq!(keys.find(Some("a"), Algorithm::PS256).count(), 1);
        assert_eq!(keys.find(Some("a"), Algorithm::HS256).count(), 0);
        assert_eq!(keys.find(Some("b"), Algorithm::RS256).count(), 0);
        assert_eq!(keys.find(None, Algorithm::RS256).count(), 1);
        let keys = set(&format!("{RSA},\"alg\":\"RS256\",\"use\":\"sig\"}}")).unwrap();
        assert_eq!(keys.find(Some("a"), Algorithm::PS256).count(), 0);
    }

    #[test]
    fn what_is_not_for_verifying_is_left_out() {
        for more in [
            ",\"use\":\"enc\"}",
            ",\"key_ops\":[\"encrypt\"]}",
            ",\"alg\":\"RSA-OAEP\"}",
            ",\"alg\":\"RS512\"}",
        ] {
            assert!(set(&format!("{RSA}{more}")).is_err(), "{more}");
        }
        assert!(set(r#"{"kty":"oct","k":"c2hvcnQ"}"#).is_err());
        assert!(set(r#"{"kty":"unheard-of"}"#).is_err());
        assert!(set("").is_err());
        assert!(KeySet::from_jwks("[]", &[Algorithm::RS256]).is_err());
    }

    #[test]
    fn a_key_that_cannot_be_used_does_not_spoil_its_set() {
        let keys = set(&format!("{{\"kty\":\"x\"}},7,{RSA}}}")).unwrap();
        assert_eq!(keys.keys().len(), 1);
    }

    #[test]
    fn keys_that_share_a_name_and_an_algorithm_are_not_used() {
        let other = RSA.replace("AQAB", "Aw");
        let p256 = r#"{"kty":"EC","crv":"P-256","kid":"a","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
        assert_eq!(set(&format!("{RSA}}},{RSA}}}")).unwrap().keys().len(), 1);
        assert!(set(&format!("{RSA}}},{other}}}")).is_err());
        let named = other.replace("\"kid\":\"a\"", "\"kid\":\"b\"");
        assert_eq!(set(&format!("{RSA}}},{named}}}")).unwrap().keys().len(), 2);
        // RFC 7517 4.5: one name for keys of different kinds is allowed.
        let all = [Algorithm::RS256, Algorithm::ES256];
        let text = format!("{{\"keys\":[{RSA}}},{p256}]}}").replace("MODULUS", MODULUS);
        assert_eq!(KeySet::from_jwks(&text, &all).unwrap().keys().len(), 2);
    }

    #[test]
    fn rsa_keys_must_be_long_enough_and_not_too_long() {
        let of = |modulus: &str| set(&format!("{RSA}}}").replace("MODULUS", modulus)).is_ok();
        assert!(!of("AQAB"));
        // A zero in front makes a number of 2040 bits no longer.
        assert!(!of(&format!("AP{}", &MODULUS[2..])));
        assert!(!of(&MODULUS.repeat(5).replace('w', "_")));
        assert!(!of(""));
    }

    #[test]
    fn secrets_are_taken_from_files_and_not_from_the_network() {
        let text = format!(
            r#"{{"keys":[{{"kty":"oct","kid":"s","k":"{}"}}]}}"#,
            "A".repeat(43)
        );
        let all = [Algorithm::HS256];
        assert!(KeySet::from_jwks(&text, &all).is_ok());
        assert!(KeySet::from_fetched_jwks(&text, &all).is_err());
    }

    #[test]
    fn sets_are_equal_when_their_keys_are_in_whatever_order() {
        let other = RSA.replace("\"a\"", "\"b\"");
        let one = set(&format!("{RSA}}},{other}}}")).unwrap();
        assert_eq!(
            one,
            set(&format!("{other}}}, {RSA},\"x5t\":\"new\"}}")).unwrap()
        );
        assert_ne!(one, set(&format!("{RSA}}}")).unwrap());
        assert_ne!(
            one,
            set(&format!("{RSA}}},{other},\"alg\":\"RS256\"}}")).unwrap()
        );
    }

    #[test]
    fn a_set_of_too_many_keys_is_refused() {
        let many = vec![format!("{RSA}}}"); MOST_KEYS + 1].join(",");
        assert!(set(&many).unwrap_err().contains("more than"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_key_set_panic(text: String, member: String) {
            let _ = KeySet::from_jwks(&text, &[Algorithm::RS256]);
            let _ = set(&format!("{RSA},{}:1}}", Value::from(member)));
        }
    }

    #[test]
    fn keys_are_never_shown() {
        let keys = KeySet::from_secret("a secret of thirty-two characters", &[Algorithm::HS256]);
        assert!(!format!("{keys:?}").contains("thirty"));
    }
}
