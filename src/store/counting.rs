//! The algorithms: pure functions over one key's state, a window and the time.
//!
//! What each lets through, for a quota of `Q` in a time `W`:
//!
//! | algorithm | at once | in any stretch of length `x * W`, `x <= 1` | in the long run | kept a key and window |
//! |---|---|---|---|---|
//! | [`TokenBucket`] | `bucket` | `bucket + x * Q` | `Q` a `W` | 16 bytes |
//! | [`SlidingWindow`] | `Q` | fewer than `Q * (1 + x)` | `Q` a `W` | 24 bytes |
//! | [`SlidingLog`] | `Q` | `Q` | `Q` a `W` | 16 bytes a request |
//! | [`FixedWindow`] | `2 * Q`, around a boundary | `2 * Q` | `Q` a `W` | 24 bytes |
//!
//! Each state knows the rate at which it was counted, so a key whose quota changes (a reload, another
//! tier) keeps what it has used. A shorter time forgets what a longer one would still count: whoever may
//! be asked under both times in turn needs a key for each. Nothing panics at the edges of 64 bits, and a clock that goes back
//! lets nobody in earlier.

mod fixed_window;
mod in_flight;
mod sliding_log;
mod sliding_window;
mod token_bucket;

pub use fixed_window::FixedWindow;
pub use in_flight::InFlight;
pub use sliding_log::SlidingLog;
pub use sliding_window::SlidingWindow;
pub use token_bucket::TokenBucket;

use super::{Decision, Refused, Slot, Standing, Window};

/// One algorithm, as the state that it keeps of a key.
pub trait Algorithm: Slot {
    /// Takes `cost` of the quota, if there is so much left; a refusal leaves the state as it is.
    ///
    /// # Errors
    ///
    /// When there is less. A cost over the whole quota never fits: its wait is until the quota is
    /// whole, or at least more of it is there.
    fn take(&mut self, window: &Window, now: u64, cost: u32) -> Result<Standing, Refused>;

    /// What is left, and when there will be more.
    fn standing(&self, window: &Window, now: u64) -> Standing;

    /// Gives back what [`take`](Self::take) took.
    fn give_back(&mut self, window: &Window, now: u64, cost: u32);

    /// Gives back a part of what [`take`](Self::take) took at an earlier moment, as far as it still
    /// counts: what was taken in a window that has passed is no gift to this one.
    fn refund(&mut self, window: &Window, taken: u64, now: u64, cost: u32);

    /// Takes `cost` that need not be there: what is missing is owed.
    fn charge(&mut self, window: &Window, now: u64, cost: u32);
}

/// The states of a key under several windows at once, of which the first few are in use.
#[derive(Clone, Debug)]
pub struct Windows<A, const N: usize>([A; N]);

impl<A: Default, const N: usize> Default for Windows<A, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| A::default()))
    }
}

impl<A: Slot, const N: usize> Slot for Windows<A, N> {
    const SHARED: bool = A::SHARED;

    fn debt(&self, now: u64) -> u64 {
        let debts = self.0.iter().map(|state| state.debt(now));
        debts.fold(0, u64::saturating_add)
    }

    fn heap(&self) -> usize {
        self.0.iter().map(Slot::heap).sum()
    }
}

impl<A: Algorithm, const N: usize> Windows<A, N> {
    /// Takes from every window, or from none. The tightest window speaks for all; of several that
    /// refuse, the one that takes longest.
    pub fn take(&mut self, windows: &[Window], now: u64, cost: u32) -> Decision {
        // Most limits have one, which has none beside it to compare with.
        if let ([state], [window]) = (&mut self.0[..], windows) {
            return match state.take(window, now, cost) {
                Ok(standing) => Decision::Granted {
                    window: 0,
                    standing,
                },
                Err(refusal) => Decision::Refused { window: 0, refusal },
            };
        }
        let mut taken = [false; N];
        let (mut tightest, mut refused) = (None::<(usize, Standing)>, None::<(usize, Refused)>);
        for (index, (state, window)) in self.0.iter_mut().zip(windows).enumerate() {
            match state.take(window, now, cost) {
                Ok(standing) => {
                    taken[index] = true;
                    let tighter = tightest.is_none_or(|(_, known)| standing.is_tighter(&known));
                    tightest = if tighter {
                        Some((index, standing))
                    } else {
                        tightest
                    };
                }
                Err(refusal) => {
                    let longer = refused.is_none_or(|(_, known)| refusal.wait > known.wait);
                    refused = if longer {
                        Some((index, refusal))
                    } else {
                        refused
                    };
                }
            }
        }
        let Some((window, refusal)) = refused else {
            return Decision::granted(tightest);
        };
        let states = self.0.iter_mut().zip(windows).zip(taken);
        for ((state, window), _) in states.filter(|(_, taken)| *taken) {
            state.give_back(window, now, cost);
        }
        Decision::Refused { window, refusal }
    }

    /// What is left in each window.
    #[must_use]
    pub fn standings(&self, windows: &[Window], now: u64) -> Vec<Standing> {
        let states = self.0.iter().zip(windows);
        states
            .map(|(state, window)| state.standing(window, now))
            .collect()
    }

    /// Gives back to every window.
    pub fn give_back(&mut self, windows: &[Window], now: u64, cost: u32) {
        for (state, window) in self.0.iter_mut().zip(windows) {
            state.give_back(window, now, cost);
        }
    }

    /// Gives back to every window what was taken at an earlier moment.
    pub fn refund(&mut self, windows: &[Window], taken: u64, now: u64, cost: u32) {
        for (state, window) in self.0.iter_mut().zip(windows) {
            state.refund(window, taken, now, cost);
        }
    }

    /// Charges every window, into debt if need be.
    pub fn charge(&mut self, windows: &[Window], now: u64, cost: u32) {
        for (state, window) in self.0.iter_mut().zip(windows) {
            state.charge(window, now, cost);
        }
    }
}

#[cfg(test)]
mod tests;
