//! Where an issuer's keys come from.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use smallvec::SmallVec;

use crate::{
    config::{Jwt, KeySet, KeysFrom, VerificationKey},
    exchange::BoxFuture,
    pipeline::Tools,
};

/// The keys of one issuer, now. Asked for every token that is not remembered.
pub trait KeySource: Send + Sync + 'static {
    /// Counts up whenever keys were taken away or replaced; a remembered token of another generation
    /// is verified anew. Read for every request: it must be one load.
    fn generation(&self) -> u64;

    /// The keys for a token's `kid` and `alg`, out of those that are configured for `alg`.
    fn lookup(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup;
}

/// What a [`KeySource`] says.
pub enum Lookup {
    /// The keys to try; at least one.
    Found(SmallVec<[Arc<VerificationKey>; 1]>),
    /// The issuer has no such key.
    Unknown,
    /// There are no keys: none could be fetched yet, or they are too old to be used.
    Unavailable,
    /// They are being fetched. It must not resolve to `Pending` again.
    Pending(BoxFuture<Lookup>),
}

impl Lookup {
    /// Looks into a set; a handful of nameless keys are tried at most.
    #[must_use]
    pub fn within(keys: &KeySet, id: Option<&str>, algorithm: Algorithm) -> Self {
        let found: SmallVec<_> = keys.find(id, algorithm).take(MOST_TRIED).cloned().collect();
        match found.is_empty() {
            true => Self::Unknown,
            false => Self::Found(found),
        }
    }
}

/// The source that a configuration names.
pub(super) fn source(config: &Jwt, _: &Tools) -> Arc<dyn KeySource> {
    match &config.keys {
        KeysFrom::Fixed(keys) => Arc::new(Fixed(keys.clone())),
        KeysFrom::JwksUrl(_) | KeysFrom::Discovery => Arc::new(Nowhere),
    }
}

/// Keys that stand in the configuration, or in files that it names: they change with a reload, which
/// makes a new source.
struct Fixed(KeySet);

impl KeySource for Fixed {
    fn generation(&self) -> u64 {
        0
    }

    fn lookup(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        Lookup::within(&self.0, id, algorithm)
    }
}

/// Keys that can't be had.
struct Nowhere;

impl KeySource for Nowhere {
    fn generation(&self) -> u64 {
        0
    }

    fn lookup(&self, _: Option<&str>, _: Algorithm) -> Lookup {
        Lookup::Unavailable
    }
}

/// Each costs a verification.
const MOST_TRIED: usize = 4;
