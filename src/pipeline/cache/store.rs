//! Stored answers in memory, bounded by bytes.
//!
//! All variants of a key stand on one shelf, which is never changed: a new answer makes a new shelf.
//! So a hit takes a read lock for as long as one look into a table, and counts one reference. Which
//! shelf has to go when there is no room is decided by how often it was asked for (S3-FIFO or
//! near it): one scan over many URLs does not wash out what is in use.
//!
//! Every shelf is charged with what it really takes: bodies, header fields, the key, and what the
//! tables around it need for it. A shelf that is heavier than a shard would be refused in silence,
//! so shards are few enough that none is.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus::IntCounter;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use smallvec::SmallVec;

use super::key::{Key, KeyRef};

/// What can be charged for.
pub trait Weighed {
    /// Bytes of memory, with everything that it alone holds.
    fn weight(&self) -> u64;
}

/// All that is stored.
pub struct Store<V> {
    shelves: Cache<Key, Arc<Shelf<V>>, Charge, DefaultHashBuilder, Evictions>,
    /// Changes to one shelf come one after another; looking waits for none of them.
    changing: Box<[Mutex<()>]>,
    hasher: RandomState,
    heaviest_shelf: u64,
    evicted: Arc<AtomicU64>,
}

/// The variants of one key.
#[derive(Debug)]
pub struct Shelf<V> {
    variants: SmallVec<[Arc<V>; 1]>,
    /// Until when requests for which nothing is here do not wait for each other: answers of this key
    /// turned out to be for one caller each.
    pass_until: u64,
    weight: u64,
}

/// What a stored object and its key may weigh.
#[derive(Clone, Copy, Debug)]
struct Charge;

/// Counts what had to go, and drops it when the lock is free again.
#[derive(Clone, Debug)]
struct Evictions {
    counted: IntCounter,
    evicted: Arc<AtomicU64>,
}

impl<V: Weighed> Store<V> {
    /// A store of so many bytes for objects of so many at most.
    #[must_use]
    pub fn new(memory: u64, largest: u64, evictions: IntCounter) -> Self {
        let shards = shards(memory, largest);
        let options = OptionsBuilder::new()
            .shards(shards)
            .weight_capacity(memory)
            .estimated_items_capacity(((memory / USUAL_OBJECT) as usize).max(shards * 32))
            .build();
        // Both capacities are set above.
        let options = options.expect("the options are complete");
        let evicted = Arc::<AtomicU64>::default();
        let lifecycle = Evictions {
            counted: evictions,
            evicted: Arc::clone(&evicted),
        };
        let hasher = DefaultHashBuilder::default();
        let shelves = Cache::with_options(options, Charge, hasher, lifecycle);
        Self {
            heaviest_shelf: shelves.shard_capacity() / 2,
            shelves,
            changing: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            evicted,
        }
    }

    /// What is stored under a key.
    #[must_use]
    pub fn find(&self, key: &KeyRef<'_>) -> Option<Arc<Shelf<V>>> {
        self.shelves.get(key)
    }

    /// Puts a variant in the place of those that it replaces.
    pub fn put(&self, key: &Key, variant: &Arc<V>, replaces: impl Fn(&V) -> bool) {
        self.change(key, |old| {
            let kept = old.iter().flat_map(|shelf| &shelf.variants);
            let kept = kept.filter(|known| !replaces(known)).cloned();
            let variants = std::iter::once(Arc::clone(variant)).chain(kept);
            Some(Shelf::new(self.fitting(variants), 0))
        });
    }

    /// Notes that answers of this key are for one caller each.
    pub fn pass_until(&self, key: &Key, until: u64) {
        self.change(key, |old| {
            let kept = old.iter().flat_map(|shelf| &shelf.variants).cloned();
            Some(Shelf::new(self.fitting(kept), until))
        });
    }

    /// Takes out variants.
    pub fn remove(&self, key: &Key, removed: impl Fn(&V) -> bool) {
        self.change(key, |old| {
            let kept = old?.variants.iter().filter(|known| !removed(known));
            let kept: SmallVec<_> = kept.cloned().collect();
            (!kept.is_empty()).then(|| Shelf::new(kept, 0))
        });
    }

    /// Takes out everything.
    pub fn clear(&self) {
        self.shelves.clear();
    }

    /// Bytes that are charged for.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.shelves.weight()
    }

    /// Bytes that there are.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.shelves.capacity()
    }

    /// Keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelves.len()
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shelves that had to make room so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    fn change(&self, key: &Key, change: impl Fn(Option<&Shelf<V>>) -> Option<Shelf<V>>) {
        let stripe = self.hasher.hash_one(key) as usize % self.changing.len();
        let _alone = self.changing[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let old = self.shelves.peek(key);
        match change(old.as_deref()) {
            Some(shelf) => self.shelves.insert(key.clone(), Arc::new(shelf)),
            None => drop(self.shelves.remove(key)),
        }
    }

    /// The newest variants, as many as one shelf may hold.
    fn fitting(&self, variants: impl Iterator<Item = Arc<V>>) -> SmallVec<[Arc<V>; 1]> {
        let mut weight = 0;
        let mut fitting = SmallVec::new();
        for variant in variants.take(MOST_VARIANTS) {
            weight += variant.weight();
            if weight > self.heaviest_shelf && !fitting.is_empty() {
                break;
            }
            fitting.push(variant);
        }
        fitting
    }
}

impl<V: Weighed> Shelf<V> {
    fn new(variants: SmallVec<[Arc<V>; 1]>, pass_until: u64) -> Self {
        let spilled = match variants.spilled() {
            true => variants.capacity() * size_of::<Arc<V>>(),
            false => 0,
        };
        let objects: u64 = variants.iter().map(|variant| variant.weight()).sum();
        Self {
            weight: objects + (size_of::<Self>() + spilled) as u64,
            variants,
            pass_until,
        }
    }
}

impl<V> Shelf<V> {
    /// The variants, the newest first.
    #[must_use]
    pub fn variants(&self) -> &[Arc<V>] {
        &self.variants
    }

    /// Whether requests for which nothing is here should not wait for each other now.
    #[must_use]
    pub fn passes(&self, now: u64) -> bool {
        now < self.pass_until
    }
}

impl<V> Weighter<Key, Arc<Shelf<V>>> for Charge {
    fn weight(&self, key: &Key, shelf: &Arc<Shelf<V>>) -> u64 {
        shelf.weight + key.weight() as u64 + PLACE
    }
}

impl<V> Lifecycle<Key, Arc<Shelf<V>>> for Evictions {
    /// Dropped behind the lock: the memory of a large body is not given back under it.
    type RequestState = SmallVec<[(Key, Arc<Shelf<V>>); 2]>;

    fn on_evict(&self, state: &mut Self::RequestState, key: Key, shelf: Arc<Shelf<V>>) {
        self.counted.inc();
        self.evicted.fetch_add(1, Relaxed);
        state.push((key, shelf));
    }
}

/// As many shards as can hold two of the largest objects each.
fn shards(memory: u64, largest: u64) -> usize {
    let fitting = memory / (largest.saturating_mul(2) + USUAL_OBJECT);
    let fitting = fitting.clamp(1, MOST_SHARDS);
    // The next power of two below.
    1 << fitting.ilog2()
}

/// What the table needs for one key: its slot, its entry, its share of free ones and of the keys that
/// it remembers after they had to go, and the counts of two references.
const PLACE: u64 = 200;
const USUAL_OBJECT: u64 = 4 << 10;
const MOST_SHARDS: u64 = 64;
const STRIPES: usize = 64;
/// Variants of one key: an answer that varies by what every client says differently is not worth
/// more.
const MOST_VARIANTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::cache::key::tests::key;

    struct Blob(u64, u32);

    impl Weighed for Blob {
        fn weight(&self) -> u64 {
            self.0
        }
    }

    fn store(memory: u64, largest: u64) -> Store<Blob> {
        let counter = IntCounter::new("evictions", "evictions").unwrap();
        Store::new(memory, largest, counter)
    }

    fn put(store: &Store<Blob>, name: &str, weight: u64, variant: u32) {
        let blob = Arc::new(Blob(weight, variant));
        store.put(&key(name).to_key(), &blob, |known| known.1 == variant);
    }

    #[test]
    fn the_bound_holds_under_a_million_random_objects() {
        let store = store(16 << 20, 1 << 20);
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..1_000_000_u32 {
            let name = format!("/{}", random.u32(..500_000));
            let weight = 1 << random.u32(4..21);
            put(&store, &name, random.u64(1..=weight), random.u32(..3));
            if round % 10_000 == 0 {
                assert!(store.weight() <= store.capacity());
            }
        }
        assert!(store.weight() <= 16 << 20, "{}", store.weight());
        assert!(store.weight() > 12 << 20, "{}", store.weight());
        assert!(store.evicted() > 100_000);
    }

    #[test]
    fn the_largest_object_fits_whatever_the_memory() {
        for (memory, largest) in [(1 << 20, 192 << 10), (192 << 20, 8 << 20), (1 << 40, 1)] {
            let store = store(memory, largest);
            put(&store, "/a", largest + 4096, 0);
            assert!(store.find(&key("/a")).is_some(), "{memory} {largest}");
        }
    }

    #[test]
    fn one_scan_does_not_wash_out_what_is_in_use() {
        let store = store(4 << 20, 64 << 10);
        let hot: Vec<_> = (0..100).map(|index| format!("/hot/{index}")).collect();
        for name in &hot {
            put(&store, name, 4 << 10, 0);
        }
        for index in 0..20_000 {
            put(&store, &format!("/scan/{index}"), 4 << 10, 0);
            let _ = store.find(&key(&hot[index % hot.len()]));
        }
        let kept = hot.iter().filter(|name| store.find(&key(name)).is_some());
        assert!(kept.count() > 90);
    }

    #[test]
    fn variants_replace_their_own_kind_and_are_few() {
        let store = store(1 << 20, 64 << 10);
        for variant in 0..100 {
            put(&store, "/a", 10, variant);
            put(&store, "/a", 10, variant);
        }
        let shelf = store.find(&key("/a")).unwrap();
        let variants: Vec<_> = shelf.variants().iter().map(|blob| blob.1).collect();
        assert_eq!(variants, (68..100).rev().collect::<Vec<_>>());
        store.remove(&key("/a").to_key(), |blob| blob.1 > 68);
        assert_eq!(store.find(&key("/a")).unwrap().variants().len(), 1);
        store.remove(&key("/a").to_key(), |_| true);
        assert!(store.find(&key("/a")).is_none());
    }

    #[test]
    fn a_shelf_gives_up_its_oldest_when_it_is_too_heavy() {
        let store = store(1 << 20, 128 << 10);
        for variant in 0..32 {
            put(&store, "/a", 100 << 10, variant);
        }
        let shelf = store.find(&key("/a")).unwrap();
        assert_eq!(shelf.variants()[0].1, 31);
        assert!(shelf.variants().len() < 8);
        assert!(store.weight() <= store.capacity());
    }

    #[test]
    fn a_mark_to_pass_leaves_what_is_stored_and_ends() {
        let store = store(1 << 20, 64 << 10);
        put(&store, "/a", 10, 0);
        store.pass_until(&key("/a").to_key(), 100);
        let shelf = store.find(&key("/a")).unwrap();
        assert!(shelf.passes(99) && !shelf.passes(100));
        assert_eq!(shelf.variants().len(), 1);
        put(&store, "/a", 10, 1);
        assert!(!store.find(&key("/a")).unwrap().passes(99));
    }
}
