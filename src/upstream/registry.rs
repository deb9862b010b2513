//! The upstreams of the running configuration, and what of them outlives a reload.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    balance::Balance,
    pool::Pool,
    server::{Health, Server},
};
use crate::{
    config,
    exchange::{Reason, Retry, UpstreamError},
    telemetry::Metrics,
};

/// One upstream: its servers and whose turn it is.
pub struct UpstreamGroup {
    /// What it was made from; an unchanged upstream stays the same object over a reload.
    pub config: config::Upstream,
    /// Its servers, in the order of the file.
    pub servers: Vec<Arc<Server>>,
    balance: Balance,
    in_flight: Arc<AtomicUsize>,
}

impl UpstreamGroup {
    /// The server whose turn it is.
    pub(super) fn choose(&self) -> Result<&Arc<Server>, UpstreamError> {
        let none = || UpstreamError::new(Reason::NoHealthyServer, Retry::Never);
        self.balance.choose(&self.servers).ok_or_else(none)
    }

    /// Room for one more request under `max_in_flight`; nothing to hold where there is no limit.
    pub(super) fn admit(&self) -> Result<Option<Permit>, UpstreamError> {
        let Some(most) = self.config.max_in_flight else {
            return Ok(None);
        };
        let permit = Permit(Arc::new(Place(Arc::clone(&self.in_flight))));
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= most {
            // The permit gives its own count back.
            return Err(UpstreamError::new(Reason::Overloaded, Retry::Never));
        }
        Ok(Some(permit))
    }

    /// Shows its servers' health in the metrics: to be called when it has come into force. A group
    /// that is only built, for a reload which may be refused, shows nothing.
    pub fn show_health(&self) {
        for server in &self.servers {
            server.show_health();
        }
    }

    /// Whether any server takes requests.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.servers.iter().any(|server| server.is_healthy())
    }
}

/// One request under `max_in_flight`, until both its answer and its own body have ended: a server
/// that answers early may have to go on reading.
#[derive(Clone)]
pub(super) struct Permit(#[expect(dead_code, reason = "held for its drop")] Arc<Place>);

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes upstreams, and keeps their pools and health over reloads.
pub struct Registry {
    workers: usize,
    metrics: Arc<Metrics>,
    pools: Mutex<HashMap<config::ServerUrl, Arc<Pool>>>,
}

impl Registry {
    /// A registry for a number of workers.
    #[must_use]
    pub fn new(workers: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            workers,
            metrics,
            pools: Mutex::default(),
        }
    }

    /// The upstreams of a configuration: unchanged ones are those of `running`, and a changed one
    /// takes over the health of the servers it keeps.
    pub fn build(
        &self,
        config: &BTreeMap<Arc<str>, config::Upstream>,
        running: &BTreeMap<Arc<str>, Arc<UpstreamGroup>>,
    ) -> BTreeMap<Arc<str>, Arc<UpstreamGroup>> {
        config
            .iter()
            .map(|(name, config)| {
                let group = match running.get(name) {
                    Some(group) if group.config == *config => Arc::clone(group),
                    before => Arc::new(self.group(config, before.map(Arc::as_ref))),
                };
                (Arc::clone(name), group)
            })
            .collect()
    }

    fn group(&self, config: &config::Upstream, before: Option<&UpstreamGroup>) -> UpstreamGroup {
        let servers: Vec<_> = config
            .servers
            .iter()
            .map(|server| {
                let metrics = self.metrics.server(&config.name, &server.name);
                let known = before
                    .into_iter()
                    .flat_map(|group| &group.servers)
                    .find(|known| known.url == server.url);
                let health = match (known, &config.health_check) {
                    (Some(known), Some(_)) => known.health(),
                    // Without a check nothing would ever find the server healthy again.
                    _ => Health::Unknown,
                };
                let pool = self.pool(&server.url);
                Arc::new(Server::new(server, metrics, pool, health))
            })
            .collect();
        let weights: Vec<_> = servers.iter().map(|server| server.weight).collect();
        UpstreamGroup {
            config: config.clone(),
            balance: Balance::new(&weights),
            servers,
            in_flight: before.map_or_else(Arc::default, |group| Arc::clone(&group.in_flight)),
        }
    }

    fn pool(&self, url: &config::ServerUrl) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools
            .entry(url.clone())
            .or_insert_with(|| Arc::new(Pool::new(self.workers)));
        Arc::clone(pool)
    }

    /// Closes idle connections that are past their time, and forgets pools that nobody uses.
    pub fn sweep(&self, groups: &BTreeMap<Arc<str>, Arc<UpstreamGroup>>) {
        for group in groups.values() {
            for server in &group.servers {
                server.pool.sweep(group.config.pool_idle_timeout);
                server.metrics.set_idle(server.pool.idle());
            }
        }
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| Arc::strong_count(pool) > 1);
    }
}
