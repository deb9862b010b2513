//! Which variant of a URL a request is for, as far as answers have told.

use std::hash::{BuildHasher, Hash, Hasher};

use http::HeaderMap;

use super::{object::Draft, policy::Nominated};

/// By which fields answers are told apart, and what this request has in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    nominated: Nominated,
    /// Of the fields and the request's values of them; 0 where no answer is known.
    digest: u64,
}

impl Selection {
    /// What a request selects by these fields.
    pub(super) fn of(
        nominated: Nominated,
        request: &HeaderMap,
        digests: &impl BuildHasher,
    ) -> Self {
        let mut hasher = digests.build_hasher();
        nominated.names().hash(&mut hasher);
        nominated.key(request).hash(&mut hasher);
        Self {
            digest: hasher.finish(),
            nominated,
        }
    }

    /// Requests of one selection wait for each other.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Learns of another's answer by what else this request is told apart from others; whether there was
    /// anything to learn.
    pub(super) fn learn(
        &mut self,
        answer: &Draft,
        request: &HeaderMap,
        digests: &impl BuildHasher,
    ) -> bool {
        let nominated = self.nominated.with(&answer.nominated);
        let learnt = Self::of(nominated, request, digests);
        let is_other = learnt.digest != self.digest;
        *self = learnt;
        is_other
    }
}
