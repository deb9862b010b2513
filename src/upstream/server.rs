//! One server: its address, health, connections and figures.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::pool::Pool;
use crate::{
    config::{ServerUrl, UpstreamProtocol},
    telemetry::ServerMetrics,
};

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
    healthy: AtomicBool,
}

impl Server {
    pub(super) fn new(
        config: &crate::config::UpstreamServer,
        metrics: Arc<ServerMetrics>,
        pool: Arc<Pool>,
    ) -> Self {
        metrics.set_healthy(true);
        Self {
            name: Arc::clone(&config.name),
            url: config.url.clone(),
            weight: config.weight.get(),
            metrics,
            pool,
            // Unknown is usable: until the first checks say otherwise, requests are sent.
            healthy: AtomicBool::new(true),
        }
    }

    /// Whether requests are sent to it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Sets what the health checks found; true when that is new.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        self.metrics.set_healthy(healthy);
        self.healthy.swap(healthy, Ordering::Relaxed) != healthy
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
