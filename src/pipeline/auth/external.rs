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
use http::{HeaderValue, header::AUTHORIZATION};
use tokio::sync::Semaphore;

use super::method::{Method, Refusal, Verdict};
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
            config: config.clone(),
        }))
    }
}

impl Method for ExternalMethod {
    fn name(&self) -> &Arc<str> {
        &self.0.config.name
    }

    /// The service decides about requests without a credential too.
    fn presented(&self, _: &Request) -> Option<&CredentialPlace> {
        None
    }

    fn check(&self, request: &Request, context: &Arc<Context>) -> Verdict {
        let service = &self.0;
        let memory = service.memory.as_ref();
        let key = memory.map(|_| service.questioner.key(request, context));
        if let (Some(memory), Some(key)) = (memory, &key)
            && let Some(grant) = memory.get(key, context.began())
        {
            service.metrics.count(ExternalResult::Remembered);
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

    /// Which cookie is meant only the service knows.
    fn strip(&self, request: &mut Request) {
        if self.0.config.request_headers.contains(&AUTHORIZATION) {
            request.headers_mut().remove(AUTHORIZATION);
        }
    }

    fn forwards_credentials(&self) -> bool {
        true
    }

    fn places(&self) -> &[CredentialPlace] {
        &[]
    }
}

impl Service {
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

/// Of an answer; that of a refusal is passed on.
const MOST_BODY: usize = 64 << 10;
const RETRY_AFTER: Duration = Duration::from_secs(1);
