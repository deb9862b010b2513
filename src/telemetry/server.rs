//! Metrics of one server of an upstream.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use prometheus::{Histogram, IntCounter, IntGauge};

use crate::exchange::Reason;

use super::{
    families::{Families, HISTOGRAM_SERIES},
    series::{OVERFLOW, Owned, Place, Shared},
};

/// How a request to a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// An answer below 500.
    Ok,
    /// An answer of 500 or above.
    Error5xx,
    /// No connection.
    ConnectError,
    /// No connection, answer or byte in time.
    Timeout,
    /// The server closed or reset before its answer was complete.
    Reset,
    /// An answer that is not valid.
    Protocol,
    /// The client left, or its own body was at fault.
    Cancelled,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::Error5xx,
        Self::ConnectError,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::Cancelled,
    ];

    /// The outcome of an answer with this status.
    fn of_status(status: StatusCode) -> Self {
        if status.as_u16() >= 500 {
            return Self::Error5xx;
        }
        Self::Ok
    }

    /// The outcome of a failed attempt.
    fn of_failure(reason: Reason) -> Self {
        match reason {
            Reason::ConnectRefused | Reason::ConnectFailed => Self::ConnectError,
            Reason::ConnectTimeout
            | Reason::ResponseTimeout
            | Reason::TotalTimeout
            | Reason::UpstreamIdle => Self::Timeout,
            Reason::UpstreamClosed | Reason::UpstreamCut => Self::Reset,
            Reason::UpstreamProtocol | Reason::UpstreamUpgrade => Self::Protocol,
            _ => Self::Cancelled,
        }
    }

    /// The label.
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error5xx => "error_5xx",
            Self::ConnectError => "connect_error",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol_error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The handle of one server. It is looked up when a configuration is loaded.
#[derive(Debug)]
pub struct ServerMetrics {
    upstream: Arc<str>,
    server: Arc<str>,
    owned: Owned<()>,
    handles: Handles,
}

#[derive(Debug)]
struct Handles {
    outcomes: [IntCounter; Outcome::ALL.len()],
    duration: Histogram,
    open: IntGauge,
    idle: IntGauge,
    connect_errors: IntCounter,
    body_errors: IntCounter,
    healthy: IntGauge,
}

impl ServerMetrics {
    pub(super) fn new(upstream: &str, server: &str, shared: &Arc<Shared>) -> Self {
        let owned = Owned::new(shared);
        let handles = owned.make((), SERIES, |place| match place {
            Place::Own(families) | Place::Hidden(families) => {
                Handles::new(families, families, [upstream, server])
            }
            // What is set, not counted, would mean nothing for many servers together.
            Place::Overflow(families) => {
                Handles::new(families, &shared.hidden, [OVERFLOW, OVERFLOW])
            }
        });
        handles.healthy.set(1);
        Self {
            upstream: upstream.into(),
            server: server.into(),
            owned,
            handles,
        }
    }

    /// Counts an answer, and how long its head took.
    pub fn answered(&self, status: StatusCode, took: Duration) {
        self.finished(Outcome::of_status(status), took);
    }

    /// Counts an attempt that got no answer, and how long that took.
    pub fn failed(&self, reason: Reason, took: Duration) {
        self.finished(Outcome::of_failure(reason), took);
    }

    /// Counts a request to the server.
    fn finished(&self, outcome: Outcome, took: Duration) {
        self.handles.outcomes[outcome as usize].inc();
        self.handles.duration.observe(took.as_secs_f64());
    }

    /// Counts an answer that broke off, or stalled, after its head.
    pub fn body_failed(&self) {
        self.handles.body_errors.inc();
    }

    /// Counts a connection that could not be made.
    pub fn connect_error(&self) {
        self.handles.connect_errors.inc();
    }

    /// Counts a new connection, until the guard is dropped.
    #[must_use]
    pub fn connection_opened(&self) -> OpenConnection {
        self.handles.open.inc();
        OpenConnection(self.handles.open.clone())
    }

    /// Tells how many connections wait for a request.
    pub fn set_idle(&self, idle: usize) {
        self.handles
            .idle
            .set(i64::try_from(idle).unwrap_or(i64::MAX));
    }

    /// Tells whether the server gets requests; it does to begin with.
    pub fn set_healthy(&self, healthy: bool) {
        self.handles.healthy.set(i64::from(healthy));
    }

    /// Connections open to the server.
    #[must_use]
    pub fn open(&self) -> i64 {
        self.handles.open.get()
    }

    /// Connections that wait for a request.
    #[must_use]
    pub fn idle(&self) -> i64 {
        self.handles.idle.get()
    }

    /// Takes the server's series out of the scrape.
    pub(super) fn remove(&self) {
        let labels = [&*self.upstream, &*self.server];
        self.owned.remove(|families, ()| {
            // Removing fails only when the series is not there.
            let _ = Handles::remove(families, labels);
        });
    }
}

impl Handles {
    /// Counters from one place, and what is set from another.
    fn new(families: &Families, set: &Families, labels: [&str; 2]) -> Self {
        let [upstream, server] = labels;
        Self {
            outcomes: Outcome::ALL.map(|outcome| {
                let labels = [upstream, server, outcome.as_str()];
                families.server.requests.with_label_values(&labels)
            }),
            duration: families.server.duration.with_label_values(&labels),
            open: families.server.open.with_label_values(&labels),
            idle: set.server.idle.with_label_values(&labels),
            connect_errors: families.server.connect_errors.with_label_values(&labels),
            body_errors: families.server.body_errors.with_label_values(&labels),
            healthy: set.server.healthy.with_label_values(&labels),
        }
    }

    fn remove(families: &Families, labels: [&str; 2]) -> prometheus::Result<()> {
        let [upstream, server] = labels;
        for outcome in Outcome::ALL {
            let labels = [upstream, server, outcome.as_str()];
            families.server.requests.remove_label_values(&labels)?;
        }
        families.server.duration.remove_label_values(&labels)?;
        families.server.open.remove_label_values(&labels)?;
        families.server.idle.remove_label_values(&labels)?;
        families
            .server
            .connect_errors
            .remove_label_values(&labels)?;
        families.server.body_errors.remove_label_values(&labels)?;
        families.server.healthy.remove_label_values(&labels)
    }
}

/// One open connection to a server.
#[derive(Debug)]
pub struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Lines of one server in a scrape.
const SERIES: usize = Outcome::ALL.len() + HISTOGRAM_SERIES + 5;
