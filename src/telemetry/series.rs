//! What a handle may make: series within the cap, and none after a reload took its route away.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use prometheus::IntCounter;

use super::families::Families;

/// The families and the number of series that they may still get.
#[derive(Debug)]
pub(super) struct Shared {
    /// What a scrape shows.
    pub(super) shown: Families,
    /// The same families for handles that outlived their route: nobody scrapes them.
    pub(super) hidden: Families,
    left: AtomicUsize,
    refused: IntCounter,
}

impl Shared {
    pub(super) fn new(shown: Families, limit: usize, refused: IntCounter) -> Arc<Self> {
        Arc::new(Self {
            shown,
            hidden: Families::new(None),
            left: AtomicUsize::new(limit),
            refused,
        })
    }

    /// Takes series from what is left; `false`, and counted, when there are too few.
    fn reserve(&self, series: usize) -> bool {
        let take = |left: usize| left.checked_sub(series);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok();
        if !taken {
            self.refused.inc();
        }
        taken
    }

    fn give_back(&self, series: usize) {
        self.left.fetch_add(series, Ordering::Relaxed);
    }
}

/// Where a new series of a handle belongs.
pub(super) enum Place<'a> {
    /// Among the scraped families, under the handle's own labels.
    Own(&'a Families),
    /// Among the scraped families, under [`OVERFLOW`].
    Overflow(&'a Families),
    /// Nowhere that is scraped.
    Hidden(&'a Families),
}

/// The series that one handle has made, so that a reload can take them away.
///
/// `S` names a series. The list closes when they are taken away; the lock makes sure that none is
/// made behind that.
#[derive(Debug)]
pub(super) struct Owned<S> {
    shared: Arc<Shared>,
    made: Mutex<Option<Vec<(S, usize)>>>,
}

impl<S> Owned<S> {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            made: Mutex::new(Some(Vec::new())),
        }
    }

    /// Makes a series that costs so many lines in a scrape.
    pub(super) fn make<T>(&self, name: S, lines: usize, make: impl FnOnce(Place<'_>) -> T) -> T {
        let mut made = self.locked();
        let Some(made) = made.as_mut() else {
            return make(Place::Hidden(&self.shared.hidden));
        };
        if !self.shared.reserve(lines) {
            return make(Place::Overflow(&self.shared.shown));
        }
        made.push((name, lines));
        make(Place::Own(&self.shared.shown))
    }

    /// Takes all series away, for good.
    pub(super) fn remove(&self, remove: impl Fn(&Families, S)) {
        let mut made = self.locked();
        for (name, lines) in made.take().into_iter().flatten() {
            remove(&self.shared.shown, name);
            self.shared.give_back(lines);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Vec<(S, usize)>>> {
        // Making a series can't leave the list half written.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The label of what is counted together because of the cap.
pub(super) const OVERFLOW: &str = "_overflow";
