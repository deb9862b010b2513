//! A token's header (RFC 7515 4).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::json;
use crate::{config::Jwt, exchange::Reason};

/// What of a token's header counts. `jku`, `jwk`, `x5u` and `x5c` would name or bring the key to
/// verify with: they are not even read.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
}

impl Header {
    /// Reads a header and holds it against what the issuer is configured for.
    pub(super) fn read(encoded: &str, config: &Jwt) -> Result<Self, Reason> {
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok();
        let mut fields = bytes
            .and_then(|bytes| json::object(&bytes))
            .ok_or(Reason::JwtMalformed)?;
        // RFC 7515 4.1.11: what is not understood and critical makes the token invalid. We
        // understand no extension.
        if fields.contains_key("crit") {
            return Err(Reason::JwtCritical);
        }
        let algorithm = algorithm(fields.get("alg"), config)?;
        check_type(fields.get("typ"), config)?;
        let key_id = match fields.remove("kid") {
            None => None,
            Some(Value::String(id)) => Some(id),
            Some(_) => return Err(Reason::JwtMalformed),
        };
        Ok(Self { algorithm, key_id })
    }
}

/// `none` is in no list, in whatever case: names are compared letter by letter.
fn algorithm(field: Option<&Value>, config: &Jwt) -> Result<Algorithm, Reason> {
    let Some(Value::String(name)) = field else {
        return Err(Reason::JwtMalformed);
    };
    let known = name.parse().ok();
    known
        .filter(|algorithm| config.algorithms.contains(algorithm))
        .ok_or(Reason::JwtWrongAlgorithm)
}

/// RFC 8725 3.11: a token of another kind (a logout, a proof of possession) must not pass as one
/// that grants access.
fn check_type(field: Option<&Value>, config: &Jwt) -> Result<(), Reason> {
    let accepted = |typ: &str| match &config.types[..] {
        [] => ["jwt", "at+jwt"].contains(&typ),
        types => types.iter().any(|accepted| **accepted == *typ),
    };
    match field {
        None if config.types.is_empty() => Ok(()),
        Some(Value::String(typ)) => {
            let lower = typ.to_ascii_lowercase();
            let typ = lower.strip_prefix("application/").unwrap_or(&lower);
            accepted(typ).then_some(()).ok_or(Reason::JwtWrongType)
        }
        None => Err(Reason::JwtWrongType),
        Some(_) => Err(Reason::JwtMalformed),
    }
}
