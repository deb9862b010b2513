//! Concurrency: so many at a time. What is taken is held until it is given back; time alone frees
//! nothing.

use super::Algorithm;
use crate::store::{Refused, Slot, Standing, Window};

/// What is kept of one key: how many it has in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    held: u32,
}

impl Slot for InFlight {
    /// A key must not be forgotten while it holds something: it would be given back to nobody.
    const SHARED: bool = true;

    fn debt(&self, _: u64) -> u64 {
        self.held.into()
    }
}

impl Algorithm for InFlight {
    fn take(&mut self, window: &Window, now: u64, cost: u32) -> Result<Standing, Refused> {
        match self.held.checked_add(cost) {
            Some(held) if held <= window.quota => self.held = held,
            _ => return Err(Refused { wait: None }),
        }
        Ok(self.standing(window, now))
    }

    fn standing(&self, window: &Window, _: u64) -> Standing {
        Standing {
            remaining: window.quota.saturating_sub(self.held),
            reset: None,
        }
    }

    fn give_back(&mut self, _: &Window, _: u64, cost: u32) {
        self.held = self.held.saturating_sub(cost);
    }

    fn refund(&mut self, window: &Window, _: u64, now: u64, cost: u32) {
        self.give_back(window, now, cost);
    }

    fn charge(&mut self, _: &Window, _: u64, cost: u32) {
        self.held = self.held.saturating_add(cost);
    }
}
