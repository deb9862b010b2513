//! The fields by which answers tell how limits stand: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-11), `X-RateLimit-*`, `Retry-After`.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};
use smallvec::SmallVec;

use super::tier::Tier;
use crate::{config::LimitHeaders, store::Standing};

/// How one window of a limit stands.
#[derive(Clone)]
pub(super) struct Report {
    pub(super) tier: Arc<Tier>,
    pub(super) headers: LimitHeaders,
    pub(super) window: usize,
    pub(super) standing: Standing,
}

/// What a stage tells: the tightest of its windows, and all policies.
#[derive(Clone, Default)]
pub(super) struct Reports {
    pub(super) tightest: Option<Report>,
    pub(super) policies: SmallVec<[HeaderValue; 2]>,
}

impl Reports {
    /// Names a policy.
    pub(super) fn policy(&mut self, tier: &Tier, headers: LimitHeaders) {
        if headers.draft() {
            self.policies.push(tier.policy.clone());
        }
    }

    /// Notes how a window stands; the tightest is told.
    pub(super) fn stands(&mut self, report: Report) {
        let tighter = |known: &Report| report.standing.is_tighter(&known.standing);
        if report.headers != LimitHeaders::Off && self.tightest.as_ref().is_none_or(tighter) {
            self.tightest = Some(report);
        }
    }

    /// Writes the fields. An upstream's own give way, once: what an inner stage of ours wrote stands
    /// beside what this one writes.
    pub(super) fn write(self, headers: &mut HeaderMap, beside_ours: bool) {
        let mut first = !beside_ours;
        for policy in self.policies {
            match first {
                true => drop(headers.insert(RATELIMIT_POLICY, policy)),
                false => drop(headers.append(RATELIMIT_POLICY, policy)),
            }
            first = false;
        }
        let Some(report) = self.tightest else { return };
        if report.headers.draft() {
            headers.insert(RATELIMIT, report.item());
        }
        if report.headers.legacy() {
            report.write_legacy(headers);
        }
    }
}

impl Reports {
    /// Draws `Retry-After` out to when the tightest window has more: whoever came earlier would be
    /// refused by that one.
    pub(super) fn delay(&self, headers: &mut HeaderMap) {
        let used_up = self
            .tightest
            .as_ref()
            .filter(|it| it.standing.remaining == 0);
        let Some(reset) = used_up.and_then(|report| report.standing.reset) else {
            return;
        };
        let told = headers
            .get(RETRY_AFTER)
            .and_then(|told| told.to_str().ok()?.parse().ok());
        if told.is_some_and(|told: u64| told < seconds(reset)) {
            headers.insert(RETRY_AFTER, seconds(reset).into());
        }
    }
}

impl Report {
    /// `"name";r=50;t=30`.
    fn item(&self) -> HeaderValue {
        let mut text = SmallVec::<[u8; 128]>::new();
        if let Some(begin) = self.tier.items.get(self.window) {
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
        let quota = self.tier.windows.get(self.window).map_or(0, |it| it.quota);
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
