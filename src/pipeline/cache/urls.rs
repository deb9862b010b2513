//! When single URLs were purged: those alone of which something is here.
//!
//! Any client whose unsafe request succeeds purges a URL (RFC 9111 4.4), and of most of these URLs the
//! cache has never had anything. So a URL shares no cell with others, as tags do: whoever is about to
//! fetch its answer takes its *mark* first, and the answer has that for as long as it is anywhere in this
//! process: under way, stored, or in the hands of who reads it. A purge writes its moment into the mark.
//! Where there is none it has nothing to do, since whatever comes from then on was fetched later. So
//! however many URLs are changed of which nothing is here, no answer is lost, and none becomes dearer to
//! look at.
//!
//! What was purged and is in nobody's hands is forgotten. Where Redis may still have an answer of before,
//! the purge itself holds the marks until Redis knows of it.
//!
//! Marks are found by a hash of 64 bits, made with a secret of the process. Two URLs with one hash are
//! purged together: that loses an answer, and never keeps one.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::purge::{Reached, Stamp, path_of};

/// All marks, by their hashes.
#[derive(Debug)]
pub(super) struct Urls {
    hasher: RandomState,
    table: Arc<Table>,
}

#[derive(Debug)]
struct Table(Box<[Shard]>);

type Shard = Mutex<HashMap<u64, Weak<UrlMark>>>;

/// When a URL was purged. It is in the table until the last who has it lets go of it.
#[derive(Debug)]
pub(super) struct UrlMark {
    hash: u64,
    hard: AtomicU64,
    soft: AtomicU64,
    table: Arc<Table>,
}

/// What is known of purges of a URL is not forgotten as long as this is there.
#[derive(Debug)]
pub(super) struct Held {
    _marks: Option<[Arc<UrlMark>; 2]>,
}

impl Urls {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default());
        Self {
            hasher: RandomState::new(),
            table: Arc::new(Table(shards.collect())),
        }
    }

    /// Bytes that it takes beside its marks, which count with what has them.
    pub(super) fn weight() -> usize {
        SHARDS * (size_of::<Shard>() + 2 * FEW * PLACE)
    }

    /// The mark of an answer. `whole` tells whether all of the query counts; else a purge of the URL
    /// reaches it by its path.
    pub(super) fn mark(&self, (host, target): (&str, &str), whole: bool) -> Arc<UrlMark> {
        let hash = self.hash((host, target), whole);
        let mut shard = self.table.shard(hash);
        if let Some(known) = shard.get(&hash).and_then(Weak::upgrade) {
            return known;
        }
        let mark = Arc::new(UrlMark {
            hash,
            hard: AtomicU64::new(0),
            soft: AtomicU64::new(0),
            table: Arc::clone(&self.table),
        });
        shard.insert(hash, Arc::downgrade(&mark));
        mark
    }

    /// Has purges of a URL remembered, whether or not anything of it is here.
    pub(super) fn hold(&self, url: (&str, &str)) -> Held {
        Held {
            _marks: Some(WAYS.map(|whole| self.mark(url, whole))),
        }
    }

    /// Purges a URL; whether anything of it may be here.
    pub(super) fn purge(&self, url: (&str, &str), soft: bool, at: Stamp) -> bool {
        let marks = WAYS.map(|whole| self.known(self.hash(url, whole)));
        for mark in marks.iter().flatten() {
            mark.write(soft, at);
        }
        marks.iter().any(Option::is_some)
    }

    /// Marks that somebody has.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let shards = self.table.0.iter();
        shards.map(|shard| shard.lock().unwrap().len()).sum()
    }

    fn known(&self, hash: u64) -> Option<Arc<UrlMark>> {
        // The lock is free again when the caller lets go of it, which may be the last to do so.
        self.table.shard(hash).get(&hash).and_then(Weak::upgrade)
    }

    fn hash(&self, (host, target): (&str, &str), whole: bool) -> u64 {
        let target = match whole {
            true => target,
            false => path_of(target),
        };
        self.hasher.hash_one((whole, host, target))
    }
}

impl Table {
    fn shard(&self, hash: u64) -> MutexGuard<'_, HashMap<u64, Weak<UrlMark>>> {
        // Whole after a panic elsewhere: each change is one insertion or removal.
        self.0[hash as usize % self.0.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl UrlMark {
    /// How purges of the URL reach what was fetched since a moment.
    pub(super) fn reached(&self, began: Stamp) -> Reached {
        if self.hard.load(Relaxed) >= began {
            return Reached::Gone;
        }
        match self.soft.load(Relaxed) {
            at if at >= began => Reached::Stale(at),
            _ => Reached::No,
        }
    }

    fn write(&self, soft: bool, at: Stamp) {
        let moment = match soft {
            true => &self.soft,
            false => &self.hard,
        };
        moment.fetch_max(at, Relaxed);
    }
}

impl Drop for UrlMark {
    fn drop(&mut self) {
        let mut shard = self.table.shard(self.hash);
        // Another may have taken its place by now.
        let is_dead = |known: &Weak<Self>| known.strong_count() == 0;
        if shard.get(&self.hash).is_some_and(is_dead) {
            shard.remove(&self.hash);
        }
        // What is charged for a mark has to do for its share of free places.
        if shard.capacity() > FEW && shard.len() < shard.capacity() / 4 {
            let room = 2 * shard.len();
            shard.shrink_to(room);
        }
    }
}

impl Held {
    /// For what is no URL: of that purges are not forgotten.
    pub(super) fn nothing() -> Self {
        Self { _marks: None }
    }
}

/// A purge of a URL reaches answers for which all of the query counts, and those for which not all does.
const WAYS: [bool; 2] = [true, false];
const SHARDS: usize = 16;
/// A table for so many is not made smaller.
const FEW: usize = 16;
/// What a place in a table takes: its entry, and a byte that tells what is there.
const PLACE: usize = size_of::<(u64, Weak<UrlMark>)>() + 1;
/// What a mark takes: itself, the counts beside it, and its place in a table of which about a quarter is
/// used at least.
pub(super) const WEIGHT: usize = 144;

#[cfg(test)]
mod tests {
    use super::*;

    const URL: (&str, &str) = ("a.test", "/x?q");

    #[test]
    fn all_who_have_the_mark_of_a_url_have_the_same() {
        let urls = Urls::new();
        let (one, other) = (urls.mark(URL, true), urls.mark(URL, true));
        assert!(Arc::ptr_eq(&one, &other));
        for (url, whole) in [
            (URL, false),
            (("b.test", "/x?q"), true),
            (("a.test", "/x"), true),
        ] {
            assert!(!Arc::ptr_eq(&one, &urls.mark(url, whole)), "{url:?}");
        }
        assert!(urls.purge(URL, false, 100));
        assert_eq!(one.reached(100), Reached::Gone);
        assert_eq!(other.reached(101), Reached::No);
    }

    #[test]
    fn a_purge_of_what_nobody_has_leaves_nothing_behind() {
        let urls = Urls::new();
        let mark = urls.mark(URL, true);
        for number in 0..10_000 {
            let target = format!("/{number}");
            assert!(!urls.purge(("a.test", &target), false, 100));
        }
        assert_eq!((urls.len(), mark.reached(1)), (1, Reached::No));
    }

    #[test]
    fn what_was_purged_is_remembered_as_long_as_it_is_held() {
        let urls = Urls::new();
        let held = urls.hold(URL);
        urls.purge(URL, false, 100);
        urls.purge(URL, true, 200);
        for whole in WAYS {
            assert_eq!(urls.mark(URL, whole).reached(100), Reached::Gone);
            assert_eq!(urls.mark(URL, whole).reached(101), Reached::Stale(200));
        }
        drop(held);
        assert_eq!(urls.len(), 0);
        assert_eq!(urls.mark(URL, true).reached(1), Reached::No);
    }

    #[test]
    fn tables_become_smaller_with_what_is_in_them() {
        let urls = Urls::new();
        let targets = (0..10_000).map(|number| format!("/{number}"));
        let mut marks: Vec<_> = targets.map(|it| urls.mark(("a", &it), true)).collect();
        let taken = || {
            let shards = urls.table.0.iter();
            let places: usize = shards.map(|shard| shard.lock().unwrap().capacity()).sum();
            places * 8 / 7 * PLACE
        };
        let of_mark = size_of::<UrlMark>() + 16;
        while !marks.is_empty() {
            assert!(taken() + marks.len() * of_mark <= Urls::weight() + marks.len() * WEIGHT);
            marks.truncate(marks.len() - 100);
        }
        assert_eq!(urls.len(), 0);
    }

    #[test]
    fn marks_come_and_go_on_many_threads() {
        let urls = Urls::new();
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let urls = &urls;
                scope.spawn(move || {
                    for at in 1..10_000 {
                        let mark = urls.mark(URL, true);
                        assert!(urls.purge(URL, turn == 0, at));
                        drop(mark);
                    }
                });
            }
        });
        assert_eq!(urls.len(), 0);
    }
}
