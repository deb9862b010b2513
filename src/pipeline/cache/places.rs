//! Fetches that go on though nobody waits for them: how many there may be, and which one ends when
//! there are more.
//!
//! Clients that only ask and leave could else keep any number of requests to upstreams alive. A fetch
//! has a place while nobody waits for it or reads it, and no longer: those with a client are bounded as
//! all requests are, and take nothing from others. When all are taken, the fetch that has had its own
//! for the longest time ends for one that needs a place, so that a crowd of slow ones keeps nobody out
//! for long. But each has some time before: were places taken from whoever came first at once, a
//! crowd of newcomers would end each other, and none of them would ever bring its answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// In the order in which they were taken.
    by_number: BTreeMap<u64, Holding>,
    next: u64,
}

/// Since when a place has been held, and how its holder is told that it is lost.
#[derive(Debug)]
struct Holding {
    since: Instant,
    needed: Arc<Notify>,
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

    /// Takes a place. When all are taken, the oldest is lost; `None` when that has not had its time.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let (number, needed, lost) = self.locked().add(self.most, Instant::now())?;
        if let Some(lost) = lost {
            lost.needed.notify_one();
        }
        Some(Place {
            places: Arc::clone(self),
            number,
            needed,
        })
    }

    fn locked(&self) -> MutexGuard<'_, Taken> {
        // Whole after a panic elsewhere: nothing below the lock can panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// A new place, and the one that is lost for it, if all of so many are taken.
    fn add(&mut self, most: usize, now: Instant) -> Option<(u64, Arc<Notify>, Option<Holding>)> {
        let lost = match self.by_number.len() < most {
            true => None,
            false => Some(self.oldest(now)?),
        };
        let number = self.next;
        self.next += 1;
        let needed = Arc::new(Notify::new());
        let holding = Holding {
            since: now,
            needed: Arc::clone(&needed),
        };
        self.by_number.insert(number, holding);
        Some((number, needed, lost))
    }

    /// Takes out the oldest, if it has had its time.
    fn oldest(&mut self, now: Instant) -> Option<Holding> {
        let oldest = self.by_number.first_entry()?;
        let held = now.saturating_duration_since(oldest.get().since);
        (held >= SPELL).then(|| oldest.remove())
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

/// How long a place is held before it can be lost: as long as a request waits for a head by default, which
/// most fetches need not.
const SPELL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    fn is_lost(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    fn taken(places: &Arc<Places>) -> Place {
        places.take().expect("there is one")
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_taken_the_oldest_is_lost() {
        let places = Places::new(2);
        let (first, second) = (taken(&places), taken(&places));
        assert!(!is_lost(&first));
        advance(SPELL).await;
        let third = taken(&places);
        assert!(is_lost(&first) && !is_lost(&second) && !is_lost(&third));
        drop(second);
        let fourth = taken(&places);
        assert!(!is_lost(&third), "one had been given back");
        drop(first);
        advance(SPELL).await;
        let _fifth = taken(&places);
        assert!(is_lost(&third) && !is_lost(&fourth), "that was gone before");
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_a_place_has_some_time_before_it_is_lost() {
        let places = Places::new(2);
        let first = taken(&places);
        advance(SPELL / 2).await;
        let second = taken(&places);
        advance(SPELL / 2 - Duration::from_millis(1)).await;
        assert!(places.take().is_none());
        assert!(!is_lost(&first));
        advance(Duration::from_millis(1)).await;
        let _third = taken(&places);
        assert!(is_lost(&first));
        assert!(places.take().is_none(), "the next one is younger");
        drop(second);
        assert!(places.take().is_some());
    }
}
