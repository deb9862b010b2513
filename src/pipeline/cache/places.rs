//! Fetches that go on though nobody waits for them: how many there may be, and which one ends when
//! there are more.
//!
//! Clients that only ask and leave could else keep any number of requests to upstreams alive. A fetch
//! has a place while nobody waits for it or reads it, and no longer: those with a client are bounded as
//! all requests are, and take nothing from others. Whoever needs a place gets one. When all are taken,
//! the fetch that has had its own for the longest time ends, so that a crowd of slow ones keeps nobody
//! out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// In the order in which they were taken, with how each is told to end.
    by_number: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

/// One place, as long as it is held.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    needed: Arc<Notify>,
}

impl Places {
    /// So many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// Takes a place. When all are taken, the oldest is lost.
    pub(super) fn take(self: &Arc<Self>) -> Place {
        let needed = Arc::new(Notify::new());
        let (number, lost) = {
            let mut taken = self.locked();
            let number = taken.next;
            taken.next += 1;
            let lost = match taken.by_number.len() >= self.most {
                true => taken.by_number.pop_first(),
                false => None,
            };
            taken.by_number.insert(number, Arc::clone(&needed));
            (number, lost)
        };
        if let Some((_, lost)) = lost {
            lost.notify_one();
        }
        Place {
            places: Arc::clone(self),
            number,
            needed,
        }
    }

    fn locked(&self) -> MutexGuard<'_, Taken> {
        // Whole after a panic elsewhere: nothing below the lock can panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until another needs it.
    pub(super) async fn lost(&self) {
        self.needed.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.locked().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_lost(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn when_all_are_taken_the_oldest_is_lost() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(!is_lost(&first));
        let third = places.take();
        assert!(is_lost(&first) && !is_lost(&second) && !is_lost(&third));
        drop(second);
        let fourth = places.take();
        assert!(!is_lost(&third), "one had been given back");
        drop(first);
        let _fifth = places.take();
        assert!(is_lost(&third) && !is_lost(&fourth), "that was gone before");
    }
}
