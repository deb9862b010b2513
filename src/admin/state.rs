//! `/api/state` and its lists: the running gateway as data.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ServerStatus;

/// Everything that can be told about the running gateway.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// What runs.
    pub build: Build,
    /// The number of the configuration in force; it counts up with each reload.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// Whether the gateway is stopping.
    pub draining: bool,
    /// Client connections that are open, over all workers.
    pub connections: usize,
    /// Where clients connect.
    pub listeners: Vec<ListenerState>,
    /// The threads that serve.
    pub workers: Vec<WorkerState>,
    /// The routes.
    pub routes: Vec<RouteState>,
    /// The upstreams and their servers.
    pub upstreams: Vec<UpstreamState>,
}

/// What runs.
#[derive(Clone, Debug, Serialize)]
pub struct Build {
    /// The version of the crate.
    pub version: &'static str,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// One listener.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerState {
    /// Its address.
    pub address: String,
    /// Client connections that are open.
    pub connections: i64,
}

/// One worker.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerState {
    /// Its number.
    pub index: usize,
    /// Client connections that live on it.
    pub connections: usize,
}

/// One route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteState {
    /// Its name.
    pub name: String,
    /// Its host patterns as written; empty is any host.
    pub hosts: Vec<String>,
    /// Its path patterns as written.
    pub paths: Vec<String>,
    /// Its methods; `None` is any.
    pub methods: Option<Vec<String>>,
    /// Where it leads, such as `upstream orders`.
    pub target: String,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// The keys that are written for it, and where: `route`, `group` or `defaults`.
    pub sources: BTreeMap<&'static str, &'static str>,
    /// Requests under way.
    pub in_flight: i64,
}

/// One upstream.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamState {
    /// Its name.
    pub name: String,
    /// Its servers.
    pub servers: Vec<ServerState>,
}

/// One server of an upstream.
#[derive(Clone, Debug, Serialize)]
pub struct ServerState {
    /// Its URL as written.
    pub name: String,
    /// Its share relative to the others.
    pub weight: u32,
    /// How it is.
    pub status: ServerStatus,
    /// Connections open to it.
    pub connections: i64,
    /// Connections to it that wait for a request.
    pub idle: i64,
}
