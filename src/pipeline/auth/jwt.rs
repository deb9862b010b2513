//! Signed tokens (JWT, RFC 7519), with the advice of RFC 8725.
//!
//! What a token says about itself is not believed: the algorithm, the key and the type have to be
//! ones that the issuer is configured for, a key embedded in the token or named by a URL is never
//! looked at, and nothing in the token is read before its signature holds, except its header. Then
//! its form is taken strictly: a claim that stands there twice, or a time that is no whole number,
//! has a meaning here and another one in the next reader.
//!
//! A verified token is remembered by its hash, so that the next request with it costs a look-up.
//! Times, the generation of the issuer's keys and revocation are checked at each request.

mod claims;
mod header;
mod json;
pub mod keys;
mod memory;
mod principal;
pub mod revocation;
mod token;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use smallvec::SmallVec;

use super::{
    challenge::bearer,
    credential,
    method::{Grant, Method, Refusal, Verdict},
};
use crate::{
    config::{CredentialPlace, Jwt, VerificationKey},
    exchange::{Context, Reason, Request},
    pipeline::Tools,
    telemetry::Metrics,
};
use claims::Claims;
use header::Header;
use keys::{KeySource, Lookup};
use memory::{Foreign, Known, Memory, Remembered};
use revocation::{Revocation, Revocations};
use token::{Parts, Token};

/// One `[auth.jwt.NAME]`.
pub struct JwtMethod(Arc<Issuer>);

struct Issuer {
    config: Jwt,
    keys: Arc<dyn KeySource>,
    revocations: Option<Arc<dyn Revocations>>,
    memory: Option<Memory>,
}

impl JwtMethod {
    /// The method with its keys; those that have to be fetched are not waited for.
    #[must_use]
    pub fn from_config(config: &Jwt, tools: &Tools) -> Self {
        Self::with(
            config,
            keys::source(config, tools),
            revocation::revocations(config, tools),
            &tools.metrics,
        )
    }

    /// The method with keys and revocations from elsewhere.
    #[must_use]
    pub fn with(
        config: &Jwt,
        keys: Arc<dyn KeySource>,
        revocations: Option<Arc<dyn Revocations>>,
        metrics: &Metrics,
    ) -> Self {
        Self(Arc::new(Issuer {
            keys,
            revocations,
            memory: config
                .remember
                .map(|bytes| Memory::new(bytes, metrics.memory(&config.name))),
            config: config.clone(),
        }))
    }
}

impl Method for JwtMethod {
    fn name(&self) -> &Arc<str> {
        &self.0.config.name
    }

    fn check_beside(
        &self,
        used: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Verdict {
        let token = match token::find(request, &self.0.config.from, used) {
            Ok(Some(token)) => token,
            Ok(None) => return Verdict::Absent,
            Err(reason) => return Verdict::refused(reason),
        };
        if token.len() > self.0.config.max_size {
            return Verdict::refused(Reason::JwtTooLarge);
        }
        let now = since_epoch(context.started_at);
        match self.0.remembered(&token, now) {
            Some(verdict) => verdict,
            None => self.first_sight(token, now),
        }
    }

    fn challenge(&self, refused: Option<Reason>) -> Option<HeaderValue> {
        bearer(refused)
    }

    fn strip(&self, request: &mut Request) {
        for place in &self.0.config.from {
            if token::is_ours(request, place) {
                credential::strip(request, place);
            }
        }
    }

    fn forwards_credentials(&self) -> bool {
        self.0.config.forward_credentials
    }

    fn places(&self) -> &[CredentialPlace] {
        &self.0.config.from
    }

    fn reads(&self, place: &CredentialPlace, request: &Request) -> bool {
        token::is_ours(request, place)
    }

    /// A token that was verified before; to guess one is to forge a signature.
    fn recall(
        &self,
        used: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Option<Arc<Grant>> {
        let token = token::find(request, &self.0.config.from, used).ok()??;
        match self.0.remembered(&token, since_epoch(context.started_at))? {
            Verdict::Granted(grant) => Some(grant),
            _ => None,
        }
    }
}

impl JwtMethod {
    /// Verifies a token that is not remembered.
    fn first_sight(&self, token: Token<'_>, now: Duration) -> Verdict {
        let issuer = &self.0;
        let (parts, header) = match issuer.open(&token) {
            Ok(opened) => opened,
            Err(reason) => return Verdict::refused(reason),
        };
        // Read before the keys are: an older number only makes the token be verified once more.
        let generation = issuer.keys.generation();
        match issuer
            .keys
            .lookup(header.key_id.as_deref(), header.algorithm)
        {
            Lookup::Pending(lookup) => {
                let (issuer, token) = (Arc::clone(issuer), token.into_owned());
                Verdict::Pending(Box::pin(async move {
                    let lookup = lookup.await;
                    match issuer.open(&token) {
                        Ok((parts, header)) => {
                            issuer.conclude(&token, &parts, &header, lookup, generation, now)
                        }
                        Err(reason) => Verdict::refused(reason),
                    }
                }))
            }
            lookup => issuer.conclude(&token, &parts, &header, lookup, generation, now),
        }
    }
}

impl Issuer {
    /// The verdict on a token that has been verified before; `None` when it has to be anew.
    fn remembered(&self, token: &Token<'_>, now: Duration) -> Option<Verdict> {
        let known = self.memory.as_ref()?.get(token.hash())?;
        let generation = self.keys.generation();
        match known {
            Known::Good(known) if known.generation == generation => {
                Some(match known.times.check(now) {
                    Ok(()) => self.unless_revoked(&known),
                    Err(reason) => Verdict::refused(reason),
                })
            }
            Known::Foreign(known) if known.generation == generation => {
                Some(Verdict::refused(known.reason))
            }
            // With other keys all of it may be otherwise.
            Known::Good(_) | Known::Foreign(_) => None,
        }
    }

    fn unless_revoked(&self, known: &Remembered) -> Verdict {
        let revoked = self.revocations.as_ref().map(|revocations| {
            revocations.check(known.id.as_deref(), &known.grant.principal.subject)
        });
        match revoked {
            None | Some(Revocation::Clear) => Verdict::Granted(Arc::clone(&known.grant)),
            Some(Revocation::Revoked) => Verdict::refused(Reason::JwtRevoked),
            Some(Revocation::Unknown) => Verdict::refused(Reason::JwtRevocationUnknown),
        }
    }

    /// A token's parts and its header, which says what key it needs.
    fn open<'t>(&self, token: &'t Token<'_>) -> Result<(Parts<'t>, Header), Reason> {
        let parts = token.parts().ok_or(Reason::JwtMalformed)?;
        let header = Header::read(parts.header, &self.config)?;
        Ok((parts, header))
    }

    fn conclude(
        &self,
        token: &Token<'_>,
        parts: &Parts<'_>,
        header: &Header,
        lookup: Lookup,
        generation: u64,
        now: Duration,
    ) -> Verdict {
        let keys = match lookup {
            Lookup::Found(keys) => keys,
            Lookup::Unknown => return Verdict::refused(Reason::JwtUnknownKey),
            Lookup::Unavailable | Lookup::Pending(_) => {
                return Verdict::Refused(Refusal {
                    reason: Reason::JwtKeysUnavailable,
                    retry_after: self.keys.retry_after(),
                });
            }
        };
        match self.verify(parts, header, &keys, generation, now) {
            Ok(known) => {
                let known = Arc::new(known);
                if let Some(memory) = &self.memory {
                    memory.insert(token.hash(), parts.claims.len(), Arc::clone(&known));
                }
                self.unless_revoked(&known)
            }
            Err(reason) => {
                let foreign = matches!(reason, Reason::JwtBadSignature | Reason::JwtWrongIssuer);
                if let (Some(memory), true) = (&self.memory, foreign) {
                    memory.insert_foreign(token.hash(), Foreign { reason, generation });
                }
                Verdict::refused(reason)
            }
        }
    }

    fn verify(
        &self,
        parts: &Parts<'_>,
        header: &Header,
        keys: &SmallVec<[Arc<VerificationKey>; 1]>,
        generation: u64,
        now: Duration,
    ) -> Result<Remembered, Reason> {
        let signed = |key: &Arc<VerificationKey>| {
            let (algorithm, message) = (header.algorithm, parts.message.as_bytes());
            jsonwebtoken::crypto::verify(parts.signature, message, &key.key, algorithm)
                .unwrap_or(false)
        };
        if !keys.iter().any(signed) {
            return Err(Reason::JwtBadSignature);
        }
        let claims = Claims::read(parts.claims)?;
        let times = claims.check(&self.config, now)?;
        let principal = principal::principal(&self.config, &claims, &times)?;
        let headers = principal::headers(&self.config, &claims);
        Ok(Remembered {
            id: claims.text("jti")?.map(Into::into),
            times,
            generation,
            grant: Arc::new(Grant {
                principal: Arc::new(principal.with_claims(claims)),
                headers,
            }),
        })
    }
}

/// Times in tokens count from here (RFC 7519 2, NumericDate).
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
