//! Keys made for the test, and tokens signed with them: also such as no honest issuer would make.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, jwk::Jwk};
use serde_json::{Value, json};

/// One key pair, or one secret.
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    key: EncodingKey,
    /// The public key in PEM, or the secret.
    pub(crate) public: String,
}

impl Signer {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        if algorithm.family() == AlgorithmFamily::Hmac {
            let secret = format!(
                "a secret for {algorithm:?} of the tests, {}",
                fastrand::u64(..)
            );
            return Self::with_secret(algorithm, &secret);
        }
        let pair = pair(algorithm);
        let private = pair.serialize_pem();
        let private = private.as_bytes();
        let key = match algorithm.family() {
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(private),
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(private),
            _ => EncodingKey::from_ed_pem(private),
        };
        Self {
            algorithm,
            key: key.unwrap(),
            public: pair.public_key_pem(),
        }
    }

    pub(crate) fn with_secret(algorithm: Algorithm, secret: &str) -> Self {
        Self {
            algorithm,
            key: EncodingKey::from_secret(secret.as_bytes()),
            public: secret.to_owned(),
        }
    }

    /// The same key with another algorithm.
    pub(crate) fn using(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// The keys of `[auth.jwt.*]` that name this key.
    pub(crate) fn keys(&self) -> String {
        let kind = match self.algorithm.family() {
            AlgorithmFamily::Hmac => "secret",
            _ => "public_key",
        };
        format!(
            "{kind} = '''{}'''\nalgorithms = '{:?}'",
            self.public, self.algorithm
        )
    }

    /// The public key as a JWK with a name.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let pem = self.public.as_bytes();
        let key = match self.algorithm.family() {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
            _ => DecodingKey::from_ed_pem(pem),
        };
        let jwk = Jwk::from_decoding_key(&key.unwrap(), Some(self.algorithm)).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = id.into();
        jwk
    }

    /// A token with these claims and the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// A token with a name of the key in its header.
    pub(crate) fn named(&self, id: &str, claims: &Value) -> String {
        let mut header = self.header();
        header["kid"] = id.into();
        self.sign(&header, claims)
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "typ": "JWT" })
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token whose signature holds, whatever stands in it.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm);
        format!("{message}.{}", signature.unwrap())
    }
}

fn pair(algorithm: Algorithm) -> rcgen::KeyPair {
    let pair = match algorithm {
        Algorithm::ES256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        Algorithm::ES384 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        Algorithm::EdDSA => rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519),
        _ => rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
    };
    pair.unwrap()
}

pub(crate) fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Claims that are good for an hour.
pub(crate) fn alice() -> Value {
    json!({ "sub": "alice", "exp": now() + 3600 })
}

/// The same with more, or with others in their place.
pub(crate) fn alice_with(more: Value) -> Value {
    with(alice(), more)
}

/// An object with more fields, or with others in their place.
pub(crate) fn with(mut object: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("{more} is no object");
    };
    object.as_object_mut().unwrap().extend(more);
    object
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub(crate) const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
