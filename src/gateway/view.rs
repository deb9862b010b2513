//! What the admin listener may ask of the gateway.

mod limits;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::{Running, Shared, control::Control};
use crate::{
    admin::{
        self, Build, CacheResult, CacheRouteState, CacheState, Check, LimitKey, LimitListing,
        LimitReset, LimitState, ListenerState, Purge, PurgeAim, Reach, Readiness, RouteState,
        SecondTierState, ServerState, ServerStatus, State, UpstreamState, WorkerState,
    },
    config::{Route, RouteSources, Target},
    exchange::{BoxFuture, CacheNote, KeyState},
    pipeline::{Aim, LimitBook, SecondTierFigures},
    upstream::{Health, Server, UpstreamGroup},
};

/// The gateway as the admin listener sees it.
pub(super) struct View {
    shared: Arc<Shared>,
    control: Control,
}

impl View {
    pub(super) fn new(shared: &Arc<Shared>, control: Control) -> Self {
        Self {
            shared: Arc::clone(shared),
            control,
        }
    }
}

impl admin::Gateway for View {
    fn ready(&self) -> Readiness {
        self.shared.ready()
    }

    fn state(&self) -> State {
        self.shared.state()
    }

    fn keys(&self) -> Vec<KeyState> {
        self.shared.running().policies.keys()
    }

    fn metrics(&self) -> String {
        self.shared.scrape()
    }

    fn cache(&self) -> Option<CacheState> {
        self.shared.cache()
    }

    fn purge(&self, purge: &Purge) -> Option<Reach> {
        let running = self.shared.running();
        let cache = running.policies.cache()?;
        for aim in &purge.aims {
            cache.purge(&pipeline_aim(aim).plain(), purge.soft);
        }
        Some(match cache.shares_purges() {
            true => Reach::Gateways,
            false => Reach::Process,
        })
    }

    fn limits(&self) -> Vec<LimitState> {
        self.shared
            .limits()
            .iter()
            .map(|limit| limits::state(limit))
            .collect()
    }

    fn limit_keys(&self, limit: &str, most: usize) -> BoxFuture<LimitListing> {
        let limit = self.shared.limits().get(limit).cloned();
        Box::pin(async move {
            let Some(limit) = limit else {
                return LimitListing::Unknown;
            };
            match limit.busiest(most).await {
                Some(list) => LimitListing::Keys(limits::keys(list)),
                None => LimitListing::Away,
            }
        })
    }

    fn limit_key(&self, limit: &str, key: &str) -> BoxFuture<Option<LimitKey>> {
        let (limit, key) = (self.shared.limits().get(limit).cloned(), key.to_owned());
        Box::pin(async move { limit?.state(&key).await.map(limits::key) })
    }

    fn reset_limit_key(&self, limit: &str, key: &str) -> BoxFuture<LimitReset> {
        let (limit, key) = (self.shared.limits().get(limit).cloned(), key.to_owned());
        Box::pin(async move {
            let Some(limit) = limit else {
                return LimitReset::Unknown;
            };
            // Whoever is in flight would give back what somebody else has taken since.
            if limit.config().algorithm.is_held() {
                return LimitReset::Held;
            }
            match limit.reset(&key).await {
                Ok(true) => LimitReset::Done,
                Ok(false) => LimitReset::Unknown,
                Err(_) => LimitReset::Away,
            }
        })
    }

    fn reload(&self) -> BoxFuture<Result<(), String>> {
        let (shared, control) = (Arc::clone(&self.shared), self.control.clone());
        Box::pin(async move {
            let inner = control.clone();
            let reload = control.blocking(move || shared.reload(&inner)).await;
            reload.unwrap_or_else(|| Err("the gateway is stopping".to_owned()))
        })
    }
}

impl Shared {
    /// The limits in force; a clone holds no lock.
    fn limits(&self) -> LimitBook {
        self.running().policies.limits.clone()
    }

    fn ready(&self) -> Readiness {
        let running = self.running();
        let checks = running
            .upstreams
            .values()
            .filter_map(|group| {
                let check = group.config.health_check.as_ref()?;
                let name = format!("upstream.{}", group.config.name);
                Some((name, Check::of_servers(check.required, statuses(group))))
            })
            .collect();
        Readiness::new(self.draining.load(Ordering::Relaxed), checks)
    }

    fn state(&self) -> State {
        let workers: Vec<_> = self
            .listeners
            .workers()
            .into_iter()
            .map(|worker| WorkerState {
                index: worker.index,
                connections: worker.connections,
            })
            .collect();
        let running = self.running();
        State {
            build: Build::default(),
            generation: self.generation.load(Ordering::Relaxed),
            uptime_seconds: self.metrics.uptime(),
            draining: self.draining.load(Ordering::Relaxed),
            connections: workers.iter().map(|worker| worker.connections).sum(),
            listeners: self.listener_states(),
            workers,
            routes: self.route_states(&running),
            upstreams: running
                .upstreams
                .values()
                .map(|group| upstream(group))
                .collect(),
        }
    }

    fn cache(&self) -> Option<CacheState> {
        let running = self.running();
        let figures = running.policies.cache()?.figures();
        let routes = running.config.routes.iter();
        let routes: Vec<_> = routes
            .filter(|route| route.cache.is_some())
            .map(|route| CacheRouteState {
                name: route.name.to_string(),
                results: results(self.metrics.route(&route.name).cache_results()),
            })
            .collect();
        Some(CacheState {
            memory_limit: figures.memory,
            memory_used: figures.used,
            objects: figures.objects,
            evictions: figures.evictions,
            fetches: figures.fetches,
            bans: figures.bans,
            hit_ratio: hit_ratio(&routes),
            redis: figures.redis.map(second_tier),
            routes,
        })
    }

    fn listener_states(&self) -> Vec<ListenerState> {
        self.listeners
            .addresses()
            .iter()
            .map(|address| {
                let address = address.to_string();
                ListenerState {
                    connections: self.metrics.listener(&address).open(),
                    address,
                }
            })
            .collect()
    }

    fn route_states(&self, running: &Running) -> Vec<RouteState> {
        let routes = running.config.routes.iter();
        routes
            .map(|route| {
                let sources = running.config.route_sources.get(&route.name);
                RouteState {
                    name: route.name.to_string(),
                    hosts: route.hosts.iter().map(ToString::to_string).collect(),
                    paths: route
                        .paths
                        .iter()
                        .map(|path| path.text.to_string())
                        .collect(),
                    methods: methods(route),
                    target: target(&route.target),
                    group: sources.and_then(|it| it.group.as_ref().map(ToString::to_string)),
                    sources: sources.map(tables).unwrap_or_default(),
                    in_flight: self.metrics.route(&route.name).in_flight(),
                }
            })
            .collect()
    }
}

/// The table of each key that is written for a route.
fn tables(sources: &RouteSources) -> BTreeMap<&'static str, &'static str> {
    let keys = sources.keys.iter();
    keys.map(|(key, table)| (*key, table.as_str())).collect()
}

fn results(counts: Vec<(CacheNote, u64)>) -> Vec<CacheResult> {
    let result = |(note, requests): (CacheNote, u64)| CacheResult {
        result: note.result,
        detail: note.detail,
        requests,
    };
    counts.into_iter().map(result).collect()
}

/// Of the requests that were looked up, those that were answered without asking the upstream first.
fn hit_ratio(routes: &[CacheRouteState]) -> Option<f64> {
    let results = || routes.iter().flat_map(|route| &route.results);
    let sum = |of: &dyn Fn(&CacheResult) -> bool| -> u64 {
        let counted = results().filter(|result| of(result));
        counted.map(|result| result.requests).sum()
    };
    let asked = sum(&|result| result.result != "bypass");
    let served = sum(&|result| {
        let at_once = result.detail != Some("upstream-failed");
        result.result == "hit" || result.result == "stale" && at_once
    });
    (asked > 0).then(|| served as f64 / asked as f64)
}

fn second_tier(figures: SecondTierFigures) -> SecondTierState {
    let looks = figures.hits + figures.misses + figures.away;
    SecondTierState {
        hits: figures.hits,
        misses: figures.misses,
        away: figures.away,
        purged: figures.purged,
        invalid: figures.invalid,
        hit_ratio: (looks > 0).then(|| figures.hits as f64 / looks as f64),
    }
}

fn pipeline_aim(aim: &PurgeAim) -> Aim {
    let text = |text: &String| text.as_str().into();
    match aim {
        PurgeAim::Url(host, target) => Aim::Url {
            host: text(host),
            target: text(target),
        },
        PurgeAim::Prefix(host, path) => Aim::Prefix {
            host: host.as_ref().map(text),
            path: text(path),
        },
        PurgeAim::Host(host) => Aim::Host(text(host)),
        PurgeAim::Route(route) => Aim::Route(text(route)),
        PurgeAim::Tag(tag) => Aim::Tag(text(tag)),
        PurgeAim::Everything => Aim::Everything,
    }
}

fn methods(route: &Route) -> Option<Vec<String>> {
    let methods = route.methods.as_ref()?;
    Some(methods.iter().map(ToString::to_string).collect())
}

fn target(target: &Target) -> String {
    match target {
        Target::Upstream(name) => format!("upstream {name}"),
        Target::Split(parts) => {
            let parts: Vec<_> = parts
                .iter()
                .map(|(name, weight)| format!("{name}={weight}"))
                .collect();
            format!("split {}", parts.join(" "))
        }
        Target::Respond(respond) => format!("respond {}", respond.status.as_u16()),
        Target::Redirect(redirect) => format!("redirect {}", redirect.status.as_u16()),
    }
}

fn upstream(group: &UpstreamGroup) -> UpstreamState {
    UpstreamState {
        name: group.config.name.to_string(),
        servers: group.servers.iter().map(|server| state(server)).collect(),
    }
}

fn state(server: &Server) -> ServerState {
    ServerState {
        name: server.name.to_string(),
        weight: server.weight,
        status: status(server),
        connections: server.open_connections(),
        idle: i64::try_from(server.idle_connections()).unwrap_or(i64::MAX),
    }
}

fn statuses(group: &UpstreamGroup) -> BTreeMap<String, ServerStatus> {
    let servers = group.servers.iter();
    servers
        .map(|server| (server.name.to_string(), status(server)))
        .collect()
}

fn status(server: &Server) -> ServerStatus {
    match server.health() {
        Health::Unknown => ServerStatus::Unknown,
        Health::Healthy => ServerStatus::Healthy,
        Health::Unhealthy => ServerStatus::Unhealthy,
    }
}
