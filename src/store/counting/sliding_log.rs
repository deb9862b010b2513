//! The sliding window, exact: the moments of the requests themselves.
//!
//! In no stretch of time as long as the window more than the quota passes. It keeps 16 bytes a
//! request, so it is for small quotas.

use std::collections::VecDeque;

use super::Algorithm;
use crate::store::{Refused, Slot, Standing, Window};

/// What is kept of one key: when it came, and what that cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingLog {
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// The sum of their costs.
    used: u64,
    per: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: u64,
    cost: u32,
}

impl Slot for SlidingLog {
    fn debt(&self, now: u64) -> u64 {
        let newest = self.entries.back();
        let counts = newest.is_some_and(|newest| newest.counts(self.per, now));
        if counts { self.used } else { 0 }
    }

    fn heap(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

impl Algorithm for SlidingLog {
    fn take(&mut self, window: &Window, now: u64, cost: u32) -> Result<Standing, Refused> {
        self.forget_old(window, now);
        if self.used + u64::from(cost) > window.quota.into() {
            return Err(Refused {
                wait: Some(self.wait(window, now, cost)),
            });
        }
        self.push(now, cost);
        Ok(self.left(window, now))
    }

    fn standing(&self, window: &Window, now: u64) -> Standing {
        let mut state = self.clone();
        state.forget_old(window, now);
        state.left(window, now)
    }

    fn give_back(&mut self, _: &Window, _: u64, cost: u32) {
        let mut owed = cost;
        while let Some(newest) = self.entries.back_mut().filter(|_| owed > 0) {
            let given = owed.min(newest.cost);
            owed -= given;
            newest.cost -= given;
            self.used -= u64::from(given);
            if newest.cost == 0 {
                self.entries.pop_back();
            }
        }
    }

    /// The oldest that can be meant go: then nobody comes earlier for it.
    fn refund(&mut self, window: &Window, taken: u64, now: u64, cost: u32) {
        self.forget_old(window, now);
        if taken.saturating_add(window.per) <= now {
            return;
        }
        let meant = self.entries.partition_point(|entry| entry.at < taken);
        let mut owed = cost;
        for entry in self.entries.range_mut(meant..) {
            let given = owed.min(entry.cost);
            owed -= given;
            entry.cost -= given;
            self.used -= u64::from(given);
        }
        self.entries.retain(|entry| entry.cost > 0);
    }

    fn charge(&mut self, window: &Window, now: u64, cost: u32) {
        self.forget_old(window, now);
        self.push(now, cost);
    }
}

impl SlidingLog {
    fn forget_old(&mut self, window: &Window, now: u64) {
        self.per = window.per;
        while let Some(oldest) = self.entries.front()
            && !oldest.counts(window.per, now)
        {
            self.used -= u64::from(oldest.cost);
            self.entries.pop_front();
        }
    }

    /// Moments never go back, whatever the clock does.
    fn push(&mut self, now: u64, cost: u32) {
        self.used += u64::from(cost);
        if cost == 0 {
            return;
        }
        match self.entries.back_mut() {
            Some(newest) if newest.at >= now && newest.cost.checked_add(cost).is_some() => {
                newest.cost += cost;
            }
            newest => {
                let at = newest.map_or(now, |newest| newest.at.max(now));
                self.entries.push_back(Entry { at, cost });
            }
        }
    }

    fn left(&self, window: &Window, now: u64) -> Standing {
        let left = u64::from(window.quota).saturating_sub(self.used);
        let reset = match left {
            0 => self.until(window, now, window.quota.saturating_sub(1).into()),
            _ => self
                .entries
                .front()
                .map_or(0, |oldest| oldest.leaves(window.per, now)),
        };
        Standing {
            // At most the quota.
            remaining: u32::try_from(left).unwrap_or(u32::MAX),
            reset: Some(reset),
        }
    }

    fn wait(&self, window: &Window, now: u64, cost: u32) -> u64 {
        // What never fits waits until the quota is whole.
        let most = window.quota.saturating_sub(cost);
        self.until(window, now, most.into()).max(1)
    }

    /// Nanoseconds until no more than `most` counts.
    fn until(&self, window: &Window, now: u64, most: u64) -> u64 {
        let mut used = self.used;
        for entry in &self.entries {
            used -= u64::from(entry.cost);
            if used <= most {
                return entry.leaves(window.per, now);
            }
        }
        0
    }
}

impl Entry {
    fn counts(&self, per: u64, now: u64) -> bool {
        self.leaves(per, now) > 0
    }

    /// Nanoseconds until it no longer counts.
    fn leaves(&self, per: u64, now: u64) -> u64 {
        self.at.saturating_add(per).saturating_sub(now)
    }
}
