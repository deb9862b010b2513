//! The metric families of routes, servers, listeners and limits: their names, help and labels. All
//! others are in [`super::singles`].
//!
//! Names and units follow the conventions of Prometheus: base units, `_total` for counters.

use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

/// All of them.
///
/// The type exists twice in a process: registered, and not. A handle of a route that a reload took
/// away may still be asked for a series; it then gets one that nobody scrapes.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) route: RouteFamilies,
    pub(super) server: ServerFamilies,
    pub(super) listener: ListenerFamilies,
    pub(super) limit: LimitFamilies,
}

impl Families {
    /// New families, registered where a registry is given.
    pub(super) fn new(registry: Option<&Registry>) -> Self {
        let make = Maker(registry);
        Self {
            route: RouteFamilies::new(&make),
            server: ServerFamilies::new(&make),
            listener: ListenerFamilies::new(&make),
            limit: LimitFamilies::new(&make),
        }
    }
}

/// Families of routes.
#[derive(Debug)]
pub(super) struct RouteFamilies {
    pub(super) requests: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) request_bytes: IntCounterVec,
    pub(super) response_bytes: IntCounterVec,
    pub(super) rejections: IntCounterVec,
    pub(super) auth: IntCounterVec,
    pub(super) shadow_refusals: IntCounterVec,
    pub(super) cache: IntCounterVec,
}

impl RouteFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            requests: make.counters(
                "tollgate_requests_total",
                "Requests that have ended, by route, method and status.",
                &["route", "method", "status"],
            ),
            duration: make.histograms(
                "tollgate_request_duration_seconds",
                "From a request's head to the end of its answer.",
                &["route"],
            ),
            in_flight: make.gauges(
                "tollgate_requests_in_flight",
                "Requests that have begun and not ended.",
                &["route"],
            ),
            request_bytes: make.counters(
                "tollgate_request_body_bytes_total",
                "Bytes of request bodies received.",
                &["route"],
            ),
            response_bytes: make.counters(
                "tollgate_response_body_bytes_total",
                "Bytes of response bodies sent.",
                &["route"],
            ),
            rejections: make.counters(
                "tollgate_rejections_total",
                "Requests that the gateway refused or that ended early, by reason.",
                &["route", "reason"],
            ),
            auth: make.counters(
                "tollgate_auth_decisions_total",
                "What each way to authenticate decided: granted, or the reason of the refusal.",
                &["route", "method", "reason"],
            ),
            shadow_refusals: make.counters(
                "tollgate_shadow_refusals_total",
                "Requests that a rule with enforce = false would have refused, by reason.",
                &["route", "reason"],
            ),
            cache: make.counters(
                "tollgate_cache_requests_total",
                "Requests of routes with a cache, by what the cache did, and why where it did not serve or store.",
                &["route", "result", "detail"],
            ),
        }
    }
}

/// Families of servers.
#[derive(Debug)]
pub(super) struct ServerFamilies {
    pub(super) requests: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) open: IntGaugeVec,
    pub(super) idle: IntGaugeVec,
    pub(super) connect_errors: IntCounterVec,
    pub(super) body_errors: IntCounterVec,
    pub(super) healthy: IntGaugeVec,
}

impl ServerFamilies {
    fn new(make: &Maker<'_>) -> Self {
        let server = ["upstream", "server"];
        Self {
            requests: make.counters(
                "tollgate_upstream_requests_total",
                "Requests sent to a server, by outcome.",
                &[server[0], server[1], "outcome"],
            ),
            duration: make.histograms(
                "tollgate_upstream_request_duration_seconds",
                "From choosing a server until the head of its answer, or the failure.",
                &server,
            ),
            open: make.gauges(
                "tollgate_upstream_connections_open",
                "Connections to a server, in use or idle.",
                &server,
            ),
            idle: make.gauges(
                "tollgate_upstream_connections_idle",
                "Connections to a server that wait for a request.",
                &server,
            ),
            connect_errors: make.counters(
                "tollgate_upstream_connect_errors_total",
                "Connections to a server that could not be made.",
                &server,
            ),
            body_errors: make.counters(
                "tollgate_upstream_body_errors_total",
                "Answers of a server that broke off or stalled after their head.",
                &server,
            ),
            healthy: make.gauges(
                "tollgate_upstream_server_healthy",
                "Whether a server gets requests: 1, or 0 when its health check has failed.",
                &server,
            ),
        }
    }
}

/// Families of listeners.
#[derive(Debug)]
pub(super) struct ListenerFamilies {
    pub(super) open: IntGaugeVec,
    pub(super) accepted: IntCounterVec,
    pub(super) refused: IntCounterVec,
    pub(super) malformed: IntCounterVec,
}

impl ListenerFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            open: make.gauges(
                "tollgate_listener_connections_open",
                "Client connections that are open.",
                &["listener"],
            ),
            accepted: make.counters(
                "tollgate_listener_connections_accepted_total",
                "Client connections accepted.",
                &["listener"],
            ),
            refused: make.counters(
                "tollgate_listener_connections_refused_total",
                "Client connections closed at once, by reason.",
                &["listener", "reason"],
            ),
            malformed: make.counters(
                "tollgate_malformed_requests_total",
                "Requests that were refused before they could be read, by reason.",
                &["listener", "reason"],
            ),
        }
    }
}

/// Families of rate limits.
#[derive(Debug)]
pub(super) struct LimitFamilies {
    pub(super) decisions: IntCounterVec,
    pub(super) keys: IntGaugeVec,
    pub(super) evictions: IntCounterVec,
}

impl LimitFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            decisions: make.counters(
                "tollgate_rate_limit_decisions_total",
                "Decisions of rate limits: allow, deny, shadow_deny; and degraded, beside them, without Redis.",
                &["route", "limit", "decision"],
            ),
            keys: make.gauges(
                "tollgate_rate_limit_keys",
                "Keys that a rate limit holds.",
                &["limit"],
            ),
            evictions: make.counters(
                "tollgate_rate_limit_evictions_total",
                "Keys that had to make room although they owed something or had a lease left, or are counted with another.",
                &["limit"],
            ),
        }
    }
}

/// Makes families, and registers them where there is a registry.
pub(super) struct Maker<'a>(pub(super) Option<&'a Registry>);

impl Maker<'_> {
    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn seconds(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::new(name, help))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.register(HistogramVec::new(options, labels))
    }

    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        // Names and labels are the literals above; a wrong or doubled one fails in every test.
        let family = made.expect("a metric's name and labels are valid");
        if let Some(registry) = self.0 {
            let registered = registry.register(Box::new(family.clone()));
            registered.expect("a metric's name stands once");
        }
        family
    }
}

/// Upper bounds of the histograms, in seconds.
const BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Lines of one histogram in a scrape: its buckets, `+Inf`, sum and count.
pub(super) const HISTOGRAM_SERIES: usize = BUCKETS.len() + 3;
