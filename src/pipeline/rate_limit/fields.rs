//! The fields by which answers tell how limits stand: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-11), `X-RateLimit-*`, `Retry-After`.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};
use smallvec::SmallVec;

use super::tier::Tier;
use crate::{config::LimitHeaders, store::Standing};

/// How a limit of a stage stands.
#[derive(Clone)]
pub(super) struct Report {
    pub(super) tier: Arc<Tier>,
    pub(super) headers: LimitHeaders,
    /// Its tightest window, and how that stands; `None` where nobody has counted.
    pub(super) stands: Option<(usize, Standing)>,
}

/// What a stage tells: its limits in their order.
pub(super) type Reports = SmallVec<[Report; 1]>;

/// A window that is told, and how it stands.
#[derive(Clone, Copy)]
pub(super) struct Told<'r> {
    report: &'r Report,
    window: usize,
    standing: Standing,
}

/// The tightest window of several limits; of those as tight as one another the first.
pub(super) fn tightest<'r>(reports: impl IntoIterator<Item = &'r Report>) -> Option<Told<'r>> {
    let told = reports.into_iter().filter_map(Report::told);
    told.reduce(
        |known, next| match next.standing.is_tighter(&known.standing) {
            true => next,
            false => known,
        },
    )
}

/// Writes the fields: the policies of all limits, and the tightest window. An upstream's own give way,
/// once: what an inner stage of ours wrote stands beside what this one writes.
pub(super) fn write(
    headers: &mut HeaderMap,
    policies: &[Report],
    tightest: Option<Told<'_>>,
    beside_ours: bool,
) {
    let mut first = !beside_ours;
    for report in policies.iter().filter(|report| report.headers.draft()) {
        let policy = report.tier.policy.clone();
        match first {
            true => drop(headers.insert(RATELIMIT_POLICY, policy)),
            false => drop(headers.append(RATELIMIT_POLICY, policy)),
        }
        first = false;
    }
    let Some(told) = tightest else { return };
    if told.report.headers.draft() {
        headers.insert(RATELIMIT, told.item());
    }
    if told.report.headers.legacy() {
        told.write_legacy(headers);
    }
}

impl Report {
    /// What of it is told.
    fn told(&self) -> Option<Told<'_>> {
        let (window, standing) = self.stands.filter(|_| self.headers != LimitHeaders::Off)?;
        Some(Told {
            report: self,
            window,
            standing,
        })
    }

    /// The same for whoever has no other limit to tell of.
    pub(super) fn of(told: Told<'_>) -> Self {
        Self {
            stands: Some((told.window, told.standing)),
            ..told.report.clone()
        }
    }
}

impl Told<'_> {
    /// Draws `Retry-After` out to when the window has more: whoever came earlier would be refused by
    /// it.
    pub(super) fn delay(&self, headers: &mut HeaderMap) {
        let used_up = self.standing.remaining == 0;
        let Some(reset) = self.standing.reset.filter(|_| used_up) else {
            return;
        };
        let told = headers
            .get(RETRY_AFTER)
            .and_then(|told| told.to_str().ok()?.parse().ok());
        if told.is_some_and(|told: u64| told < seconds(reset)) {
            headers.insert(RETRY_AFTER, seconds(reset).into());
        }
    }

    /// `"name";r=50;t=30`.
    fn item(&self) -> HeaderValue {
        let mut text = SmallVec::<[u8; 128]>::new();
        if let Some(begin) = self.report.tier.items.get(self.window) {
            text.extend_from_slice(begin.as_bytes());
        }
        push(&mut text, self.standing.remaining.into());
        if let Some(reset) = self.standing.reset {
            text.extend_from_slice(b";t=");
            push(&mut text, seconds(reset));
        }
        // A printable name and digits.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("\"limit\";r=0"))
    }

    fn write_legacy(&self, headers: &mut HeaderMap) {
        let windows = &self.report.tier.windows;
        let quota = windows.get(self.window).map_or(0, |it| it.quota);
        headers.insert(X_RATELIMIT_LIMIT, quota.into());
        headers.insert(X_RATELIMIT_REMAINING, self.standing.remaining.into());
        match self.standing.reset {
            Some(reset) => headers.insert(X_RATELIMIT_RESET, seconds(reset).into()),
            None => headers.remove(X_RATELIMIT_RESET),
        };
    }
}

/// Whole seconds, never early.
pub(super) fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

fn push(text: &mut SmallVec<[u8; 128]>, number: u64) {
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
