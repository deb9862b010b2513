//! When each key was used last, over all readings of the file.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// The last uses of the keys of one file.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<Arc<str>, Arc<LastUse>>>);

/// When a key was used last.
#[derive(Debug, Default)]
pub(super) struct LastUse(AtomicU64);

impl Uses {
    /// Those of the keys that there are now; a key that was there before keeps its own.
    pub(super) fn of<'k>(
        &self,
        ids: impl Iterator<Item = &'k Arc<str>>,
    ) -> HashMap<Arc<str>, Arc<LastUse>> {
        // It is written as a whole.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next: HashMap<_, _> = ids
            .map(|id| (Arc::clone(id), known.remove(id).unwrap_or_default()))
            .collect();
        known.clone_from(&next);
        next
    }
}

impl LastUse {
    /// Notes a use, to the second. Of many requests in one second only the first writes: a counter
    /// that all workers write would go from one processor's cache to the other's all the time.
    pub(super) fn note(&self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs();
        if self.0.load(Ordering::Relaxed) < seconds {
            self.0.store(seconds, Ordering::Relaxed);
        }
    }

    /// The last use since the process began.
    pub(super) fn get(&self) -> Option<SystemTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        (seconds > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}
