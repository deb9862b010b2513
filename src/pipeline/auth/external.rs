//! Another service decides: it is told about the request, and its answer is a verdict.
//!
//! 2xx lets the request through, with what the answer says about the caller; 401 and 403 go to the
//! client; anything else, and no answer in time, is a refusal. An answer of 2xx may be remembered for
//! a while: for requests of which the service would be told exactly the same, letter by letter, since
//! whatever it is told may have made the difference.

mod answer;
mod memory;
mod question;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};
use tokio::sync::Semaphore;

use super::{
    credential::{self, Found},
    method::{Grant, Method, Refusal, Verdict},
};
use crate::{
    config::{CredentialPlace, External},
    exchange::{Context, Reason, Request, SharedSubrequest, SubrequestLimits},
    pipeline::Tools,
    telemetry::{ExternalMetrics, ExternalResult},
};
use answer::Outcome;
use memory::Memory;
use question::Questioner;

/// One `[auth.external.NAME]`.
pub struct ExternalMethod(Arc<Service>);

struct Service {
    config: External,
    questioner: Questioner,
    client: SharedSubrequest,
    metrics: ExternalMetrics,
    memory: Option<Memory>,
    permits: Arc<Semaphore>,
    /// Where passwords, tokens and keys stand that only the service can judge.
    guessed: Box<[CredentialPlace]>,
    /// The same with cookies: all that may be a credential.
    unread: Box<[CredentialPlace]>,
}

impl ExternalMethod {
    /// The method; nothing is asked yet.
    #[must_use]
    pub fn from_config(config: &External, tools: &Tools) -> Self {
        Self(Arc::new(Service {
            questioner: Questioner::new(config),
            client: Arc::clone(&tools.subrequest),
            metrics: tools.metrics.external_auth(&config.name),
            memory: config.remember.map(Memory::new),
            permits: Arc::new(Semaphore::new(config.max_in_flight)),
            guessed: guessed(config),
            unread: headers(config.credential_headers()),
            config: config.clone(),
        }))
    }
}

impl Method for ExternalMethod {
    fn name(&self) -> &Arc<str> {
        &self.0.config.name
    }

    fn guessed_places(&self) -> &[CredentialPlace] {
        &self.0.guessed
    }

    fn check_beside(
        &self,
        _: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Verdict {
        let service = &self.0;
        if service.config.request_headers.contains(&AUTHORIZATION)
            && credential::find(request, &PLACE) == Found::Several
        {
            // The service might take one, and the upstream the other.
            return Verdict::refused(Reason::AuthAmbiguous);
        }
        let memory = service.memory.as_ref();
        let key = memory.map(|_| service.questioner.key(request, context));
        if let Some(grant) = service.remembered(key.as_ref(), context) {
            return Verdict::Granted(grant);
        }
        let Ok(permit) = Arc::clone(&service.permits).try_acquire_owned() else {
            return service.failed(context, "too many questions are under way");
        };
        let Some(question) = service.questioner.question(request, context) else {
            return service.failed(context, "the request can't be told");
        };
        let caller = service.questioner.caller(request, context);
        let (service, context) = (Arc::clone(service), Arc::clone(context));
        Verdict::Pending(Box::pin(async move {
            let verdict = service.ask(question, &caller, key, &context).await;
            drop(permit);
            verdict
        }))
    }

    /// The service's own answer has one.
    fn challenge(&self, _: Option<Reason>) -> Option<HeaderValue> {
        None
    }

    /// All that the service was sent as a credential. Which cookie is meant only the service knows:
    /// all of them go.
    fn strip(&self, request: &mut Request) {
        for name in self.0.config.credential_headers() {
            request.headers_mut().remove(name);
        }
    }

    fn forwards_credentials(&self) -> bool {
        true
    }

    /// The service decides about requests without a credential too.
    fn places(&self) -> &[CredentialPlace] {
        &[]
    }

    /// One subject may call for several tenants, and which one only the service knows and the upstream.
    fn unread(&self) -> &[CredentialPlace] {
        &self.0.unread
    }

    /// Cookies, where the service itself names the caller: of all of them one is its session, and the others,
    /// and what rolls in that one, would make each page view a caller of its own. What depends on a cookie in
    /// some other way the upstream has to keep from caches, as on any route. `Authorization` is none of these:
    /// for answers to that RFC 9111 3.5 lets the upstream say nothing.
    fn settled(&self) -> Option<&CredentialPlace> {
        let Service { config, unread, .. } = &*self.0;
        config.subject_header.as_ref()?;
        unread.iter().find(|place| **place == COOKIES)
    }

    /// The header that the service was sent, if that is all it was sent: with a good cookie beside it
    /// nobody knows what the service has said yes to, and a wrong password could be tried for ever
    /// behind one's own session.
    fn judged(&self, request: &Request) -> &[CredentialPlace] {
        let Service {
            config, guessed, ..
        } = &*self.0;
        let mut sent = config.credential_headers();
        let cookie = sent.any(|name| *name == COOKIE) && request.headers().contains_key(COOKIE);
        let headers = guessed
            .iter()
            .map(|place| match credential::find(request, place) {
                Found::Nothing => 0,
                Found::One(_) => 1,
                Found::Several => 2,
            });
        match headers.sum::<usize>() {
            1 if !cookie => guessed,
            _ => &[],
        }
    }

    /// A token is nothing that could be guessed; a password is, and so may be what only the service
    /// knows.
    fn recall(
        &self,
        _: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Option<Arc<Grant>> {
        let mut guessed = self.0.guessed.iter();
        if !guessed.all(|place| !credential::is_at(request, place) || is_token(request, place)) {
            return None;
        }
        let key = self.0.questioner.key(request, context);
        self.0.remembered(Some(&key), context)
    }
}

/// Cookies are not among them: a browser sends those of an ended session whoever asks, and what
/// stands in them is seldom chosen by a person.
fn guessed(config: &External) -> Box<[CredentialPlace]> {
    headers(config.credential_headers().filter(|name| **name != COOKIE))
}

fn headers<'c>(names: impl Iterator<Item = &'c HeaderName>) -> Box<[CredentialPlace]> {
    names.cloned().map(CredentialPlace::Header).collect()
}

fn is_token(request: &Request, place: &CredentialPlace) -> bool {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    *place == PLACE
        && values.all(|value| {
            let scheme = value.as_bytes().get(..BEARER.len());
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER))
        })
}

impl Service {
    /// The answer that is remembered, if it is still good.
    fn remembered(&self, key: Option<&[u8; 32]>, context: &Context) -> Option<Arc<Grant>> {
        let grant = self.memory.as_ref()?.get(key?, context.began())?;
        self.metrics.count(ExternalResult::Remembered);
        Some(grant)
    }

    async fn ask(
        &self,
        question: http::Request<Bytes>,
        caller: &str,
        key: Option<[u8; 32]>,
        context: &Context,
    ) -> Verdict {
        let limits = SubrequestLimits {
            deadline: self.config.timeout,
            body: MOST_BODY,
        };
        let answer = match self.client.send(question, limits).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(context, &error.to_string()),
        };
        match answer::judge(&self.config, caller, answer) {
            Outcome::Allowed(grant) => {
                self.metrics.count(ExternalResult::Allowed);
                if let (Some(memory), Some(key)) = (&self.memory, key) {
                    memory.insert(key, &grant, context.clock.now());
                }
                Verdict::Granted(grant)
            }
            Outcome::Denied(reason, answer) => {
                self.metrics.count(ExternalResult::Denied);
                Verdict::Answer(reason, answer)
            }
            Outcome::Unusable(why) => self.failed(context, why),
        }
    }

    /// Whatever went wrong: nobody has said that the request may pass.
    fn failed(&self, context: &Context, why: &str) -> Verdict {
        self.metrics.count(ExternalResult::Failed);
        context.explain(format!("{}: {why}", self.config.name));
        Verdict::Refused(Refusal {
            reason: Reason::ExternalUnavailable,
            retry_after: Some(RETRY_AFTER),
        })
    }
}

const PLACE: CredentialPlace = CredentialPlace::Header(AUTHORIZATION);
const COOKIES: CredentialPlace = CredentialPlace::Header(COOKIE);
const BEARER: &[u8] = b"bearer ";
/// Of an answer; that of a refusal is passed on.
const MOST_BODY: usize = 64 << 10;
const RETRY_AFTER: Duration = Duration::from_secs(1);
