//! A request that was let through: what is still to do when its answer comes.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

use super::{
    held::{AllHeld, hold_until_end},
    lease::InAdvance,
    limit::Limit,
    shared::{Change, change_later},
    stage::Source,
    tier::Tier,
};
use crate::{
    exchange::{Context, LimitSaid, Response},
    store::{KeyHash, Standing},
};

/// What is held and perhaps charged for one request. Most requests have none.
#[derive(Default)]
pub(super) struct Grant {
    pub(super) held: AllHeld,
    /// What the answer may tell the cost of.
    pub(super) open: Vec<OpenCharge>,
}

/// A charge whose amount the answer tells.
pub(super) struct OpenCharge {
    pub(super) limit: Arc<Limit>,
    pub(super) key: KeyHash,
    pub(super) tier: Arc<Tier>,
    /// What was charged already.
    pub(super) cost: u32,
    /// Where that was.
    pub(super) source: Source,
    /// When that was, on the process's clock.
    pub(super) at: Duration,
    pub(super) worker: usize,
    /// The place of its report among those of the request.
    pub(super) report: usize,
    /// What was taken in advance for the same key, where anything is.
    pub(super) in_advance: InAdvance,
}

impl Grant {
    /// Settles what the answer tells, and ties what is held to the answer's end.
    pub(super) fn conclude(self, response: Response, context: &Context) -> Response {
        for charge in self.open {
            let report = charge.report;
            if let Some((window, standing)) = charge.settle(response.headers()) {
                context.settle(report, window, allow(standing));
            }
        }
        hold_until_end(response, self.held)
    }
}

/// What a limit says that has let a request pass.
pub(super) fn allow(Standing { remaining, reset }: Standing) -> LimitSaid {
    LimitSaid::Allow { remaining, reset }
}

impl OpenCharge {
    /// Charges what the answer says more than was charged, or gives back what it says less; tells how
    /// the limit stands then, where that is another way than before.
    fn settle(self, headers: &HeaderMap) -> Option<(usize, Standing)> {
        let told = self.told(headers).unwrap_or(self.cost);
        if told == self.cost {
            return None;
        }
        if self.source != Source::Memory {
            self.settle_shared(told);
            return None;
        }
        let counters = &self.limit.counters;
        let (windows, taken) = (&self.tier.windows, counters.at(self.at));
        // The answer may have taken a while.
        let now = counters.at(self.limit.clock.now());
        let counting = &counters.counting;
        match told.checked_sub(self.cost) {
            Some(more) => counting.charge(self.key, windows, now, more),
            None => counting.refund(self.key, windows, taken, now, self.cost - told),
        }
        self.stands(now)
    }

    /// The same in Redis, beside the answer, which tells how things stood before.
    fn settle_shared(&self, told: u32) {
        let change = match told.checked_sub(self.cost) {
            _ if self.source == Source::Nowhere => return,
            Some(more) => (Change::Charge, self.out_of_lease(more)),
            None => (Change::GiveBack(self.at), self.cost - told),
        };
        if change == (Change::Charge, 0) {
            return;
        }
        change_later(&self.limit, (self.key, &self.tier), self.worker, change);
    }

    /// Takes it of what was taken in advance, as far as that goes; what is left to charge.
    fn out_of_lease(&self, more: u32) -> u32 {
        let InAdvance::Held(lease) = &self.in_advance else {
            return more;
        };
        let now = self.limit.counters.at(self.limit.clock.now());
        lease.charge(now, more)
    }

    /// A whole number; the largest that can be charged stands for all above. Anything else, one below
    /// nothing too, says nothing.
    fn told(&self, headers: &HeaderMap) -> Option<u32> {
        let name = self.limit.config.cost_header.as_ref()?;
        let text = headers.get(name)?.to_str().ok()?.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u32::MAX))
    }

    /// How the tightest window stands now.
    fn stands(self, now: u64) -> Option<(usize, Standing)> {
        let windows = &self.tier.windows;
        let counting = &self.limit.counters.counting;
        let known = counting.standings(self.key, windows, now);
        let whole = || windows.iter().map(Standing::of_all).collect();
        let standings = known.unwrap_or_else(whole).into_iter().enumerate();
        standings.reduce(|known, next| match next.1.is_tighter(&known.1) {
            true => next,
            false => known,
        })
    }
}
