//! What the admin listener may ask of the gateway.

mod limits;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::{Running, Shared, control::Control};
use crate::{
    admin::{
        self, Build, Check, LimitKey, LimitKeys, LimitState, ListenerState, Readiness, RouteState,
        ServerState, ServerStatus, State, UpstreamState, WorkerState,
    },
    config::{Route, Target},
    exchange::{BoxFuture, KeyState},
    pipeline::LimitBook,
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
        self.shared.metrics.encode()
    }

    fn limits(&self) -> Vec<LimitState> {
        self.shared
            .limits()
            .iter()
            .map(|limit| limits::state(limit))
            .collect()
    }

    fn limit_keys(&self, limit: &str, most: usize) -> Option<LimitKeys> {
        self.shared
            .limits()
            .get(limit)
            .map(|limit| limits::keys(limit, most))
    }

    fn limit_key(&self, limit: &str, key: &str) -> Option<LimitKey> {
        self.shared.limits().get(limit)?.state(key).map(limits::key)
    }

    fn reset_limit_key(&self, limit: &str, key: &str) -> bool {
        let limits = self.shared.limits();
        limits.get(limit).is_some_and(|limit| limit.reset(key))
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
            .map(|route| RouteState {
                name: route.name.to_string(),
                hosts: route.hosts.iter().map(ToString::to_string).collect(),
                paths: route
                    .paths
                    .iter()
                    .map(|path| path.text.to_string())
                    .collect(),
                methods: methods(route),
                target: target(&route.target),
                in_flight: self.metrics.route(&route.name).in_flight(),
            })
            .collect()
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
