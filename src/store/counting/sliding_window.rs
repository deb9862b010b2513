//! The sliding window as two counters: this window's, and the one's before by how much of it a
//! window that ends now still covers.
//!
//! The counter before is taken as if its requests had come evenly. Where they came late, more passes
//! than the quota: in any stretch of length `x * W` (`0 < x <= 1`) fewer than `Q * (1 + x)` requests, and
//! no more than `Q` where no boundary lies in it. Proof: such a stretch has one boundary at most. Let `a`
//! of its requests have come before that and `c` behind it. With `a = 0` or `c = 0` all are of one window,
//! which has `Q` at most. Else let the last have come `e` behind the boundary: the first came before it, so
//! `e < x * W`. The last was let in, so `c + p * (1 - e / W) <= Q`, where `p` is the counter before, and
//! `a <= p <= Q`. So `a + c <= Q + p * e / W <= Q * (1 + e / W) < Q * (1 + x)`.
//!
//! No smaller bound holds: whoever takes `Q` at the end of a window, and then all there is at the end of the
//! stretch, has the largest whole number below it. Shares are rounded up, so rounding never lets anybody in.

use super::Algorithm;
use crate::store::{Refused, Slot, Standing, Window, window::end_of};

/// What is kept of one key: the counters of the window that ends then and of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlidingWindow {
    ends: u64,
    per: u64,
    before: u32,
    used: u32,
}

impl Slot for SlidingWindow {
    fn debt(&self, now: u64) -> u64 {
        if now < self.ends {
            return u64::from(self.before) + u64::from(self.used);
        }
        let still_counts = now - self.ends < self.per;
        if still_counts { self.used.into() } else { 0 }
    }
}

impl Algorithm for SlidingWindow {
    fn take(&mut self, window: &Window, now: u64, cost: u32) -> Result<Standing, Refused> {
        let mut state = self.at(window, now);
        if state.counted(now) + u64::from(cost) > window.quota.into() {
            let wait = Some(state.wait(window, now, cost));
            return Err(Refused { wait });
        }
        // At most the quota.
        state.used += cost;
        *self = state;
        Ok(state.left(window, now))
    }

    fn standing(&self, window: &Window, now: u64) -> Standing {
        self.at(window, now).left(window, now)
    }

    fn give_back(&mut self, window: &Window, now: u64, cost: u32) {
        *self = self.at(window, now);
        self.used = self.used.saturating_sub(cost);
    }

    fn refund(&mut self, window: &Window, taken: u64, now: u64, cost: u32) {
        *self = self.at(window, now);
        let begun = self.ends.saturating_sub(self.per);
        if taken >= begun {
            self.used = self.used.saturating_sub(cost);
        } else if taken >= begun.saturating_sub(self.per) {
            self.before = self.before.saturating_sub(cost);
        }
    }

    fn charge(&mut self, window: &Window, now: u64, cost: u32) {
        *self = self.at(window, now);
        self.used = self.used.saturating_add(cost);
    }
}

impl SlidingWindow {
    /// The state in the window of now.
    fn at(self, window: &Window, now: u64) -> Self {
        let (ends, per) = (end_of(window.per, now), window.per);
        if self.per != per {
            // The window's length has changed: what counts now is counted as used in the new one.
            let used = if self.debt(now) > 0 {
                self.counted_at_any(now)
            } else {
                0
            };
            return Self {
                ends,
                per,
                before: 0,
                used,
            };
        }
        if now < self.ends {
            // Also when the clock has gone back to before the window.
            return self;
        }
        let follows = self.ends.checked_add(per) == Some(ends);
        let before = if follows { self.used } else { 0 };
        Self {
            ends,
            per,
            before,
            used: 0,
        }
    }

    /// What counts now, in the window of now.
    fn counted(&self, now: u64) -> u64 {
        u64::from(self.used) + self.share(self.remaining_time(now))
    }

    /// What counts now, also when the window has passed.
    fn counted_at_any(self, now: u64) -> u32 {
        let moved = match now < self.ends {
            true => self,
            false => Self {
                ends: self.ends.saturating_add(self.per),
                before: self.used,
                used: 0,
                ..self
            },
        };
        u32::try_from(moved.counted(now)).unwrap_or(u32::MAX)
    }

    /// How much of the counter before counts when so much time of the window remains.
    fn share(&self, remaining: u64) -> u64 {
        if self.before == 0 {
            return 0;
        }
        let share = u128::from(self.before) * u128::from(remaining);
        // At most `before`.
        u64::try_from(share.div_ceil(self.per.max(1).into())).unwrap_or(u64::MAX)
    }

    /// The whole window when the clock has gone back to before it.
    fn remaining_time(&self, now: u64) -> u64 {
        self.ends.saturating_sub(now).min(self.per)
    }

    fn left(&self, window: &Window, now: u64) -> Standing {
        let counted = self.counted(now);
        let left = u64::from(window.quota).saturating_sub(counted);
        // When one less counts; from debt, when the quota is reached again.
        let target = counted.saturating_sub(1).min(u64::from(window.quota) - 1);
        let reset = if counted == 0 {
            0
        } else {
            self.until(now, target)
        };
        Standing {
            // At most the quota.
            remaining: u32::try_from(left).unwrap_or(u32::MAX),
            reset: Some(reset),
        }
    }

    fn wait(&self, window: &Window, now: u64, cost: u32) -> u64 {
        // What never fits waits until the quota is whole.
        self.until(now, window.quota.saturating_sub(cost).into())
    }

    /// Nanoseconds until no more than `most` counts.
    fn until(&self, now: u64, most: u64) -> u64 {
        let back = self.ends.saturating_sub(now);
        let used = u64::from(self.used);
        if used <= most && (self.before == 0 || back > 0) {
            let left = time_left(most - used, self.before, self.per);
            return back.saturating_sub(left);
        }
        // Not in this window: in the next one, where what is used now is the counter before.
        let left = time_left(most, self.used, self.per);
        back.saturating_add(self.per - left)
    }
}

/// The most time of a window that may remain for `share` of `before` to be no more than `most`.
fn time_left(most: u64, before: u32, per: u64) -> u64 {
    if most >= before.into() {
        return per;
    }
    let left = u128::from(most) * u128::from(per) / u128::from(before);
    // Less than `per`.
    u64::try_from(left).unwrap_or(per)
}
