//! Verified tokens, remembered by their hash within a bound.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use super::{super::method::Grant, claims::Times};
use crate::{exchange::Reason, telemetry::MemoryMetrics};

/// What is known about a token whose signature held once.
pub(super) struct Remembered {
    /// `jti`.
    pub(super) id: Option<Box<str>>,
    pub(super) times: Times,
    /// Of the issuer's keys, when it was verified.
    pub(super) generation: u64,
    pub(super) grant: Arc<Grant>,
}

/// What is remembered of a token.
pub(super) enum Known {
    /// Its signature held.
    Good(Arc<Remembered>),
    /// It is not this issuer's.
    Foreign(Foreign),
}

/// A token that an issuer refused for what can't change while its keys stay: on a route with two
/// issuers one of them sees the other's tokens all day.
#[derive(Clone, Copy)]
pub(super) struct Foreign {
    pub(super) reason: Reason,
    /// Of the issuer's keys, when it was refused.
    pub(super) generation: u64,
}

/// The tokens of one issuer. When it is full, those that are seldom seen go.
pub(super) struct Memory {
    tokens: Cache<[u8; 32], Entry, Weight>,
    foreign: Cache<[u8; 32], Foreign>,
    metrics: MemoryMetrics,
}

#[derive(Clone)]
struct Entry {
    known: Arc<Remembered>,
    bytes: u32,
}

#[derive(Clone)]
struct Weight;

impl Weighter<[u8; 32], Entry> for Weight {
    fn weight(&self, _: &[u8; 32], entry: &Entry) -> u64 {
        entry.bytes.into()
    }
}

impl Memory {
    /// Room for so many bytes, nearly.
    pub(super) fn new(bytes: u64, metrics: MemoryMetrics) -> Self {
        let tokens = usize::try_from(bytes / u64::from(FIXED)).unwrap_or(usize::MAX);
        // The estimate only sizes a table.
        let tokens = Cache::with_weighter(tokens.min(MOST_EXPECTED), bytes, Weight);
        let foreign = Cache::new(MOST_FOREIGN);
        Self {
            tokens,
            foreign,
            metrics,
        }
    }

    pub(super) fn get(&self, hash: [u8; 32]) -> Option<Known> {
        let good = self.tokens.get(&hash);
        let good = good.map(|entry| Known::Good(entry.known));
        let found = good.or_else(|| self.foreign.get(&hash).map(Known::Foreign));
        match found {
            Some(_) => self.metrics.hits.inc(),
            None => self.metrics.misses.inc(),
        }
        found
    }

    /// Remembers that a token is another issuer's.
    pub(super) fn insert_foreign(&self, hash: [u8; 32], foreign: Foreign) {
        self.foreign.insert(hash, foreign);
    }

    /// Remembers a token whose claims took so many bytes.
    pub(super) fn insert(&self, hash: [u8; 32], claims: usize, known: Arc<Remembered>) {
        let claims = u32::try_from(claims).unwrap_or(u32::MAX);
        let bytes = claims.saturating_mul(PER_BYTE).saturating_add(FIXED);
        self.tokens.insert(hash, Entry { known, bytes });
    }
}

/// What a token takes beside its claims: the entry, the principal and its name.
const FIXED: u32 = 1024;
/// What a byte of encoded claims becomes: many short values in a tree are the worst case.
const PER_BYTE: u32 = 8;
const MOST_EXPECTED: usize = 100_000;
/// A hundred bytes each. Whoever makes tokens up fills it, and gains nothing.
const MOST_FOREIGN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn made_up_tokens_take_no_more_than_their_room() {
        let metrics = Metrics::new();
        let memory = Memory::new(1 << 20, metrics.memory(&"jwt.main".into()));
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash
        };
        let foreign = Foreign {
            reason: Reason::JwtBadSignature,
            generation: 1,
        };
        for number in 0..10 * MOST_FOREIGN {
            memory.insert_foreign(hash(number), foreign);
        }
        assert!(
            memory.foreign.len() <= MOST_FOREIGN,
            "{}",
            memory.foreign.len()
        );
        // There is room for so many, and none is taken from tokens that are good.
        assert!(memory.foreign.len() > MOST_FOREIGN / 2);
        assert_eq!(memory.tokens.len(), 0);
        let known = (0..10 * MOST_FOREIGN).filter(|number| memory.get(hash(*number)).is_some());
        assert_eq!(known.count(), memory.foreign.len());
    }
}
