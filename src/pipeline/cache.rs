//! The response cache (RFC 9111): answers that are served again.
//!
//! It stands above whatever an upstream's failure becomes, so that it may answer stale instead, and
//! outside of the rewrite, whose work a hit spares. Everything that asks who calls stands before
//! it: the other way round one caller would be served another's answer.
//!
//! ```text
//! request -> hit?  -> answer out of the store
//!              no  -> another's fetch under way? -> read along
//!                       no -> HEAD or Range? -> hand it on as it is
//!                       no -> fetch, in a task of its own: a client is just a reader
//!                               where gateways share a Redis: does that have it? -> serve it
//!                               no -> is it our turn? -> ask the upstream
//! ```
//!
//! The rules are in [`policy`], as pure functions. Here is what they are applied to: the
//! [`store`], [`key`]s, fills (one fetch for all who wait) and purges.
//!
//! Hazards: whatever the upstream sees of a request and neither the key nor `Vary` holds can be used
//! to have a wrong answer stored for others. So the key is made of what the gateway understood, not
//! of what was sent, and nothing that a client says about forwarding gets past the frame.

mod alone;
mod along;
mod beside;
mod body;
mod changes;
pub mod codec;
mod conditioned;
mod consult;
mod demand;
mod fetch;
mod fill;
mod flights;
mod found;
mod handed;
mod judge;
pub mod key;
mod kinds;
mod lineage;
mod object;
mod places;
pub mod policy;
mod purge;
mod purge_log;
mod purge_message;
mod purges_shared;
mod redis_time;
mod rivalry;
mod room;
mod second_tier;
mod selection;
mod serve;
mod shared;
pub mod store;
mod tags;
mod together;
mod unkept;
mod unsaid;
mod untold;
mod urls;

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
    uri::PathAndQuery,
};
use http_body::Body as _;
use tower::Layer;

pub use changes::ChangesLayer;
pub use lineage::Lineage;
pub use purge::Aim;
pub use shared::{Cache, CacheFigures, SecondTierFigures, Sharing};

use super::render;
use crate::{
    config::{CacheQuery, CacheRule, CacheScope, CacheTier, Route, Target, Template},
    exchange::{
        BoxFuture, CacheNote, Context, Handle, Request, Response, RouteService,
        fields::{OF_NODES, is_forwarding},
    },
};
use fetch::REMEMBERED;
use found::Found;
use key::{Key, KeyParts, Sought, public_host};
use object::NAME;
use policy::{
    Asked, Audience, CacheStatus, Forwarded, Incoming, Moment, Nominated, Options, Reuse, Scope,
    Url, reuse,
};
use purge::{Marks, Stamp};
use second_tier::{SecondTier, Ticket};
use selection::Selection;
use serve::Serving;
use shared::{Stored, stamp};

/// Puts a cache around a service.
#[derive(Clone)]
pub struct CacheLayer {
    cache: Arc<Cache>,
    rule: Arc<CacheRule>,
    route: Arc<str>,
    zones: Zones,
    identity: Arc<Vec<HeaderName>>,
    rewritten: Option<Template>,
    nodes: Box<[HeaderName]>,
    tells_more: bool,
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
    /// What the path is rewritten to, where that depends on more than the URL.
    rewritten: Option<Template>,
    /// The fields that tell proxies' nodes apart, which the upstream does not get.
    nodes: Box<[HeaderName]>,
    /// Whether the route itself writes forwarding fields that count.
    tells_more: bool,
    rule: Arc<CacheRule>,
    wait: Option<Duration>,
    show_key: bool,
    /// Whether answers are kept in this process.
    memory: bool,
    /// Where they are kept for other gateways too.
    second: Option<Arc<SecondTier>>,
    inner: RouteService,
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
    target: Box<str>,
    marks: Marks,
    /// What the store has, stale.
    stale: Option<Found>,
    why: Forwarded,
    /// Which of the known variants of the key it selects.
    selection: Selection,
    /// Whether requests for the key do not wait for each other now.
    passes: bool,
    /// Whether what it got itself just now was nobody else's.
    is_apart: bool,
    /// Whether the upstream is to compare its conditions: what its group got last was nobody else's.
    keeps_conditions: bool,
    /// What its fetch has to know for the answer to be stored where gateways share it.
    ticket: Option<Arc<Ticket>>,
}

/// The keys of a request.
#[derive(Clone)]
struct Keys {
    everyone: Key,
    /// That of the caller's own answers.
    caller: Option<Key>,
    /// By what it waits for others of its kind, where not by one of those, and which kind that is.
    waiting: Option<(Key, &'static str)>,
    /// A digest of who asks, among those of its kind; of those of no kind, what variants are told apart by.
    asker: u64,
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
            rewritten: rewritten(route),
            nodes: nodes(route, rule, identity),
            tells_more: written(route).any(|name| is_forwarding(name.as_str())),
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
            rewritten: self.rewritten.clone(),
            nodes: self.nodes.clone(),
            tells_more: self.tells_more,
            wait: self.rule.wait,
            show_key: self.rule.show_key,
            memory: self.rule.store.contains(&CacheTier::Memory),
            second: self
                .cache
                .second()
                .filter(|_| self.rule.is_shared())
                .cloned(),
            rule: Arc::clone(&self.rule),
            inner,
        })))
    }
}

impl Handle for CacheService {
    fn handle(&self, mut request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let route = &self.0;
        route.forget_nodes(&mut request, context);
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
        let look = self.look_with(asked, request, context);
        let found = look.stored()?;
        match reuse(asked, &found.facts, look.now.0) {
            Reuse::Fresh => Ok(look.hit(&found)),
            Reuse::StaleAsWanted => Ok(look.stale(&found, "max-stale")),
            Reuse::StaleWhileRevalidate => {
                let response = look.stale(&found, "while-revalidate");
                self.refresh(request, look.visit_for(found, Forwarded::Stale));
                Ok(response)
            }
            Reuse::Validate => Err(Box::new(look.visit_for(found, Forwarded::Stale))),
            Reuse::ValidateAsWanted => Err(Box::new(look.visit_for(found, Forwarded::Request))),
        }
    }

    /// What a request is looked up by once more, which may have waited since.
    fn look_again<'a>(self: &'a Arc<Self>, request: &'a Request, visit: &'a Visit) -> Look<'a> {
        let keys = &visit.keys;
        Look {
            callers: keys.caller.as_ref().map(Key::sought),
            key: keys.everyone.sought(),
            route: self,
            asked: &visit.asked,
            request,
            context: &visit.context,
            now: (self.cache.moment(), self.cache.stamp()),
        }
    }

    /// What a request is looked up by.
    fn look_with<'a>(
        self: &'a Arc<Self>,
        asked: &'a Asked,
        request: &'a Request,
        context: &'a Arc<Context>,
    ) -> Look<'a> {
        let key = Sought::of(&self.parts(request, context), context, request.headers());
        let of_caller = || {
            let identity = &self.options.identity_fields;
            key.of_caller(context, request.headers(), identity)
        };
        Look {
            callers: self.has_own_store(asked).then(of_caller),
            key,
            route: self,
            asked,
            request,
            context,
            now: (Moment::from(context.started_at), stamp(context.began())),
        }
    }

    /// Whether the caller has answers of its own (RFC 9111 3.5): one that authentication knows, or
    /// nobody at all. A credential that only the upstream knows names nobody to us; beside a principal it
    /// is a part of who calls, among those who vouch.
    fn has_own_store(&self, asked: &Asked) -> bool {
        self.options.scope == Scope::Principal && (asked.principal || !asked.authorization)
    }

    fn parts<'a>(&'a self, request: &'a Request, context: &'a Context) -> KeyParts<'a> {
        let zone = match &self.zones {
            Zones::One(zone) => zone,
            Zones::Split(parts) => context.steered().unwrap_or(&parts[0].0),
        };
        let rewritten = self.rewritten.as_ref();
        KeyParts {
            zone,
            route: &self.route,
            target: target(request),
            query: &self.rule.query,
            headers: &self.rule.key_headers,
            rewritten: rewritten.map(|path| render(path, context)),
            identity: &self.options.identity_fields,
            told_more: context.head.told_more || self.tells_more,
        }
    }

    /// Takes out which node of a proxy a request came through. In the key it would make a copy of every
    /// answer for each of them; an upstream that got it unkeyed might show it to others.
    fn forget_nodes(&self, request: &mut Request, context: &Context) {
        if context.head.told_more {
            for name in &self.nodes {
                request.headers_mut().remove(name);
            }
        }
    }

    fn marks(&self, key: &Sought, context: &Context) -> Marks {
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

/// One look into the store.
struct Look<'a> {
    route: &'a Arc<CacheRoute>,
    asked: &'a Asked,
    request: &'a Request,
    context: &'a Arc<Context>,
    key: Sought,
    /// The key of the caller's own answers.
    callers: Option<Sought>,
    now: (Moment, Stamp),
}

impl Look<'_> {
    /// What the request selects: of the caller's own answers, or of everybody's.
    fn looked(&self) -> Stored {
        let look = |key| {
            let cache = &self.route.cache;
            cache.look(key, self.request.headers(), self.now)
        };
        let own = self.callers.as_ref().map_or(Stored::Nothing, look);
        match own {
            Stored::Found(found) if found.facts.is_fresh(self.now.0) => Stored::Found(found),
            // The upstream may have given all the same one since.
            Stored::Found(found) => Stored::Found(match look(&self.key) {
                Stored::Found(other) => found.or_newer(other, self.asked, self.now.0),
                _ => found,
            }),
            own => or_others(look(&self.key), own),
        }
    }

    /// Whether an answer may be served as it is.
    fn is_fresh(&self, found: &Found) -> bool {
        reuse(self.asked, &found.facts, self.now.0) == Reuse::Fresh
    }

    /// The answer that the request selects, or what is known for fetching one.
    fn stored(&self) -> Result<Found, Box<Visit>> {
        let (why, known) = match self.looked() {
            Stored::Found(found) => return Ok(found),
            Stored::Nothing => (Forwarded::UriMiss, None),
            Stored::Others(newest) => (Forwarded::VaryMiss, Some(newest)),
            // What was purged still tells by what answers vary.
            Stored::Purged(newest) => (Forwarded::UriMiss, Some(newest)),
        };
        let nominated = known.map(|known| known.draft.nominated.clone());
        Err(Box::new(self.visit(None, why, nominated)))
    }

    /// By what requests wait for each other apart from all others. An answer to who names a caller or
    /// brings cookies may be nobody else's: others who waited for it would have to ask for themselves.
    fn kind(&self) -> Option<&'static str> {
        let known = self.callers.is_none() && self.asked.is_known_caller();
        match (known, self.asked.cookie) {
            (false, false) => None,
            (true, false) => Some("known"),
            (false, true) => Some("cookie"),
            (true, true) => Some("known-cookie"),
        }
    }

    /// By what it is remembered whose answers were nobody else's. Were it all of a kind together, others,
    /// whose answer is for all, would not bring that.
    fn asker(&self) -> u64 {
        let mut hasher = self.route.cache.hasher.build_hasher();
        for name in [COOKIE, AUTHORIZATION] {
            for value in self.request.headers().get_all(name) {
                value.hash(&mut hasher);
            }
        }
        let principal = self.context.principal();
        principal.map(|known| &*known.caller).hash(&mut hasher);
        hasher.finish()
    }

    /// Notes whether requests of this kind do not wait for each other now, whether its own answers are
    /// nobody else's, and whether those of its group were a while ago.
    fn note_passing(&self, visit: &mut Visit, key: &Sought) {
        // A POST waits for nobody, and nobody for it.
        if !self.asked.looks_up() {
            return;
        }
        let Some(shelf) = self.route.cache.store.find(key) else {
            return;
        };
        let (asker, now, ago) = (visit.keys.asker, self.now.1, REMEMBERED.as_nanos() as u64);
        visit.is_apart = shelf.passes_alone(asker, now);
        let is_by_variant = visit.keys.waiting.is_none();
        visit.passes = match &visit.stale {
            // Another variant than ours says nothing of ours. Where none is known yet there is but one mark.
            None if is_by_variant && visit.selection.digest() != 0 => visit.is_apart,
            None => shelf.passes(now),
            // What others have may be right still: who is answered apart does not lead those who want to
            // know, and parts nobody else from them, however many such there are.
            Some(_) => visit.is_apart,
        };
        visit.keeps_conditions = self.asked.conditional && shelf.passed_within(asker, now, ago);
    }

    fn hit(&self, found: &Found) -> Response {
        self.note("hit", None);
        let status = self.route.show_key.then(|| self.status(found, None));
        self.serving(found, status).object(&found.object)
    }

    fn stale(&self, found: &Found, why: &'static str) -> Response {
        self.note("stale", Some(why));
        let status = self.status(found, Some(why));
        self.serving(found, Some(status)).object(&found.object)
    }

    fn note(&self, result: &'static str, detail: Option<&'static str>) {
        self.context.cached(CacheNote { result, detail });
    }

    fn status(&self, found: &Found, detail: Option<&'static str>) -> HeaderValue {
        let shown = || self.route.shown(&self.key_of(found).to_key());
        let key = self.route.show_key.then(shown);
        let status = CacheStatus::hit(NAME, found.facts.ttl(self.now.0));
        let key = key.as_deref();
        CacheStatus {
            key,
            detail,
            ..status
        }
        .header()
    }

    /// The key under which an answer that was found is kept.
    fn key_of(&self, found: &Found) -> &Sought {
        let own = self.callers.as_ref();
        let own = own.filter(|_| found.object.draft.audience == Audience::Caller);
        own.unwrap_or(&self.key)
    }

    fn serving<'s>(&'s self, found: &'s Found, status: Option<HeaderValue>) -> Serving<'s> {
        Serving {
            asked: self.asked,
            request: self.request.headers(),
            facts: &found.facts,
            now: self.now.0,
            status,
        }
    }

    fn visit_for(&self, found: Found, why: Forwarded) -> Visit {
        let nominated = found.object.draft.nominated.clone();
        self.visit(Some(found), why, Some(nominated))
    }

    fn visit(&self, stale: Option<Found>, why: Forwarded, nominated: Option<Nominated>) -> Visit {
        let (request, digests) = (self.request.headers(), &self.route.cache.hasher);
        let of = |nominated| Selection::of(nominated, request, digests);
        let selection = nominated.map(of).unwrap_or_default();
        let kind = self.kind();
        let of_all = self.callers.as_ref().unwrap_or(&self.key);
        let of_kind = kind.map(|kind| of_all.of_kind(kind));
        let mut visit = Visit {
            asked: *self.asked,
            context: Arc::clone(self.context),
            headers: self.request.headers().clone(),
            host: public_host(self.context).into(),
            target: target(self.request).into(),
            marks: self.route.marks(&self.key, self.context),
            keys: Keys {
                everyone: self.key.to_key(),
                caller: self.callers.as_ref().map(Sought::to_key),
                waiting: of_kind.as_ref().map(Sought::to_key).zip(kind),
                asker: kind.map_or(selection.digest(), |_| self.asker()),
            },
            stale,
            why,
            selection,
            passes: false,
            is_apart: false,
            keeps_conditions: false,
            ticket: None,
        };
        self.note_passing(&mut visit, of_kind.as_ref().unwrap_or(of_all));
        visit
    }
}

impl Visit {
    fn note(&self, result: &'static str, detail: Option<&'static str>) {
        self.context.cached(CacheNote { result, detail });
    }

    /// Whether it was just learnt of who asks, of whom something tells who that is, that its answers are nobody
    /// else's. Those of whom nothing tells it are many.
    fn is_known_apart(&self) -> bool {
        self.is_apart && self.asked.names_somebody()
    }

    fn url(&self) -> Url<'_> {
        Url {
            scheme: self.context.scheme,
            authority: &self.host,
            target: &self.target,
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

/// The fields of proxies' nodes, but for those that the configuration names itself.
fn nodes(route: &Route, rule: &CacheRule, identity: &[HeaderName]) -> Box<[HeaderName]> {
    let is_named = |name: &HeaderName| {
        rule.key_headers.contains(name)
            || identity.contains(name)
            || written(route).any(|written| written == name)
    };
    let nodes = OF_NODES.into_iter();
    nodes.filter(|name| !is_named(name)).collect()
}

/// The fields of requests that a route writes.
fn written(route: &Route) -> impl Iterator<Item = &HeaderName> {
    let edits = &route.request_headers;
    edits.set.iter().chain(&edits.add).map(|(name, _)| name)
}

/// The path that a route's requests are sent to, where one URL has several.
fn rewritten(route: &Route) -> Option<Template> {
    let path = route.rewrite.path.as_ref();
    path.filter(|path| path.tells_requests_apart()).cloned()
}

/// The path and the query as the upstream gets them before any rewrite: without a credential that
/// was taken out of the query.
fn target(request: &Request) -> &str {
    let target = request.uri().path_and_query();
    target.map_or("/", PathAndQuery::as_str)
}

fn incoming<'a>(request: &'a Request, context: &Context) -> Incoming<'a> {
    Incoming {
        method: request.method(),
        headers: request.headers(),
        has_body: !request.body().is_end_stream(),
        upgrade: context.head.upgrade.is_some(),
        principal: context.principal().is_some(),
        odd_names: context.has_odd_names(),
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
