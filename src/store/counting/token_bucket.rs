//! The token bucket: a steady rate, and so many at once.
//!
//! In any stretch of time at most `bucket + stretch / interval` requests pass, where `interval` is
//! `per / quota`.
//!
//! The decision is governor's (GCRA), asked through its `StateStore`; what surrounds it is ours,
//! because governor has no way to look without taking, to give back, to charge afterwards into debt,
//! to forget a key, or to change a quota. Its limiter counts from its own start and reads its own
//! clock; here its clock stands still, and it is shown the debt (the theoretical arrival time less
//! now) in place of the arrival time. That keeps its arithmetic small and makes a clock that goes
//! back harmless.

use std::{cell::Cell, cmp::Ordering, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};

use super::Algorithm;
use crate::store::{Refused, Slot, Standing, Window, window::nanos};

/// What is kept of one key: when its bucket will be full again, and at which rate that was counted.
///
/// The rate stands beside it so that a key whose quota changes keeps what it has used, counted in
/// requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenBucket {
    full_at: u64,
    interval: u64,
}

impl Slot for TokenBucket {
    fn debt(&self, now: u64) -> u64 {
        self.full_at.saturating_sub(now)
    }
}

impl Algorithm for TokenBucket {
    fn take(&mut self, window: &Window, now: u64, cost: u32) -> Result<Standing, Refused> {
        let (taken, debt) = self.ask(window, now, cost);
        let standing = taken?;
        self.write(window, now, debt);
        Ok(standing)
    }

    fn standing(&self, window: &Window, now: u64) -> Standing {
        let debt = self.debt_at(window, now);
        standing(window, debt)
    }

    fn give_back(&mut self, window: &Window, now: u64, cost: u32) {
        let debt = self.debt_at(window, now);
        self.write(window, now, debt.saturating_sub(weight(window, cost)));
    }

    /// In full, whenever that is: what comes in is never more than the bucket and the rate, and what
    /// goes out is what came in less what was given back.
    fn refund(&mut self, window: &Window, _: u64, now: u64, cost: u32) {
        self.give_back(window, now, cost);
    }

    fn charge(&mut self, window: &Window, now: u64, cost: u32) {
        let debt = self.debt_at(window, now);
        let debt = debt.saturating_add(weight(window, cost));
        self.write(window, now, debt.min(MOST_DEBT));
    }
}

impl TokenBucket {
    /// What taking would say.
    ///
    /// # Errors
    ///
    /// As [`take`](Algorithm::take).
    pub fn peek(&self, window: &Window, now: u64, cost: u32) -> Result<Standing, Refused> {
        self.ask(window, now, cost).0
    }

    /// The decision, and the debt behind it.
    fn ask(&self, window: &Window, now: u64, cost: u32) -> (Result<Standing, Refused>, u64) {
        let debt = self.debt_at(window, now);
        let Some(cost) = NonZeroU32::new(cost) else {
            return (Ok(standing(window, debt)), debt);
        };
        // governor multiplies before it compares, and would overflow.
        if cost.get() > window.bucket {
            let wait = Some(debt.max(window.interval()));
            return (Err(Refused { wait }), debt);
        }
        let limiter = limiter(window, debt);
        let answer = match limiter.check_n(cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(Refused {
                wait: Some(nanos(refusal.wait_time_from(START))),
            }),
            // Over the bucket's size, which has been refused already.
            Err(_) => Err(Refused { wait: None }),
        };
        let debt = u64::from(limiter.into_state_store().0.get());
        (answer.map(|()| standing(window, debt)), debt)
    }

    /// Nanoseconds until the bucket is full, at the window's rate.
    fn debt_at(&self, window: &Window, now: u64) -> u64 {
        let debt = self.debt(now).min(MOST_DEBT);
        let interval = window.interval();
        match self.interval.cmp(&interval) {
            Ordering::Equal => debt,
            _ if debt == 0 => 0,
            // As many requests as before, each of which now weighs more or less.
            _ => {
                let debt = u128::from(debt) * u128::from(interval);
                let debt = debt.div_ceil(u128::from(self.interval.max(1)));
                u64::try_from(debt).unwrap_or(u64::MAX).min(MOST_DEBT)
            }
        }
    }

    fn write(&mut self, window: &Window, now: u64, debt: u64) {
        self.full_at = now.saturating_add(debt);
        self.interval = window.interval();
    }
}

/// The state that governor is shown: one debt.
struct Shown(Cell<Nanos>);

impl StateStore for Shown {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, debt) = decide(Some(self.0.get()))?;
        self.0.set(debt);
        Ok(outcome)
    }
}

/// A clock that stands still: the debt is told relative to now.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        START
    }
}

type Limiter = RateLimiter<NotKeyed, Shown, Stopped, NoOpMiddleware<Nanos>>;

fn limiter(window: &Window, debt: u64) -> Limiter {
    let interval = Duration::from_nanos(window.interval());
    let bucket = NonZeroU32::new(window.bucket).unwrap_or(NonZeroU32::MIN);
    // The interval is rounded up from at least a nanosecond.
    let quota = Quota::with_period(interval).map(|quota| quota.allow_burst(bucket));
    let quota = quota.unwrap_or_else(|| Quota::per_second(bucket));
    RateLimiter::new(quota, Shown(Cell::new(debt.into())), Stopped)
}

fn standing(window: &Window, debt: u64) -> Standing {
    let interval = window.interval();
    let taken = debt.div_ceil(interval);
    let remaining = u64::from(window.bucket).saturating_sub(taken);
    // The debt at which there is one token more; into debt it is farther away.
    let next = (u64::from(window.bucket) - 1).min(taken.saturating_sub(1)) * interval;
    Standing {
        // It fits: the bucket's size does.
        remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
        reset: Some(debt.saturating_sub(next)),
    }
}

fn weight(window: &Window, cost: u32) -> u64 {
    window.interval().saturating_mul(cost.into()).min(MOST_DEBT)
}

const START: Nanos = Nanos::new(0);
/// What can be owed: 146 years. With the largest bucket on top it fits 64 bits.
const MOST_DEBT: u64 = 1 << 62;

#[cfg(test)]
mod tests;
