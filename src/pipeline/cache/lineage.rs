//! The caches of one process: a reload may put a new one in the place of the last.
//!
//! Requests that began before go on with the cache that they have. What one of them changes, the cache of
//! now may have fetched meanwhile as it was before; so a purge reaches all caches that have come since.
//!
//! What a Redis is to be told outlives them: a cache that shares it takes over where the last one with a
//! Redis has left off, whatever caches there were between the two.

use std::{
    ptr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use arc_swap::ArcSwap;

use super::{purges_shared::Owed, shared::Cache};

/// All caches of a process that somebody still has, the oldest first, and what they owe.
#[derive(Default)]
pub struct Lineage {
    caches: ArcSwap<Vec<Weak<Cache>>>,
    owed: Mutex<Option<Owed>>,
    /// Whether a cache has kept its answers to itself since the last that shared them.
    alone: AtomicBool,
}

impl Lineage {
    /// Adds the newest.
    pub(super) fn add(&self, cache: &Arc<Cache>) {
        self.caches.rcu(|known| {
            let alive = known.iter().filter(|known| known.strong_count() > 0);
            let mut caches: Vec<_> = alive.cloned().collect();
            caches.push(Arc::downgrade(cache));
            caches
        });
    }

    /// Those that have come since one; of most there are none.
    pub(super) fn since(&self, cache: &Cache) -> Vec<Arc<Cache>> {
        let caches = self.caches.load();
        let newer = caches.iter().rev();
        let newer = newer.take_while(|known| !ptr::eq(known.as_ptr(), cache));
        newer.filter_map(Weak::upgrade).collect()
    }

    /// Waits, a moment at most, until Redis knows of all purges, also where no cache is left that made
    /// them.
    pub async fn drain(&self) {
        if let Some(owed) = self.owed() {
            owed.drain().await;
        }
    }

    /// Notes that a cache keeps its answers to itself: what it sees changed others may have stored in Redis.
    pub(super) fn keeps_alone(&self) {
        self.alone.store(true, SeqCst);
    }

    /// Whether one has done so since the last that shared, which this is now.
    pub(super) fn was_alone(&self) -> bool {
        self.alone.swap(false, SeqCst)
    }

    /// What the last cache that shared purges may still have to tell, if there was one.
    pub(super) fn owed(&self) -> Option<Owed> {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        owed.clone()
    }

    /// Notes that of a new one, which counts what those of before owe.
    pub(super) fn owe(&self, new: Owed) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        *owed = Some(new);
    }
}
