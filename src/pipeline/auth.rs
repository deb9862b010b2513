//! Authentication: who calls, by one of the ways that the route's `auth` names.
//!
//! It stands behind what spares it (limits on the client's address) and before everything that asks
//! who calls: roles, limits by caller, the cache. The other way round a cache would serve one
//! caller's answer to another. Each way to authenticate is a [`Method`]; [`Authenticators`] keeps
//! them by name, and a new kind is a line there.
//!
//! It fails closed: what can't be told is a refusal. A 401 carries one challenge for each scheme
//! (RFC 9110 11.6.1).

pub mod api_keys;
pub mod basic;
mod beside;
pub mod challenge;
pub mod credential;
mod expression;
pub mod external;
mod failures;
mod jwks;
pub mod jwt;
pub mod method;
mod registry;

use std::{ops::Range, sync::Arc, time::Duration};

use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
};
use tower::Layer;

use crate::{
    config::{CredentialPlace, Route},
    exchange::{
        BoxFuture, Context, Handle, Principal, Reason, Rejection, Request, Response, RouteService,
        fields::remove_where,
    },
    telemetry::{AuthMetrics, RouteMetrics},
};
use beside::Beside;
use expression::{Decision, Evaluation, Expression, Step};
use failures::Failures;
use method::{Grant, Method, Refusal};
pub use registry::Authenticators;

/// Puts [`Authenticate`] around a service.
#[derive(Clone)]
pub struct AuthLayer(Arc<Rules>);

impl AuthLayer {
    /// A route's rule; `None` when everybody may call.
    #[must_use]
    pub fn from_config(
        route: &Route,
        authenticators: &Authenticators,
        metrics: &Arc<RouteMetrics>,
    ) -> Option<Self> {
        let rule = route.auth.as_ref()?;
        let methods =
            |names: &Vec<Arc<str>>| names.iter().map(|name| authenticators.get(name)).collect();
        let alternatives = rule.alternatives.iter().map(methods).collect();
        let expression = Expression::new(alternatives, rule.anonymous);
        let decisions = |method: &Arc<dyn Method>| AuthMetrics::new(metrics, method.name());
        let stripped = |method: &&Arc<dyn Method>| {
            let forwards = route.forward_credentials;
            !forwards.unwrap_or_else(|| method.forwards_credentials())
        };
        Some(Self(Arc::new(Rules {
            decisions: expression.methods.iter().map(decisions).collect(),
            anonymous: AuthMetrics::new(metrics, ANONYMOUS),
            missing: AuthMetrics::new(metrics, NONE),
            stripped: expression
                .methods
                .iter()
                .filter(stripped)
                .cloned()
                .collect(),
            exposed: exposed(&expression),
            beside: Beside::of(route, &expression),
            failures: authenticators.failures().map(Arc::clone),
            expression,
        })))
    }
}

impl Layer<RouteService> for AuthLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(Authenticate {
            rules: Arc::clone(&self.0),
            inner,
        })
    }
}

/// A route's rule and what follows from it.
struct Rules {
    expression: Expression,
    /// How often credentials that are made up may come from one address.
    failures: Option<Arc<Failures>>,
    /// How often each of its methods decided what.
    decisions: Vec<AuthMetrics>,
    anonymous: AuthMetrics,
    missing: AuthMetrics,
    /// The methods whose credentials the upstream does not get.
    stripped: Vec<Arc<dyn Method>>,
    /// Places whose credentials others may see or send: answers to them are nobody else's.
    exposed: Vec<CredentialPlace>,
    /// What the upstream may take for the caller too.
    beside: Beside,
}

/// Finds out who calls and hands the request on.
struct Authenticate {
    rules: Arc<Rules>,
    inner: RouteService,
}

impl Handle for Authenticate {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let (rules, expression) = (&self.rules, &self.rules.expression);
        let mut evaluation = Evaluation::new(rules.throttled(context));
        match expression.evaluate(&mut evaluation, &request, context) {
            Step::Done(decision) => {
                rules.note(&evaluation, &request, context);
                conclude(rules, &self.inner, decision, request, context)
            }
            Step::Wait(mut verdict) => {
                let (rules, inner) = (Arc::clone(rules), self.inner.clone());
                let context = Arc::clone(context);
                Box::pin(async move {
                    loop {
                        let told = verdict.await;
                        let expression = &rules.expression;
                        match expression.resume(&mut evaluation, told, &request, &context) {
                            Step::Wait(next) => verdict = next,
                            Step::Done(decision) => {
                                rules.note(&evaluation, &request, &context);
                                let answer = conclude(&rules, &inner, decision, request, &context);
                                return answer.await;
                            }
                        }
                    }
                })
            }
        }
    }
}

fn conclude(
    rules: &Rules,
    inner: &RouteService,
    decision: Decision,
    mut request: Request,
    context: &Arc<Context>,
) -> BoxFuture<Response> {
    let refusal = match decision {
        Decision::Granted(grants, by) => {
            rules.count_granted(&by);
            let exposed = rules
                .exposed
                .iter()
                .any(|place| credential::is_at(&request, place));
            rules.let_in(&grants, &by, &mut request, context);
            let answer = inner.handle(request, context);
            return if exposed { unstored(answer) } else { answer };
        }
        Decision::Anonymous => {
            rules.anonymous.count(None);
            return inner.handle(request, context);
        }
        Decision::Answered(by, reason, response) => {
            rules.decisions[by].count(Some(reason));
            context.note(reason);
            rules.challenged(*response)
        }
        Decision::Missing => {
            rules.missing.count(Some(Reason::AuthMissing));
            rules.refuse(None, Reason::AuthMissing.into(), context)
        }
        Decision::Refused(by, refusal) => {
            rules.decisions[by].count(Some(refusal.reason));
            rules.refuse(Some(by), refusal, context)
        }
    };
    Box::pin(std::future::ready(refusal))
}

impl Rules {
    /// How long the client's address has to wait, if too much that was made up came from it.
    fn throttled(&self, context: &Context) -> Option<Duration> {
        self.failures.as_ref()?.wait(context)
    }

    /// Counts what was made up. A request that is let in may hold it too: a service has been asked about
    /// one credential, and another method accepts another one.
    fn note(&self, evaluation: &Evaluation, request: &Request, context: &Context) {
        if let (Some(failures), true) = (&self.failures, evaluation.has_refusals()) {
            failures.note(self.expression.guesses(evaluation, request), context);
        }
    }

    fn count_granted(&self, by: &Range<usize>) {
        for decisions in &self.decisions[by.clone()] {
            decisions.count(None);
        }
    }

    /// Says who calls, to what follows and to the upstream. The first of several names the caller.
    fn let_in(
        &self,
        grants: &[Arc<Grant>],
        by: &Range<usize>,
        request: &mut Request,
        context: &Context,
    ) {
        if let Some(caller) = caller(grants) {
            context.identify(caller);
        }
        let granted = &self.expression.methods[by.clone()];
        let own = self.beside.own(granted, request);
        for method in &self.stripped {
            method.strip(request);
        }
        let others = grants.iter().skip(1);
        let others = others.map(|grant| Arc::clone(&grant.principal.caller));
        // RFC 9111 3.5: another credential that goes on may be another caller to the upstream.
        let beside = self.beside.digest(&own, request);
        let vouchers: Box<[_]> = others.chain(beside).collect();
        if !vouchers.is_empty() {
            context.vouched(vouchers);
        }
        for (name, value) in grants.iter().flat_map(|grant| &grant.headers) {
            request.headers_mut().insert(name, value.clone());
        }
    }

    /// Another service's answer; a 401 tells of the route's other methods too.
    fn challenged(&self, mut response: Response) -> Response {
        if response.status() == StatusCode::UNAUTHORIZED {
            let methods = self.expression.methods.iter().map(|method| &**method);
            challenge::complete(response.headers_mut(), methods);
        }
        response
    }

    fn refuse(&self, by: Option<usize>, refusal: Refusal, context: &Context) -> Response {
        let reason = refusal.reason;
        let mut rejection = Rejection::new(reason);
        if matches!(reason.status().as_u16(), 400 | 401) {
            let methods = self.expression.methods.iter().map(|method| &**method);
            for challenge in challenge::challenges(methods, by.map(|by| (by, reason))) {
                rejection = rejection.header(WWW_AUTHENTICATE, challenge);
            }
        }
        if let Some(after) = refusal.retry_after {
            rejection = rejection.header(RETRY_AFTER, seconds(after));
        }
        rejection.respond(context)
    }
}

/// The first names the caller, who is one only as long as all of them hold.
fn caller(grants: &[Arc<Grant>]) -> Option<Arc<Principal>> {
    let first = &grants.first()?.principal;
    let expires = grants.iter().filter_map(|grant| grant.principal.expires);
    let expires = expires.min();
    if expires == first.expires {
        return Some(Arc::clone(first));
    }
    Some(Arc::new(Principal {
        expires,
        ..Principal::clone(first)
    }))
}

/// A browser sends cookies by itself, and URLs are kept in histories and logs: RFC 6750 5.3 asks
/// for `no-store` on answers to tokens in the query, and a cookie's answers are no different.
fn exposed(expression: &Expression) -> Vec<CredentialPlace> {
    let places = expression.methods.iter().flat_map(|method| method.places());
    let exposed = places.filter(|place| !matches!(place, CredentialPlace::Header(_)));
    exposed.cloned().collect()
}

/// Nobody behind us stores the answer: what caches prefer to `Cache-Control` (RFC 9213 2.2, and what
/// CDNs have of their own) goes, or it would outrank it.
fn unstored(answer: BoxFuture<Response>) -> BoxFuture<Response> {
    Box::pin(async move {
        let mut response = answer.await;
        let headers = response.headers_mut();
        remove_where(headers, |name| {
            name.ends_with("cache-control") || PREFERRED.contains(&name)
        });
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    })
}

/// Whole seconds, rounded up (RFC 9110 10.2.3).
fn seconds(time: Duration) -> HeaderValue {
    let part = u64::from(time.subsec_nanos() > 0);
    HeaderValue::from(time.as_secs().saturating_add(part))
}

/// Fields for caches of one make.
const PREFERRED: [&str; 3] = ["surrogate-control", "edge-control", "x-accel-expires"];
/// The label of requests that were let in without a credential.
const ANONYMOUS: &str = "anonymous";
/// The label of requests that no method had anything to say about.
const NONE: &str = "none";
