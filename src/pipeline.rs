//! Per-route policy: one middleware a file, folded when the configuration is loaded.
//!
//! What a route does not use is absent and costs nothing. A pipeline receives an inner service; it
//! knows no upstream.

pub mod auth;
pub mod cache;
mod cors;
mod header_edits;
mod ip;
mod odd_names;
mod origins;
mod rate_limit;
mod rbac;
mod redirect;
mod request_body;
mod rescue;
mod respond;
mod rewrite;
mod security_headers;
mod validation;

pub use auth::{AuthLayer, Authenticators};
pub use cache::{
    Aim, Cache, CacheFigures, CacheLayer, ChangesLayer, Lineage, SecondTierFigures, Sharing,
};
pub use cors::{CorsHeaders, CorsLayer};
pub use header_edits::HeaderEditsLayer;
pub use ip::{IpLayer, IpSet, IpSets, Ranges};
pub use odd_names::odd_names;
pub use origins::OriginsLayer;
pub use rate_limit::{
    Limit, LimitBook, LimitKeyList, LimitKeyState, LimitWindowState, RateLimitLayer,
};
pub use rbac::{Denial, RbacLayer, Rules};
pub use redirect::RedirectTo;
pub use request_body::RequestBodyLayer;
pub use rescue::Rescue;
pub use respond::RespondWith;
pub use rewrite::RewriteLayer;
pub use security_headers::SecurityHeaders;
pub use validation::{Judge, ValidationLayer};

use std::{
    any::Any,
    path::Path,
    sync::{Arc, Weak},
};

use http::HeaderName;
use tokio::runtime::Handle;

use crate::{
    config::{self, Config, OddHeaderNames, Route, Target, Template, TemplatePart},
    exchange::{
        Blocking, Clock, Context, Decorate, FileWatch, KeyState, RouteService, SharedSubrequest,
        UpstreamService, Watched, WatchedFile,
    },
    store::Redis,
    telemetry::{Metrics, RouteMetrics},
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
    /// The client for the gateway's own requests.
    pub subrequest: SharedSubrequest,
    /// Values made from files.
    pub files: FileWatch,
    /// What gateways share, in the configuration that is being built.
    pub redis: Option<Arc<Redis>>,
    /// How many workers there are; a connection knows its own.
    pub workers: usize,
    /// Where work is done that would hold up a worker.
    pub blocking: Blocking,
}

impl Tools {
    /// Reads a file now and whenever it has changed; logs and metrics name its owner.
    ///
    /// `parse` makes the value, or tells what is wrong; that is logged and must hold no secret.
    pub fn watch<T: Send + Sync + 'static>(
        &self,
        owner: &Arc<str>,
        path: &Path,
        most: u64,
        parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Watched<T> {
        let metrics = self.metrics.file(owner);
        let file = WatchedFile {
            owner: Arc::clone(owner),
            path: path.to_owned(),
            most,
            report: Box::new(move |usable| metrics.was_read(usable)),
        };
        self.files.watch(file, parse)
    }
}

/// What a cache is made of: its table, and the Redis that it shares with others; whether answers are in
/// it, too.
type CacheMaterials = (config::Cache, Option<(Arc<Redis>, bool)>);

/// State that a route's pipeline holds.
pub type Held = Arc<dyn Any + Send + Sync>;

/// What routes share by name: whatever has state. A reload keeps each object whose own
/// configuration did not change, so counters, keys and stored answers live on.
#[derive(Default)]
pub struct Policies {
    judge: Judge,
    /// `[rate_limits.*]`.
    pub limits: LimitBook,
    /// The ways to authenticate.
    authenticators: Authenticators,
    /// The headers that no client may send, on any route: they tell who the caller is.
    identity: Arc<Vec<HeaderName>>,
    /// The headers in which ways to authenticate look for credentials.
    credentials: Arc<Vec<HeaderName>>,
    /// The headers that say which route a request is for.
    matched: Arc<Vec<HeaderName>>,
    ip_sets: IpSets,
    cache: Option<(CacheMaterials, Arc<Cache>)>,
    /// That cache and those of before, which requests may still have.
    caches: Arc<Lineage>,
    /// What gateways share.
    redis: Option<(config::Redis, Arc<Redis>)>,
    /// Those of before, of which requests may still hold something.
    left: Vec<Weak<Redis>>,
}

impl Policies {
    /// Builds what is new or changed and takes over the rest from the running configuration.
    #[must_use]
    pub fn build(config: &Config, tools: &Tools, running: &Self) -> Self {
        let (identity, credentials) = (config.identity_headers(), config.auth.credential_headers());
        let redis = redis_of(config, tools, running);
        let shared = redis.as_ref().map(|(_, redis)| redis);
        let left = running.redis().into_iter().map(Arc::downgrade);
        let is_left = |left: &Weak<Redis>| {
            let is_used = shared.is_some_and(|used| left.as_ptr() == Arc::as_ptr(used));
            left.strong_count() > 0 && !is_used
        };
        let left = running.left.iter().cloned().chain(left).filter(is_left);
        let left = left.collect();
        let tools = &Tools {
            redis: shared.cloned(),
            ..tools.clone()
        };
        Self {
            judge: running.judge.with_pool(&tools.blocking),
            authenticators: Authenticators::build(&config.auth, tools, &running.authenticators),
            identity: kept(&running.identity, identity),
            credentials: kept(&running.credentials, credentials),
            matched: kept(&running.matched, config.matched_headers()),
            limits: LimitBook::build(
                &config.rate_limits,
                &tools.clock,
                &tools.metrics,
                &running.limits,
                shared,
            ),
            ip_sets: IpSets::build(&config.ip_sets, tools, &running.ip_sets),
            cache: cache_of(config, tools, running, shared),
            caches: Arc::clone(&running.caches),
            redis,
            left,
        }
    }

    /// Has the running ones give way to these, before the first request has them. Building alone must change
    /// nothing of what runs, nor tell anybody of it: a reload may still be refused.
    pub fn take_effect(&self) {
        if let Some((_, redis)) = &self.redis {
            redis.take_effect();
        }
        self.limits.take_effect();
        if let Some(cache) = self.cache() {
            cache.take_effect();
        }
    }

    /// The headers that no client may send, on any route: they tell who the caller is.
    #[must_use]
    pub fn identity(&self) -> &Arc<Vec<HeaderName>> {
        &self.identity
    }

    /// The headers in which ways to authenticate look for credentials, on whatever route.
    #[must_use]
    pub fn credentials(&self) -> &[HeaderName] {
        &self.credentials
    }

    /// The headers that say which route a request is for, by the conditions of all routes.
    #[must_use]
    pub fn matched(&self) -> &[HeaderName] {
        &self.matched
    }

    /// The API keys of all methods.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyState> {
        self.authenticators.keys()
    }

    /// The Redis that gateways share, where one is configured, and those of before of which something may
    /// still be held.
    #[must_use]
    pub fn all_redis(&self) -> Vec<Arc<Redis>> {
        let left = self.left.iter().filter_map(Weak::upgrade);
        self.redis().cloned().into_iter().chain(left).collect()
    }

    fn redis(&self) -> Option<&Arc<Redis>> {
        self.redis.as_ref().map(|(_, redis)| redis)
    }

    /// The cache, if a route has one.
    #[must_use]
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref().map(|(_, cache)| cache)
    }

    /// Whether the cache keeps answers where gateways share them.
    fn shares_answers(&self) -> bool {
        let made_of = self.cache.as_ref().map(|(made_of, _)| made_of);
        let redis = made_of.and_then(|(_, redis)| redis.as_ref());
        redis.is_some_and(|(_, answers)| *answers)
    }

    /// That cache and those of before.
    #[must_use]
    pub fn caches(&self) -> &Arc<Lineage> {
        &self.caches
    }

    /// The objects that a route's pipeline holds: the route is built anew when one of them is
    /// another.
    #[must_use]
    pub fn held_by(&self, route: &Route) -> Vec<Held> {
        let mut held: Vec<Held> = vec![
            Arc::clone(&self.identity) as Held,
            Arc::clone(&self.credentials) as Held,
        ];
        // Only there does it matter what other routes look at.
        if route.odd_header_names == OddHeaderNames::Keep {
            held.push(Arc::clone(&self.matched) as Held);
        }
        for name in route.auth.iter().flat_map(|rule| rule.methods()) {
            held.push(self.authenticators.get(name));
        }
        if route.auth.is_some() {
            let failures = self.authenticators.failures().map(Arc::clone);
            held.extend(failures.map(|failures| failures as Held));
        }
        let sets = self.ip_sets.held_by(route);
        held.extend(sets.map(|set| set as Held));
        let limits = route.rate_limits.iter();
        held.extend(limits.filter_map(|name| Some(Arc::clone(self.limits.get(name)?) as Held)));
        // With a cache of its own or not: what it changes is forgotten.
        held.extend(self.cache().map(|cache| Arc::clone(cache) as Held));
        held
    }
}

/// The running list where the new one is equal: routes that hold it stay as they are.
fn kept(running: &Arc<Vec<HeaderName>>, new: Vec<HeaderName>) -> Arc<Vec<HeaderName>> {
    match new == **running {
        true => Arc::clone(running),
        false => Arc::new(new),
    }
}

/// One cache for all routes, if any has one; what is stored outlives a reload that leaves `[cache]`
/// as it is.
fn cache_of(
    config: &Config,
    tools: &Tools,
    running: &Policies,
    redis: Option<&Arc<Redis>>,
) -> Option<(CacheMaterials, Arc<Cache>)> {
    let mut rules = config
        .routes
        .iter()
        .filter_map(|route| route.cache.as_ref());
    let answers = rules.clone().any(|rule| rule.is_shared());
    rules.next()?;
    let shares = redis.filter(|_| answers || config.cache.share_purges);
    let wanted = (
        config.cache.clone(),
        shares.map(|redis| (Arc::clone(redis), answers)),
    );
    match &running.cache {
        Some((known, cache)) if is_same(known, &wanted) => Some((wanted, Arc::clone(cache))),
        _ => {
            let sharing = shares.map(|redis| Sharing {
                redis,
                answers,
                anew: !running.shares_answers(),
            });
            let cache = Cache::from_config(&config.cache, tools, &running.caches, sharing);
            Some((wanted, cache))
        }
    }
}

fn is_same(known: &CacheMaterials, wanted: &CacheMaterials) -> bool {
    let sharing = match (&known.1, &wanted.1) {
        (Some((known, answers)), Some((redis, wanted))) => {
            Arc::ptr_eq(known, redis) && answers == wanted
        }
        (None, None) => true,
        _ => false,
    };
    sharing && known.0 == wanted.0
}

/// One Redis for all who share something; its connections outlive a reload that leaves `[redis]` as
/// it is.
fn redis_of(
    config: &Config,
    tools: &Tools,
    running: &Policies,
) -> Option<(config::Redis, Arc<Redis>)> {
    let wanted = config.redis.as_ref()?;
    match &running.redis {
        Some((known, redis)) if known == wanted => Some((known.clone(), Arc::clone(redis))),
        _ => {
            let redis = Redis::new(wanted, tools.workers, tools.metrics.redis(), &tools.control);
            Some((wanted.clone(), redis))
        }
    }
}

/// Folds a route's middleware around its target.
///
/// `forward` is what the route forwards to; it is not asked for by a route that answers itself.
pub fn fold<U: UpstreamService>(
    route: &Route,
    policies: &Policies,
    metrics: &Arc<RouteMetrics>,
    forward: impl FnOnce() -> U,
) -> RouteService {
    let service = match &route.target {
        Target::Respond(respond) => {
            edited(route, RouteService::new(RespondWith::from_config(respond)))
        }
        Target::Redirect(redirect) => {
            edited(route, RouteService::new(RedirectTo::from_config(redirect)))
        }
        Target::Upstream(_) | Target::Split(_) => forwarding(route, policies, forward()),
    };
    guarded(route, policies, metrics, service)
}

/// What a route adds to all of its answers, those of the frame too.
#[must_use]
pub fn decorations(route: &Route) -> Box<[Box<dyn Decorate>]> {
    let mut decorations: Vec<Box<dyn Decorate>> = Vec::new();
    if let Some(config) = &route.security_headers {
        decorations.push(Box::new(SecurityHeaders::from_config(config)));
    }
    if let Some(config) = &route.cors {
        decorations.push(Box::new(CorsHeaders::from_config(config)));
    }
    decorations.into()
}

/// An answer of the gateway's own with the route's header edits.
fn edited(route: &Route, service: RouteService) -> RouteService {
    match HeaderEditsLayer::from_config(route) {
        Some(edits) => service.layer(&edits),
        None => service,
    }
}

/// Who may call, and how often: what stands before every target, from the inside out.
fn guarded(
    route: &Route,
    policies: &Policies,
    metrics: &Arc<RouteMetrics>,
    mut service: RouteService,
) -> RouteService {
    // Limits by caller.
    if let Some(limits) = RateLimitLayer::by_caller(route, &policies.limits) {
        service = service.layer(&limits);
    }
    // RBAC and claims: they read the principal.
    if let Some(rbac) = RbacLayer::from_config(&route.access) {
        service = service.layer(&rbac);
    }
    // Authentication: above everything that asks who calls.
    if let Some(auth) = AuthLayer::from_config(route, &policies.authenticators, metrics) {
        service = service.layer(&auth);
    }
    // Limits on what is known before authentication: they spare it.
    if let Some(limits) = RateLimitLayer::before_auth(route, &policies.limits) {
        service = service.layer(&limits);
    }
    // IP and origin rules: they cost least, and what they refuse is not worth a count.
    if let Some(ip) = IpLayer::from_config(&route.access, &policies.ip_sets) {
        service = service.layer(&ip);
    }
    if let Some(origins) = OriginsLayer::from_config(route) {
        service = service.layer(&origins);
    }
    // CORS: it answers preflights, which have no credentials and cost nothing.
    if let Some(cors) = &route.cors {
        service = service.layer(&CorsLayer::from_config(cors));
    }
    service
}

/// From the inside out; the order is fixed.
fn forwarding<U: UpstreamService>(route: &Route, policies: &Policies, upstream: U) -> RouteService {
    // Innermost: below it failures are typed, above it every refusal is an answer.
    let mut service = RouteService::new(Rescue::new(upstream));
    // Inside everything that reads the path as the client sent it.
    if let Some(rewrite) = RewriteLayer::from_config(route) {
        service = service.layer(&rewrite);
    }
    // Above whatever an upstream's failure becomes, since it may answer stale instead; outside of
    // the rewrite, since what is stored belongs to the URL that the client asked for.
    if let Some(cache) = CacheLayer::from_config(route, policies.cache(), policies.identity()) {
        service = service.layer(&cache);
    } else if let Some(cache) = policies.cache() {
        // What changes here may be stored by another route.
        service = service.layer(&ChangesLayer::new(cache));
    }
    // Outside the cache, which keeps what the upstream said.
    if let Some(edits) = HeaderEditsLayer::from_config(route) {
        service = service.layer(&edits);
    }
    // Before header edits, which may add what the client should have sent.
    if let Some(validation) = ValidationLayer::from_config(route, &policies.judge) {
        service = service.layer(&validation);
    }
    // Before anything that would read or send the body.
    let odd_names = odd_names(route, policies);
    service.layer(&RequestBodyLayer::from_config(
        route,
        policies.identity(),
        odd_names,
    ))
}

/// Fills in a template for one request.
pub(crate) fn render(template: &Template, context: &Context) -> String {
    let mut text = String::with_capacity(64);
    for part in &template.parts {
        match part {
            TemplatePart::Literal(literal) => text.push_str(literal),
            TemplatePart::ClientIp => text.push_str(&context.client.to_string()),
            TemplatePart::RequestId => text.push_str(context.id.as_str()),
            TemplatePart::Principal => {
                text.push_str(context.principal().map_or("", |known| &*known.subject));
            }
            TemplatePart::Caller => {
                text.push_str(context.principal().map_or("", |known| &*known.name));
            }
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
