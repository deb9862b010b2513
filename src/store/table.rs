//! A bounded table of what keys have used.
//!
//! Keys come from the network, so anybody can make up as many as they like. The table never holds
//! more than `max_keys`. A key that owes nothing is as good as unknown and leaves. When all places
//! are taken, the least indebted of a few sampled keys goes, and the newcomer takes over its debt:
//! so a flood of made-up keys frees nobody (what is owed stays owed by somebody, and who owes most
//! stays), and starves nobody (a newcomer starts with the smallest debt that was found).
//!
//! A key's shard has its own short lock; the shards share only the number of keys, which is touched
//! when one comes or goes. A table at rest costs nothing, and a sweep holds no lock for long.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use hashbrown::HashTable;

use super::KeyHash;
use crate::telemetry::TableMetrics;

/// What is kept of one key.
pub trait Slot: Clone + Default + Send + 'static {
    /// Whether a newcomer to a full table is counted together with the key that it finds, which
    /// stays: what is held (and must be given back) can't be forgotten.
    const SHARED: bool = false;

    /// What the key owes, in a unit by which keys of one table compare. With 0 it is as good as
    /// unknown.
    fn debt(&self, now: u64) -> u64;

    /// Bytes that it holds besides itself.
    fn heap(&self) -> usize {
        0
    }
}

/// State by key.
pub struct Table<S> {
    shards: Box<[Mutex<Shard<S>>]>,
    max_keys: AtomicUsize,
    keys: AtomicUsize,
    /// The shard that a sweep begins with.
    swept: AtomicUsize,
    figures: Option<TableMetrics>,
}

impl<S: Slot> Table<S> {
    /// A table for so many keys, 1 at least.
    #[must_use]
    pub fn new(max_keys: usize, figures: Option<TableMetrics>) -> Self {
        let max_keys = max_keys.max(1);
        let shards = (max_keys / KEYS_A_SHARD).clamp(1, ENOUGH_SHARDS);
        // A shard that grows moves all of its keys under its lock.
        let shards = shards.max(max_keys / MOST_KEYS_A_SHARD);
        // A power of two, so that bits of the hash choose.
        let shards = shards.next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            max_keys: AtomicUsize::new(max_keys),
            keys: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
            figures,
        }
    }

    /// Runs `change` over a key's state, which for a newcomer is a blank one or the debt that it
    /// takes over. `change` tells whether it wrote: a newcomer that was refused is not taken in.
    ///
    /// Gives besides the key under which it is counted: another than `key` only where a table of
    /// [`SHARED`](Slot::SHARED) slots is full.
    pub fn update<T>(
        &self,
        key: KeyHash,
        now: u64,
        change: impl FnOnce(&mut S) -> (T, bool),
    ) -> (T, KeyHash) {
        let mut shard = self.shard(key);
        if let Some(state) = shard.find(key) {
            return (change(state).0, key);
        }
        let left = shard.forget_some(now);
        self.left(left);
        if !self.reserve() {
            return self.take_over(&mut shard, key, now, change);
        }
        let mut state = S::default();
        let (result, written) = change(&mut state);
        match written {
            true => shard.insert(key, state),
            false => self.left(1),
        }
        (result, key)
    }

    /// Changes a key's state if it is known; a key that then owes nothing leaves.
    pub fn update_known<T>(
        &self,
        key: KeyHash,
        now: u64,
        change: impl FnOnce(&mut S) -> T,
    ) -> Option<T> {
        let mut shard = self.shard(key);
        let state = shard.find(key)?;
        let result = change(state);
        if state.debt(now) == 0 {
            self.left(shard.remove(key).into());
        }
        Some(result)
    }

    /// Reads a key's state if it is known.
    pub fn read<T>(&self, key: KeyHash, read: impl FnOnce(&S) -> T) -> Option<T> {
        self.shard(key).find(key).map(|state| read(state))
    }

    /// Forgets a key; whether it was known.
    pub fn remove(&self, key: KeyHash) -> bool {
        let known = self.shard(key).remove(key);
        self.left(known.into());
        known
    }

    /// Changes the bound. Keys over a lower one stay until they owe nothing.
    pub fn hold(&self, max_keys: usize) {
        self.max_keys.store(max_keys.max(1), Ordering::Relaxed);
    }

    /// Keys that are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets keys go that owe nothing, and gives memory back: in a part of the table, so that after
    /// [`SWEEPS`] calls all of it was swept, or later where it holds millions of keys. For a thread that
    /// has time.
    pub fn sweep(&self, now: u64) {
        if self.is_empty() {
            return;
        }
        let mut shards = self.shards.len().div_ceil(SWEEPS);
        let mut places = MOST_PLACES;
        while shards > 0 && places > 0 {
            // Two that sweep at once may leave a shard out: it has its turn in the next round.
            let next = self.swept.load(Ordering::Relaxed) % self.shards.len();
            let part = locked(&self.shards[next]).forget_part(now);
            self.left(part.left);
            // An empty shard has its lock.
            places = places.saturating_sub(part.places.max(LOOKED_AT));
            if part.was_last {
                self.swept.fetch_add(1, Ordering::Relaxed);
                shards -= 1;
            }
        }
    }

    /// The keys that owe most, the most indebted first, and what they owe.
    #[must_use]
    pub fn busiest(&self, now: u64, most: usize) -> Vec<(KeyHash, u64)> {
        let mut busiest = Vec::new();
        for shard in &self.shards {
            let shard = locked(shard);
            let owing = shard.table.iter().map(|it| (it.key, it.state.debt(now)));
            busiest.extend(owing.filter(|(_, debt)| *debt > 0));
            drop(shard);
            keep_most_indebted(&mut busiest, most);
        }
        busiest.sort_unstable_by(more_indebted);
        busiest
    }

    /// Bytes that the table holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let size = |shard: &Mutex<Shard<S>>| {
            let shard = locked(shard);
            let beside: usize = shard.table.iter().map(|entry| entry.state.heap()).sum();
            shard.table.allocation_size() + beside
        };
        self.shards.iter().map(size).sum()
    }

    /// A newcomer to a full table.
    fn take_over<T>(
        &self,
        shard: &mut Shard<S>,
        key: KeyHash,
        now: u64,
        change: impl FnOnce(&mut S) -> (T, bool),
    ) -> (T, KeyHash) {
        let Some(victim) = shard.least_indebted(now) else {
            // All keys are in other shards: this one holds one over the bound.
            let mut state = S::default();
            let (result, written) = change(&mut state);
            if written {
                shard.insert(key, state);
                self.came(1);
            }
            return (result, key);
        };
        if S::SHARED {
            let entry = shard.table.get_bucket_mut(victim);
            // `least_indebted` found an entry there, under the same lock.
            let entry = entry.expect("a sampled bucket holds an entry");
            // Also for one that is refused then: it was for what a stranger holds.
            self.evicted(entry.state.debt(now) > 0);
            return (change(&mut entry.state).0, entry.key);
        }
        let entry = shard.table.get_bucket(victim);
        let mut state = entry.map_or_else(S::default, |entry| entry.state.clone());
        let indebted = state.debt(now) > 0;
        let (result, written) = change(&mut state);
        if written {
            if let Ok(entry) = shard.table.get_bucket_entry(victim) {
                entry.remove();
            }
            shard.insert(key, state);
            self.evicted(indebted);
        }
        (result, key)
    }

    /// Takes a place; `false` when all are taken.
    fn reserve(&self) -> bool {
        let most = self.max_keys.load(Ordering::Relaxed);
        let take = |keys| (keys < most).then_some(keys + 1);
        let taken = self
            .keys
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if let (Ok(_), Some(figures)) = (&taken, &self.figures) {
            figures.keys.inc();
        }
        taken.is_ok()
    }

    fn came(&self, keys: usize) {
        self.keys.fetch_add(keys, Ordering::Relaxed);
        if let Some(figures) = &self.figures {
            figures.keys.add(i64::try_from(keys).unwrap_or(i64::MAX));
        }
    }

    fn left(&self, keys: usize) {
        if keys == 0 {
            return;
        }
        self.keys.fetch_sub(keys, Ordering::Relaxed);
        if let Some(figures) = &self.figures {
            figures.keys.sub(i64::try_from(keys).unwrap_or(i64::MAX));
        }
    }

    /// A key had to make room, or to share its place, although it owed something.
    fn evicted(&self, indebted: bool) {
        if let (true, Some(figures)) = (indebted, &self.figures) {
            figures.evictions.inc();
        }
    }

    fn shard(&self, key: KeyHash) -> MutexGuard<'_, Shard<S>> {
        let mask = self.shards.len() - 1;
        #[allow(clippy::cast_possible_truncation)] // Masked: a few bits are meant.
        let index = key.shard() as usize & mask;
        locked(&self.shards[index])
    }
}

/// The gauge is taken back what the table held.
impl<S> Drop for Table<S> {
    fn drop(&mut self) {
        if let Some(figures) = &self.figures {
            let keys = *self.keys.get_mut();
            figures.keys.sub(i64::try_from(keys).unwrap_or(i64::MAX));
        }
    }
}

/// A part of the table behind its own lock.
struct Shard<S> {
    table: HashTable<Entry<S>>,
    /// Where the search for keys that may leave goes on.
    cursor: usize,
    /// Where a sweep goes on.
    swept: usize,
}

/// What a sweep has done under one lock.
struct Part {
    /// Keys that have left.
    left: usize,
    /// Places that were looked at.
    places: usize,
    /// Whether these were the shard's last.
    was_last: bool,
}

struct Entry<S> {
    key: KeyHash,
    state: S,
}

impl<S> Default for Shard<S> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            cursor: 0,
            swept: 0,
        }
    }
}

impl<S: Slot> Shard<S> {
    fn find(&mut self, key: KeyHash) -> Option<&mut S> {
        let entry = self.table.find_mut(key.place(), |entry| entry.key == key)?;
        Some(&mut entry.state)
    }

    fn insert(&mut self, key: KeyHash, state: S) {
        let hash = |entry: &Entry<S>| entry.key.place();
        self.table
            .insert_unique(key.place(), Entry { key, state }, hash);
    }

    fn remove(&mut self, key: KeyHash) -> bool {
        let found = self
            .table
            .find_entry(key.place(), |entry| entry.key == key)
            .map(hashbrown::hash_table::OccupiedEntry::remove);
        found.is_ok()
    }

    /// Looks at a few places in turn: each newcomer pays for the leaving of others.
    fn forget_some(&mut self, now: u64) -> usize {
        let buckets = self.table.num_buckets();
        let mut left = 0;
        for _ in 0..LOOKED_AT.min(buckets) {
            self.cursor = (self.cursor + 1) % buckets;
            left += usize::from(self.forget_at(self.cursor, now));
        }
        left
    }

    /// Looks at the next places in turn, so many that nobody waits long for the lock. What a growing
    /// shard moves meanwhile is looked at in the next round.
    fn forget_part(&mut self, now: u64) -> Part {
        let buckets = self.table.num_buckets();
        let end = buckets.min(self.swept.saturating_add(PLACES_A_PART));
        let mut left = 0;
        for bucket in self.swept..end {
            left += usize::from(self.forget_at(bucket, now));
        }
        let was_last = end == buckets;
        let places = end.saturating_sub(self.swept);
        self.swept = if was_last { 0 } else { end };
        if was_last {
            self.give_memory_back();
        }
        Part {
            left,
            places,
            was_last,
        }
    }

    /// Lets the key at a place go if it owes nothing; whether it did.
    fn forget_at(&mut self, bucket: usize, now: u64) -> bool {
        let idle = |entry: &Entry<S>| entry.state.debt(now) == 0;
        if self.table.get_bucket(bucket).is_some_and(idle)
            && let Ok(entry) = self.table.get_bucket_entry(bucket)
        {
            entry.remove();
            return true;
        }
        false
    }

    fn give_memory_back(&mut self) {
        let keys = self.table.len();
        if self.table.capacity() > keys.saturating_mul(SPARSE).max(LOOKED_AT) {
            self.table.shrink_to(keys, |entry| entry.key.place());
        }
    }

    /// The place of the least indebted of a few keys; none when no place that was looked at has one.
    fn least_indebted(&self, now: u64) -> Option<usize> {
        let buckets = self.table.num_buckets();
        if self.table.is_empty() {
            return None;
        }
        let sampled = std::iter::repeat_with(|| fastrand::usize(..buckets))
            .take(MOST_TRIES)
            .filter_map(|bucket| Some((self.table.get_bucket(bucket)?.state.debt(now), bucket)))
            .take(SAMPLED);
        let least = sampled.min().map(|(_, bucket)| bucket);
        // A sparse shard: any key will do.
        least.or_else(|| (0..buckets).find(|&bucket| self.table.get_bucket(bucket).is_some()))
    }
}

/// Lets go whatever is not among so many of the most indebted: a list of a large table's keys would
/// be as large as that.
fn keep_most_indebted(keys: &mut Vec<(KeyHash, u64)>, most: usize) {
    if keys.len() > most {
        keys.select_nth_unstable_by(most, more_indebted);
        keys.truncate(most);
    }
}

fn more_indebted(one: &(KeyHash, u64), other: &(KeyHash, u64)) -> std::cmp::Ordering {
    other.1.cmp(&one.1).then(one.0.cmp(&other.0))
}

fn locked<S>(shard: &Mutex<Shard<S>>) -> MutexGuard<'_, Shard<S>> {
    // Whole after a panic elsewhere: a change is written as a whole or not at all.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough shards that workers seldom meet in one.
const ENOUGH_SHARDS: usize = 64;
/// So many keys a shard at least, or the bound would be felt in one before the others.
const KEYS_A_SHARD: usize = 64;
/// So many at most, of those that the table was made for: a table for a hundred million has 8,192
/// shards. A bound that is raised later leaves the shards as they are.
const MOST_KEYS_A_SHARD: usize = 16_384;
/// Keys that are compared when one has to go.
const SAMPLED: usize = 8;
/// Places that are looked at to find them; a full table is 7/16 taken at least.
const MOST_TRIES: usize = 64;
/// Places that each newcomer looks at for keys that may leave.
const LOOKED_AT: usize = 4;
/// Calls of [`Table::sweep`] that sweep the whole table.
pub(super) const SWEEPS: usize = 4;
/// Places that a sweep looks at under one lock: some ten microseconds.
const PLACES_A_PART: usize = 4_096;
/// Places that one call looks at, or one part more: the thread has other things to do.
const MOST_PLACES: usize = 1 << 20;
/// A table with room for so many times its keys gives memory back.
const SPARSE: usize = 4;

#[cfg(test)]
mod tests;
