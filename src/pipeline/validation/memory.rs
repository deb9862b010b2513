//! What judging bodies may cost: memory for all of them together, and threads beside the workers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use super::json::{self, Fault};
use crate::{config::BodySchema, exchange::Blocking};

/// Judges bodies, within one budget for the whole process.
#[derive(Clone, Default)]
pub struct Judge {
    /// Bytes of bodies that are held.
    held: Arc<AtomicU64>,
    /// Where large bodies are judged; on the worker without one.
    pool: Option<Blocking>,
}

impl Judge {
    /// The same judge, which sends large bodies to a pool.
    #[must_use]
    pub fn with_pool(&self, pool: &Blocking) -> Self {
        Self {
            held: Arc::clone(&self.held),
            pool: Some(pool.clone()),
        }
    }

    /// A share of the budget, with nothing in it yet.
    pub(super) fn reserve(&self) -> Reservation {
        Reservation {
            held: Arc::clone(&self.held),
            bytes: 0,
        }
    }

    /// What is wrong with a body; `None` when there is no time to find out.
    pub(super) async fn judge(
        &self,
        schema: BodySchema,
        bytes: Bytes,
    ) -> Option<Result<(), Vec<Fault>>> {
        match &self.pool {
            // A millisecond's work: less than what the pool would cost.
            Some(pool) if bytes.len() > LARGEST_ON_WORKER => {
                let work = move || json::judge(&schema.validator, &bytes);
                pool.run(work).await.ok()
            }
            _ => Some(json::judge(&schema.validator, &bytes)),
        }
    }
}

/// Bytes of the budget, given back when it is dropped.
pub(super) struct Reservation {
    held: Arc<AtomicU64>,
    bytes: u64,
}

impl Reservation {
    /// Takes more; `false`, and no change, when there is not as much.
    pub(super) fn grow(&mut self, by: usize) -> bool {
        let by = by as u64;
        let taken = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(by).filter(|held| *held <= BUDGET)
            });
        if taken.is_ok() {
            self.bytes += by;
        }
        taken.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Of all bodies that are held at a time, in bytes.
const BUDGET: u64 = 128 << 20;
const LARGEST_ON_WORKER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let judge = Judge::default();
        let (mut first, mut second) = (judge.reserve(), judge.reserve());
        let most = usize::try_from(BUDGET).unwrap();
        assert!(first.grow(most - 10) && second.grow(10));
        assert!(!second.grow(1) && !first.grow(usize::MAX));
        drop(first);
        assert!(second.grow(most - 10));
        drop(second);
        assert!(judge.reserve().grow(most));
    }
}
