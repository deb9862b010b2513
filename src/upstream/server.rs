//! One server: its address, health, connections and figures.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use super::pool::Pool;
use crate::{
    config::{ServerUrl, UpstreamProtocol},
    telemetry::ServerMetrics,
};

/// What the checks of a server have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Not checked, or not often enough yet: it gets requests.
    Unknown,
    /// It gets requests.
    Healthy,
    /// It gets none.
    Unhealthy,
}

/// One server of an upstream.
pub struct Server {
    /// Its URL as written, its name in logs and metrics.
    pub name: Arc<str>,
    /// Its address.
    pub url: ServerUrl,
    /// Its weight relative to the upstream's other servers.
    pub weight: u32,
    pub(super) metrics: Arc<ServerMetrics>,
    pub(super) pool: Arc<Pool>,
    health: AtomicU8,
}

impl Server {
    pub(super) fn new(
        config: &crate::config::UpstreamServer,
        metrics: Arc<ServerMetrics>,
        pool: Arc<Pool>,
        health: Health,
    ) -> Self {
        Self {
            name: Arc::clone(&config.name),
            url: config.url.clone(),
            weight: config.weight.get(),
            metrics,
            pool,
            health: AtomicU8::new(health as u8),
        }
    }

    /// What the checks have found.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            healthy if healthy == Health::Healthy as u8 => Health::Healthy,
            unhealthy if unhealthy == Health::Unhealthy as u8 => Health::Unhealthy,
            _ => Health::Unknown,
        }
    }

    /// Whether requests are sent to it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health() != Health::Unhealthy
    }

    /// Sets what the health checks found; true when that is new.
    pub(super) fn set_health(&self, health: Health) -> bool {
        let before = self.health.swap(health as u8, Ordering::Relaxed);
        self.show_health();
        before != health as u8
    }

    /// Shows in the metrics whether it gets requests.
    pub(super) fn show_health(&self) {
        self.metrics.set_healthy(self.is_healthy());
    }

    /// Connections open to it.
    #[must_use]
    pub fn open_connections(&self) -> i64 {
        self.metrics.open()
    }

    /// Connections that wait for a request.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.idle()
    }

    pub(super) fn protocol(&self) -> UpstreamProtocol {
        match &self.url {
            ServerUrl::Tcp { protocol, .. } | ServerUrl::Unix { protocol, .. } => *protocol,
        }
    }

    /// The Host of the server itself.
    pub(super) fn authority(&self) -> String {
        match &self.url {
            ServerUrl::Unix { .. } => "localhost".to_owned(),
            ServerUrl::Tcp { host, port, .. } => {
                let host = match host.contains(':') {
                    true => format!("[{host}]"),
                    false => host.to_string(),
                };
                match port {
                    80 => host,
                    port => format!("{host}:{port}"),
                }
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.name).finish()
    }
}
