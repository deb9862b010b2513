//! Tokens that this process has taken of Redis in advance, by key and tier.
//!
//! A key may have several tiers: of one caller with several tokens, or of several callers. A tier gives
//! out what its own quotas allowed, and what Redis refuses one says nothing about another.
//!
//! One batch at a time: one request fetches it, and the others wait for it, so that a hot key costs one
//! round trip a batch. When it runs low, a task tops it up: where tokens come before the rest is used
//! too, nobody waits. How low that is, is learnt from what was used during the last top-up: a batch that
//! is used slowly is nearly whole each time, and one that is used faster than Redis answers has half of it
//! to live on. Whom they do not reach waits for the next; what Redis refuses a request, it refuses to all
//! who waited for as much. Nobody waits longer than Redis's own deadline: then it asks by itself. What is
//! left is forgotten a window, the shortest, after the last of it came.
//!
//! Who comes first under a key takes what it needs and no batch, unless others wait for it: of keys that
//! somebody makes up nothing is taken in advance. A key that has to make room for others gives back what is
//! left, and what may still come back or be on its way as soon as it is there: whoever holds it takes nothing
//! in advance any more, since the next request under the key begins another. What an answer tells
//! that its request has cost more is taken out of the batch first: it is the caller's, and a debt that Redis
//! alone knew of would have to wait until the batch is used.
//!
//! What a request takes that another limit of its stage may still refuse is lent: it comes back when that
//! one refuses, or when the client leaves, and there is room for it then.
//!
//! What comes on top of a quota in a window is what was taken before it and is given out in it. So at
//! every moment what is left, what is lent, and what a fetch may bring beside what its own request takes,
//! are together a batch less one at most: for each gateway and tier. A batch is one more, which the
//! request takes that fetches it, and less what is lent; a top-up is what is missing to that when it is
//! asked for.

mod owner;

use std::{
    convert::Infallible,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use quick_cache::{Lifecycle, UnitWeighter, sync::Cache};
use smallvec::SmallVec;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::tier::Tier;
use crate::store::{Hashed, KeyHash, KeyHasher, Refused, Standing};
use owner::Owner;

/// The batches of one limit.
pub(super) struct Leases {
    size: u32,
    /// They are found by a hash of this process, which costs a fraction of the one that gateways share.
    hasher: KeyHasher,
    held: Cache<LeaseKey, Arc<Lease>, UnitWeighter, BuildHasherDefault<Hashed>, Evictions>,
    /// Places for what goes back of keys that make room.
    returning: Arc<Semaphore>,
}

/// What a batch is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct LeaseKey {
    key: KeyHash,
    /// By whose quotas: the tier's id, which is a hash too.
    tier: u64,
}

/// What of what was taken in advance is for a request.
pub(super) enum InAdvance {
    /// Nothing ever is.
    Never,
    /// What is held.
    Held(Arc<Lease>),
    /// Nothing is held yet under this.
    Not(KeyHash),
}

/// Closes what has to make room.
#[derive(Clone, Debug)]
struct Evictions;

/// What one insertion pushes out. It is closed behind the table's lock.
#[derive(Default)]
struct Gone(SmallVec<[Arc<Lease>; 1]>);

/// The batches of one key and tier, one after the other.
pub(super) struct Lease {
    /// Under which Redis counts.
    pub(super) key: KeyHash,
    size: u32,
    /// Whom what is left goes back to when this has to make room.
    owner: Owner,
    batch: Mutex<Batch>,
    /// Woken when a fetch has ended.
    fetched: Notify,
}

/// What is left of a batch.
#[derive(Default)]
struct Batch {
    left: u32,
    /// What was given to requests that another limit may still refuse.
    lent: u32,
    /// What the fetch that is under way may bring beside what its own request takes.
    coming: u32,
    until: u64,
    fetching: bool,
    /// Whether Redis had as much as it was last asked for. Where it had less, to ask before that is used
    /// is to ask more often for less.
    plenty: bool,
    /// Whether a request has come before, or waits for the first.
    is_known: bool,
    /// Whether it had to make room.
    is_closed: bool,
    /// What is in hand, or less of it, when the batch is to be topped up.
    low: u32,
    /// What was in hand when the fetch that is under way began.
    began_with: u32,
    window: usize,
    /// What that window has room for: nobody is told more, though there is what was taken before.
    room: u32,
    /// How Redis stood when the batch was taken.
    standing: Option<Standing>,
    /// What the last fetch has come to.
    last: Fetched,
}

/// What a fetch has come to.
#[derive(Clone, Copy, Default)]
pub(super) enum Fetched {
    /// There is a batch.
    #[default]
    Batch,
    /// There is not that much.
    Refused(u32, usize, Refused),
    /// Redis is away.
    Away,
    /// Nothing: another limit refused, or the client left before Redis was asked.
    Nothing,
}

/// What a request costs, out of a batch.
pub(super) struct Given {
    pub(super) window: usize,
    /// How the limit stands then.
    pub(super) standing: Standing,
    /// Set where it was to be lent.
    pub(super) lent: Option<Lent>,
    /// Set where the batch has run low.
    pub(super) more: Option<TopUp>,
}

/// What a request has taken, and another limit may still refuse. Dropping it gives it back: the client may
/// leave while the other limit waits for Redis.
pub(super) struct Lent {
    lease: Arc<Lease>,
    cost: u32,
}

/// What a request gets at once.
pub(super) enum Leased {
    /// What it costs.
    Given(Given),
    /// It is to fetch a batch.
    Fetch(Fetch),
    /// Nothing yet: another fetches one.
    Wait,
}

/// What a request gets that has waited for a batch.
pub(super) enum Waited {
    /// What it costs.
    Given(Given),
    /// It is to fetch the next batch.
    Fetch(Fetch),
    /// It takes what it costs by itself.
    Alone,
    /// Redis has just refused as much.
    Refused(usize, Refused),
    /// Redis has just not answered.
    Away,
}

/// The duty to fetch a batch; dropping it wakes those who wait, the first of whom takes it over.
pub(super) struct Fetch {
    lease: Arc<Lease>,
    ended: AtomicBool,
    /// What the request itself takes; nothing for a top-up.
    pub(super) cost: u32,
    /// How many, once it has begun.
    pub(super) size: u32,
}

/// The duty to have a batch topped up, which goes on when the request that found it low is over.
/// Dropping it is giving up a fetch.
pub(super) struct TopUp {
    pub(super) fetch: Fetch,
    /// What a request takes: less than that is of no use.
    pub(super) least: u32,
}

impl Leases {
    /// Batches of a size, for so many keys.
    pub(super) fn new(size: u32, keys: usize) -> Self {
        Self {
            size,
            hasher: KeyHasher::default(),
            held: Cache::with(
                keys,
                keys as u64,
                UnitWeighter,
                BuildHasherDefault::default(),
                Evictions,
            ),
            returning: Arc::new(Semaphore::new(MOST_RETURNING)),
        }
    }

    /// What is held of the key that `hash` hashes, by the quotas of a tier. A tier may be too small for any.
    pub(super) fn find(&self, hash: impl Fn(&KeyHasher) -> KeyHash, tier: &Tier) -> InAdvance {
        if self.size_of(tier) <= 1 {
            return InAdvance::Never;
        }
        let key = hash(&self.hasher);
        let held = self.held.get(&LeaseKey { key, tier: tier.id });
        held.map_or(InAdvance::Not(key), InAdvance::Held)
    }

    /// The batches of a key of which none are held: `shared` is the hash under which Redis counts.
    fn make(&self, key: KeyHash, shared: KeyHash, owner: Owner) -> Arc<Lease> {
        let size = self.size_of(owner.tier());
        let tier = owner.tier().id;
        let key = LeaseKey { key, tier };
        let make = || Ok::<_, Infallible>(Arc::new(Lease::new(shared, size, owner)));
        // One for all who come at once: two would be two batches.
        let Ok(lease) = self.held.get_or_insert_with(&key, make);
        lease
    }

    fn size_of(&self, tier: &Tier) -> u32 {
        self.size.min(tier.largest_lease)
    }

    /// A place among those that go back, where there is one.
    fn place_to_return(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.returning).try_acquire_owned().ok()
    }
}

impl Lifecycle<LeaseKey, Arc<Lease>> for Evictions {
    type RequestState = Gone;

    fn on_evict(&self, gone: &mut Gone, _: LeaseKey, lease: Arc<Lease>) {
        gone.0.push(lease);
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.iter().for_each(|lease| lease.close());
    }
}

impl Lease {
    /// Nothing is in hand yet.
    fn new(key: KeyHash, size: u32, owner: Owner) -> Self {
        Self {
            key,
            size,
            owner,
            batch: Mutex::default(),
            fetched: Notify::new(),
        }
    }

    /// Takes from the batch, or the duty to fetch one. A request that another limit may still refuse is
    /// lent what it takes.
    pub(super) fn take(self: &Arc<Self>, now: u64, (cost, lends): (u32, bool)) -> Leased {
        let mut batch = self.locked();
        if let Some((window, standing)) = batch.give(now, cost) {
            let lent = lends.then(|| Lent::new(self, &mut batch, cost));
            let more = self.runs_low(&batch, cost).then(|| TopUp {
                fetch: Fetch::new(self, 0),
                least: cost,
            });
            batch.fetching |= more.is_some();
            return Leased::Given(Given {
                window,
                standing,
                lent,
                more,
            });
        }
        if batch.fetching {
            batch.is_known = true;
            return Leased::Wait;
        }
        batch.fetching = true;
        // A request that began before may still come for what is too old.
        if now >= batch.until {
            batch.left = 0;
        }
        Leased::Fetch(Fetch::new(self, cost))
    }

    /// Waits for the batch that another request fetches. Nobody who has to fetch for others may wait
    /// for them.
    pub(super) async fn take_fetched(
        self: &Arc<Self>,
        now: u64,
        (cost, lends): (u32, bool),
    ) -> Waited {
        for _ in 0..MOST_WAITS {
            // Made before the look at the batch: a fetch that ends in between wakes it too.
            let fetched = self.fetched.notified();
            let taken = self.take(now, (cost, lends));
            if let Some(waited) = taken.after_waiting() {
                return waited;
            }
            fetched.await;
            let last = self.locked().last;
            match last {
                Fetched::Batch => {}
                // What costs more is refused too, but has to wait longer.
                Fetched::Refused(as_much, window, refused) if cost == as_much => {
                    return Waited::Refused(window, refused);
                }
                Fetched::Away => return Waited::Away,
                Fetched::Refused(..) | Fetched::Nothing => break,
            }
        }
        let last = self.take(now, (cost, lends)).after_waiting();
        last.unwrap_or(Waited::Alone)
    }

    /// It has to make room. What is left goes back, and what comes from now on does.
    fn close(&self) {
        let mut batch = self.locked();
        batch.is_closed = true;
        let (left, until) = (std::mem::take(&mut batch.left), batch.until);
        drop(batch);
        self.owner.evicted(self.key, left, until);
    }

    /// Gives back what has come for one that had to make room.
    fn give_back(&self, mut batch: MutexGuard<'_, Batch>) {
        let (left, until) = (std::mem::take(&mut batch.left), batch.until);
        drop(batch);
        self.owner.give_back(self.key, left, until);
    }

    /// Takes what a request has turned out to cost more; what there was too little for.
    pub(super) fn charge(&self, now: u64, more: u32) -> u32 {
        let mut batch = self.locked();
        if now >= batch.until {
            return more;
        }
        let taken = more.min(batch.left);
        batch.left -= taken;
        more - taken
    }

    /// Whether a batch is to be topped up: it runs low, and what is left then is for a few requests yet.
    /// Of a smaller one each request or two would have Redis asked.
    fn runs_low(&self, batch: &Batch, cost: u32) -> bool {
        let idle = batch.plenty && !batch.fetching;
        idle && batch.in_hand() <= batch.low && self.size / FEWEST >= cost
    }

    /// What may be in hand of a key: who fetches a batch takes one at least.
    fn most(&self) -> u32 {
        self.size.saturating_sub(1)
    }

    /// When the next batch is to be topped up, by what was used while one was fetched: several times as
    /// much is to be left. Whoever had to fetch one had nothing.
    fn low(&self, used: u32) -> u32 {
        let enough = used.saturating_mul(MARGIN);
        enough.max(self.size / FEWEST).min(self.most() / 2)
    }

    fn locked(&self) -> MutexGuard<'_, Batch> {
        // Whole after a panic elsewhere: nothing under the lock can panic half-way.
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leased {
    /// The same for a request that has waited; `None` when it is to wait again.
    fn after_waiting(self) -> Option<Waited> {
        match self {
            Self::Given(given) => Some(Waited::Given(given)),
            Self::Fetch(fetch) => Some(Waited::Fetch(fetch)),
            Self::Wait => None,
        }
    }
}

impl Batch {
    /// Gives so much of it, if there is so much and it is not too old; how the limit stands then.
    fn give(&mut self, now: u64, cost: u32) -> Option<(usize, Standing)> {
        let standing = self.standing.filter(|_| now < self.until)?;
        self.left = self.left.checked_sub(cost)?;
        let remaining = standing.remaining.saturating_add(self.left);
        let standing = Standing {
            remaining: remaining.min(self.room),
            ..standing
        };
        Some((self.window, standing))
    }

    /// What is left, or may come back.
    fn in_hand(&self) -> u32 {
        self.left.saturating_add(self.lent)
    }
}

impl Lent {
    /// Of a batch from which it has been given.
    fn new(lease: &Arc<Lease>, batch: &mut Batch, cost: u32) -> Self {
        batch.lent = batch.lent.saturating_add(cost);
        Self {
            lease: Arc::clone(lease),
            cost,
        }
    }

    /// All limits let the request pass.
    pub(super) fn use_up(mut self) {
        self.end(0);
    }

    fn end(&mut self, back: u32) {
        let cost = std::mem::take(&mut self.cost);
        if cost == 0 {
            return;
        }
        let mut batch = self.lease.locked();
        batch.lent = batch.lent.saturating_sub(cost);
        // It fits: whoever fetches asks for so much less.
        batch.left = batch.left.saturating_add(back);
        if batch.is_closed {
            self.lease.give_back(batch);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.end(self.cost);
    }
}

impl Fetch {
    fn new(lease: &Arc<Lease>, cost: u32) -> Self {
        Self {
            lease: Arc::clone(lease),
            ended: AtomicBool::new(false),
            cost,
            size: cost,
        }
    }

    /// Fixes how many are fetched: what the request takes, and what is missing to a batch then. To be called
    /// as late as can be: requests that have come in the meantime have made it more.
    pub(super) fn begin(&mut self) {
        let lease = &*self.lease;
        let mut batch = lease.locked();
        let is_for_others = batch.is_known && !batch.is_closed;
        batch.is_known = true;
        let taken = self.cost.max(batch.left.saturating_add(1));
        let missing = lease.size.saturating_sub(taken);
        batch.coming = match is_for_others {
            // What is lent may come back meanwhile.
            true => missing.saturating_sub(batch.lent),
            false => 0,
        };
        // Whoever fetches for itself had nothing: that is as fast as can be.
        batch.began_with = match self.cost {
            0 => batch.in_hand(),
            _ => u32::MAX,
        };
        self.size = self.cost.saturating_add(batch.coming);
    }

    /// Keeps what is there beside what its own request takes, and what is left of before unless that is
    /// too old.
    pub(super) fn keep(
        &self,
        got: u32,
        (window, standing): (usize, Standing),
        tier: &Tier,
        now: u64,
    ) {
        self.end(|batch| {
            let used = batch.began_with.saturating_sub(batch.in_hand());
            batch.low = self.lease.low(used);
            let is_old = now >= batch.until;
            let left = if is_old { 0 } else { batch.left };
            batch.left = left.saturating_add(got);
            // What is left of before is good for no longer because nothing has come.
            if got > 0 || is_old {
                batch.until = now.saturating_add(tier.shortest());
            }
            batch.plenty = got == batch.coming;
            batch.window = window;
            batch.room = tier.windows.get(window).map_or(u32::MAX, |it| it.bucket);
            batch.standing = Some(standing);
            batch.last = Fetched::Batch;
        });
    }

    /// Tells those who wait that there is no batch. What is left is used; then a request asks.
    pub(super) fn failed(&self, why: Fetched) {
        self.end(|batch| {
            batch.plenty = false;
            batch.last = why;
        });
    }

    fn end(&self, note: impl FnOnce(&mut Batch)) {
        let mut batch = self.lease.locked();
        note(&mut batch);
        batch.fetching = false;
        batch.coming = 0;
        if batch.is_closed {
            // It all goes back: who waits for it asks by itself.
            if matches!(batch.last, Fetched::Batch) {
                batch.last = Fetched::Nothing;
            }
            self.lease.give_back(batch);
        } else {
            drop(batch);
        }
        self.ended.store(true, Relaxed);
        self.lease.fetched.notify_waiters();
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.ended.load(Relaxed) {
            self.failed(Fetched::Nothing);
        }
    }
}

/// Batches that a request waits for before it asks by itself.
const MOST_WAITS: usize = 4;
/// What goes back at once. What is over that is lost, as at the end of its window.
const MOST_RETURNING: usize = 256;
/// So many requests a batch has to be for to be topped up.
const FEWEST: u32 = 8;
/// How many times of what was used during a top-up is to be there when the next one begins.
const MARGIN: u32 = 4;

#[cfg(test)]
mod tests;
