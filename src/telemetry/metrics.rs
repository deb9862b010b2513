//! The registry of one process and the handles that it gives out.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use prometheus::{IntCounter, Registry, TextEncoder, process_collector::ProcessCollector};

use super::{
    ExternalMetrics, FileMetrics, IssuerMetrics, ListenerMetrics, RouteMetrics, ServerMetrics,
    families::Families,
    holders::Holders,
    limit::{LimitMetrics, LimitTable, TableMetrics},
    redis::{RedisMetrics, SecondTierMetrics},
    remembered::MemoryMetrics,
    series::Shared,
    singles::{FileFamilies, IssuerFamilies, MemoryFamilies, Singles},
};

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
    limits: Handles<(Arc<str>, Arc<str>), LimitMetrics>,
    limit_tables: Handles<Arc<str>, LimitTable>,
    files: Arc<Holders<FileFamilies>>,
    issuers: Arc<Holders<IssuerFamilies>>,
    memories: Arc<Holders<MemoryFamilies>>,
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
            shared: Shared::new(shown, series, singles.process.series_refused.clone()),
            files: Holders::new(singles.file.clone()),
            issuers: Holders::new(singles.issuer.clone()),
            memories: Holders::new(singles.memory.clone()),
            registry,
            singles,
            routes: Handles::new(),
            servers: Handles::new(),
            listeners: Handles::new(),
            limits: Handles::new(),
            limit_tables: Handles::new(),
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
        let known = self.listeners.locked().get(name).map(Arc::clone);
        known.unwrap_or_else(|| self.listeners.get(name.into(), make))
    }

    /// The handle of a limit on a route.
    #[must_use]
    pub fn limit(&self, route: &Arc<str>, limit: &Arc<str>) -> Arc<LimitMetrics> {
        let make = || LimitMetrics::new(route, limit, &self.shared);
        let key = (Arc::clone(route), Arc::clone(limit));
        self.limits.get(key, make)
    }

    /// The figures of a limit's table of keys.
    #[must_use]
    pub fn limit_table(&self, limit: &Arc<str>) -> TableMetrics {
        let make = || LimitTable::new(limit, &self.shared);
        self.limit_tables.get(Arc::clone(limit), make).metrics()
    }

    /// Drops the series of limits that the configuration, or the route in it, no longer has.
    pub fn retain_limits(
        &self,
        on_route: impl Fn(&str, &str) -> bool,
        known: impl Fn(&str) -> bool,
    ) {
        let limits = |(route, limit): &(Arc<str>, Arc<str>)| on_route(route, limit);
        self.limits.retain(limits, LimitMetrics::remove);
        self.limit_tables
            .retain(|limit| known(limit), LimitTable::remove);
    }

    /// The handle of what one way to authenticate remembers.
    #[must_use]
    pub fn memory(&self, method: &Arc<str>) -> MemoryMetrics {
        MemoryMetrics::new(method, &self.memories)
    }

    /// The handle of the files of one owner, such as `api_keys.partners`.
    #[must_use]
    pub fn file(&self, owner: &str) -> FileMetrics {
        FileMetrics::new(owner, &self.files)
    }

    /// The handle of an issuer's keys, by the name of its table: `jwt.customers`.
    #[must_use]
    pub fn issuer(&self, name: &str) -> IssuerMetrics {
        IssuerMetrics::new(name, &self.issuers)
    }

    /// The handle of a service of external auth, by the name of its table: `external.sso`.
    #[must_use]
    pub fn external_auth(&self, name: &Arc<str>) -> ExternalMetrics {
        ExternalMetrics::new(name, &self.singles.external_auth)
    }

    /// The counter of lost lines of the access log.
    #[must_use]
    pub fn access_log_dropped(&self) -> IntCounter {
        self.singles.process.lines_dropped.clone()
    }

    /// The counter of stored answers that had to make room.
    #[must_use]
    pub fn cache_evictions(&self) -> IntCounter {
        self.singles.cache.evictions.clone()
    }

    /// The figures of Redis; a process that has none does not show them.
    #[must_use]
    pub fn redis(&self) -> RedisMetrics {
        let redis = &self.singles.redis;
        RedisMetrics {
            up: redis.up.clone(),
            open: redis.open.clone(),
            duration: redis.duration.with_label_values(&["counts"]),
            answers_duration: redis.duration.with_label_values(&["answers"]),
            errors: redis.errors.clone(),
        }
    }

    /// The figures of the answers that gateways share.
    #[must_use]
    pub fn second_tier(&self) -> SecondTierMetrics {
        SecondTierMetrics {
            looks: self.singles.cache.second_looks.clone(),
            stores: self.singles.cache.second_stores.clone(),
        }
    }

    /// Counts a purge.
    pub fn cache_purged(&self) {
        self.singles.cache.purges.inc();
    }

    /// Notes what the cache holds; it is asked for when somebody looks.
    pub fn cache_holds(&self, bytes: u64, objects: u64) {
        self.singles.cache.bytes.set(clamped(bytes));
        self.singles.cache.objects.set(clamped(objects));
    }

    /// Notes how many lines of the application log were lost since the start. One caller at a time:
    /// two at once would count a line twice.
    pub fn log_lost(&self, lines: u64) {
        let counter = &self.singles.process.log_lines_dropped;
        counter.inc_by(lines.saturating_sub(counter.get()));
    }

    /// Counts a trailer section that could not be passed on.
    pub fn trailers_dropped(&self) {
        self.singles.process.trailers_dropped.inc();
    }

    /// Notes the first configuration, generation 1.
    pub fn config_loaded(&self) {
        self.singles.config.generation.set(1);
        self.singles.config.reload_successful.set(1);
    }

    /// Notes a reload that took effect, and the configuration's new number.
    pub fn reload_succeeded(&self, generation: u64) {
        let config = &self.singles.config;
        config.generation.set(clamped(generation));
        config.reload_successful.set(1);
        config.reloads.with_label_values(&["success"]).inc();
    }

    /// Notes a reload that was refused; the old configuration stays.
    pub fn reload_failed(&self) {
        let config = &self.singles.config;
        config.reload_successful.set(0);
        config.reloads.with_label_values(&["failure"]).inc();
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

    /// Drops the series of listeners that are closed.
    ///
    /// One whose connections are still open keeps them until a later call.
    pub fn retain_listeners(&self, listens: impl Fn(&str) -> bool) {
        let mut listeners = self.listeners.locked();
        listeners.retain(|name, handle| {
            let kept = listens(name) || handle.open() > 0;
            if !kept {
                handle.remove();
            }
            kept
        });
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
        self.singles.process.uptime.set(self.uptime());
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

/// The route label of requests that no route took.
const UNROUTED: &str = "_none";
/// Lines that all routes and servers together may take in a scrape.
const SERIES_LIMIT: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Reason;
    use http::{Method, StatusCode};
    use std::{
        io::Write,
        process::{Command, Stdio},
        time::Duration,
    };

    const MS: Duration = Duration::from_millis(1);

    fn request(metrics: &Metrics, route: &str, method: &Method, status: u16) {
        let route = metrics.route(route);
        route.begin();
        route.finished(method, StatusCode::from_u16(status).unwrap(), MS, 3, 5);
    }

    /// The value of a series; its name and labels as the text format writes them.
    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map(|rest| rest.trim().parse().unwrap())
    }

    fn busy() -> Arc<Metrics> {
        let metrics = Metrics::new();
        metrics.config_loaded();
        metrics.reload_succeeded(2);
        metrics.reload_failed();
        request(&metrics, "orders", &Method::GET, 200);
        metrics.unrouted().rejected(Reason::RouteNotFound);
        let server = metrics.server("orders", "http://10.0.0.1:80");
        server.answered(StatusCode::OK, MS);
        server.failed(Reason::ConnectRefused, MS);
        server.connect_error();
        server.body_failed();
        let listener = metrics.listener("0.0.0.0:8080");
        listener.opened();
        listener.refused(Reason::TooManyConnections);
        listener.malformed(Reason::Malformed);
        metrics.trailers_dropped();
        metrics
    }

    #[test]
    fn a_request_is_counted_by_route_method_and_status() {
        let metrics = Metrics::new();
        request(&metrics, "a", &Method::GET, 200);
        request(&metrics, "a", &Method::GET, 200);
        request(&metrics, "a", &Method::from_bytes(b"BREW").unwrap(), 418);
        let of = |series: &str| value(&metrics, series);
        let requests = |rest: &str| of(&format!("tollgate_requests_total{{{rest}}}"));
        assert_eq!(
            requests(r#"method="GET",route="a",status="200""#),
            Some(2.0)
        );
        assert_eq!(
            requests(r#"method="OTHER",route="a",status="418""#),
            Some(1.0)
        );
        let count = r#"tollgate_request_duration_seconds_count{route="a"}"#;
        assert_eq!(of(count), Some(3.0));
        assert_eq!(
            of(r#"tollgate_request_body_bytes_total{route="a"}"#),
            Some(9.0)
        );
        assert_eq!(
            of(r#"tollgate_response_body_bytes_total{route="a"}"#),
            Some(15.0)
        );
        assert_eq!(of(r#"tollgate_requests_in_flight{route="a"}"#), Some(0.0));
    }

    #[test]
    fn a_handle_survives_a_reload_that_keeps_its_name() {
        let metrics = Metrics::new();
        let before = metrics.route("kept");
        metrics.retain(|route| route == "kept", |_, _| true);
        assert!(Arc::ptr_eq(&before, &metrics.route("kept")));
    }

    #[test]
    fn a_reload_drops_the_series_of_what_is_gone() {
        let metrics = Metrics::new();
        request(&metrics, "gone", &Method::GET, 200);
        metrics.route("gone").rejected(Reason::BodyTooLarge);
        request(&metrics, "kept", &Method::GET, 200);
        let _ = metrics.server("u", "gone");
        let _ = metrics.server("u", "kept");
        let outliving = metrics.route("gone");
        outliving.begin();
        metrics.retain(|route| route == "kept", |_, server| server == "kept");
        outliving.finished(&Method::POST, StatusCode::OK, MS, 0, 0);
        outliving.rejected(Reason::ClientGone);
        let text = metrics.encode();
        assert!(!text.contains("gone\""), "{text}");
        assert!(text.contains(r#"route="kept""#) && text.contains(r#"server="kept""#));
    }

    #[test]
    fn a_closed_listener_keeps_its_series_until_its_last_connection_is_closed() {
        let metrics = Metrics::new();
        metrics.listener("kept").opened();
        let gone = metrics.listener("gone");
        gone.opened();
        gone.malformed(Reason::Malformed);
        gone.refused(Reason::TooManyConnections);
        metrics.retain_listeners(|name| name == "kept");
        assert!(metrics.encode().contains(r#"listener="gone""#));
        gone.closed();
        metrics.retain_listeners(|name| name == "kept");
        let text = metrics.encode();
        assert!(!text.contains(r#"listener="gone""#), "{text}");
        assert!(text.contains(r#"listener="kept""#), "{text}");
    }

    #[test]
    fn a_route_that_comes_back_begins_at_zero() {
        let metrics = Metrics::new();
        request(&metrics, "a", &Method::GET, 200);
        metrics.retain(|_| false, |_, _| false);
        request(&metrics, "a", &Method::GET, 200);
        let series = r#"tollgate_requests_total{method="GET",route="a",status="200"}"#;
        assert_eq!(value(&metrics, series), Some(1.0));
    }

    #[test]
    fn routes_over_the_cap_are_counted_together() {
        let metrics = Metrics::with_limit(60);
        for index in 0..100 {
            request(&metrics, &format!("route-{index}"), &Method::GET, 200);
        }
        let text = metrics.encode();
        let own = text.lines().filter(|line| line.contains("route=\"route-"));
        assert!(own.count() <= 60);
        let series = r#"tollgate_request_duration_seconds_count{route="_overflow"}"#;
        assert_eq!(value(&metrics, series), Some(98.0));
        let refused = value(&metrics, "tollgate_metric_series_overflow_total ");
        assert!(refused.unwrap() >= 98.0);
    }

    #[test]
    fn what_a_reload_drops_is_free_for_others() {
        let metrics = Metrics::with_limit(30);
        for name in ["a", "b", "c"] {
            request(&metrics, name, &Method::GET, 200);
            assert!(metrics.encode().contains(&format!("route=\"{name}\"")));
            metrics.retain(|_| false, |_, _| false);
        }
    }

    #[test]
    fn a_route_has_a_bounded_number_of_statuses() {
        let metrics = Metrics::new();
        for status in 100..1_000 {
            request(&metrics, "a", &Method::GET, status);
        }
        let text = metrics.encode();
        let series = text
            .lines()
            .filter(|line| line.starts_with("tollgate_requests_total"));
        assert!(series.count() < 200);
        let other = r#"tollgate_requests_total{method="OTHER",route="a",status="OTHER"}"#;
        assert!(value(&metrics, other).unwrap() > 700.0);
    }

    #[test]
    fn a_server_over_the_cap_has_no_health() {
        let metrics = Metrics::with_limit(0);
        let server = metrics.server("u", "s");
        server.set_healthy(false);
        server.answered(StatusCode::OK, MS);
        let text = metrics.encode();
        assert!(!text.contains("tollgate_upstream_server_healthy{"));
        let labels = r#"outcome="ok",server="_overflow",upstream="_overflow""#;
        let series = format!("tollgate_upstream_requests_total{{{labels}}}");
        assert_eq!(value(&metrics, &series), Some(1.0));
    }

    #[test]
    fn an_open_connection_is_counted_until_it_closes() {
        let metrics = Metrics::new();
        let server = metrics.server("u", "s");
        let open = server.connection_opened();
        assert_eq!(server.open(), 1);
        drop(open);
        assert_eq!(server.open(), 0);
    }

    #[test]
    fn names_and_help_are_as_prometheus_wants_them() {
        let linter = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        // `scripts/test` sees to it that promtool is there.
        let Ok(mut linter) = linter else { return };
        let text = busy().encode();
        let mut input = linter.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        let output = linter.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{text}");
        assert_eq!(said, "", "{text}");
    }

    #[test]
    fn a_scrape_tells_of_the_process_and_the_build() {
        let text = busy().encode();
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "tollgate_build_info{version=",
            "tollgate_uptime_seconds",
            "tollgate_config_generation 2",
            "tollgate_config_last_reload_successful 0",
            r#"tollgate_config_reloads_total{result="failure"} 1"#,
            r#"tollgate_rejections_total{reason="route.not_found",route="_none"} 1"#,
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
    }

    #[test]
    fn counting_from_many_threads_loses_nothing() {
        let metrics = Metrics::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for status in (200..220).cycle().take(2_000) {
                        request(&metrics, "a", &Method::GET, status);
                    }
                });
            }
        });
        let text = metrics.encode();
        let counts = text
            .lines()
            .filter(|line| line.starts_with("tollgate_requests_total"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        assert_eq!(counts.sum::<u64>(), 8_000);
    }
}
