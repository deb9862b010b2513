//! The registry of one process and the handles that it gives out.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use prometheus::{IntCounter, Registry, TextEncoder, process_collector::ProcessCollector};

use super::{
    ListenerMetrics, RouteMetrics, ServerMetrics,
    families::{Families, Singles},
    series::Shared,
};

/// The name under which requests without a route are counted.
pub const UNROUTED: &str = "_none";

/// All metrics of one process.
///
/// A handle belongs to a name and survives a reload that keeps the name.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    singles: Singles,
    shared: Arc<Shared>,
    routes: Handles<Arc<str>, RouteMetrics>,
    servers: Handles<(Arc<str>, Arc<str>), ServerMetrics>,
    listeners: Handles<Arc<str>, ListenerMetrics>,
    started: Instant,
}

impl Metrics {
    /// A registry with the usual cap of 20,000 series for routes and servers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_limit(SERIES_LIMIT)
    }

    /// A registry with a cap on the lines that routes and servers may take in a scrape.
    #[must_use]
    pub fn with_limit(series: usize) -> Arc<Self> {
        let registry = Registry::new();
        let singles = Singles::new(&registry);
        let shown = Families::new(Some(&registry));
        // Without it only the figures about the process are missing.
        let _ = registry.register(Box::new(ProcessCollector::for_self()));
        Arc::new(Self {
            shared: Shared::new(shown, series, singles.series_refused.clone()),
            registry,
            singles,
            routes: Handles::new(),
            servers: Handles::new(),
            listeners: Handles::new(),
            started: Instant::now(),
        })
    }

    /// The handle of a route.
    #[must_use]
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let make = || RouteMetrics::new(name, &self.shared);
        self.routes.get(name.into(), make)
    }

    /// The handle for requests that no route took.
    #[must_use]
    pub fn unrouted(&self) -> Arc<RouteMetrics> {
        self.route(UNROUTED)
    }

    /// The handle of a server.
    #[must_use]
    pub fn server(&self, upstream: &str, server: &str) -> Arc<ServerMetrics> {
        let make = || ServerMetrics::new(upstream, server, &self.shared);
        self.servers.get((upstream.into(), server.into()), make)
    }

    /// The handle of a listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let make = || ListenerMetrics::new(name, &self.shared);
        self.listeners.get(name.into(), make)
    }

    /// The counter of lost lines of the access log.
    #[must_use]
    pub fn access_log_dropped(&self) -> IntCounter {
        self.singles.lines_dropped.clone()
    }

    /// Counts a trailer section that could not be passed on.
    pub fn trailers_dropped(&self) {
        self.singles.trailers_dropped.inc();
    }

    /// Notes the first configuration, generation 1.
    pub fn config_loaded(&self) {
        self.singles.generation.set(1);
        self.singles.reload_successful.set(1);
    }

    /// Notes a reload that took effect, and the configuration's new number.
    pub fn reload_succeeded(&self, generation: u64) {
        self.singles.generation.set(clamped(generation));
        self.singles.reload_successful.set(1);
        self.singles.reloads.with_label_values(&["success"]).inc();
    }

    /// Notes a reload that was refused; the old configuration stays.
    pub fn reload_failed(&self) {
        self.singles.reload_successful.set(0);
        self.singles.reloads.with_label_values(&["failure"]).inc();
    }

    /// Drops the series of routes and servers that the configuration no longer has.
    ///
    /// To be called after a reload has taken effect. Requests that are still under way keep their
    /// handles; what they count is no longer shown.
    pub fn retain(&self, route: impl Fn(&str) -> bool, server: impl Fn(&str, &str) -> bool) {
        let routed = |name: &Arc<str>| &**name == UNROUTED || route(name);
        self.routes.retain(routed, RouteMetrics::remove);
        let served = |(upstream, name): &(Arc<str>, Arc<str>)| server(upstream, name);
        self.servers.retain(served, ServerMetrics::remove);
    }

    /// Seconds since the registry was made.
    #[must_use]
    pub fn uptime(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Everything in the text format of Prometheus.
    ///
    /// It takes milliseconds with thousands of series: never call it on a worker.
    #[must_use]
    pub fn encode(&self) -> String {
        self.singles.uptime.set(self.uptime());
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be encoded");
        }
        text
    }
}

/// Handles by name.
#[derive(Debug)]
struct Handles<K, V>(Mutex<HashMap<K, Arc<V>>>);

impl<K: Eq + Hash, V> Handles<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut handles = self.locked();
        Arc::clone(handles.entry(key).or_insert_with(|| Arc::new(make())))
    }

    fn retain(&self, keep: impl Fn(&K) -> bool, remove: impl Fn(&V)) {
        self.locked().retain(|key, handle| {
            let kept = keep(key);
            if !kept {
                remove(handle);
            }
            kept
        });
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<K, Arc<V>>> {
        // An insertion is complete or did not happen.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Lines that all routes and servers together may take in a scrape.
const SERIES_LIMIT: usize = 20_000;
