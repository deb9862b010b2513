//! A token's claims (RFC 7519 4.1), once its signature holds.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::json;
use crate::{
    config::{ClaimPath, Jwt},
    exchange::Reason,
};

/// The claims of one token.
pub(super) struct Claims(Value);

/// When a token may be used, leeway included; since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    from: Duration,
    expires: Duration,
    /// When it is too old, for an issuer with `max_age`.
    ages: Option<Duration>,
}

impl Times {
    /// Whether a token may be used now.
    pub(super) fn check(&self, now: Duration) -> Result<(), Reason> {
        // RFC 7519 4.1.4: not on the moment itself either.
        if now >= self.expires {
            return Err(Reason::JwtExpired);
        }
        if now < self.from {
            return Err(Reason::JwtNotYetValid);
        }
        match self.ages {
            Some(ages) if now >= ages => Err(Reason::JwtTooOld),
            _ => Ok(()),
        }
    }

    /// The first moment at which it may not be used any more.
    pub(super) fn end(&self) -> Duration {
        self.ages
            .map_or(self.expires, |ages| ages.min(self.expires))
    }
}

impl Claims {
    pub(super) fn read(encoded: &str) -> Result<Self, Reason> {
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok();
        let claims = bytes.and_then(|bytes| json::object(&bytes));
        claims
            .map(|claims| Self(Value::Object(claims)))
            .ok_or(Reason::JwtMalformed)
    }

    /// Holds the claims against what is configured.
    pub(super) fn check(&self, config: &Jwt, now: Duration) -> Result<Times, Reason> {
        self.check_issuer(config)?;
        self.check_audience(config)?;
        let times = self.times(config)?;
        times.check(now)?;
        let missing = |path: &&ClaimPath| self.at(path).is_none_or(Value::is_null);
        match config.required_claims.iter().find(missing) {
            Some(_) => Err(Reason::JwtClaimMissing),
            None => Ok(times),
        }
    }

    /// The claim at a path.
    pub(super) fn at(&self, path: &ClaimPath) -> Option<&Value> {
        path.0
            .iter()
            .try_fold(&self.0, |value, name| value.get(&**name))
    }

    /// A claim that has to be a text where it is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Reason> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Reason::JwtMalformed),
        }
    }

    pub(super) fn into_value(self) -> Value {
        self.0
    }

    /// RFC 7519 4.1.1, and RFC 8725 3.8: compared letter by letter.
    fn check_issuer(&self, config: &Jwt) -> Result<(), Reason> {
        let issuer = self.text("iss")?;
        match &config.issuer {
            Some(wanted) if issuer != Some(wanted) => Err(Reason::JwtWrongIssuer),
            _ => Ok(()),
        }
    }

    /// RFC 7519 4.1.3: a token with an audience is for nobody else.
    fn check_audience(&self, config: &Jwt) -> Result<(), Reason> {
        let wanted = |one: &str| config.audience.iter().any(|known| **known == *one);
        let is_meant = match self.0.get("aud") {
            None => config.audience.is_empty(),
            Some(Value::String(one)) => wanted(one),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
                texts.ok_or(Reason::JwtMalformed)?.into_iter().any(wanted)
            }
            Some(_) => return Err(Reason::JwtMalformed),
        };
        is_meant.then_some(()).ok_or(Reason::JwtWrongAudience)
    }

    fn times(&self, config: &Jwt) -> Result<Times, Reason> {
        let leeway = config.leeway;
        let expires = self.time("exp")?.ok_or(Reason::JwtClaimMissing)?;
        let not_before = self.time("nbf")?.unwrap_or_default();
        let issued = self.time("iat")?;
        let ages = match (config.max_age, issued) {
            (None, _) => None,
            (Some(age), Some(issued)) => Some(issued + age + leeway),
            (Some(_), None) => return Err(Reason::JwtClaimMissing),
        };
        Ok(Times {
            // A token from the future says that a clock is wrong, or somebody made it in advance.
            from: not_before
                .max(issued.unwrap_or_default())
                .saturating_sub(leeway),
            expires: expires + leeway,
            ages,
        })
    }

    /// A NumericDate, as a whole number only: what a text, a fraction or a number beyond the
    /// calendar means is not for us to guess.
    fn time(&self, name: &str) -> Result<Option<Duration>, Reason> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let seconds = value.as_u64().filter(|seconds| *seconds <= LATEST);
        seconds
            .map(|seconds| Some(Duration::from_secs(seconds)))
            .ok_or(Reason::JwtMalformed)
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(claims: Map<String, Value>) -> Self {
        Self(Value::Object(claims))
    }
}

/// The end of the year 9999: no sum with it overflows.
const LATEST: u64 = 253_402_300_799;
