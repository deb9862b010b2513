//! Metrics of rate limits.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};

use super::{
    cells::Cells,
    families::Families,
    series::{OVERFLOW, Owned, Place, Shared},
};

/// What a limit said about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitDecision {
    /// It fits.
    Allow,
    /// It was refused.
    Deny,
    /// It would have been refused; the limit is in shadow mode.
    ShadowDeny,
    /// Redis had no word in it. Counted beside one of the others.
    Degraded,
}

impl LimitDecision {
    /// The label.
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::ShadowDeny => "shadow_deny",
            Self::Degraded => "degraded",
        }
    }
}

/// The handle of one limit on one route. A series is made by the first decision of its kind.
#[derive(Debug)]
pub struct LimitMetrics {
    route: Arc<str>,
    limit: Arc<str>,
    decisions: Cells<LimitDecision, IntCounter>,
    owned: Owned<LimitDecision>,
}

impl LimitMetrics {
    pub(super) fn new(route: &Arc<str>, limit: &Arc<str>, shared: &Arc<Shared>) -> Self {
        Self {
            route: Arc::clone(route),
            limit: Arc::clone(limit),
            decisions: Cells::new(),
            owned: Owned::new(shared),
        }
    }

    /// Counts a decision.
    pub fn decided(&self, decision: LimitDecision) {
        let made = self.decisions.get(decision, || {
            self.owned.make(decision, 1, |place| match place {
                Place::Own(families) | Place::Hidden(families) => {
                    counter(families, &self.route, &self.limit, decision)
                }
                Place::Overflow(families) => counter(families, OVERFLOW, OVERFLOW, decision),
            })
        });
        // There are fewer decisions than the list is long.
        if let Some(counter) = made {
            counter.inc();
        }
    }

    /// Takes the series out of the scrape.
    pub(super) fn remove(&self) {
        let labels = [&*self.route, &*self.limit];
        self.owned.remove(|families, decision| {
            let labels = [labels[0], labels[1], decision.as_str()];
            // Removing fails only when the series is not there.
            let _ = families.limit.decisions.remove_label_values(&labels);
        });
    }
}

fn counter(families: &Families, route: &str, limit: &str, decision: LimitDecision) -> IntCounter {
    let labels = [route, limit, decision.as_str()];
    families.limit.decisions.with_label_values(&labels)
}

/// How full a table of keys is. A clone counts the same.
#[derive(Clone, Debug)]
pub struct TableMetrics {
    /// Keys that are held.
    pub keys: IntGauge,
    /// Keys that had to go although they owed something or had a lease left.
    pub evictions: IntCounter,
}

/// The handle of one limit's table.
#[derive(Debug)]
pub(super) struct LimitTable {
    limit: Arc<str>,
    metrics: TableMetrics,
    owned: Owned<()>,
}

impl LimitTable {
    pub(super) fn new(limit: &Arc<str>, shared: &Arc<Shared>) -> Self {
        let owned = Owned::new(shared);
        let metrics = owned.make((), SERIES, |place| match place {
            Place::Own(families) | Place::Hidden(families) => {
                TableMetrics::new(families, families, limit)
            }
            // A gauge of many tables together would mean nothing.
            Place::Overflow(families) => TableMetrics::new(families, &shared.hidden, OVERFLOW),
        });
        Self {
            limit: Arc::clone(limit),
            metrics,
            owned,
        }
    }

    pub(super) fn metrics(&self) -> TableMetrics {
        self.metrics.clone()
    }

    /// Takes the series out of the scrape.
    pub(super) fn remove(&self) {
        let labels = [&*self.limit];
        self.owned.remove(|families, ()| {
            // Removing fails only when the series is not there.
            let _ = families.limit.keys.remove_label_values(&labels);
            let _ = families.limit.evictions.remove_label_values(&labels);
        });
    }
}

impl TableMetrics {
    fn new(counters: &Families, gauges: &Families, limit: &str) -> Self {
        let labels = [limit];
        Self {
            keys: gauges.limit.keys.with_label_values(&labels),
            evictions: counters.limit.evictions.with_label_values(&labels),
        }
    }
}

const SERIES: usize = 2;
