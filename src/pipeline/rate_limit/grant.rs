//! A request that was let through: what is still to do when its answer comes.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

use super::{
    fields::{Report, Reports},
    held::{AllHeld, hold_until_end},
    limit::Limit,
    shared::{Change, change_later},
    stage::Source,
    tier::Tier,
};
use crate::{
    exchange::Response,
    store::{KeyHash, Standing},
};

/// What is told, held and perhaps charged for one request.
pub(super) struct Grant {
    pub(super) reports: Reports,
    pub(super) held: AllHeld,
    /// What the answer may tell the cost of.
    pub(super) open: Vec<OpenCharge>,
    /// Whether another stage of ours stands around this one and has the last word.
    pub(super) outer: bool,
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
    /// How the limit stood then.
    pub(super) stood: Option<Report>,
}

/// What an inner stage has told, for the outer one.
#[derive(Clone)]
struct Told {
    reports: Reports,
    /// Whether it refused.
    refused: bool,
}

impl Grant {
    /// Settles what the answer tells, writes the fields and ties what is held to the answer's end.
    pub(super) fn conclude(mut self, mut response: Response) -> Response {
        for charge in self.open {
            let stands = charge.settle(response.headers());
            stands
                .into_iter()
                .for_each(|stands| self.reports.stands(stands));
        }
        tell(&mut response, self.reports, false, self.outer);
        hold_until_end(response, self.held)
    }
}

/// Writes a stage's fields on an answer, beside those of an inner stage.
pub(super) fn tell(response: &mut Response, mut reports: Reports, refused: bool, outer: bool) {
    let inner = response.extensions_mut().remove::<Told>();
    let beside_ours = inner.is_some();
    let inner_refused = inner.as_ref().is_some_and(|inner| inner.refused);
    if let Some(report) = inner.and_then(|inner| inner.reports.tightest) {
        reports.stands(report);
    }
    if inner_refused {
        reports.delay(response.headers_mut());
    }
    if outer {
        let reports = reports.clone();
        response.extensions_mut().insert(Told { reports, refused });
    }
    reports.write(response.headers_mut(), beside_ours);
}

impl OpenCharge {
    /// Charges what the answer says more than was charged, or gives back what it says less; tells how
    /// the limit stands then.
    fn settle(self, headers: &HeaderMap) -> Option<Report> {
        let told = self.told(headers).unwrap_or(self.cost);
        if told == self.cost {
            return self.stood;
        }
        if self.source != Source::Memory {
            self.settle_shared(told);
            return self.stood;
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
            Some(more) => (Change::Charge, more),
            None => (Change::GiveBack(self.at), self.cost - told),
        };
        change_later(&self.limit, (self.key, &self.tier), self.worker, change);
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
    fn stands(self, now: u64) -> Option<Report> {
        let windows = &self.tier.windows;
        let counting = &self.limit.counters.counting;
        let known = counting.standings(self.key, windows, now);
        let whole = || windows.iter().map(Standing::of_all).collect();
        let standings = known.unwrap_or_else(whole).into_iter().enumerate();
        let tightest = standings.reduce(|known, next| match next.1.is_tighter(&known.1) {
            true => next,
            false => known,
        });
        let (window, standing) = tightest?;
        Some(Report {
            headers: self.limit.told(),
            tier: self.tier,
            window,
            standing,
        })
    }
}
