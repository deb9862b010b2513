//! Purges that Redis does not know of yet, by their moments.
//!
//! A cache that a reload replaces goes on telling what it has purged. The cache in its place has no marks
//! of that, so until Redis knows of it, nothing at all is taken from there.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::purge::Stamp;

/// A purge that Redis does not know of yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsaid {
    /// When it was asked for, at the latest.
    pub(super) at: Stamp,
    name: u64,
}

/// Those of one cache, among those of all that tell the same Redis.
#[derive(Debug, Default)]
pub(super) struct AllUnsaid {
    all: Arc<Mutex<All>>,
    /// How many of them are ours; changed under the lock.
    ours: AtomicUsize,
}

#[derive(Debug, Default)]
struct All {
    set: BTreeSet<(Stamp, u64)>,
    names: u64,
}

impl AllUnsaid {
    /// Those of another cache that tells the same Redis.
    pub(super) fn beside(&self) -> Self {
        Self {
            all: Arc::clone(&self.all),
            ours: AtomicUsize::new(0),
        }
    }

    /// Has a purge made, and notes it. `purge` tells its moment; meanwhile no look begins and none can see
    /// half of it, so it must be short, and take no lock under which this one is taken.
    pub(super) fn announce(&self, purge: impl FnOnce() -> Stamp) -> Unsaid {
        let mut all = self.locked();
        let at = purge();
        all.names += 1;
        let name = all.names;
        all.set.insert((at, name));
        self.ours.fetch_add(1, Relaxed);
        Unsaid { at, name }
    }

    /// Notes that Redis knows of one of ours.
    pub(super) fn said(&self, unsaid: Unsaid) {
        let mut all = self.locked();
        if all.set.remove(&(unsaid.at, unsaid.name)) {
            self.ours.fetch_sub(1, Relaxed);
        }
    }

    /// Since when there are any: with some of another cache, since ever. A look is to have read its own
    /// moment before it asks.
    pub(super) fn since(&self) -> Stamp {
        let all = self.locked();
        match all.set.first() {
            None => Stamp::MAX,
            Some(_) if all.set.len() > self.ours.load(Relaxed) => SINCE_EVER,
            Some((at, _)) => *at,
        }
    }

    fn locked(&self) -> MutexGuard<'_, All> {
        // Whole after a panic elsewhere: nothing in it panics between two changes.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The moment before all others, at which what was never purged counts as purged.
const SINCE_EVER: Stamp = 0;

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn purges_that_redis_does_not_know_of_count_from_the_first() {
        let unsaid = AllUnsaid::default();
        assert_eq!(unsaid.since(), Stamp::MAX);
        let (first, second) = (unsaid.announce(|| 10), unsaid.announce(|| 10));
        unsaid.said(first);
        assert_eq!(unsaid.since(), 10);
        unsaid.said(second);
        unsaid.said(second);
        assert_eq!(unsaid.since(), Stamp::MAX);
    }

    #[test]
    fn those_of_a_cache_of_before_count_since_ever() {
        let before = AllUnsaid::default();
        let first = before.announce(|| 10);
        let unsaid = before.beside();
        let own = unsaid.announce(|| 20);
        assert_eq!((unsaid.since(), before.since()), (SINCE_EVER, SINCE_EVER));
        before.said(first);
        assert_eq!(unsaid.since(), 20);
        // A request that began before the reload may end behind it.
        let late = before.announce(|| 30);
        assert_eq!(unsaid.since(), SINCE_EVER);
        unsaid.said(own);
        before.said(late);
        assert_eq!(unsaid.since(), Stamp::MAX);
    }

    #[test]
    fn who_asks_while_a_purge_is_made_is_answered_when_it_has_been() {
        let unsaid = AllUnsaid::default();
        let is_made = AtomicUsize::new(0);
        thread::scope(|scope| {
            let mut looking = None;
            unsaid.announce(|| {
                looking = Some(scope.spawn(|| (unsaid.since(), is_made.load(Relaxed))));
                thread::sleep(Duration::from_millis(50));
                is_made.store(1, Relaxed);
                10
            });
            let looked = looking.map(|looking| looking.join().unwrap());
            assert_eq!(looked, Some((10, 1)));
        });
    }
}
