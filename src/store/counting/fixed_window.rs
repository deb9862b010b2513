//! The fixed window: so many from one tick of the clock to the next.
//!
//! Windows begin where the time is a multiple of their length: at full minutes, say. It is the easiest to
//! explain, and lets twice the quota through around a boundary: all of it at the end of one window and
//! all of it at the beginning of the next.

use super::Algorithm;
use crate::store::{Refused, Slot, Standing, Window, window::end_of};

/// What is kept of one key: what it has used in the window that ends then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedWindow {
    ends: u64,
    per: u64,
    used: u32,
}

impl Slot for FixedWindow {
    fn debt(&self, now: u64) -> u64 {
        if now < self.ends { self.used.into() } else { 0 }
    }
}

impl Algorithm for FixedWindow {
    fn take(&mut self, window: &Window, now: u64, cost: u32) -> Result<Standing, Refused> {
        let mut state = self.at(window, now);
        match state.used.checked_add(cost) {
            Some(used) if used <= window.quota => state.used = used,
            _ => {
                let wait = Some(state.ends.saturating_sub(now));
                return Err(Refused { wait });
            }
        }
        *self = state;
        Ok(state.standing(window, now))
    }

    fn standing(&self, window: &Window, now: u64) -> Standing {
        let state = self.at(window, now);
        Standing {
            remaining: window.quota.saturating_sub(state.used),
            reset: Some(state.ends.saturating_sub(now)),
        }
    }

    fn give_back(&mut self, window: &Window, now: u64, cost: u32) {
        *self = self.at(window, now);
        self.used = self.used.saturating_sub(cost);
    }

    fn refund(&mut self, window: &Window, taken: u64, now: u64, cost: u32) {
        *self = self.at(window, now);
        if taken >= self.ends.saturating_sub(self.per) {
            self.used = self.used.saturating_sub(cost);
        }
    }

    fn charge(&mut self, window: &Window, now: u64, cost: u32) {
        *self = self.at(window, now);
        self.used = self.used.saturating_add(cost);
    }
}

impl FixedWindow {
    /// The state in the window of now.
    fn at(self, window: &Window, now: u64) -> Self {
        let (ends, per) = (end_of(window.per, now), window.per);
        match now < self.ends {
            // The same window, also when the clock has gone back to before it.
            true if self.per == per => self,
            // The window's length has changed: what was used counts in the new one.
            true => Self { ends, per, ..self },
            false => Self { ends, per, used: 0 },
        }
    }
}
