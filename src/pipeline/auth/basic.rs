//! Users and passwords (RFC 7617).
//!
//! A password hash is slow by design, so it is never made on a worker: it goes to the one bounded
//! pool of the process, and when that is full the answer is 503. A password that was right is
//! remembered for a while under a keyed hash of user and password, so that the requests of one page
//! cost one hash; several at once wait for the first.
//!
//! Hazards: a user who does not exist must take as long as one who does, or names can be found out:
//! then the hash of some real user is tried, always the same one for a name. What is remembered
//! would let passwords be guessed quickly, so who has failed too often is not asked it.

mod credentials;
mod users;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, header::AUTHORIZATION};
use quick_cache::sync::Cache;

use super::{
    credential,
    method::{Grant, Method, Refusal, Verdict},
};
use crate::{
    config::{Basic, CredentialPlace, Htpasswd},
    exchange::{Blocking, Context, Reason, Request, Undone, Watched},
    pipeline::Tools,
};
use credentials::{Credentials, Digest, Secret};
use users::Users;

/// One `[auth.basic.NAME]`.
pub struct BasicMethod(Arc<Checker>);

struct Checker {
    config: Basic,
    challenge: HeaderValue,
    users: Watched<Users>,
    blocking: Blocking,
    secret: Secret,
    remembered: Cache<Digest, Remembered>,
}

/// A password that was right.
#[derive(Clone)]
struct Remembered {
    grant: Arc<Grant>,
    /// The reading of the file that it was right by.
    generation: u64,
    /// Until when, as [`Context::began`] counts.
    until: Duration,
}

impl BasicMethod {
    /// Reads the users, and reads them again whenever their file changes.
    #[must_use]
    pub fn from_config(config: &Basic, tools: &Tools) -> Self {
        let make = users::maker(&config.name, &config.roles);
        let (name, file) = (&config.name, &config.users_file);
        let users = tools.watch(name, file, Htpasswd::LARGEST, move |text| {
            Htpasswd::parse(text).map(&make)
        });
        Self::with(config, users, &tools.blocking)
    }

    fn with(config: &Basic, users: Watched<Users>, blocking: &Blocking) -> Self {
        // The configuration lets nothing into a realm that a field can't hold.
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", config.realm);
        let challenge = HeaderValue::try_from(challenge);
        Self(Arc::new(Checker {
            challenge: challenge.unwrap_or(HeaderValue::from_static("Basic realm=\"tollgate\"")),
            config: config.clone(),
            users,
            blocking: blocking.clone(),
            secret: Secret::random(),
            remembered: Cache::new(MOST_REMEMBERED),
        }))
    }
}

impl Method for BasicMethod {
    fn name(&self) -> &Arc<str> {
        &self.0.config.name
    }

    fn check_beside(
        &self,
        _: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Verdict {
        let credentials = match Credentials::of(request) {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return Verdict::Absent,
            Err(reason) => return Verdict::refused(reason),
        };
        let users = self.0.users.get();
        let Some(users) = &*users else {
            return Verdict::refused(Reason::AuthUnavailable);
        };
        let (now, digest) = (context.began(), self.0.secret.digest(&credentials));
        if let Some(known) = self.0.remembered.get(&digest)
            && known.is_good(users, now)
        {
            return Verdict::Granted(known.grant);
        }
        let (checker, users) = (Arc::clone(&self.0), Arc::clone(users));
        Verdict::Pending(Box::pin(async move {
            checker.verify(users, credentials, digest, now).await
        }))
    }

    fn challenge(&self, _: Option<Reason>) -> Option<HeaderValue> {
        Some(self.0.challenge.clone())
    }

    fn strip(&self, request: &mut Request) {
        if matches!(Credentials::of(request), Ok(Some(_))) {
            credential::strip(request, &PLACES[0]);
        }
    }

    fn forwards_credentials(&self) -> bool {
        self.0.config.forward_credentials
    }

    fn places(&self) -> &[CredentialPlace] {
        &PLACES
    }

    fn reads(&self, _: &CredentialPlace, request: &Request) -> bool {
        !matches!(Credentials::of(request), Ok(None))
    }
}

impl Checker {
    /// Makes the hash, unless another request is making it for the same user and password.
    async fn verify(
        &self,
        users: Arc<Users>,
        credentials: Credentials,
        digest: Digest,
        now: Duration,
    ) -> Verdict {
        let asked = self.remembered.get_value_or_guard_async(&digest).await;
        let guard = match asked {
            Ok(known) if known.is_good(&users, now) => return Verdict::Granted(known.grant),
            Ok(_) => None,
            Err(guard) => Some(guard),
        };
        let grant = match self.hash(&users, credentials).await {
            Ok(grant) => grant,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let remember = self.config.remember.unwrap_or_default();
        let known = Remembered {
            grant: Arc::clone(&grant),
            generation: users.generation,
            until: now.saturating_add(remember),
        };
        if !remember.is_zero() {
            // A guard fails to insert only when somebody else has done so.
            match guard {
                Some(guard) => drop(guard.insert(known)),
                None => self.remembered.insert(digest, known),
            }
        }
        Verdict::Granted(grant)
    }

    async fn hash(&self, users: &Users, credentials: Credentials) -> Result<Arc<Grant>, Refusal> {
        let wrong = Refusal::from(Reason::BasicWrong);
        let user = users.find(&credentials.user);
        let hash = user.map(|user| Arc::clone(&user.hash));
        let hash = hash.or_else(|| users.decoy(&credentials.user));
        let hash = hash.ok_or(wrong)?;
        let verify = move || users::is_right(&hash, &credentials.password);
        match self.blocking.run(verify).await {
            Ok(true) => user.map(|user| Arc::clone(&user.grant)).ok_or(wrong),
            Ok(false) => Err(wrong),
            Err(Undone::Busy) => Err(Refusal {
                reason: Reason::AuthBusy,
                retry_after: Some(BUSY),
            }),
            Err(Undone::Lost) => Err(Reason::AuthUnavailable.into()),
        }
    }
}

impl Remembered {
    fn is_good(&self, users: &Users, now: Duration) -> bool {
        self.generation == users.generation && now < self.until
    }
}

const PLACES: [CredentialPlace; 1] = [CredentialPlace::Header(AUTHORIZATION)];
/// Passwords that are remembered at a time; each takes some 100 bytes.
const MOST_REMEMBERED: usize = 10_000;
const BUSY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
