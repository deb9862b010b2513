//! The composition root: a configuration becomes a running gateway.
//!
//! The only room that sees all others. A reload builds the whole new snapshot first and then swaps
//! it: anything wrong keeps the old one. What did not change (routes, upstreams, pools, health,
//! counters) is the same object before and after, so open streams never notice.

mod control;
mod inquiry;
mod observer;
mod routes;
mod subrequest;
mod view;
mod workshop;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::available_parallelism,
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;

use crate::{
    config::{self, Address, Config},
    exchange::Clock,
    frame::{Frame, Recorder, Snapshot, access_log::LineOptions},
    listener::{BindError, Listeners},
    pipeline::{Cache, Lineage},
    telemetry::{AccessLogWriter, LogHandle, Metrics},
};

pub use inquiry::{Inquiry, Outcome, route_of};

use control::Control;
use observer::Figures;
use workshop::{Running, Workshop};

/// Why a gateway could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin address can't be bound.
    #[error("[admin]: {0}")]
    Admin(#[source] BindError),
    /// The access log can't be opened.
    #[error("the access log {name} can't be opened: {cause}")]
    AccessLog {
        /// Its file.
        name: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A thread can't be started.
    #[error("a thread can't be started: {0}")]
    Thread(#[source] io::Error),
}

/// A running gateway. Dropping it ends everything at once; [`drain`](Self::drain) ends it well.
pub struct Gateway {
    shared: Arc<Shared>,
    control: Control,
    admin: Option<SocketAddr>,
}

/// What the control runtime and the gateway's owner share.
struct Shared {
    listeners: Listeners,
    snapshot: Arc<ArcSwap<Snapshot>>,
    recorder: Arc<Recorder>,
    log: Option<Arc<AccessLogWriter>>,
    level: Option<LogHandle>,
    metrics: Arc<Metrics>,
    workshop: Workshop,
    /// The file that a reload reads; none for a gateway without a file.
    source: Option<PathBuf>,
    fixed: Fixed,
    /// Held from reading a file until it is in force: of two reloads at a time, the one that read
    /// later must not be overwritten by the other.
    reloading: Mutex<()>,
    running: Mutex<Running>,
    generation: AtomicU64,
    draining: AtomicBool,
}

/// What only a start can change, as it was then.
struct Fixed {
    admin: Option<SocketAddr>,
    token: Option<config::Secret>,
    log: (bool, Option<PathBuf>),
}

impl Fixed {
    fn of(config: &Config) -> Self {
        let access = &config.log.access;
        Self {
            admin: config.admin.listen,
            token: config.admin.token.clone(),
            log: (access.enabled, access.file.clone()),
        }
    }

    /// The keys that another configuration has otherwise.
    fn changed_in(&self, next: &Config) -> impl Iterator<Item = &'static str> {
        let next = Self::of(next);
        let keys = [
            ("admin.listen", self.admin != next.admin),
            ("admin.token", self.token != next.token),
            ("log.access.file", self.log != next.log),
        ];
        let changed = keys.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(key, _)| key)
    }
}

impl Gateway {
    /// Binds, starts the workers and the control thread, and serves.
    ///
    /// `source` is the file that a reload reads again. `level` changes the application log's level
    /// on a reload.
    ///
    /// # Errors
    ///
    /// When an address can't be bound, a log can't be opened or a thread can't be started.
    pub fn start(
        config: Config,
        source: Option<PathBuf>,
        level: Option<LogHandle>,
    ) -> Result<Self, StartError> {
        Self::start_at(config, source, level, Clock::system())
    }

    /// Starts like [`start`](Self::start), with a clock that a test can move.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_at(
        config: Config,
        source: Option<PathBuf>,
        level: Option<LogHandle>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let fixed = Fixed::of(&config);
        let workers = worker_count(&config);
        let log = access_log(&config, workers, &metrics)?;
        let options = LineOptions::from(&config.log.access);
        let recorder = Arc::new(Recorder::new(Arc::clone(&metrics), log.clone(), options));
        let control = Control::start().map_err(StartError::Thread)?;
        let workshop = Workshop::new(&config, clock.clone(), &control, workers, &metrics);
        let mut running = workshop.build(config, &Running::default());
        let snapshot = Arc::new(ArcSwap::from_pointee(workshop.snapshot(&running)));
        let frame = Frame::new(Arc::clone(&snapshot), Arc::clone(&recorder), clock);
        let admin = bind_admin(&running.config)?;
        running.policies.take_effect();
        let figures = Arc::new(Figures::new(Arc::clone(&metrics)));
        let listeners = Listeners::start(&running.config.server, Arc::new(frame), figures)?;
        metrics.config_loaded();
        running.checks = control.watch(&running.upstreams, BTreeMap::new());
        let shared = Arc::new(Shared {
            listeners,
            snapshot,
            recorder,
            log,
            level,
            metrics,
            workshop,
            source,
            fixed,
            reloading: Mutex::new(()),
            running: Mutex::new(running),
            generation: AtomicU64::new(1),
            draining: AtomicBool::new(false),
        });
        let admin = control.serve(&shared, admin);
        Ok(Self {
            shared,
            control,
            admin,
        })
    }

    /// The addresses that clients connect to, with real ports where the file says port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.shared.listeners.addresses()
    }

    /// The admin listener's address, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Everything that `/metrics` tells.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.shared.scrape()
    }

    /// Reads the configuration again and swaps it in.
    ///
    /// # Errors
    ///
    /// The findings, ready to be shown; the old configuration is still in force then.
    pub fn reload(&self) -> Result<(), String> {
        self.shared.reload(&self.control)
    }

    /// Swaps a configuration in, as [`reload`](Self::reload) does with the file's.
    ///
    /// # Errors
    ///
    /// When an added address can't be bound; the old configuration is still in force then.
    pub fn apply(&self, config: Config) -> Result<(), String> {
        self.shared.apply(config, &self.control)
    }

    /// Opens the access log's file anew: it was moved away.
    pub fn reopen_logs(&self) {
        if let Some(log) = &self.shared.log {
            log.reopen();
        }
    }

    /// Starts the drain: readiness fails at once, answers close their connections, and when the
    /// delay is over nothing new is accepted. [`drained`](Self::drained) tells the end.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        let drain = self.shared.running().config.server.drain.clone();
        self.shared.listeners.drain(&drain);
    }

    /// Resolves when a drain has ended.
    pub async fn drained(&self) {
        self.shared.listeners.drained().await;
        let (cache, caches) = self.shared.caches();
        // Nobody reads what is still being fetched for the cache.
        if let Some(cache) = cache {
            cache.stop().await;
        }
        // Whether or not the last reload has left a cache.
        caches.drain().await;
        let all = self.shared.running().policies.all_redis();
        join_all(all.iter().map(|redis| redis.all_given_back())).await;
    }

    /// Ends everything now.
    pub fn abort(&self) {
        self.shared.listeners.abort();
    }
}

impl Drop for Gateway {
    /// Stops the threads; what the access log still holds is written. The workers end first: what
    /// breaks off with them is logged too.
    fn drop(&mut self) {
        self.shared.listeners.stop();
        self.control.stop();
        if let Some(log) = &self.shared.log {
            log.shutdown();
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Running> {
        // A reload writes it as its last step, as a whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cache, if a route has one, and all that there were.
    fn caches(&self) -> (Option<Arc<Cache>>, Arc<Lineage>) {
        let running = self.running();
        let policies = &running.policies;
        (policies.cache().cloned(), Arc::clone(policies.caches()))
    }

    fn reload(&self, control: &Control) -> Result<(), String> {
        let _alone = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let outcome = self.read().and_then(|config| self.apply(config, control));
        if let Err(findings) = &outcome {
            self.metrics.reload_failed();
            tracing::error!(%findings, "the reload was refused; the old configuration stays");
        }
        outcome
    }

    fn read(&self) -> Result<Config, String> {
        let source: &Path = self
            .source
            .as_deref()
            .ok_or("the gateway was started without a file, so there is nothing to reload")?;
        let loaded = Config::load(source).map_err(|findings| findings.render(false))?;
        for warning in loaded.warnings.iter() {
            tracing::warn!(warning = warning.message, "configuration");
        }
        Ok(loaded.config)
    }

    fn apply(&self, config: Config, control: &Control) -> Result<(), String> {
        let mut running = self.running();
        let client = &self.workshop.client;
        client.reconfigure(&config.subrequests);
        let mut next = self.workshop.build(config, &running);
        // The last step that can fail.
        let listening = self
            .listeners
            .reconfigure(&next.config.server)
            .inspect_err(|_| {
                client.reconfigure(&running.config.subrequests);
                self.forget(&running);
            })
            .map_err(|error| error.to_string())?;
        if listening.restart_needed {
            tracing::warn!("a changed number of workers takes effect at the next start");
        }
        // Above all a token that leaked must not be thought to be replaced.
        for key in self.fixed.changed_in(&next.config) {
            tracing::warn!(key, "a changed key takes effect at the next start");
        }
        next.policies.take_effect();
        self.snapshot.store(Arc::new(self.workshop.snapshot(&next)));
        self.recorder
            .reconfigure(LineOptions::from(&next.config.log.access));
        let relevelled = running.config.log.level != next.config.log.level;
        if let Some(level) = self.level.as_ref().filter(|_| relevelled) {
            level.apply(&next.config.log);
        }
        next.checks = control.watch(&next.upstreams, std::mem::take(&mut running.checks));
        *running = next;
        for group in running.upstreams.values() {
            group.show_health();
        }
        self.forget(&running);
        self.loaded();
        Ok(())
    }

    /// Everything that `/metrics` tells, at this moment.
    fn scrape(&self) -> String {
        // Held for both: figures are noted by one scrape at a time.
        let running = self.running();
        if let Some(cache) = running.policies.cache() {
            let figures = cache.figures();
            self.metrics.cache_holds(figures.used, figures.objects);
        }
        if let Some(log) = &self.level {
            self.metrics.log_lost(log.lost());
        }
        drop(running);
        self.metrics.encode()
    }

    /// Drops the series of what is no longer configured.
    fn forget(&self, running: &Running) {
        let serves = |upstream: &str, server: &str| {
            running
                .upstreams
                .get(upstream)
                .is_some_and(|group| group.servers.iter().any(|known| &*known.name == server))
        };
        self.metrics
            .retain(|route| running.routes.contains(route), serves);
        let limited = |route: &str, limit: &str| {
            let mut routes = running.config.routes.iter();
            routes.any(|it| *it.name == *route && it.rate_limits.iter().any(|it| **it == *limit))
        };
        let known = |limit: &str| running.config.rate_limits.contains_key(limit);
        self.metrics.retain_limits(limited, known);
        let listening = self.listeners.addresses();
        let listening: Vec<_> = listening.iter().map(Address::to_string).collect();
        self.metrics
            .retain_listeners(|name| listening.iter().any(|known| known == name));
    }

    fn loaded(&self) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.metrics.reload_succeeded(generation);
        tracing::info!(generation, "the configuration was reloaded");
    }

    fn sweep(&self) {
        let running = self.running();
        let (upstreams, limits) = (running.upstreams.clone(), running.policies.limits.clone());
        drop(running);
        self.workshop.registry.sweep(&upstreams);
        limits.sweep();
    }
}

fn worker_count(config: &Config) -> usize {
    let available = || available_parallelism().map_or(1, usize::from);
    config.server.workers.map_or_else(available, usize::from)
}

fn access_log(
    config: &Config,
    workers: usize,
    metrics: &Metrics,
) -> Result<Option<Arc<AccessLogWriter>>, StartError> {
    let access = &config.log.access;
    if !access.enabled {
        return Ok(None);
    }
    AccessLogWriter::start(access, workers, metrics.access_log_dropped())
        .map(Some)
        .map_err(|cause| StartError::AccessLog {
            name: log_name(access),
            cause,
        })
}

fn log_name(access: &config::AccessLog) -> String {
    let file = access.file.as_ref();
    file.map_or_else(
        || "on standard output".to_owned(),
        |file| file.display().to_string(),
    )
}

fn bind_admin(config: &Config) -> Result<Option<std::net::TcpListener>, StartError> {
    let Some(address) = config.admin.listen else {
        return Ok(None);
    };
    let refused = |cause| {
        let name = address.to_string();
        StartError::Admin(BindError::Address { name, cause })
    };
    let listener = std::net::TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(Some(listener))
}
