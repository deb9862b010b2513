//! Per-route policy: one middleware a file, folded when the configuration is loaded.
//!
//! What a route does not use is absent and costs nothing. A pipeline receives an inner service; it
//! knows no upstream.

pub mod cache;
mod redirect;
mod request_body;
mod rescue;
mod respond;
mod rewrite;

pub use cache::{Aim, Cache, CacheFigures, CacheLayer};
pub use redirect::RedirectTo;
pub use request_body::RequestBodyLayer;
pub use rescue::Rescue;
pub use respond::RespondWith;
pub use rewrite::RewriteLayer;

use std::{any::Any, sync::Arc};

use tokio::runtime::Handle;

use crate::{
    config::{self, Config, Route, Target, Template, TemplatePart},
    exchange::{Clock, Context, RouteService, UpstreamService},
    telemetry::Metrics,
};

/// What policies are made with.
#[derive(Clone)]
pub struct Tools {
    /// The clocks of this process.
    pub clock: Clock,
    /// Where figures are kept.
    pub metrics: Arc<Metrics>,
    /// The control runtime: what goes on beside requests runs there.
    pub control: Handle,
}

/// State that a route's pipeline holds.
pub type Held = Arc<dyn Any + Send + Sync>;

/// What routes share by name: whatever has state. A reload keeps each object whose own
/// configuration did not change, so counters, keys and stored answers live on.
#[derive(Default)]
pub struct Policies {
    cache: Option<(config::Cache, Arc<Cache>)>,
}

impl Policies {
    /// Builds what is new or changed and takes over the rest from the running configuration.
    #[must_use]
    pub fn build(config: &Config, tools: &Tools, running: &Self) -> Self {
        Self {
            cache: cache_of(config, tools, running),
        }
    }

    /// The cache, if a route has one.
    #[must_use]
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref().map(|(_, cache)| cache)
    }

    /// The objects that a route's pipeline holds: the route is built anew when one of them is
    /// another.
    #[must_use]
    pub fn held_by(&self, route: &Route) -> Vec<Held> {
        let mut held: Vec<Held> = Vec::new();
        if let (Some(_), Some(cache)) = (&route.cache, self.cache()) {
            held.push(Arc::clone(cache) as Held);
        }
        held
    }
}

/// One cache for all routes, if any has one; what is stored outlives a reload that leaves `[cache]`
/// as it is.
fn cache_of(
    config: &Config,
    tools: &Tools,
    running: &Policies,
) -> Option<(config::Cache, Arc<Cache>)> {
    config.routes.iter().find(|route| route.cache.is_some())?;
    match &running.cache {
        Some((known, cache)) if *known == config.cache => {
            Some((known.clone(), Arc::clone(cache)))
        }
        _ => {
            let cache = Cache::from_config(&config.cache, tools);
            Some((config.cache.clone(), cache))
        }
    }
}

/// Folds a route's middleware around its target.
///
/// `forward` is what the route forwards to; it is not asked for by a route that answers itself.
pub fn fold<U: UpstreamService>(
    route: &Route,
    policies: &Policies,
    forward: impl FnOnce() -> U,
) -> RouteService {
    let service = match &route.target {
        Target::Respond(respond) => RouteService::new(RespondWith::from_config(respond)),
        Target::Redirect(redirect) => RouteService::new(RedirectTo::from_config(redirect)),
        Target::Upstream(_) | Target::Split(_) => forwarding(route, policies, forward()),
    };
    guarded(route, policies, service)
}

/// Who may call, and how often: what stands before every target, from the inside out.
fn guarded(_: &Route, _: &Policies, service: RouteService) -> RouteService {
    // Limits by caller.
    // RBAC and claims: they read the principal.
    // Authentication.
    // Limits on what is known before authentication: they spare it.
    // IP and origin rules.
    // CORS: it answers preflights, and decorates every refusal below it.
    service
}

/// From the inside out; the order is fixed.
fn forwarding<U: UpstreamService>(
    route: &Route,
    policies: &Policies,
    upstream: U,
) -> RouteService {
    // Innermost: below it failures are typed, above it every refusal is an answer.
    let mut service = RouteService::new(Rescue::new(upstream));
    // Inside everything that reads the path as the client sent it.
    if let Some(rewrite) = RewriteLayer::from_config(route) {
        service = service.layer(&rewrite);
    }
    // Above whatever an upstream's failure becomes, since it may answer stale instead; outside of
    // the rewrite, since what is stored belongs to the URL that the client asked for.
    if let Some(cache) = CacheLayer::from_config(route, policies.cache()) {
        service = service.layer(&cache);
    }
    // Before anything that would read or send the body.
    service.layer(&RequestBodyLayer::from_config(route))
}

/// Fills in a template for one request.
pub(crate) fn render(template: &Template, context: &Context) -> String {
    let mut text = String::with_capacity(64);
    for part in &template.parts {
        match part {
            TemplatePart::Literal(literal) => text.push_str(literal),
            TemplatePart::ClientIp => text.push_str(&context.client.to_string()),
            TemplatePart::RequestId => text.push_str(context.id.as_str()),
            TemplatePart::Route => text.push_str(context.route().map_or("", |route| route)),
            TemplatePart::Scheme => text.push_str(context.scheme),
            TemplatePart::Host => text.push_str(host(context)),
            TemplatePart::Path => text.push_str(path_and_query(context).0),
            TemplatePart::Query => text.push_str(path_and_query(context).1),
            TemplatePart::Capture(name) => text.push_str(context.capture(name).unwrap_or_default()),
        }
    }
    text
}

/// The path, and the query with its question mark.
fn path_and_query(context: &Context) -> (&str, &str) {
    let target = context.target();
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// The host without its port; the frame has checked that it is one.
fn host(context: &Context) -> &str {
    let host = context
        .forwarded_host
        .as_ref()
        .or(context.head.host.as_ref());
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}
