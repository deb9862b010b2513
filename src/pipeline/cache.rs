//! The response cache (RFC 9111): answers that are served again.
//!
//! It stands above whatever an upstream's failure becomes, so that it may answer stale instead, and
//! outside of the rewrite, whose work a hit spares. Everything that asks who calls stands before
//! it: the other way round one caller would be served another's answer.
//!
//! ```text
//! request -> hit?  -> answer out of the store
//!              no  -> another's fetch under way? -> read along
//!                       no -> fetch, in a task of its own: a client is just a reader
//! ```
//!
//! The rules are in [`policy`], as pure functions. Here is what they are applied to: the
//! [`store`], [`key`]s, fills (one fetch for all who wait) and purges.
//!
//! Hazards: whatever the upstream sees of a request and neither the key nor `Vary` holds can be used
//! to have a wrong answer stored for others. So the key is made of what the gateway understood, not
//! of what was sent, and nothing that a client says about forwarding gets past the frame.

mod beside;
mod body;
mod fetch;
mod fill;
mod flights;
pub mod key;
mod object;
pub mod policy;
mod purge;
mod serve;
mod shared;
pub mod store;
mod tags;

use std::{hash::RandomState, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use http_body::Body as _;
use tower::Layer;

pub use purge::Aim;
pub use shared::{Cache, CacheFigures};

use crate::{
    config::{CacheQuery, CacheRule, CacheScope, Route, Target},
    exchange::{BoxFuture, CacheNote, Context, Handle, Request, Response, RouteService},
};
use key::{Key, KeyParts, KeyRef, public_host};
use object::NAME;
use policy::{Asked, CacheStatus, Forwarded, Incoming, Moment, Options, Reuse, Scope, Url, reuse};
use purge::Marks;
use serve::Serving;
use shared::{Found, Stored, stamp};

/// Puts a cache around a service.
#[derive(Clone)]
pub struct CacheLayer {
    cache: Arc<Cache>,
    rule: Arc<CacheRule>,
    route: Arc<str>,
    zones: Zones,
    identity: Arc<Vec<HeaderName>>,
}

/// Which zone a request's key is of.
#[derive(Clone)]
enum Zones {
    /// All requests are of one.
    One(Arc<str>),
    /// Each upstream of a `split` has its own, so the upstream is chosen before the store is asked.
    Split(Arc<[(Arc<str>, u32)]>),
}

/// A route with a cache.
struct CacheRoute {
    cache: Arc<Cache>,
    options: Options,
    route: Arc<str>,
    zones: Zones,
    rule: Arc<CacheRule>,
    wait: Option<Duration>,
    show_key: bool,
    inner: RouteService,
    hasher: RandomState,
}

/// Serves out of the cache, or asks the inner service.
struct CacheService(Arc<CacheRoute>);

/// One request that the store had no fresh answer for.
#[derive(Clone)]
struct Visit {
    asked: Asked,
    context: Arc<Context>,
    headers: HeaderMap,
    keys: Keys,
    host: Box<str>,
    marks: Marks,
    /// What the store has, stale.
    stale: Option<Found>,
    why: Forwarded,
    /// What known variants of the key are told apart by, of this request.
    variant: u64,
    /// Whether requests for the key do not wait for each other now.
    passes: bool,
}

/// The keys of a request.
#[derive(Clone)]
struct Keys {
    everyone: Key,
    /// That of the caller's own answers.
    caller: Option<Key>,
}

impl CacheLayer {
    /// A route's cache; `None` when it has none.
    #[must_use]
    ///
    /// `identity` are the fields that tell the upstream who calls: the gateway writes them.
    pub fn from_config(
        route: &Route,
        cache: Option<&Arc<Cache>>,
        identity: &Arc<Vec<HeaderName>>,
    ) -> Option<Self> {
        let rule = route.cache.as_ref()?;
        let zones = match (&rule.zone, &route.target) {
            (Some(zone), _) => Zones::One(zone.as_str().into()),
            (None, Target::Upstream(upstream)) => Zones::One(Arc::clone(upstream)),
            (None, Target::Split(parts)) => Zones::Split(parts.as_slice().into()),
            (None, Target::Respond(_) | Target::Redirect(_)) => return None,
        };
        Some(Self {
            cache: Arc::clone(cache?),
            rule: Arc::clone(rule),
            route: Arc::clone(&route.name),
            zones,
            identity: Arc::clone(identity),
        })
    }
}

impl Layer<RouteService> for CacheLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(CacheService(Arc::new(CacheRoute {
            cache: Arc::clone(&self.cache),
            options: options(&self.rule, &self.identity),
            route: Arc::clone(&self.route),
            zones: self.zones.clone(),
            wait: self.rule.wait,
            show_key: self.rule.show_key,
            rule: Arc::clone(&self.rule),
            inner,
            hasher: RandomState::new(),
        })))
    }
}

impl Handle for CacheService {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let route = &self.0;
        let asked = Asked::read(&incoming(&request, context), &route.options);
        route.steer(context);
        if !asked.looks_up() {
            return Box::pin(Arc::clone(route).beside(asked, request, Arc::clone(context)));
        }
        match route.look(&asked, &request, context) {
            Ok(response) => Box::pin(std::future::ready(response)),
            Err(visit) => Box::pin(Arc::clone(route).fetch(request, *visit)),
        }
    }
}

impl CacheRoute {
    /// An answer out of the store, or what is known for fetching one.
    fn look(
        self: &Arc<Self>,
        asked: &Asked,
        request: &Request,
        context: &Arc<Context>,
    ) -> Result<Response, Box<Visit>> {
        let headers = request.headers();
        let key = KeyRef::of(&self.parts(context), context, headers);
        let callers = self
            .has_own_store(asked)
            .then(|| key.clone().of_caller(context));
        let now = (Moment::from(context.started_at), stamp(context.began()));
        let look = |key| self.cache.look(key, headers, now);
        let mut stored = callers.as_ref().map_or(Stored::Nothing, look);
        if !matches!(stored, Stored::Found(_)) {
            stored = or_others(look(&key), stored);
        }
        let visit = |stale, why, variant, passes| Visit {
            asked: *asked,
            context: Arc::clone(context),
            headers: headers.clone(),
            host: public_host(context).into(),
            marks: self.marks(&key, context),
            keys: Keys {
                everyone: key.to_key(),
                caller: callers.as_ref().map(KeyRef::to_key),
            },
            stale,
            why,
            variant,
            passes,
        };
        let found = match stored {
            Stored::Found(found) => found,
            Stored::Nothing => return Err(Box::new(visit(None, Forwarded::UriMiss, 0, false))),
            Stored::Others(shelf) => {
                let newest = shelf.variants().first();
                let variant = newest.map_or(0, |object| self.variant(&object.draft, headers));
                let why = newest.map_or(Forwarded::UriMiss, |_| Forwarded::VaryMiss);
                return Err(Box::new(visit(None, why, variant, shelf.passes(now.1))));
            }
        };
        let (result, detail) = match reuse(asked, &found.facts, now.0) {
            Reuse::Fresh => ("hit", None),
            Reuse::StaleAsWanted => ("stale", Some("max-stale")),
            Reuse::StaleWhileRevalidate => ("stale", Some("while-revalidate")),
            other => {
                let variant = self.variant(&found.object.draft, headers);
                let why = match other {
                    Reuse::ValidateAsWanted => Forwarded::Request,
                    _ => Forwarded::Stale,
                };
                return Err(Box::new(visit(Some(found), why, variant, false)));
            }
        };
        context.cached(CacheNote { result, detail });
        let mut serving = Serving {
            asked,
            request: headers,
            facts: &found.facts,
            now: now.0,
            status: None,
        };
        if result == "stale" || self.show_key {
            let mut status = CacheStatus::hit(NAME, found.facts.ttl(now.0));
            status.detail = detail;
            let shown = self.show_key.then(|| key.to_key().show());
            status.key = shown.as_deref();
            serving.status = Some(status.header());
        }
        let response = serving.object(&found.object);
        if detail == Some("while-revalidate") {
            let variant = self.variant(&found.object.draft, headers);
            self.refresh(
                request,
                visit(Some(found), Forwarded::Stale, variant, false),
            );
        }
        Ok(response)
    }

    /// Whether the caller has answers of its own (RFC 9111 3.5): one that authentication knows, or
    /// nobody at all. A credential that only the upstream knows names nobody to us.
    fn has_own_store(&self, asked: &Asked) -> bool {
        self.options.scope == Scope::Principal && (asked.principal || !asked.authorization)
    }

    fn parts<'a>(&'a self, context: &'a Context) -> KeyParts<'a> {
        let zone = match &self.zones {
            Zones::One(zone) => zone,
            Zones::Split(parts) => context.steered().unwrap_or(&parts[0].0),
        };
        KeyParts {
            zone,
            route: &self.route,
            query: &self.rule.query,
            headers: &self.rule.key_headers,
        }
    }

    fn marks(&self, key: &KeyRef<'_>, context: &Context) -> Marks {
        let whole = self.rule.query == CacheQuery::AsIs;
        let host = public_host(context);
        self.cache
            .purges
            .marks(&host, key.target(), whole, &self.route)
    }

    /// Chooses the upstream of a `split` before the store is asked.
    fn steer(&self, context: &Context) {
        let Zones::Split(parts) = &self.zones else {
            return;
        };
        let total: u32 = parts.iter().map(|(_, weight)| weight).sum();
        let mut point = fastrand::u32(..total.max(1));
        for (upstream, weight) in parts.iter() {
            match point.checked_sub(*weight) {
                Some(rest) => point = rest,
                None => return context.steer(upstream),
            }
        }
    }
}

impl Visit {
    fn note(&self, result: &'static str, detail: Option<&'static str>) {
        self.context.cached(CacheNote { result, detail });
    }

    fn url(&self) -> Url<'_> {
        Url {
            scheme: self.context.scheme,
            authority: &self.host,
            target: self.context.target(),
        }
    }
}

/// What there is; if that is nothing, what the other look has shown.
fn or_others(stored: Stored, other: Stored) -> Stored {
    match stored {
        Stored::Nothing => other,
        stored => stored,
    }
}

fn incoming<'a>(request: &'a Request, context: &Context) -> Incoming<'a> {
    Incoming {
        method: request.method(),
        headers: request.headers(),
        has_body: !request.body().is_end_stream(),
        upgrade: context.head.upgrade.is_some(),
        principal: context.principal().is_some(),
    }
}

/// The rule as the policy takes it.
fn options(rule: &CacheRule, identity: &[HeaderName]) -> Options {
    Options {
        scope: match rule.scope {
            Some(CacheScope::Principal) => Scope::Principal,
            Some(CacheScope::Shared) | None => Scope::Shared,
        },
        default_ttl: rule.default_ttl,
        override_ttl: rule.override_ttl,
        heuristics: rule.heuristics,
        stale_while_revalidate: rule.stale_while_revalidate.unwrap_or_default(),
        stale_if_error: rule.stale_if_error.unwrap_or_default(),
        stale_if_unreachable: rule.stale_on_error.unwrap_or_default(),
        store_set_cookie: rule.set_cookie,
        request_directives: rule.request_directives,
        targeted: rule.targeted.as_slice().into(),
        identity_fields: identity.into(),
        ..Options::default()
    }
}
