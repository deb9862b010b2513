//! Method and path to an answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::CONTENT_LENGTH};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use tokio::time::timeout;

use crate::{config::Secret, exchange::BoxError};

use super::{
    Gateway,
    answer::{self, Answer, Refusal},
    guard, keys,
    limits::{self, Below},
    page,
    purge::Purge,
};

/// Answers the requests of all admin connections.
pub(super) struct Endpoints {
    gateway: Arc<dyn Gateway>,
    token: Option<Secret>,
}

#[derive(Clone, Copy)]
enum Endpoint<'p> {
    Health,
    Ready,
    Metrics,
    State,
    Routes,
    Upstreams,
    Limits,
    BelowLimits(Below<'p>),
    Keys,
    Reload,
    Cache,
    Purges,
}

impl<'p> Endpoint<'p> {
    fn at(path: &'p str) -> Option<Self> {
        Some(match path {
            "/health" => Self::Health,
            "/health/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/api/state" => Self::State,
            "/api/routes" => Self::Routes,
            "/api/upstreams" => Self::Upstreams,
            "/api/keys" => Self::Keys,
            "/api/reload" => Self::Reload,
            "/api/limits" => Self::Limits,
            "/api/cache" => Self::Cache,
            "/api/cache/purges" => Self::Purges,
            path => return Below::at(path).map(Self::BelowLimits),
        })
    }

    /// Probes have no token.
    fn is_open(self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }

    /// hyper leaves out the body of an answer to HEAD (RFC 9110 9.3.2).
    fn allow(self) -> &'static str {
        match self {
            Self::Reload | Self::Purges => "POST",
            Self::BelowLimits(Below::Key(..)) => "GET, HEAD, DELETE",
            _ => "GET, HEAD",
        }
    }
}

impl Endpoints {
    pub(super) fn new(gateway: Arc<dyn Gateway>, token: Option<Secret>) -> Self {
        Self { gateway, token }
    }

    /// Answers a request; a refusal is an answer too.
    ///
    /// A body is read only where one is needed, and by who may; hyper closes the connection behind
    /// one that was not read.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        match timeout(LONGEST, self.dispatch(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(refusal)) => refusal.into(),
            Err(_) => Refusal::timeout().into(),
        }
    }

    async fn dispatch<B>(&self, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let authorized = self.admit(&request)?;
        let path = request.uri().path();
        let endpoint = Endpoint::at(path);
        // Without the token nobody learns which paths there are.
        if !authorized && !endpoint.is_some_and(Endpoint::is_open) {
            return Err(Refusal::unauthorized());
        }
        let endpoint = endpoint.ok_or_else(Refusal::not_found)?;
        check_method(endpoint, request.method())?;
        if let Endpoint::Purges = endpoint {
            return self.purge(request.into_body()).await;
        }
        self.run(endpoint, authorized, &request).await
    }

    /// Whether the caller may see everything; an error when it may see nothing.
    fn admit<B>(&self, request: &Request<B>) -> Result<bool, Refusal> {
        let headers = request.headers();
        if self.token.is_none() {
            guard::check_browser(request.method(), headers)?;
        }
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > LARGEST_BODY) {
            return Err(Refusal::body_too_large());
        }
        Ok(guard::is_authorized(self.token.as_ref(), headers))
    }

    async fn run<B>(
        &self,
        endpoint: Endpoint<'_>,
        authorized: bool,
        request: &Request<B>,
    ) -> Result<Answer, Refusal> {
        let query = request.uri().query();
        Ok(match endpoint {
            Endpoint::Health => answer::plain(StatusCode::OK, &json!({ "status": "ok" })),
            Endpoint::Ready => self.ready(authorized),
            Endpoint::Metrics => answer::metrics(self.gateway.metrics()),
            Endpoint::State => answer::data(&self.gateway.state()),
            Endpoint::Routes => page::page(self.gateway.state().routes, query)?,
            Endpoint::Upstreams => page::page(self.gateway.state().upstreams, query)?,
            Endpoint::Limits => page::page(self.gateway.limits(), query)?,
            Endpoint::BelowLimits(below) => {
                self.below_limits(below, request.method(), query).await?
            }
            Endpoint::Keys => page::page(keys::keys(self.gateway.keys()), query)?,
            Endpoint::Reload => self.reload().await?,
            Endpoint::Cache => {
                let state = self.gateway.cache().ok_or_else(Refusal::no_cache)?;
                answer::data(&state)
            }
            // Run where its body is.
            Endpoint::Purges => return Err(Refusal::internal()),
        })
    }

    async fn below_limits(
        &self,
        below: Below<'_>,
        method: &Method,
        query: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let gateway = &*self.gateway;
        match below {
            Below::Keys(name) => limits::keys(gateway, name, query).await,
            Below::Key(name, key) if method == Method::DELETE => {
                limits::reset(gateway, name, key).await
            }
            Below::Key(name, key) => limits::key(gateway, name, key).await,
        }
    }

    /// The servers' names are the inside: they are shown to who may see it.
    fn ready(&self, authorized: bool) -> Answer {
        let readiness = self.gateway.ready();
        let status = match readiness.is_ready() {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        if authorized {
            return answer::plain(status, &readiness);
        }
        answer::plain(status, &readiness.without_servers())
    }

    async fn purge<B>(&self, body: B) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let body = Limited::new(body, LARGEST_BODY as usize).collect().await;
        let body = body.map_err(|_| Refusal::purge("the body is too large, or broke off"))?;
        let purge = Purge::read(&body.to_bytes())?;
        let reach = self.gateway.purge(&purge).ok_or_else(Refusal::no_cache)?;
        Ok(answer::data(&json!({
            "purged": purge.aims.len(),
            "soft": purge.soft,
            "reach": reach,
        })))
    }

    /// Spawned: a client that leaves must not cut a reload in two.
    async fn reload(&self) -> Result<Answer, Refusal> {
        match tokio::spawn(self.gateway.reload()).await {
            Ok(Ok(())) => Ok(answer::data(&json!({ "reloaded": true }))),
            Ok(Err(diagnostics)) => Err(Refusal::reload(&diagnostics)),
            Err(_) => Err(Refusal::internal()),
        }
    }
}

fn check_method(endpoint: Endpoint<'_>, method: &Method) -> Result<(), Refusal> {
    let allow = endpoint.allow();
    let allowed = allow.split(", ").any(|allowed| method == allowed);
    if allowed {
        return Ok(());
    }
    Err(Refusal::method_not_allowed(allow))
}

/// How long an answer may take; a reload is the longest.
const LONGEST: Duration = Duration::from_secs(30);
/// The largest body that is not refused.
const LARGEST_BODY: u64 = 64 << 10;
