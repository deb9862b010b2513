//! What listeners tell, as metrics and log lines.
//!
//! Every event is counted. Of connections that were refused only a few in each second are logged:
//! whoever opens connections to misuse them would else fill the log, and make each worker wait for
//! standard error.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    exchange::{Connection, Reason},
    listener::Observer,
    telemetry::Metrics,
};

/// Counts connections and what hyper's parser refused. None of it is on the path of a request.
pub(super) struct Figures {
    metrics: Arc<Metrics>,
    ration: Mutex<Ration>,
}

impl Figures {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            ration: Mutex::default(),
        }
    }

    /// Locked for the count only, never while a line is written.
    fn may_log(&self) -> Share {
        let mut ration = self.ration.lock().unwrap_or_else(PoisonError::into_inner);
        ration.take(Instant::now())
    }
}

impl Observer for Figures {
    fn opened(&self, listener: &str) {
        self.metrics.listener(listener).opened();
    }

    fn closed(&self, listener: &str) {
        self.metrics.listener(listener).closed();
    }

    fn refused(&self, listener: &str, reason: Reason) {
        self.metrics.listener(listener).refused(reason);
    }

    fn malformed(&self, connection: &Connection, reason: Reason, detail: &dyn Display) {
        self.metrics
            .listener(&connection.listener)
            .malformed(reason);
        match self.may_log() {
            Share::Line { missed: 0 } => {}
            Share::Line { missed } => {
                tracing::info!(missed, "connections were refused and not logged");
            }
            Share::Last => {
                let metric = "tollgate_malformed_requests_total";
                tracing::info!(metric, "more connections are refused than are logged");
                return;
            }
            Share::Nothing => return,
        }
        tracing::info!(
            client = %connection.peer.ip(),
            listener = &*connection.listener,
            reason = reason.as_str(),
            detail = %detail,
            "a connection was refused"
        );
    }
}

/// What an event may have of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// A line, after so many events without one.
    Line { missed: u64 },
    /// The note that there are no more for now.
    Last,
    /// Nothing.
    Nothing,
}

/// Lines of one second.
#[derive(Debug, Default)]
struct Ration {
    since: Option<Instant>,
    lines: u32,
    missed: u64,
}

impl Ration {
    fn take(&mut self, now: Instant) -> Share {
        let over = |since: Instant| now.saturating_duration_since(since) >= SECOND;
        if self.since.is_none_or(over) {
            let missed = self.missed;
            *self = Self {
                since: Some(now),
                lines: 1,
                missed: 0,
            };
            return Share::Line { missed };
        }
        if self.lines < LINES {
            self.lines += 1;
            return Share::Line { missed: 0 };
        }
        self.missed += 1;
        match self.missed {
            1 => Share::Last,
            _ => Share::Nothing,
        }
    }
}

/// Lines in each second.
const LINES: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_a_few_lines_a_second_and_its_size_is_told() {
        let (mut ration, start) = (Ration::default(), Instant::now());
        let mut take = |millis| ration.take(start + Duration::from_millis(millis));
        for _ in 0..LINES {
            assert_eq!(take(0), Share::Line { missed: 0 });
        }
        assert_eq!(take(1), Share::Last);
        for _ in 0..1000 {
            assert_eq!(take(999), Share::Nothing);
        }
        assert_eq!(take(1000), Share::Line { missed: 1001 });
        assert_eq!(take(1001), Share::Line { missed: 0 });
    }

    #[test]
    fn a_trickle_is_logged_whole() {
        let (mut ration, start) = (Ration::default(), Instant::now());
        for index in 0..1000 {
            let now = start + SECOND / LINES * index;
            assert_eq!(ration.take(now), Share::Line { missed: 0 }, "{index}");
        }
    }
}
