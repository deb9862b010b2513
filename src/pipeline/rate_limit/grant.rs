//! A request that was let through: what is still to do when its answer comes.

use std::sync::Arc;

use http::HeaderMap;

use super::{
    fields::{Report, Reports},
    held::{AllHeld, hold_until_end},
    limit::Limit,
    shared::{Change, change_later},
    stage::Source,
    tier::Tier,
};
use crate::{exchange::Response, store::KeyHash};

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
    pub(super) worker: usize,
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
        for charge in &self.open {
            charge.settle(&response, &mut self.reports);
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
    /// Charges what the answer says more than was charged, or gives back what it says less.
    fn settle(&self, response: &Response, reports: &mut Reports) {
        let Some(told) = self.told(response.headers()) else {
            return;
        };
        if self.source != Source::Memory {
            return self.settle_shared(told);
        }
        let counters = &self.limit.counters;
        let windows = &self.tier.windows;
        // The answer may have taken a while.
        let now = counters.at(self.limit.clock.now());
        match told.checked_sub(self.cost) {
            Some(0) => return,
            Some(more) => counters.counting.charge(self.key, windows, now, more),
            None => counters
                .counting
                .give_back(self.key, windows, now, self.cost - told),
        }
        self.report(reports, now);
    }

    /// The same in Redis, beside the answer, which tells how things stood before.
    fn settle_shared(&self, told: u32) {
        let change = match told.checked_sub(self.cost) {
            _ if self.source == Source::Nowhere => return,
            Some(0) => return,
            Some(more) => (Change::Charge, more),
            None => (Change::GiveBack, self.cost - told),
        };
        change_later(&self.limit, (self.key, &self.tier), self.worker, change);
    }

    fn told(&self, headers: &HeaderMap) -> Option<u32> {
        let name = self.limit.config.cost_header.as_ref()?;
        let told: u64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
        Some(u32::try_from(told).unwrap_or(u32::MAX))
    }

    /// Tells how the limit stands now in place of how it stood before.
    fn report(&self, reports: &mut Reports, now: u64) {
        let known = |report: &Report| Arc::ptr_eq(&report.tier, &self.tier);
        if reports.tightest.as_ref().is_some_and(known) {
            reports.tightest = None;
        }
        let counting = &self.limit.counters.counting;
        let standings = counting.standings(self.key, &self.tier.windows, now);
        for (window, standing) in standings.into_iter().flatten().enumerate() {
            reports.stands(Report {
                tier: Arc::clone(&self.tier),
                headers: self.limit.config.headers,
                window,
                standing,
            });
        }
    }
}
