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
mod shelf;

use std::{
    cmp::Reverse,
    hash::{BuildHasher, BuildHasherDefault},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use prometheus::IntCounter;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use smallvec::SmallVec;

use super::key::{Key, Label, Sought};
use crate::store::Hashed;
use passes::Passes;
pub use {passes::Learnt, shelf::Shelf};

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
    shelves: Cache<Place, Shelf<V>, Charge, BuildHasherDefault<Hashed>, Evictions>,
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

/// What the table knows a shelf by: a hash of its key.
type Place = u64;

/// What a shelf weighs.
#[derive(Clone, Copy, Debug)]
struct Charge;

/// Counts what had to go, and drops it when the lock is free again.
#[derive(Clone, Debug)]
struct Evictions {
    counted: IntCounter,
    evicted: Arc<AtomicU64>,
}

/// What one change takes out of the table. It is dropped behind all locks: the memory of a large body is
/// not given back under one.
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
        let hashed = BuildHasherDefault::<Hashed>::default();
        let shelves = Cache::with_options(options, Charge, hashed, lifecycle);
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
            // They fit: none of them is new, and none is asked to make room.
            let shelf = Shelf::new(&label, kept.collect(), passes);
            Some(shelf.missed_with(old))
        });
    }

    /// Whether it may be looked elsewhere for answers of this key that are not here. Where it is known that they are
    /// for one caller each, and there was nothing a moment ago, one looks now and then.
    #[must_use]
    pub fn may_look(&self, key: &Key, now: u64) -> bool {
        self.known(key).is_none_or(|shelf| shelf.may_look(now))
    }

    /// Notes when it was looked so in vain, or that there is something.
    pub fn note_look(&self, key: &Key, in_vain: Option<u64>) {
        if let Some(shelf) = self.known(key) {
            shelf.note_look(in_vain);
        }
    }

    /// Forgets that of one's group, and of no other.
    pub fn wait_again(&self, key: &Key, asker: u64) {
        self.remark(key, |passes| passes.without_group_of(asker));
    }

    /// The same behind a 304 that says so: where it can say it, and none was taken at its word just before. Whether
    /// it was heeded.
    pub fn wait_again_as_told(&self, key: &Key, asker: u64, now: u64) -> bool {
        self.remark(key, |passes| passes.doubted(asker, now))
    }

    /// Changes what was learnt of who asks for a key, where there is something to change; whether there was.
    fn remark(&self, key: &Key, remarked: impl Fn(&Passes) -> Option<Passes>) -> bool {
        let label = Label::of(key);
        let place = self.place(label.bytes());
        // Of nearly all there is none, and no change to make.
        let known = self.shelves.peek(&place);
        if known.is_none_or(|shelf| remarked(&shelf.passes_of_all()).is_none()) {
            return false;
        }
        let mut is_changed = false;
        self.change(&label, |old| {
            let old = old?;
            // Something else may have been learnt since.
            let Some(passes) = remarked(&old.passes_of_all()) else {
                return Some(old.clone());
            };
            is_changed = true;
            let kept: SmallVec<[Arc<V>; 1]> = old.variants().iter().cloned().collect();
            let is_empty = kept.is_empty() && passes.is_empty();
            (!is_empty).then(|| Shelf::new(&label, kept, passes))
        });
        is_changed
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

    /// What is known of a key; that counts as no request for it.
    fn known(&self, key: &Key) -> Option<Shelf<V>> {
        let label = Label::of(key);
        let shelf = self.shelves.peek(&self.place(label.bytes()))?;
        (shelf.label().bytes() == label.bytes()).then_some(shelf)
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
        let mut leaving = Leaving::default();
        match change(old.as_ref()) {
            Some(shelf) => {
                leaving.new = Some(place);
                self.shelves
                    .insert_with_lifecycle(place, shelf, &mut leaving);
            }
            None if old.is_some() => {
                let removed = self.shelves.remove(&place);
                leaving.left.extend(removed.map(|(_, shelf)| shelf));
            }
            None => {}
        }
        drop(alone);
        let changes = self.changes.fetch_add(1, Relaxed);
        if leaving.left.len() > MANY || changes.is_multiple_of(CHANGES_PER_LOOK) {
            self.hold_back();
        }
    }

    /// As many variants as one shelf may hold: the newest, and of the others those that have not to go.
    fn fitting(&self, variants: impl Iterator<Item = Arc<V>>) -> SmallVec<[Arc<V>; 1]> {
        let mut fitting = self.without_rivals(variants.collect());
        let mut weight: u64 = fitting.iter().map(|variant| variant.weight()).sum();
        let stay = fitting.len().saturating_sub(1) / 2;
        while fitting.len() > MOST_VARIANTS || weight > self.heaviest_shelf {
            let missing = weight.saturating_sub(self.heaviest_shelf);
            let Some(leaving) = least(&fitting, stay, missing) else {
                break;
            };
            weight -= fitting.remove(leaving).weight();
        }
        fitting
    }

    /// The newest, the first of them, and those that fit beside it, each alone; or all but the newest, where one
    /// that does not fit beside it refuses it. What others keep asking for stays, or who asks for a large answer
    /// by a made-up value would take it from them; and the small ones make no room for what is refused.
    fn without_rivals(&self, variants: SmallVec<[Arc<V>; 1]>) -> SmallVec<[Arc<V>; 1]> {
        let [new, known @ ..] = variants.as_slice() else {
            return variants;
        };
        let beside = self.heaviest_shelf.saturating_sub(new.weight());
        let is_rival = |known: &Arc<V>| known.weight() > beside;
        if !known.iter().any(is_rival) {
            return variants;
        }
        // Each of them is asked, since each counts how often it is.
        let rivals = known.iter().filter(|known| is_rival(known));
        let refusals = rivals.filter(|rival| rival.refuses(new)).count();
        let rest = known
            .iter()
            .filter(|known| refusals > 0 || !is_rival(known));
        let new = std::iter::once(new).filter(|_| refusals == 0);
        new.chain(rest).cloned().collect()
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

/// Which variant has to go for the newest, the first of them, or that.
///
/// Half of the others, so many, stay because they are asked for most: were they but the newest, a client could
/// push out what all ask for with values that it makes up. Were it more of them, it could hold all the room with
/// such values as it has asked for long enough, and what is new would go before others have asked for it again.
/// Where bytes are missing, one goes that makes room enough, if there is one: small ones make none for a large
/// one, and of those that are to stay one goes before all the others would in vain, or else the newest itself.
fn least<V: Kept>(variants: &[Arc<V>], stay: usize, missing: u64) -> Option<usize> {
    // Read once: they change while they are compared.
    let others = variants.iter().enumerate().skip(1);
    let others = others.map(|(at, variant)| (Reverse(variant.standing()), at));
    let mut others: SmallVec<[_; MOST_VARIANTS]> = others.collect();
    // Of those that are alike the newer first.
    others.sort_unstable();
    let stay = match others.len() > stay {
        true => stay,
        false => others.len() / 2,
    };
    let rest = others.iter().skip(stay).map(|(_, at)| *at).rev();
    let makes_room = |at: &usize| variants[*at].weight() >= missing;
    let longest_ago = |at: &usize| variants[*at].last_asked();
    if let Some(one) = rest.clone().filter(makes_room).min_by_key(longest_ago) {
        return Some(one);
    }
    let room: u64 = rest.clone().map(|at| variants[at].weight()).sum();
    let mut all = others.iter().map(|(_, at)| *at).rev();
    let spared = all.find(makes_room).filter(|_| room < missing);
    match spared {
        // It was not asked before: it fits beside the newest.
        Some(at) if variants[at].refuses(&variants[0]) => Some(0),
        Some(at) => Some(at),
        None => rest.min_by_key(longest_ago),
    }
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
mod tests;
