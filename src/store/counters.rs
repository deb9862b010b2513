//! The counters of one limit, behind one trait.

use super::{Algorithm, KeyHash, Refused, Slot, Standing, Table, Window, Windows};
use crate::telemetry::TableMetrics;

/// What was decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It fits.
    Granted {
        /// The window that is tightest now.
        window: usize,
        /// How that one stands.
        standing: Standing,
    },
    /// It does not fit, and nothing was taken.
    Refused {
        /// The window that takes longest to let it through.
        window: usize,
        /// How long that is.
        refusal: Refused,
    },
}

impl Decision {
    /// It fits; without any window there is nothing that could be tight.
    pub(super) fn granted(tightest: Option<(usize, Standing)>) -> Self {
        let (window, standing) = tightest.unwrap_or((0, Standing::UNLIMITED));
        Self::Granted { window, standing }
    }
}

/// A decision, and the key under which it is counted: what is held is given back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The decision.
    pub decision: Decision,
    /// The key. Another than the one asked for only when a table of what is held is full.
    pub under: KeyHash,
}

/// The counters of one limit: decisions over (key, windows, now, cost).
///
/// The windows are handed in with each call, since callers of one limit may have different quotas.
/// [`Counters`] keeps them in this process; a decision that is made elsewhere has the same arguments
/// and the same outcome.
pub trait Counting: Send + Sync + 'static {
    /// Takes `cost` from every window of a key, or from none.
    fn take(&self, key: KeyHash, windows: &[Window], now: u64, cost: u32) -> Taken;

    /// Gives back what was taken just now.
    fn give_back(&self, key: KeyHash, windows: &[Window], now: u64, cost: u32);

    /// Gives back what was taken at an earlier moment, as far as it still counts.
    fn refund(&self, key: KeyHash, windows: &[Window], taken: u64, now: u64, cost: u32);

    /// Charges a key afterwards, into debt if need be.
    fn charge(&self, key: KeyHash, windows: &[Window], now: u64, cost: u32);

    /// What is left to a key; `None` when it is unknown, so that everything is.
    fn standings(&self, key: KeyHash, windows: &[Window], now: u64) -> Option<Vec<Standing>>;

    /// Forgets a key; whether it was known.
    fn forget(&self, key: KeyHash) -> bool;

    /// The keys that owe most, the most indebted first.
    fn busiest(&self, now: u64, most: usize) -> Vec<KeyHash>;

    /// Keys that are held.
    fn keys(&self) -> usize;

    /// Bytes that are held for them.
    fn bytes(&self) -> usize;

    /// Lets idle keys go, a part of them a call. For a thread that has time.
    fn sweep(&self, now: u64);

    /// Changes how many keys are held at most. What is held already stays until it is idle.
    fn hold(&self, max_keys: usize);
}

/// Counters in this process, of one algorithm under `N` windows at most.
pub struct Counters<A, const N: usize> {
    table: Table<Windows<A, N>>,
}

impl<A: Algorithm, const N: usize> Counters<A, N> {
    /// Counters for so many keys at a time.
    #[must_use]
    pub fn new(max_keys: usize, figures: Option<TableMetrics>) -> Self {
        Self {
            table: Table::new(max_keys, figures),
        }
    }
}

impl<A: Algorithm, const N: usize> Counting for Counters<A, N> {
    fn take(&self, key: KeyHash, windows: &[Window], now: u64, cost: u32) -> Taken {
        let take = |state: &mut Windows<A, N>| {
            let decision = state.take(windows, now, cost);
            let written = matches!(decision, Decision::Granted { .. });
            (decision, written)
        };
        let (decision, under) = self.table.update(key, now, take);
        Taken { decision, under }
    }

    fn give_back(&self, key: KeyHash, windows: &[Window], now: u64, cost: u32) {
        let give = |state: &mut Windows<A, N>| state.give_back(windows, now, cost);
        // A key that has left owes nothing.
        let _ = self.table.update_known(key, now, give);
    }

    fn refund(&self, key: KeyHash, windows: &[Window], taken: u64, now: u64, cost: u32) {
        let refund = |state: &mut Windows<A, N>| state.refund(windows, taken, now, cost);
        // As above.
        let _ = self.table.update_known(key, now, refund);
    }

    fn charge(&self, key: KeyHash, windows: &[Window], now: u64, cost: u32) {
        let charge = |state: &mut Windows<A, N>| {
            state.charge(windows, now, cost);
            ((), true)
        };
        self.table.update(key, now, charge);
    }

    fn standings(&self, key: KeyHash, windows: &[Window], now: u64) -> Option<Vec<Standing>> {
        let read = |state: &Windows<A, N>| (state.debt(now) > 0, state.standings(windows, now));
        let (known, standings) = self.table.read(key, read)?;
        known.then_some(standings)
    }

    fn forget(&self, key: KeyHash) -> bool {
        self.table.remove(key)
    }

    fn busiest(&self, now: u64, most: usize) -> Vec<KeyHash> {
        let busiest = self.table.busiest(now, most);
        busiest.into_iter().map(|(key, _)| key).collect()
    }

    fn keys(&self) -> usize {
        self.table.len()
    }

    fn bytes(&self) -> usize {
        self.table.bytes()
    }

    fn sweep(&self, now: u64) {
        self.table.sweep(now);
    }

    fn hold(&self, max_keys: usize) {
        self.table.hold(max_keys);
    }
}
