//! The fields that the gateway itself puts on answers: the request's id, and how limits stand
//! (draft-ietf-httpapi-ratelimit-headers-11, `X-RateLimit-*`, `Retry-After`).
//!
//! Over HTTP/1.1 they are written as text behind the head's other fields: a place in a map costs each
//! of them some hundred instructions, which is a tenth of all that a refusal costs.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::exchange::{
    Context, LimitReport, LimitSaid, Reason,
    fields::{X_REQUEST_ID, remove_where},
};

/// Puts the fields into a map. A server's own of these names give way.
pub(super) fn insert(headers: &mut HeaderMap, context: &Context) {
    let own = Own::of(context);
    if own.tells_limits() {
        remove_where(headers, |name| own.replaces(name));
    }
    headers.insert(X_REQUEST_ID, context.id.header().clone());
    tell_limits(headers, context, tell);
}

/// Writes the fields as lines of a head.
pub(super) fn write(out: &mut Vec<u8>, context: &Context) {
    out.extend_from_slice(b"x-request-id: ");
    out.extend_from_slice(context.id.header().as_bytes());
    out.extend_from_slice(b"\r\n");
    tell_limits(out, context, tell_as_text);
}

/// Which names the gateway tells by itself on one answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    draft: bool,
    legacy: bool,
}

impl Own {
    /// Those of an answer that is about to go out.
    pub(super) fn of(context: &Context) -> Self {
        let (draft, legacy) = context.tells_limits();
        Self { draft, legacy }
    }

    fn tells_limits(self) -> bool {
        self.draft || self.legacy
    }

    /// Whether a field under that name gives way.
    pub(super) fn replaces(self, name: &str) -> bool {
        match name {
            "x-request-id" => true,
            "ratelimit" | "ratelimit-policy" => self.draft,
            "x-ratelimit-limit" | "x-ratelimit-remaining" | "x-ratelimit-reset" => self.legacy,
            _ => false,
        }
    }
}

fn tell_limits<F: Fields>(out: &mut F, context: &Context, tell: impl Fn(&mut F, &[LimitReport])) {
    context.with_limits(|reports| {
        tell(out, reports);
        // Another refusal may have taken the place of a limit's.
        if context.reason() == Some(Reason::LimitExceeded) {
            out.field(RETRY_AFTER, |text| push(text, retry_after(reports)));
        }
    });
}

/// Of most answers there is one limit to tell, in the draft's fields alone. All of them that stays the
/// same is written in one go.
fn tell_as_text(out: &mut Vec<u8>, reports: &[LimitReport]) {
    if let [report] = reports
        && let (true, false) = (report.policy.draft, report.policy.legacy)
        && let Some(window) = report.policy.windows.get(report.window)
        && let Some((remaining, reset)) = report.said.standing()
    {
        out.extend_from_slice(window.lines.as_bytes());
        push_standing(out, remaining, reset);
        out.extend_from_slice(b"\r\n");
        return;
    }
    tell(out, reports);
}

/// The policies of all limits, and in the draft's fields and the older ones the tightest window of those
/// limits that are told there.
fn tell(out: &mut impl Fields, reports: &[LimitReport]) {
    let told = |it: &&LimitReport| it.said != LimitSaid::DenyUncounted;
    for report in reports.iter().filter(told).filter(|it| it.policy.draft) {
        let policy = report.policy.text.as_bytes();
        out.field(RATELIMIT_POLICY, |text| text.extend_from_slice(policy));
    }
    let (draft, legacy) = tightest_told(reports);
    if let Some(tightest) = draft {
        out.field(RATELIMIT, |text| tightest.item(text));
    }
    if let Some(tightest) = legacy {
        tightest.legacy(out);
    }
}

/// In whole seconds, never early: when the limit that refused lets it through, or a tighter one beside
/// it. Where time alone does not help, a second is as good as any.
fn retry_after(reports: &[LimitReport]) -> u64 {
    let refused = reports.iter().find_map(|it| match it.said {
        LimitSaid::Deny { reset } => reset,
        _ => None,
    });
    // Also one whose figures nobody is told; but what only watches holds up nobody.
    let enforced = reports.iter().filter(|it| it.policy.enforced);
    let tightest = tightest(enforced).and_then(|it| it.reset);
    let waits = [refused, tightest].into_iter().flatten().map(seconds);
    waits.max().unwrap_or(1).max(1)
}

/// A quota as it was counted.
#[derive(Clone, Copy)]
struct Counted<'r> {
    report: &'r LimitReport,
    remaining: u32,
    reset: Option<u64>,
}

/// The tightest of those that the draft's fields tell, and of those that the older ones tell: they may be
/// others, and one limit may be both.
fn tightest_told(reports: &[LimitReport]) -> (Option<Counted<'_>>, Option<Counted<'_>>) {
    let (mut draft, mut legacy) = (None, None);
    for counted in reports.iter().filter_map(Counted::of) {
        let policy = &counted.report.policy;
        if policy.draft {
            counted.tighten(&mut draft);
        }
        if policy.legacy {
            counted.tighten(&mut legacy);
        }
    }
    (draft, legacy)
}

/// The tightest of several.
fn tightest<'r>(reports: impl IntoIterator<Item = &'r LimitReport>) -> Option<Counted<'r>> {
    let mut tightest = None;
    for counted in reports.into_iter().filter_map(Counted::of) {
        counted.tighten(&mut tightest);
    }
    tightest
}

impl<'r> Counted<'r> {
    /// `None` where nothing was counted.
    fn of(report: &'r LimitReport) -> Option<Self> {
        let (remaining, reset) = report.said.standing()?;
        Some(Self {
            report,
            remaining,
            reset,
        })
    }

    /// Takes the place of one that is less tight; of those as tight as one another the first stays.
    fn tighten(self, known: &mut Option<Self>) {
        let key = |it: &Self| (it.remaining, std::cmp::Reverse(it.reset));
        if known.is_none_or(|known| key(&self) < key(&known)) {
            *known = Some(self);
        }
    }

    /// `"name";r=50;t=30`.
    fn item(&self, text: &mut Vec<u8>) {
        let Self { report, .. } = self;
        if let Some(window) = report.policy.windows.get(report.window) {
            text.extend_from_slice(window.item.as_bytes());
            push_standing(text, self.remaining, self.reset);
        }
    }

    fn legacy(&self, out: &mut impl Fields) {
        let Self { report, .. } = self;
        let window = report.policy.windows.get(report.window);
        let quota = window.map_or(0, |window| window.quota);
        out.field(X_RATELIMIT_LIMIT, |text| push(text, quota.into()));
        let remaining = self.remaining.into();
        out.field(X_RATELIMIT_REMAINING, |text| push(text, remaining));
        if let Some(reset) = self.reset {
            out.field(X_RATELIMIT_RESET, |text| push(text, seconds(reset)));
        }
    }
}

/// What stands behind `"name";r=`.
fn push_standing(text: &mut Vec<u8>, remaining: u32, reset: Option<u64>) {
    push(text, remaining.into());
    match reset.map(seconds) {
        // Of most quotas there is more within the second.
        Some(1) => text.extend_from_slice(b";t=1"),
        Some(seconds) => {
            text.extend_from_slice(b";t=");
            push(text, seconds);
        }
        None => {}
    }
}

/// Whole seconds, never early.
fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

fn push(text: &mut Vec<u8>, number: u64) {
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Where fields go.
trait Fields {
    /// Adds a field, whose name is lower case and whose value is printable.
    fn field(&mut self, name: &'static str, value: impl FnOnce(&mut Vec<u8>));
}

impl Fields for HeaderMap {
    fn field(&mut self, name: &'static str, value: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::new();
        value(&mut text);
        if let Ok(value) = HeaderValue::try_from(text) {
            self.append(HeaderName::from_static(name), value);
        }
    }
}

/// A head's text.
impl Fields for Vec<u8> {
    fn field(&mut self, name: &'static str, value: impl FnOnce(&mut Vec<u8>)) {
        self.extend_from_slice(name.as_bytes());
        self.extend_from_slice(b": ");
        value(self);
        self.extend_from_slice(b"\r\n");
    }
}

const RETRY_AFTER: &str = "retry-after";
const RATELIMIT: &str = "ratelimit";
const RATELIMIT_POLICY: &str = "ratelimit-policy";
const X_RATELIMIT_LIMIT: &str = "x-ratelimit-limit";
const X_RATELIMIT_REMAINING: &str = "x-ratelimit-remaining";
const X_RATELIMIT_RESET: &str = "x-ratelimit-reset";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{LimitPolicy, PolicyWindow};
    use std::sync::Arc;

    fn report(name: &str, (draft, legacy): (bool, bool), said: LimitSaid) -> LimitReport {
        let policy = LimitPolicy {
            limit: name.into(),
            enforced: name != "watches",
            draft,
            legacy,
            text: HeaderValue::from_str(&format!("\"{name}\";q=9")).unwrap(),
            windows: Box::new([PolicyWindow::new(
                format!("\"{name}\";r="),
                &format!("\"{name}\";q=9"),
                9,
            )]),
        };
        LimitReport {
            policy: Arc::new(policy),
            window: 0,
            said,
        }
    }

    fn allow(remaining: u32, reset: u64) -> LimitSaid {
        LimitSaid::Allow {
            remaining,
            reset: Some(reset),
        }
    }

    fn told(reports: &[LimitReport]) -> String {
        let mut text = Vec::new();
        tell_as_text(&mut text, reports);
        let text = String::from_utf8(text).unwrap();
        let mut headers = HeaderMap::new();
        tell(&mut headers, reports);
        let lines = headers.iter().map(|(name, value)| {
            let value = value.to_str().unwrap();
            format!("{name}: {value}\r\n")
        });
        let (mut lines, mut same): (Vec<_>, Vec<_>) =
            (lines.collect(), text.split_inclusive("\r\n").collect());
        lines.sort_unstable();
        same.sort_unstable();
        assert_eq!(lines, same, "a map and a text tell the same");
        text
    }

    const DRAFT: (bool, bool) = (true, false);

    #[test]
    fn all_policies_are_told_and_the_tightest_window() {
        let text = told(&[
            report("wide", DRAFT, allow(5, 1)),
            report("tight", DRAFT, allow(2, 1_000_000_001)),
            report("unknown", DRAFT, LimitSaid::Nothing),
        ]);
        let expected = "ratelimit-policy: \"wide\";q=9\r\nratelimit-policy: \"tight\";q=9\r\n\
            ratelimit-policy: \"unknown\";q=9\r\nratelimit: \"tight\";r=2;t=2\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_limit_is_told_in_the_fields_that_it_asks_for() {
        let legacy = told(&[report("a", (false, true), allow(3, 1))]);
        assert_eq!(
            legacy,
            "x-ratelimit-limit: 9\r\nx-ratelimit-remaining: 3\r\nx-ratelimit-reset: 1\r\n"
        );
        let both = told(&[report("a", (true, true), allow(3, 1))]);
        assert!(both.starts_with("ratelimit-policy: \"a\";q=9\r\nratelimit: \"a\";r=3;t=1\r\n"));
        assert!(both.ends_with(&legacy));
        assert_eq!(told(&[report("a", (false, false), allow(3, 1))]), "");
        assert_eq!(told(&[report("a", DRAFT, LimitSaid::DenyUncounted)]), "");
    }

    #[test]
    fn limits_of_other_fields_are_told_each_in_its_own() {
        let (legacy, both) = ((false, true), (true, true));
        let of_both = told(&[
            report("new", DRAFT, allow(7, 1)),
            report("old", legacy, allow(2, 1)),
        ]);
        let older = "x-ratelimit-limit: 9\r\nx-ratelimit-remaining: 2\r\nx-ratelimit-reset: 1\r\n";
        let newer = "ratelimit-policy: \"new\";q=9\r\nratelimit: \"new\";r=7;t=1\r\n";
        assert_eq!(of_both, format!("{newer}{older}"));
        let shared = told(&[
            report("new", DRAFT, allow(7, 1)),
            report("shared", both, allow(5, 1)),
            report("old", legacy, allow(2, 1)),
        ]);
        assert!(shared.contains("ratelimit: \"shared\";r=5;t=1\r\n"));
        assert!(shared.ends_with(older), "{shared}");
        let refused = told(&[
            report("new", DRAFT, LimitSaid::Nothing),
            report("old", legacy, LimitSaid::Deny { reset: Some(1) }),
        ]);
        let older = older.replace("remaining: 2", "remaining: 0");
        assert_eq!(refused, format!("ratelimit-policy: \"new\";q=9\r\n{older}"));
    }

    #[test]
    fn who_is_refused_waits_for_the_limit_that_lasts_longest() {
        let deny = |reset| report("no", DRAFT, LimitSaid::Deny { reset });
        let second = 1_000_000_000;
        assert_eq!(retry_after(&[deny(Some(3 * second))]), 3);
        assert_eq!(retry_after(&[deny(Some(1))]), 1);
        assert_eq!(retry_after(&[deny(None)]), 1);
        let used_up = report("outer", (false, false), allow(0, 60 * second));
        assert_eq!(retry_after(&[used_up, deny(Some(second))]), 60);
        let watches = report("watches", (false, false), allow(0, 60 * second));
        assert_eq!(retry_after(&[watches, deny(Some(second))]), 1);
        let roomy = report("outer", DRAFT, allow(1, 60 * second));
        assert_eq!(retry_after(&[roomy, deny(Some(second))]), 1);
    }
}
