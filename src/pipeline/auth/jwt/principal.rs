//! Who a token names, and what the upstream is told of it.

use std::{collections::BTreeMap, time::SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::claims::{Claims, Times};
use crate::{
    config::{ClaimPath, Jwt},
    exchange::{Principal, Reason, fields::exact_value},
};

/// A principal without its claims, which are still being read.
pub(super) struct Unclaimed(Principal);

impl Unclaimed {
    pub(super) fn with_claims(mut self, claims: Claims) -> Principal {
        self.0.claims = claims.into_value();
        self.0.caller = format!("{}\n{}", self.0.name, said(&self.0.claims)).into();
        self.0
    }
}

/// A digest of what a token says, but for when and which one it is: a new one that says the same is of
/// the same caller.
fn said(claims: &Value) -> String {
    let claims = claims.as_object().into_iter().flatten();
    let said: BTreeMap<_, _> = claims
        .filter(|(name, _)| !OF_ONE_TOKEN.contains(&name.as_str()))
        .collect();
    // Names are texts, so this does not fail.
    let said = serde_json::to_vec(&said).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(&Sha256::digest(said)[..DIGEST])
}

/// Who calls. A token without a subject names nobody: all of them together would be one caller, who
/// shares one limit and one cache.
pub(super) fn principal(config: &Jwt, claims: &Claims, times: &Times) -> Result<Unclaimed, Reason> {
    let subject = match claims.at(&config.subject_claim) {
        Some(Value::String(subject)) if !subject.is_empty() => subject,
        None | Some(Value::Null) => return Err(Reason::JwtClaimMissing),
        Some(_) => return Err(Reason::JwtMalformed),
    };
    let mut principal = Principal::new(&config.name, subject);
    principal.roles = words(claims, config.roles_claim.as_ref());
    principal.permissions = words(claims, config.permissions_claim.as_ref());
    principal.expires = SystemTime::UNIX_EPOCH.checked_add(times.end());
    Ok(Unclaimed(principal))
}

/// The headers that show claims to the upstream. A claim that is not there, or that can't stand in
/// a header as it is, has none; what the client sent has been taken out already.
pub(super) fn headers(config: &Jwt, claims: &Claims) -> Box<[(HeaderName, HeaderValue)]> {
    let shown = config.forward_claims.iter().filter_map(|(name, path)| {
        let value = value(claims.at(path)?)?;
        Some((name.clone(), value))
    });
    shown.collect()
}

/// Roles and permissions: a list of texts, or one text with spaces between them (RFC 8693 4.2).
/// Whatever else stands there grants nothing.
fn words(claims: &Claims, path: Option<&ClaimPath>) -> Box<[Box<str>]> {
    match path.and_then(|path| claims.at(path)) {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(Into::into).collect(),
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(Value::as_str)
            .map(Into::into)
            .collect(),
        _ => Box::default(),
    }
}

fn value(claim: &Value) -> Option<HeaderValue> {
    match claim {
        Value::Array(list) => {
            let members: Option<Vec<_>> = list.iter().map(member).collect();
            exact_value(&members?.join(","))
        }
        claim => exact_value(&scalar(claim)?),
    }
}

/// A member with a comma in it would be two.
fn member(claim: &Value) -> Option<String> {
    scalar(claim).filter(|text| !text.contains(',') && !text.is_empty())
}

fn scalar(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// When a token was made and holds, and which one it is (RFC 7519 4.1.4 to 4.1.7).
const OF_ONE_TOKEN: [&str; 4] = ["exp", "nbf", "iat", "jti"];
/// Bytes of a digest that tell callers apart.
const DIGEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(claim: &Value) -> Option<String> {
        value(claim).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_token_is_of_another_caller_when_it_says_something_else() {
        let one = json!({ "sub": "a", "scope": "read", "exp": 1, "iat": 1, "jti": "x" });
        let renewed = json!({ "scope": "read", "sub": "a", "exp": 9, "nbf": 5, "jti": "y" });
        assert_eq!(said(&one), said(&renewed));
        for other in [
            json!({ "sub": "a", "scope": "read write" }),
            json!({ "sub": "a" }),
            json!({ "sub": "a", "scope": ["read"] }),
            json!({ "sub": "a", "scope": "read", "tenant": null }),
        ] {
            assert_ne!(said(&one), said(&other), "{other}");
        }
    }

    #[test]
    fn a_claim_is_shown_when_it_can_stand_in_a_header_as_it_is() {
        assert_eq!(shown(&json!("alice")).as_deref(), Some("alice"));
        assert_eq!(shown(&json!(7)).as_deref(), Some("7"));
        assert_eq!(shown(&json!(true)).as_deref(), Some("true"));
        assert_eq!(shown(&json!(["a", 1])).as_deref(), Some("a,1"));
    }

    #[test]
    fn a_claim_that_a_header_would_change_is_not_shown() {
        for claim in [
            json!("a\r\nx-admin: 1"),
            json!("a\nb"),
            json!(" admin"),
            json!("admin "),
            json!(""),
            json!("J\u{f6}rg"),
            json!("\u{7f}"),
            json!(null),
            json!({ "a": 1 }),
            json!(["a,b"]),
            json!(["a", ["b"]]),
            json!([""]),
            json!([]),
        ] {
            assert_eq!(shown(&claim), None, "{claim}");
        }
    }
}
