//! Stored answers in memory, bounded by bytes.
//!
//! All variants of a key stand on one shelf, which is never changed: a new answer makes a new shelf.
//! So a hit takes a read lock for as long as one look into a table, and counts one reference. Which
//! shelf has to go when there is no room is decided by how often it was asked for (S3-FIFO or
//! near it): one scan over many URLs does not wash out what is in use.
//!
//! A look at many keys waits for memory more than for anything else, so it has few steps: from the
//! table to the entry, and from there to the only variant of a key, which has the key in it. Several
//! variants, or none, take a step more. The table itself knows a shelf by a hash of 64 bits alone,
//! made with a secret of the process: its entries are small, and moving them or making room reads no
//! key. What is found is compared with all of the key. Of two keys with one hash the later takes the
//! place of the other, which is lost and never mistaken for it.
//!
//! Every shelf is charged with what it really takes: bodies, header fields, the key, and what the
//! tables around it need for it. Tables never become smaller: what they take more than that, because
//! there were more and smaller answers before, is held back from what answers may take. A shelf that
//! is heavier than a shard would be refused in silence, so shards are few enough that none is.

mod passes;

use std::{
    cmp::Reverse,
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    slice,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use prometheus::IntCounter;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use smallvec::SmallVec;

use super::key::{Key, Label, Sought};
pub use passes::Learnt;
use passes::Passes;

/// What can be kept.
pub trait Kept {
    /// Bytes of memory, with everything that it alone holds.
    fn weight(&self) -> u64;

    /// What it is kept under.
    fn label(&self) -> &Label;

    /// How much it is asked for. Of the variants of a key half of those that stay have the most.
    fn standing(&self) -> u64 {
        0
    }

    /// When it was last asked for. Of the other half that has to go of which it is the longest ago.
    fn last_asked(&self) -> u64 {
        0
    }

    /// From when on what was learnt of others of its key counts beside it: of those who get other variants. It
    /// is `None` where there are none, and it is for all.
    fn others_since(&self) -> Option<u64> {
        None
    }

    /// Notes that it takes the place of another, and so that one's standing.
    fn succeed(&self, _replaced: &Self) {}

    /// Whether it stays where a new one does not fit beside it, which is refused then.
    fn refuses(&self, new: &Self) -> bool {
        self.standing() > new.standing()
    }
}

/// All that is stored.
pub struct Store<V> {
    shelves: Cache<Place, Shelf<V>, Charge, BuildHasherDefault<Same>, Evictions>,
    /// Changes to one shelf come one after another; looking waits for none of them.
    changing: Box<[Mutex<()>]>,
    hasher: DefaultHashBuilder,
    heaviest_shelf: u64,
    evicted: Arc<AtomicU64>,
    memory: u64,
    changes: AtomicU64,
    /// Bytes of entries that stood in the tables when everything was taken out: their lists never shrink.
    emptied: AtomicUsize,
    /// What is held back for tables that are larger than what stands in them is charged for.
    reserve: Mutex<u64>,
}

/// The variants of one key. A copy of it counts a reference.
#[derive(Debug)]
pub struct Shelf<V>(Variants<V>);

#[derive(Debug)]
enum Variants<V> {
    /// What nearly every key has.
    One(Arc<V>),
    Several(Arc<Several<V>>),
}

/// Several variants, or none, and what is known of their key.
#[derive(Debug)]
struct Several<V> {
    label: Label,
    variants: Box<[Arc<V>]>,
    /// Until when requests for which nothing is here do not wait for each other: answers of this key
    /// turned out to be for one caller each.
    passes: Passes,
    weight: u64,
}

/// What the table knows a shelf by: a hash of its key.
type Place = u64;

/// The table's own hash of a place, which is one already.
#[derive(Clone, Copy, Debug, Default)]
struct Same(Place);

/// What a shelf weighs.
#[derive(Clone, Copy, Debug)]
struct Charge;

/// Counts what had to go, and drops it when the lock is free again.
#[derive(Clone, Debug)]
struct Evictions {
    counted: IntCounter,
    evicted: Arc<AtomicU64>,
}

/// What one change takes out of the table. It is dropped behind the lock: the memory of a large body is
/// not given back under it.
struct Leaving<V> {
    /// Where one comes in. Whose place it takes makes room for nobody else.
    new: Option<Place>,
    left: SmallVec<[Shelf<V>; 2]>,
}

impl<V: Kept> Store<V> {
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
        let same = BuildHasherDefault::<Same>::default();
        let shelves = Cache::with_options(options, Charge, same, lifecycle);
        Self {
            heaviest_shelf: shelves.shard_capacity() / 2,
            shelves,
            changing: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            evicted,
            memory,
            changes: AtomicU64::new(0),
            emptied: AtomicUsize::new(0),
            reserve: Mutex::new(0),
        }
    }

    /// What is stored under a key.
    #[must_use]
    pub fn find(&self, key: &Sought) -> Option<Shelf<V>> {
        let shelf = self.shelves.get(&self.place(key.bytes()))?;
        (shelf.label().bytes() == key.bytes()).then_some(shelf)
    }

    /// Puts a variant in the place of those that it replaces, and of those that are gone: they can't be
    /// served any more, and would take the room of others.
    pub fn put(
        &self,
        variant: &Arc<V>,
        replaces: impl Fn(&V) -> bool,
        is_gone: impl Fn(&V) -> bool,
    ) {
        let label = variant.label();
        self.change(label, |old| {
            let known = old.map(Shelf::variants).unwrap_or_default();
            for replaced in known.iter().filter(|known| replaces(known)) {
                variant.succeed(replaced);
            }
            let kept = known
                .iter()
                .filter(|known| !replaces(known) && !is_gone(known))
                .cloned();
            let variants = std::iter::once(Arc::clone(variant)).chain(kept);
            let passes = match (old, variant.others_since()) {
                (Some(old), Some(since)) => old.passes_of_all().since(since),
                _ => Passes::default(),
            };
            Some(Shelf::new(label, self.fitting(variants), passes))
        });
    }

    /// Notes that answers of this key are for one caller each, as was learnt of one who asked: by a digest.
    pub fn pass_until(&self, key: &Key, asker: u64, until: u64, learnt: Learnt) {
        let label = Label::of(key);
        self.change(&label, |old| {
            let kept = old.into_iter().flat_map(Shelf::variants).cloned();
            let passes = old.map(Shelf::passes_of_all).unwrap_or_default();
            let passes = passes.with(asker, until, learnt);
            Some(Shelf::new(&label, self.fitting(kept), passes))
        });
    }

    /// Forgets that of one's group, and of no other.
    pub fn wait_again(&self, key: &Key, asker: u64) {
        self.remark(key, |passes| passes.without_group_of(asker));
    }

    /// The same behind a 304 that says so: where it can say it, and none was taken at its word just before.
    pub fn wait_again_as_told(&self, key: &Key, asker: u64, now: u64) {
        self.remark(key, |passes| passes.doubted(asker, now));
    }

    /// Changes what was learnt of who asks for a key, where there is something to change.
    fn remark(&self, key: &Key, remarked: impl Fn(&Passes) -> Option<Passes>) {
        let label = Label::of(key);
        let place = self.place(label.bytes());
        // Of nearly all there is none, and no change to make.
        let known = self.shelves.peek(&place);
        if known.is_none_or(|shelf| remarked(&shelf.passes_of_all()).is_none()) {
            return;
        }
        self.change(&label, |old| {
            let old = old?;
            // Something else may have been learnt since.
            let Some(passes) = remarked(&old.passes_of_all()) else {
                return Some(old.clone());
            };
            let kept: SmallVec<[Arc<V>; 1]> = old.variants().iter().cloned().collect();
            let is_empty = kept.is_empty() && passes.is_empty();
            (!is_empty).then(|| Shelf::new(&label, kept, passes))
        });
    }

    /// Takes out variants.
    pub fn remove(&self, key: &Key, removed: impl Fn(&V) -> bool) {
        let label = Label::of(key);
        self.change(&label, |old| {
            let kept = old?.variants().iter().filter(|known| !removed(known));
            let kept: SmallVec<[Arc<V>; 1]> = kept.cloned().collect();
            (!kept.is_empty()).then(|| Shelf::new(&label, kept, Passes::default()))
        });
    }

    /// Takes out everything. The room of what stood in the tables stays theirs.
    pub fn clear(&self) {
        let entries = self.shelves.memory_used().entries;
        self.emptied.fetch_max(entries, Relaxed);
        self.shelves.clear();
        self.hold_back();
    }

    /// Bytes that are taken: those that are charged for, and what tables take beside them.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.shelves.weight() + self.idle_tables()
    }

    /// Bytes that there are.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.memory
    }

    /// Keys, those included of which nothing is stored and it is known that requests do not wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelves.len()
    }

    /// Whether nothing is known of any key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shelves with something stored that had to make room so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    fn place(&self, key: &[u8]) -> Place {
        self.hasher.hash_one(key)
    }

    fn change(&self, label: &Label, change: impl FnOnce(Option<&Shelf<V>>) -> Option<Shelf<V>>) {
        let place = self.place(label.bytes());
        let alone = self.changing[place as usize % self.changing.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let old = self.shelves.peek(&place);
        // That of another key with the same hash is none of ours to change.
        let old = old.filter(|old| old.label().bytes() == label.bytes());
        let left = match change(old.as_ref()) {
            Some(shelf) => self.insert(place, shelf),
            None if old.is_some() => self.shelves.remove(&place).iter().count(),
            None => 0,
        };
        drop(alone);
        let changes = self.changes.fetch_add(1, Relaxed);
        if left > MANY || changes.is_multiple_of(CHANGES_PER_LOOK) {
            self.hold_back();
        }
    }

    /// Puts a shelf in its place; how many had to leave for it.
    fn insert(&self, place: Place, shelf: Shelf<V>) -> usize {
        let mut leaving = Leaving {
            new: Some(place),
            left: SmallVec::new(),
        };
        self.shelves
            .insert_with_lifecycle(place, shelf, &mut leaving);
        leaving.left.len()
    }

    /// As many variants as one shelf may hold: the newest, and of the others those that have not to go.
    fn fitting(&self, variants: impl Iterator<Item = Arc<V>>) -> SmallVec<[Arc<V>; 1]> {
        let mut fitting: SmallVec<[Arc<V>; 1]> = variants.collect();
        let mut weight: u64 = fitting.iter().map(|variant| variant.weight()).sum();
        while fitting.len() > MOST_VARIANTS || weight > self.heaviest_shelf {
            let leaving = match fitting.as_slice() {
                // They do not fit beside each other. What others keep asking for stays, or who asks for a
                // large answer by a made-up value would take it from them.
                [new, known] if known.refuses(new) => Some(0),
                all => least(all),
            };
            let Some(leaving) = leaving else {
                break;
            };
            weight -= fitting.remove(leaving).weight();
        }
        fitting
    }

    /// Holds back what tables take that nothing in them is charged for. In steps, since a table's
    /// capacity is not to be moved without need.
    fn hold_back(&self) {
        // Else another is at it.
        let Ok(mut reserve) = self.reserve.try_lock() else {
            return;
        };
        let step = (self.memory / STEPS).max(1);
        loop {
            let needed = self.idle_tables().div_ceil(step) * step;
            let needed = needed.min(self.memory / 4);
            let rises = needed > *reserve;
            // What is but a step too much may soon be needed.
            if rises || needed + step < *reserve {
                *reserve = needed;
                self.shelves.set_capacity(self.memory - needed);
            }
            // Who has to leave for it is charged for no more.
            if !rises {
                return;
            }
        }
    }

    /// What tables take beyond what is charged for them.
    fn idle_tables(&self) -> u64 {
        let used = self.shelves.memory_used();
        // Their entries stand in a list that doubles when it is full.
        let entries = used.entries.max(self.emptied.load(Relaxed));
        let tables = (2 * entries + used.map) as u64;
        tables.saturating_sub(self.shelves.len() as u64 * PLACE)
    }
}

impl<V: Kept> Shelf<V> {
    fn new(label: &Label, variants: SmallVec<[Arc<V>; 1]>, passes: Passes) -> Self {
        if let ([one], true) = (variants.as_slice(), passes.is_empty()) {
            return Self(Variants::One(Arc::clone(one)));
        }
        let objects: u64 = variants.iter().map(|variant| variant.weight()).sum();
        let held = size_of::<Several<V>>() + COUNTS + variants.len() * size_of::<Arc<V>>();
        Self(Variants::Several(Arc::new(Several {
            weight: objects + (held + label.heap() + passes.heap()) as u64,
            label: label.clone(),
            variants: variants.into_boxed_slice(),
            passes,
        })))
    }

    fn label(&self) -> &Label {
        match &self.0 {
            Variants::One(variant) => variant.label(),
            Variants::Several(several) => &several.label,
        }
    }

    fn weight(&self) -> u64 {
        match &self.0 {
            Variants::One(variant) => variant.weight(),
            Variants::Several(several) => several.weight,
        }
    }
}

impl<V> Shelf<V> {
    /// The variants, the newest first.
    #[must_use]
    pub fn variants(&self) -> &[Arc<V>] {
        match &self.0 {
            Variants::One(variant) => slice::from_ref(variant),
            Variants::Several(several) => &several.variants,
        }
    }

    /// One of the variants, which costs no reference more where there is but one.
    #[must_use]
    pub fn take(self, index: usize) -> Option<Arc<V>> {
        match self.0 {
            Variants::One(variant) => (index == 0).then_some(variant),
            Variants::Several(several) => several.variants.get(index).cloned(),
        }
    }

    /// Whether requests for which nothing is here should not wait for each other now, whoever asks.
    #[must_use]
    pub fn passes(&self, now: u64) -> bool {
        match &self.0 {
            Variants::One(_) => false,
            Variants::Several(several) => now < several.passes.until(),
        }
    }

    /// Whether that was learnt of this one.
    #[must_use]
    pub fn passes_alone(&self, asker: u64, now: u64) -> bool {
        match &self.0 {
            Variants::One(_) => false,
            Variants::Several(several) => now < several.passes.until_for(asker),
        }
    }

    /// Whether that was learnt of one's group, and is so or was so long ago at most, and nothing has come
    /// here since.
    #[must_use]
    pub fn passed_within(&self, asker: u64, now: u64, ago: u64) -> bool {
        match &self.0 {
            Variants::One(_) => false,
            Variants::Several(several) => {
                let until = several.passes.until_for_group_of(asker);
                until > 0 && now < until.saturating_add(ago)
            }
        }
    }

    fn passes_of_all(&self) -> Passes {
        match &self.0 {
            Variants::One(_) => Passes::default(),
            Variants::Several(several) => several.passes.clone(),
        }
    }
}

impl<V> Clone for Shelf<V> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Variants::One(variant) => Variants::One(Arc::clone(variant)),
            Variants::Several(several) => Variants::Several(Arc::clone(several)),
        })
    }
}

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, place: u64) {
        self.0 = place;
    }

    /// A hasher has to take bytes; the table hashes nothing but places.
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= bytes.len() as u64;
    }
}

impl<V: Kept> Weighter<Place, Shelf<V>> for Charge {
    fn weight(&self, _: &Place, shelf: &Shelf<V>) -> u64 {
        shelf.weight() + PLACE
    }
}

impl<V: Kept> Lifecycle<Place, Shelf<V>> for Evictions {
    type RequestState = Leaving<V>;

    fn on_evict(&self, leaving: &mut Leaving<V>, place: Place, shelf: Shelf<V>) {
        // One that has nothing but marks takes no answer with it.
        if leaving.new != Some(place) && !shelf.variants().is_empty() {
            self.counted.inc();
            self.evicted.fetch_add(1, Relaxed);
        }
        leaving.left.push(shelf);
    }
}

impl<V> Default for Leaving<V> {
    fn default() -> Self {
        Self {
            new: None,
            left: SmallVec::new(),
        }
    }
}

/// Which variant has to go for the newest, the first of them.
///
/// Half of the others stay because they are asked for most: were they but the newest, a client could push out
/// what all ask for with values that it makes up. Were it more of them, it could hold all the room with such
/// values as it has asked for long enough, and what is new would go before others have asked for it again.
fn least<V: Kept>(variants: &[Arc<V>]) -> Option<usize> {
    // Read once: they change while they are compared.
    let others = variants.iter().enumerate().skip(1);
    let others = others.map(|(at, variant)| (Reverse(variant.standing()), at));
    let mut others: SmallVec<[_; MOST_VARIANTS]> = others.collect();
    // Of those that are alike the newer first.
    others.sort_unstable();
    let rest = others.iter().skip(others.len() / 2).map(|(_, at)| *at);
    rest.rev().min_by_key(|at| variants[*at].last_asked())
}

/// As many shards as can hold four of the largest objects each: a shelf may take half of one, and two large
/// variants of a key are to stand beside each other.
fn shards(memory: u64, largest: u64) -> usize {
    let fitting = memory / (largest.saturating_mul(4) + USUAL_OBJECT);
    let fitting = fitting.clamp(1, MOST_SHARDS);
    // The next power of two below.
    1 << fitting.ilog2()
}

/// What the table needs for one key: its slot, its entry, its share of free ones and of the keys that
/// it remembers after they had to go.
const PLACE: u64 = 200;
/// The counts of what is shared.
const COUNTS: usize = 16;
const USUAL_OBJECT: u64 = 4 << 10;
const MOST_SHARDS: u64 = 64;
const STRIPES: usize = 64;
/// How many changes pass until it is looked what the tables take, or how many keys leave in one.
const CHANGES_PER_LOOK: u64 = 64;
const MANY: usize = 8;
/// In how many steps of the memory it is held back.
const STEPS: u64 = 64;
/// Variants of one key: an answer that varies by what every client says differently is not worth
/// more.
const MOST_VARIANTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::cache::key::tests::key;

    struct Blob {
        label: Label,
        weight: u64,
        variant: u32,
        standing: AtomicU64,
        asked: AtomicU64,
        others_since: Option<u64>,
    }

    impl Kept for Blob {
        fn weight(&self) -> u64 {
            self.weight
        }

        fn label(&self) -> &Label {
            &self.label
        }

        fn standing(&self) -> u64 {
            self.standing.load(Relaxed)
        }

        fn last_asked(&self) -> u64 {
            self.asked.load(Relaxed)
        }

        fn others_since(&self) -> Option<u64> {
            self.others_since
        }

        fn succeed(&self, replaced: &Self) {
            self.standing.store(replaced.standing(), Relaxed);
        }
    }

    fn store(memory: u64, largest: u64) -> Store<Blob> {
        let counter = IntCounter::new("evictions", "evictions").unwrap();
        Store::new(memory, largest, counter)
    }

    fn put(store: &Store<Blob>, name: &str, weight: u64, variant: u32) {
        put_asked(store, (name, weight, variant), 0);
    }

    /// The same of one that was asked for at a moment.
    fn put_asked(store: &Store<Blob>, (name, weight, variant): (&str, u64, u32), at: u64) {
        let blob = Arc::new(Blob {
            label: Label::of(&key(name).to_key()),
            weight,
            variant,
            standing: AtomicU64::new(0),
            asked: AtomicU64::new(at),
            others_since: None,
        });
        store.put(&blob, |known| known.variant == variant, |_| false);
    }

    fn variants_of(store: &Store<Blob>, name: &str) -> Vec<u32> {
        let shelf = store.find(&key(name)).unwrap();
        shelf.variants().iter().map(|blob| blob.variant).collect()
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
        let variants: Vec<_> = shelf.variants().iter().map(|blob| blob.variant).collect();
        assert_eq!(variants, (68..100).rev().collect::<Vec<_>>());
        store.remove(&key("/a").to_key(), |blob| blob.variant > 68);
        assert_eq!(store.find(&key("/a")).unwrap().variants().len(), 1);
        store.remove(&key("/a").to_key(), |_| true);
        assert!(store.find(&key("/a")).is_none());
    }

    #[test]
    fn of_many_variants_those_stay_that_are_asked_for() {
        let store = store(1 << 20, 64 << 10);
        for variant in 0..3 {
            put(&store, "/a", 10, variant);
        }
        for (variant, standing) in [(0, 7), (2, 5)] {
            let shelf = store.find(&key("/a")).unwrap();
            let found = shelf.variants().iter().find(|blob| blob.variant == variant);
            found.unwrap().standing.store(standing, Relaxed);
        }
        for variant in 3..100 {
            put(&store, "/a", 10, variant);
        }
        let shelf = store.find(&key("/a")).unwrap();
        let variants: Vec<_> = shelf.variants().iter().map(|blob| blob.variant).collect();
        let newest: Vec<_> = (70..100).rev().chain([2, 0]).collect();
        assert_eq!(variants, newest);
    }

    #[test]
    fn variants_that_are_asked_for_most_take_half_of_the_room_at_most() {
        let store = store(1 << 20, 64 << 10);
        for variant in 0..31 {
            put_asked(&store, ("/a", 10, variant), 5);
        }
        let shelf = store.find(&key("/a")).unwrap();
        for blob in shelf.variants() {
            blob.standing.store(100, Relaxed);
        }
        // What is asked for from now on stays beside them, as long as it is.
        for round in 0..20 {
            for variant in 40..50 {
                put_asked(&store, ("/a", 10, variant), 10 + round);
            }
        }
        let variants = variants_of(&store, "/a");
        assert_eq!(variants[..10], (40..50).rev().collect::<Vec<_>>());
        put_asked(&store, ("/a", 10, 60), 40);
        for variant in 70..100 {
            put_asked(&store, ("/a", 10, variant), 50);
        }
        let variants = variants_of(&store, "/a");
        let newest: Vec<_> = (84..100).rev().chain((15..31).rev()).collect();
        assert_eq!(variants, newest);
    }

    #[test]
    fn variants_that_are_gone_make_room_before_all_others() {
        let store = store(1 << 20, 64 << 10);
        for variant in 0..32 {
            put(&store, "/a", 10, variant);
        }
        let shelf = store.find(&key("/a")).unwrap();
        for blob in shelf.variants() {
            blob.standing.store(100, Relaxed);
        }
        let new = Arc::new(Blob {
            label: Label::of(&key("/a").to_key()),
            weight: 10,
            variant: 40,
            standing: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            others_since: None,
        });
        store.put(&new, |_| false, |known| known.variant != 7);
        assert_eq!(variants_of(&store, "/a"), [40, 7]);
    }

    #[test]
    fn what_takes_the_place_of_a_variant_that_is_asked_for_stays_as_that_would() {
        let store = store(1 << 20, 64 << 10);
        put(&store, "/a", 10, 0);
        let shelf = store.find(&key("/a")).unwrap();
        shelf.variants()[0].standing.store(7, Relaxed);
        for variant in 0..100 {
            put(&store, "/a", 10, variant);
        }
        let shelf = store.find(&key("/a")).unwrap();
        let last = shelf.variants().last().map(|blob| blob.variant);
        assert_eq!(last, Some(0));
    }

    #[test]
    fn a_shelf_gives_up_its_oldest_when_it_is_too_heavy() {
        let store = store(1 << 20, 128 << 10);
        for variant in 0..32 {
            put(&store, "/a", 100 << 10, variant);
        }
        let shelf = store.find(&key("/a")).unwrap();
        assert_eq!(shelf.variants()[0].variant, 31);
        assert!(shelf.variants().len() < 8);
        assert!(store.weight() <= store.capacity());
    }

    #[test]
    fn two_of_the_largest_variants_stand_beside_each_other() {
        for memory in [64 << 20, 100 << 20, 256 << 20] {
            let store = store(memory, 8 << 20);
            for variant in 0..2 {
                put(&store, "/a", 8 << 20, variant);
            }
            assert_eq!(variants_of(&store, "/a"), [1, 0], "{memory}");
        }
    }

    #[test]
    fn of_two_variants_that_do_not_fit_the_one_stays_that_is_asked_for() {
        let store = store(1 << 20, 512 << 10);
        put(&store, "/a", 400 << 10, 0);
        let shelf = store.find(&key("/a")).unwrap();
        shelf.variants()[0].standing.store(5, Relaxed);
        put(&store, "/a", 400 << 10, 1);
        assert_eq!(variants_of(&store, "/a"), [0]);
        // What comes in its own place stays as it would.
        put(&store, "/a", 410 << 10, 0);
        put(&store, "/a", 400 << 10, 1);
        let shelf = store.find(&key("/a")).unwrap();
        assert_eq!(shelf.variants()[0].weight, 410 << 10);
        shelf.variants()[0].standing.store(0, Relaxed);
        put(&store, "/a", 400 << 10, 1);
        assert_eq!(variants_of(&store, "/a"), [1]);
    }

    #[test]
    fn a_mark_to_pass_leaves_what_is_stored_and_ends() {
        let store = store(1 << 20, 64 << 10);
        put(&store, "/a", 10, 0);
        store.pass_until(&key("/a").to_key(), 0, 100, Learnt::Fields);
        let shelf = store.find(&key("/a")).unwrap();
        assert!(shelf.passes(99) && !shelf.passes(100));
        assert!(shelf.passed_within(0, 109, 10) && !shelf.passed_within(0, 110, 10));
        assert_eq!(shelf.variants().len(), 1);
        put(&store, "/a", 10, 1);
        let shelf = store.find(&key("/a")).unwrap();
        assert!(!shelf.passes(99) && !shelf.passed_within(0, 99, 10));
    }

    #[test]
    fn a_mark_to_pass_is_remembered_of_those_of_whom_it_was_learnt() {
        let store = store(1 << 20, 64 << 10);
        let kept = key("/a").to_key();
        let find = || store.find(&key("/a"));
        store.wait_again(&kept, 1);
        assert!(find().is_none());
        store.pass_until(&kept, 1, 100, Learnt::Fields);
        store.pass_until(&kept, 2, 200, Learnt::Fields);
        let shelf = find().unwrap();
        assert!(shelf.passes(199), "none waits as long as it is so of one");
        let within = |asker| shelf.passed_within(asker, 150, 0);
        assert_eq!([0, 1, 2].map(within), [false, false, true]);
        assert!(shelf.passed_within(1, 109, 10) && !shelf.passed_within(3, 109, 10));
        // Another of its group, of whom nothing was learnt.
        assert!(shelf.passes_alone(2, 199) && !shelf.passes_alone(2, 200));
        assert!(within(18) && !shelf.passes_alone(18, 150));
        store.wait_again(&kept, 2);
        assert!(find().is_some_and(|shelf| shelf.passes(99) && !shelf.passes(100)));
        store.wait_again(&kept, 1);
        assert!(find().is_none(), "nothing is left of it");
        let changes = store.changes.load(Relaxed);
        store.wait_again(&kept, 1);
        assert_eq!(store.changes.load(Relaxed), changes, "there is no mark");
    }

    #[test]
    fn a_mark_to_pass_is_forgotten_and_what_stands_beside_it_stays() {
        let store = store(1 << 20, 64 << 10);
        let kept = key("/a").to_key();
        for variant in 0..2 {
            put(&store, "/a", 10, variant);
        }
        for asker in 1..3 {
            store.pass_until(&kept, asker, 100, Learnt::Fields);
        }
        for (asker, passes) in [(1, true), (2, false)] {
            store.wait_again(&kept, asker);
            let shelf = store.find(&key("/a")).unwrap();
            assert_eq!(shelf.passes(99), passes);
            assert_eq!(variants_of(&store, "/a"), [1, 0]);
        }
    }

    #[test]
    fn a_mark_to_pass_that_was_learnt_by_the_whole_is_not_taken_away_by_a_304() {
        let store = store(1 << 20, 64 << 10);
        let kept = key("/a").to_key();
        for (asker, learnt, stays) in [(1, Learnt::Fields, false), (2, Learnt::Whole, true)] {
            store.pass_until(&kept, asker, 100, learnt);
            store.wait_again_as_told(&kept, asker, 90);
            let shelf = store.find(&key("/a")).unwrap();
            let within = shelf.passed_within(asker, 99, 10);
            assert_eq!((shelf.passes(99), within), (stays, stays));
        }
    }

    #[test]
    fn a_mark_to_pass_stays_where_a_304_was_taken_at_its_word_just_before() {
        let store = store(1 << 20, 64 << 10);
        let kept = key("/a").to_key();
        for passes in [false, true] {
            store.pass_until(&kept, 1, 100, Learnt::Fields);
            store.wait_again_as_told(&kept, 1, 90);
            assert_eq!(store.find(&key("/a")).unwrap().passes(99), passes);
        }
        // What is kept shows that it was right.
        store.wait_again(&kept, 1);
        assert!(store.find(&key("/a")).is_none());
    }

    #[test]
    fn a_mark_to_pass_stays_beside_a_variant_that_others_get() {
        let store = store(1 << 20, 64 << 10);
        let kept = key("/a").to_key();
        let put = |others_since| {
            let blob = Arc::new(Blob {
                label: Label::of(&kept),
                weight: 10,
                variant: 0,
                standing: AtomicU64::new(0),
                asked: AtomicU64::new(0),
                others_since,
            });
            store.put(&blob, |_| true, |_| false);
            let shelf = store.find(&key("/a")).unwrap();
            [1, 2].map(|asker| shelf.passes_alone(asker, 99))
        };
        store.pass_until(&kept, 1, 100, Learnt::Fields);
        store.pass_until(&kept, 2, 200, Learnt::Fields);
        assert_eq!(put(Some(99)), [true, true]);
        assert_eq!(put(Some(100)), [false, true], "the other's is over");
        assert_eq!(put(None), [false, false], "it is for all");
    }

    #[test]
    fn keys_are_told_apart_whose_labels_are_long() {
        let store = store(1 << 20, 64 << 10);
        let names = ["x", "y"].map(|end| format!("/{}{end}", "a".repeat(500)));
        for (variant, name) in names.iter().enumerate() {
            put(&store, name, 10, variant as u32);
        }
        for (variant, name) in names.iter().enumerate() {
            let shelf = store.find(&key(name)).unwrap();
            assert_eq!(shelf.variants()[0].variant, variant as u32);
        }
        assert_eq!(store.len(), 2);
    }

    #[test]
    fn a_key_with_the_hash_of_another_is_not_taken_for_it() {
        let store = store(1 << 20, 64 << 10);
        put(&store, "/a", 10, 0);
        let place = store.place(key("/b").bytes());
        let others = || store.shelves.peek(&place).expect("one is there");
        // As if the two had one hash.
        store.insert(place, store.find(&key("/a")).unwrap());
        assert!(store.find(&key("/b")).is_none());
        store.remove(&key("/b").to_key(), |_| true);
        assert_eq!(others().variants()[0].variant, 0);
        put(&store, "/b", 10, 1);
        assert_eq!(others().variants().len(), 1);
        assert_eq!(store.find(&key("/b")).unwrap().variants()[0].variant, 1);
    }

    #[test]
    fn a_variant_can_be_taken_off_its_shelf() {
        let store = store(1 << 20, 64 << 10);
        put(&store, "/a", 10, 0);
        let taken = |index| store.find(&key("/a"))?.take(index);
        assert_eq!(taken(0).map(|blob| blob.variant), Some(0));
        assert!(taken(1).is_none());
        put(&store, "/a", 10, 1);
        let variants = [0, 1].map(|index| taken(index).map(|blob| blob.variant));
        assert_eq!(variants, [Some(1), Some(0)]);
        assert!(taken(2).is_none());
    }

    #[test]
    fn who_takes_its_own_place_makes_nobody_leave() {
        let store = store(1 << 20, 64 << 10);
        for variant in 0..10 {
            put(&store, "/a", 10, 0);
            put(&store, "/a", 10, variant);
            store.pass_until(&key("/a").to_key(), 0, 100, Learnt::Fields);
        }
        assert_eq!((store.evicted(), store.len()), (0, 1));
        for index in 0..100 {
            put(&store, &format!("/{index}"), 60 << 10, 0);
        }
        assert!(store.evicted() > 50);
        assert_eq!(store.evicted() + store.len() as u64, 101);
    }

    #[test]
    fn marks_that_make_room_are_no_answers_that_had_to_go() {
        let store = store(1 << 20, 64 << 10);
        for index in 0..20_000 {
            let kept = key(&format!("/{index}")).to_key();
            store.pass_until(&kept, 0, 100, Learnt::Fields);
        }
        assert!(store.len() < 19_000, "{}", store.len());
        assert_eq!(store.evicted(), 0);
    }

    /// Tables that were made for many small objects are there still when all of them have left.
    #[test]
    fn what_tables_take_is_held_back_when_larger_objects_come() {
        let store = store(16 << 20, 64 << 10);
        let name = |index| format!("/small/{index}");
        for index in 0..30_000 {
            put(&store, &name(index), 1_000, 0);
        }
        assert!(store.weight() <= store.capacity());
        for index in 0..30_000 {
            store.remove(&key(&name(index)).to_key(), |_| true);
        }
        for index in 0..2_000 {
            put(&store, &format!("/large/{index}"), 64 << 10, 0);
            assert!(store.weight() <= store.capacity(), "{index}");
        }
        assert!(store.idle_tables() > 1 << 20, "{}", store.idle_tables());
        assert!(store.weight() > 12 << 20, "{}", store.weight());
    }

    #[test]
    fn what_tables_take_is_held_back_when_everything_was_taken_out() {
        let store = store(16 << 20, 64 << 10);
        for index in 0..30_000 {
            put(&store, &format!("/small/{index}"), 1_000, 0);
        }
        let before = store.shelves.memory_used().entries as u64;
        store.clear();
        assert!(store.is_empty());
        assert!(store.idle_tables() >= before, "{}", store.idle_tables());
        for index in 0..2_000 {
            put(&store, &format!("/large/{index}"), 64 << 10, 0);
            assert!(store.weight() <= store.capacity(), "{index}");
        }
    }
}
