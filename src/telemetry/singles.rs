//! The metric families of what a process has once, or under few names. They stand outside the cap on
//! series.

use prometheus::{Gauge, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::families::Maker;

/// All of them.
#[derive(Debug)]
pub(super) struct Singles {
    pub(super) process: ProcessFamilies,
    pub(super) config: ConfigFamilies,
    pub(super) file: FileFamilies,
    pub(super) issuer: IssuerFamilies,
    pub(super) memory: MemoryFamilies,
    pub(super) cache: CacheFamilies,
    pub(super) redis: RedisFamilies,
    /// Questions to services of external auth.
    pub(super) external_auth: IntCounterVec,
}

impl Singles {
    /// New metrics, registered.
    pub(super) fn new(registry: &Registry) -> Self {
        let make = Maker(Some(registry));
        tell_build(&make);
        Self {
            process: ProcessFamilies::new(&make),
            config: ConfigFamilies::new(&make),
            file: FileFamilies::new(&make),
            issuer: IssuerFamilies::new(&make),
            memory: MemoryFamilies::new(&make),
            cache: CacheFamilies::new(&make),
            redis: RedisFamilies::new(&make),
            external_auth: make.counters(
                "tollgate_external_auth_requests_total",
                "Requests that a service of external auth had to judge, by result.",
                &["service", "result"],
            ),
        }
    }
}

fn tell_build(make: &Maker<'_>) {
    let build = make.gauges(
        "tollgate_build_info",
        "Always 1; the labels tell what runs.",
        &["version"],
    );
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
}

/// The process, and what it had to let go.
#[derive(Debug)]
pub(super) struct ProcessFamilies {
    pub(super) uptime: Gauge,
    pub(super) lines_dropped: IntCounter,
    pub(super) log_lines_dropped: IntCounter,
    pub(super) trailers_dropped: IntCounter,
    pub(super) series_refused: IntCounter,
}

impl ProcessFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            uptime: make.seconds(
                "tollgate_uptime_seconds",
                "Time since the process started serving.",
            ),
            lines_dropped: make.counter(
                "tollgate_access_log_lines_dropped_total",
                "Lines of the access log that were lost: the buffer was full or writing failed.",
            ),
            log_lines_dropped: make.counter(
                "tollgate_log_lines_dropped_total",
                "Lines of the application log that were lost: nobody took them in time.",
            ),
            trailers_dropped: make.counter(
                "tollgate_trailers_dropped_total",
                "Trailer sections that could not be passed on.",
            ),
            series_refused: make.counter(
                "tollgate_metric_series_overflow_total",
                "Series that were not made because of the cap; their counts stand under _overflow.",
            ),
        }
    }
}

/// The configuration in force.
#[derive(Debug)]
pub(super) struct ConfigFamilies {
    pub(super) generation: IntGauge,
    pub(super) reloads: IntCounterVec,
    pub(super) reload_successful: IntGauge,
}

impl ConfigFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            generation: make.gauge(
                "tollgate_config_generation",
                "The number of the configuration in use; it counts up with each reload.",
            ),
            reloads: make.counters(
                "tollgate_config_reloads_total",
                "Reloads of the configuration, by result.",
                &["result"],
            ),
            reload_successful: make.gauge(
                "tollgate_config_last_reload_successful",
                "Whether the last reload of the configuration succeeded.",
            ),
        }
    }
}

/// Families of watched files.
#[derive(Clone, Debug)]
pub(super) struct FileFamilies {
    pub(super) successful: IntGaugeVec,
    pub(super) reads: IntCounterVec,
}

impl FileFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            successful: make.gauges(
                "tollgate_file_last_read_successful",
                "Whether a watched file could be used when it was read last, by whose it is.",
                &["owner"],
            ),
            reads: make.counters(
                "tollgate_file_reads_total",
                "Readings of changed files, by whose they are and by result.",
                &["owner", "result"],
            ),
        }
    }
}

/// Families of issuers, whose keys are fetched.
#[derive(Clone, Debug)]
pub(super) struct IssuerFamilies {
    pub(super) keys: IntGaugeVec,
    pub(super) refreshed: IntGaugeVec,
    pub(super) refreshes: IntCounterVec,
    pub(super) unknown: IntCounterVec,
}

impl IssuerFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            keys: make.gauges(
                "tollgate_jwks_keys",
                "Keys that were fetched last, by issuer.",
                &["issuer"],
            ),
            refreshed: make.gauges(
                "tollgate_jwks_last_refresh_timestamp_seconds",
                "When an issuer's keys were fetched last; their age is the time since then.",
                &["issuer"],
            ),
            refreshes: make.counters(
                "tollgate_jwks_refreshes_total",
                "Fetches of an issuer's keys, by result.",
                &["issuer", "result"],
            ),
            unknown: make.counters(
                "tollgate_jwks_unknown_keys_total",
                "Look-ups of a key by a name that the issuer's set does not have, by what came of it.",
                &["issuer", "result"],
            ),
        }
    }
}

/// Families of ways to authenticate that remember credentials.
#[derive(Clone, Debug)]
pub(super) struct MemoryFamilies {
    pub(super) lookups: IntCounterVec,
}

impl MemoryFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            lookups: make.counters(
                "tollgate_auth_remembered_total",
                "Look-ups among the credentials that are remembered, by result.",
                &["method", "result"],
            ),
        }
    }
}

/// The cache, in memory and in Redis.
#[derive(Debug)]
pub(super) struct CacheFamilies {
    pub(super) bytes: IntGauge,
    pub(super) objects: IntGauge,
    pub(super) evictions: IntCounter,
    pub(super) purges: IntCounter,
    pub(super) second_looks: IntCounterVec,
    pub(super) second_stores: IntCounterVec,
}

impl CacheFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            bytes: make.gauge(
                "tollgate_cache_memory_bytes",
                "Memory that stored answers take, with their keys and bookkeeping.",
            ),
            objects: make.gauge(
                "tollgate_cache_objects",
                "Keys of which answers are stored, or of which it is known that requests do not wait for each other.",
            ),
            evictions: make.counter(
                "tollgate_cache_evictions_total",
                "Keys whose stored answers had to make room for others.",
            ),
            purges: make.counter("tollgate_cache_purges_total", "Purges that were asked for."),
            second_looks: make.counters(
                "tollgate_cache_redis_lookups_total",
                "Looks for stored answers in Redis, and what was found there and is of no use, by result.",
                &["result"],
            ),
            second_stores: make.counters(
                "tollgate_cache_redis_stores_total",
                "Answers that were to be stored in Redis, by result.",
                &["result"],
            ),
        }
    }
}

/// The Redis that gateways share.
#[derive(Debug)]
pub(super) struct RedisFamilies {
    pub(super) up: IntGaugeVec,
    pub(super) open: IntGaugeVec,
    pub(super) duration: HistogramVec,
    pub(super) errors: IntCounterVec,
}

impl RedisFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            up: make.gauges(
                "tollgate_redis_up",
                "Whether Redis is believed to answer.",
                &[],
            ),
            open: make.gauges(
                "tollgate_redis_breaker_open",
                "Whether requests go on without Redis, because it was away.",
                &[],
            ),
            duration: make.histograms(
                "tollgate_redis_duration_seconds",
                "From asking Redis to its answer, by what it was asked about.",
                &["use"],
            ),
            errors: make.counters(
                "tollgate_redis_errors_total",
                "Calls of Redis without a usable answer, by cause.",
                &["cause"],
            ),
        }
    }
}
