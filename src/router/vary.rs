//! Which request headers the choice of a route depended on.

use http::{HeaderName, HeaderValue};

/// The headers that the routes of one terminal ask about.
#[derive(Debug)]
pub(super) struct Vary {
    names: Vec<HeaderName>,
    value: HeaderValue,
}

impl Vary {
    /// `None` without names.
    pub(super) fn new(names: impl Iterator<Item = HeaderName>) -> Option<Self> {
        let mut names: Vec<_> = names.collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        if names.is_empty() {
            return None;
        }
        let list: Vec<_> = names.iter().map(HeaderName::as_str).collect();
        // A list of field names is a valid value; `*` is the safe answer to what can't happen.
        let value = HeaderValue::try_from(list.join(", "));
        Some(Self {
            names,
            value: value.unwrap_or(HeaderValue::from_static("*")),
        })
    }
}

/// The headers that were asked about on the way to an answer.
///
/// A caller without `x-canary` is served by the plain route because `x-canary` was asked about first,
/// so the plain route's answer varies by it too, even when it stands at another path.
#[derive(Debug, Default)]
pub(super) struct Varies<'t> {
    first: Option<&'t Vary>,
    /// Rarely needed, so rarely allocated.
    more: Vec<&'t Vary>,
}

impl<'t> Varies<'t> {
    pub(super) fn consult(&mut self, vary: Option<&'t Vary>) {
        match (vary, self.first) {
            (None, _) => {}
            (Some(_), None) => self.first = vary,
            (Some(vary), Some(_)) => self.more.push(vary),
        }
    }

    pub(super) fn value(&self) -> Option<HeaderValue> {
        let first = self.first?;
        if self.more.is_empty() {
            return Some(first.value.clone());
        }
        let all = std::iter::once(&first).chain(&self.more);
        let names = all.flat_map(|vary| vary.names.iter().cloned());
        Vary::new(names).map(|vary| vary.value)
    }
}
