//! Metrics of one route.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter, IntGauge};

use crate::exchange::{CacheNote, Reason};

use super::{
    cells::Cells,
    families::{Families, HISTOGRAM_SERIES, RouteFamilies},
    series::{OVERFLOW, Owned, Place, Shared},
};

/// The handle of one route. It is looked up when a configuration is loaded and shared by all its
/// requests.
///
/// A route without traffic has no series: they are made by its first request.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Arc<str>,
    basics: OnceLock<Basics>,
    requests: Cells<(&'static str, u16), IntCounter>,
    rejections: Cells<Reason, IntCounter>,
    shadow_refusals: Cells<Reason, IntCounter>,
    cache: Cells<CacheNote, IntCounter>,
    /// For methods and statuses over the length of the list.
    other: OnceLock<IntCounter>,
    /// What each way to authenticate decided; kept here, so that a route that is built anew finds
    /// its own series.
    auth: Mutex<HashMap<Arc<str>, Arc<AuthCells>>>,
    owned: Owned<Series>,
}

/// Counters by reason; `None` is a request that was let in.
type AuthCells = Cells<Option<Reason>, IntCounter>;

/// What one way to authenticate decided on one route.
#[derive(Debug)]
pub struct AuthMetrics {
    route: Arc<RouteMetrics>,
    method: Arc<str>,
    cells: Arc<AuthCells>,
}

impl AuthMetrics {
    /// The handle for a method on a route.
    #[must_use]
    pub fn new(route: &Arc<RouteMetrics>, method: &str) -> Self {
        let method: Arc<str> = method.into();
        Self {
            cells: route.auth_cells(&method),
            route: Arc::clone(route),
            method,
        }
    }

    /// Counts a request that was let in, or refused for a reason.
    pub fn count(&self, refused: Option<Reason>) {
        let make = || self.route.auth_counter(&self.method, refused);
        // There are fewer reasons than the list is long.
        if let Some(counter) = self.cells.get(refused, make) {
            counter.inc();
        }
    }
}

/// What every request touches.
#[derive(Debug)]
struct Basics {
    in_flight: IntGauge,
    duration: Histogram,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
}

#[derive(Debug)]
enum Series {
    Basics,
    Requests(&'static str, u16),
    Other,
    Rejections(Reason),
    Auth(Arc<str>, Option<Reason>),
    ShadowRefusals(Reason),
    Cache(CacheNote),
}

impl RouteMetrics {
    pub(super) fn new(name: &str, shared: &Arc<Shared>) -> Self {
        Self {
            name: name.into(),
            basics: OnceLock::new(),
            requests: Cells::new(),
            rejections: Cells::new(),
            shadow_refusals: Cells::new(),
            cache: Cells::new(),
            other: OnceLock::new(),
            auth: Mutex::default(),
            owned: Owned::new(shared),
        }
    }

    /// The route's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a request in. [`Self::finished`] must follow.
    pub fn begin(&self) {
        self.basics().in_flight.inc();
    }

    /// Counts a request out when its answer, or its tunnel, has ended.
    ///
    /// The status is the one of the log: 499 when the client left before the answer's head.
    pub fn finished(
        &self,
        method: &Method,
        status: StatusCode,
        duration: Duration,
        bytes_in: u64,
        bytes_out: u64,
    ) {
        let basics = self.basics();
        basics.in_flight.dec();
        basics.duration.observe(duration.as_secs_f64());
        basics.bytes_in.inc_by(bytes_in);
        basics.bytes_out.inc_by(bytes_out);
        self.requests(method_label(method), status.as_u16()).inc();
    }

    /// Counts a request that was refused or ended early.
    pub fn rejected(&self, reason: Reason) {
        let made = self.rejections.get(reason, || {
            let make = |place: Place<'_>| {
                let (families, route) = self.place(&place);
                families
                    .route
                    .rejections
                    .with_label_values(&[route, reason.as_str()])
            };
            self.owned.make(Series::Rejections(reason), 1, make)
        });
        // There are fewer reasons than the list is long.
        if let Some(counter) = made {
            counter.inc();
        }
    }

    /// Counts what the cache did with a request.
    pub fn cached(&self, note: CacheNote) {
        let made = self.cache.get(note, || {
            let make = |place: Place<'_>| {
                let (families, route) = self.place(&place);
                let labels = [route, note.result, note.detail.unwrap_or_default()];
                families.route.cache.with_label_values(&labels)
            };
            self.owned.make(Series::Cache(note), 1, make)
        });
        // The words are literals of the source: fewer than the list is long.
        if let Some(counter) = made {
            counter.inc();
        }
    }

    /// Counts a request that a rule in shadow mode would have refused.
    pub fn shadow_refused(&self, reason: Reason) {
        let made = self.shadow_refusals.get(reason, || {
            let make = |place: Place<'_>| {
                let (families, route) = self.place(&place);
                let labels = [route, reason.as_str()];
                families.route.shadow_refusals.with_label_values(&labels)
            };
            self.owned.make(Series::ShadowRefusals(reason), 1, make)
        });
        // There are fewer reasons than the list is long.
        if let Some(counter) = made {
            counter.inc();
        }
    }

    /// What the cache did with requests so far.
    #[must_use]
    pub fn cache_results(&self) -> Vec<(CacheNote, u64)> {
        let cells = self.cache.iter();
        cells.map(|(note, count)| (note, count.get())).collect()
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.basics.get().map_or(0, |basics| basics.in_flight.get())
    }

    /// Takes the route's series out of the scrape.
    pub(super) fn remove(&self) {
        let name = &*self.name;
        self.owned.remove(|families, series| {
            // Removing fails only when the series is not there.
            let _ = series.remove(&families.route, name);
        });
    }

    fn basics(&self) -> &Basics {
        self.basics.get_or_init(|| {
            let make = |place: Place<'_>| {
                let (families, route) = self.place(&place);
                Basics::new(families, route)
            };
            self.owned.make(Series::Basics, HISTOGRAM_SERIES + 3, make)
        })
    }

    fn requests(&self, method: &'static str, status: u16) -> &IntCounter {
        let make = || {
            let make = |place: Place<'_>| self.requests_at(&place, method, status);
            self.owned.make(Series::Requests(method, status), 1, make)
        };
        self.requests
            .get((method, status), make)
            .unwrap_or_else(|| self.other())
    }

    fn requests_at(&self, place: &Place<'_>, method: &str, status: u16) -> IntCounter {
        if let Place::Overflow(families) = place {
            // The methods and statuses of all routes over the cap would be many series again.
            let labels = [OVERFLOW, OTHER, OTHER];
            return families.route.requests.with_label_values(&labels);
        }
        let (families, route) = self.place(place);
        let status = status.to_string();
        families
            .route
            .requests
            .with_label_values(&[route, method, &status])
    }

    fn auth_cells(&self, method: &Arc<str>) -> Arc<AuthCells> {
        // Whole after a panic elsewhere: an insertion is complete or did not happen.
        let mut auth = self.auth.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = auth.entry(Arc::clone(method));
        Arc::clone(cells.or_insert_with(|| Arc::new(Cells::new())))
    }

    fn auth_counter(&self, method: &Arc<str>, refused: Option<Reason>) -> IntCounter {
        let series = Series::Auth(Arc::clone(method), refused);
        self.owned.make(series, 1, |place| {
            let (families, route) = self.place(&place);
            let labels = [route, method, auth_label(refused)];
            families.route.auth.with_label_values(&labels)
        })
    }

    fn other(&self) -> &IntCounter {
        self.other.get_or_init(|| {
            let make = |place: Place<'_>| {
                let (families, route) = self.place(&place);
                families
                    .route
                    .requests
                    .with_label_values(&[route, OTHER, OTHER])
            };
            self.owned.make(Series::Other, 1, make)
        })
    }

    fn place<'a>(&'a self, place: &Place<'a>) -> (&'a Families, &'a str) {
        match place {
            Place::Own(families) | Place::Hidden(families) => (families, &self.name),
            Place::Overflow(families) => (families, OVERFLOW),
        }
    }
}

impl Basics {
    fn new(families: &Families, route: &str) -> Self {
        let labels = [route];
        Self {
            in_flight: families.route.in_flight.with_label_values(&labels),
            duration: families.route.duration.with_label_values(&labels),
            bytes_in: families.route.request_bytes.with_label_values(&labels),
            bytes_out: families.route.response_bytes.with_label_values(&labels),
        }
    }

    fn remove(families: &RouteFamilies, route: &str) -> prometheus::Result<()> {
        let labels = [route];
        families.in_flight.remove_label_values(&labels)?;
        families.duration.remove_label_values(&labels)?;
        families.request_bytes.remove_label_values(&labels)?;
        families.response_bytes.remove_label_values(&labels)
    }
}

fn auth_label(refused: Option<Reason>) -> &'static str {
    refused.map_or("granted", Reason::as_str)
}

impl Series {
    fn remove(self, families: &RouteFamilies, route: &str) -> prometheus::Result<()> {
        match self {
            Self::Basics => Basics::remove(families, route),
            Self::Requests(method, status) => {
                let labels = [route, method, &status.to_string()];
                families.requests.remove_label_values(&labels)
            }
            Self::Other => {
                let labels = [route, OTHER, OTHER];
                families.requests.remove_label_values(&labels)
            }
            Self::Rejections(reason) => {
                let labels = [route, reason.as_str()];
                families.rejections.remove_label_values(&labels)
            }
            Self::Cache(note) => {
                let labels = [route, note.result, note.detail.unwrap_or_default()];
                families.cache.remove_label_values(&labels)
            }
            Self::ShadowRefusals(reason) => {
                let labels = [route, reason.as_str()];
                families.shadow_refusals.remove_label_values(&labels)
            }
            Self::Auth(method, refused) => {
                let labels = [route, &method, auth_label(refused)];
                families.auth.remove_label_values(&labels)
            }
        }
    }
}

/// The method as a label: a client may invent methods, so only the standard ones (RFC 9110 9.3 and
/// PATCH, RFC 5789; QUERY is the newest) have their own.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "CONNECT" => "CONNECT",
        "QUERY" => "QUERY",
        _ => OTHER,
    }
}

/// The label of methods and statuses without one of their own.
const OTHER: &str = "OTHER";
