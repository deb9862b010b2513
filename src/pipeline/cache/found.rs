//! What looks have found for a request: of a caller's own answers the newest, and of those for all.

use std::sync::Arc;

use super::{
    Visit,
    object::Object,
    policy::{Asked, Audience, Facts, Moment, reuse},
};

/// A stored answer that a request selects.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) object: Arc<Object>,
    pub(super) facts: Facts,
    /// What is asked about no more than it is served, and may stand in for a failure where this may not.
    pub(super) instead: Option<Box<Self>>,
}

impl Found {
    /// One of which nothing else is known.
    pub(super) fn of(object: Arc<Object>, facts: Facts) -> Self {
        Self {
            object,
            facts,
            instead: None,
        }
    }

    /// Of a caller's own, which is stale, and one for all that it selects too the newer (RFC 9111 4), where that may
    /// be served as it is. Else it is its own that the caller asks about: what the upstream gives others may be
    /// newer each time, and not what the caller gets. But where that was one for all the last time it is this one.
    /// The other may stand in for failures then.
    pub(super) fn or_newer(self, other: Self, asked: &Asked, now: Moment) -> Self {
        let is_newer = other.facts.received > self.facts.received;
        let counts = || reuse(asked, &other.facts, now).serves() || self.object.is_outdated();
        match is_newer && counts() {
            true => other,
            false => Self {
                instead: Some(Box::new(other)),
                ..self
            },
        }
    }

    /// What several looks have found for one request: of a caller's own the newest, and of those for all.
    pub(super) fn newest(
        all: impl IntoIterator<Item = Self>,
        asked: &Asked,
        now: Moment,
    ) -> Option<Self> {
        let (mut own, mut others) = (None::<Self>, None::<Self>);
        for found in all {
            let known = match found.object.draft.audience {
                Audience::Caller => &mut own,
                Audience::Everyone => &mut others,
            };
            let is_newer = |known: &Self| known.facts.received < found.facts.received;
            if known.as_ref().is_none_or(is_newer) {
                *known = Some(found);
            }
        }
        match (own, others) {
            (Some(own), Some(other)) => Some(own.or_newer(other, asked, now)),
            (own, other) => own.or(other),
        }
    }

    /// It, and what may stand in for failures where it may not; each alone.
    pub(super) fn apart(&self) -> impl Iterator<Item = Self> {
        let all = std::iter::once(self).chain(self.instead.as_deref());
        all.map(|found| Self::of(Arc::clone(&found.object), found.facts))
    }

    /// The same, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Self> {
        let instead = self.instead.as_deref();
        let is_newer = |instead: &&Self| instead.facts.received > self.facts.received;
        let (newer, older) = (instead.filter(is_newer), instead.filter(|it| !is_newer(it)));
        newer.into_iter().chain([self]).chain(older)
    }
}

impl Visit {
    /// Keeps what a look has found that may not be served as it is, beside what was known.
    pub(super) fn keep_stale(&mut self, found: &Found, now: Moment) {
        let known = self.stale.take();
        let all = known.iter().chain([found]).flat_map(Found::apart);
        self.stale = Found::newest(all, &self.asked, now);
    }
}
