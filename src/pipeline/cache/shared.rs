//! The cache of a process: what all routes share.
//!
//! The tier behind the memory, which gateways share, joins in at four places, all of them off the path
//! of a hit: `config::CacheTier` names it; the fetch that others wait for (`CacheRoute::run`) looks
//! into it before it asks the upstream, so that one look serves all who wait; what is stored goes
//! there too (`CacheRoute::put`); and what is purged here, others are told.

use std::{
    hash::RandomState,
    sync::{Arc, Once, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use http::HeaderMap;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    fetch::Outcome,
    fill::Fill,
    flights::{Flight, Flights, Id},
    found::Found,
    key::Sought,
    lineage::Lineage,
    object::Object,
    places::{Place, Places},
    policy::{Facts, Moment, Nominated, VariantKey},
    purge::{Aim, Purges, Reached, Stamp},
    purges_shared::{Prepared, PurgesShared},
    room::Budget,
    second_tier::SecondTier,
    store::{Shelf, Store},
    untold::{self, Untold},
};
use crate::{config, exchange::Clock, pipeline::Tools, store::Redis, telemetry::Metrics};

/// Stored answers, fetches under way and purges.
///
/// A reload keeps it while `[cache]` is unchanged.
pub struct Cache {
    pub(super) store: Store<Object>,
    pub(super) purges: Purges,
    pub(super) flights: Arc<Flights<Outcome>>,
    pub(super) budget: Arc<Budget>,
    pub(super) largest: u64,
    pub(super) places: Arc<Places>,
    /// What makes digests of who asks and of variants: a route that a reload has made anew makes the same.
    pub(super) hasher: RandomState,
    clock: Clock,
    metrics: Arc<Metrics>,
    memory: u64,
    /// What it shares, when it takes effect.
    sharing: Option<Prepared>,
    in_effect: Once,
    /// Set when other gateways are told of purges.
    others: OnceLock<PurgesShared>,
    /// Where answers are kept that gateways share.
    second: Option<Arc<SecondTier>>,
    /// It and the caches of before and since.
    lineage: Arc<Lineage>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What gateways share, where they share anything.
#[derive(Clone, Copy)]
pub struct Sharing<'a> {
    /// The Redis in which they do.
    pub redis: &'a Arc<Redis>,
    /// Whether it is answers too, and not only purges.
    pub answers: bool,
    /// Whether answers were shared by no cache just before: of what was changed then Redis was not told.
    pub anew: bool,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheFigures {
    /// Bytes that there are.
    pub memory: u64,
    /// Bytes that are taken: by stored answers, those that are still read, fetches under way, changes of
    /// which others are not told yet and bookkeeping.
    pub used: u64,
    /// Keys of which answers are stored, or of which it is known that requests do not wait for each other.
    pub objects: u64,
    /// Keys of which answers were stored that had to make room so far.
    pub evictions: u64,
    /// Fetches under way.
    pub fetches: u64,
    /// Prefixes that were purged and are still looked at.
    pub bans: u64,
    /// The answers that gateways share, where they do.
    pub redis: Option<SecondTierFigures>,
}

/// What looks for answers that gateways share have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondTierFigures {
    /// An answer was found.
    pub hits: u64,
    /// None was.
    pub misses: u64,
    /// Redis had no answer in time, or was away.
    pub away: u64,
    /// Answers that were there and had been purged.
    pub purged: u64,
    /// Values that were there and none of ours.
    pub invalid: u64,
}

/// What the store has for a request.
pub(super) enum Stored {
    /// An answer.
    Found(Found),
    /// Answers that other requests select; the newest.
    Others(Arc<Object>),
    /// Answers that were purged; the newest.
    Purged(Arc<Object>),
    /// Nothing.
    Nothing,
}

impl Cache {
    /// The cache of `[cache]`. Nobody else notices it until it [takes effect](Self::take_effect).
    #[must_use]
    pub fn from_config(
        config: &config::Cache,
        tools: &Tools,
        lineage: &Arc<Lineage>,
        sharing: Option<Sharing<'_>>,
    ) -> Arc<Self> {
        let purges = Purges::new(config.memory);
        // Fetches under way have a part of the memory that stored answers can't take.
        let fetching = config.memory / SHARE_OF_FETCHES;
        let waiting = match sharing {
            Some(Sharing { answers: true, .. }) => untold::room(config.memory),
            _ => 0,
        };
        let stored = config.memory - fetching - purges.weight() - waiting;
        let evictions = tools.metrics.cache_evictions();
        let sharing = sharing.map(|sharing| {
            Prepared::new(sharing, waiting, &tools.control, lineage.owed().as_ref())
        });
        let second = sharing
            .as_ref()
            .filter(|sharing| sharing.changes.is_some())
            .map(|sharing| {
                let (redis, log) = (&sharing.redis, Arc::clone(&sharing.log));
                Arc::new(SecondTier::new(redis, log, tools.metrics.second_tier()))
            });
        Arc::new(Self {
            sharing,
            in_effect: Once::new(),
            others: OnceLock::new(),
            second,
            store: Store::new(stored, config.max_object, evictions),
            purges,
            flights: Flights::new(),
            budget: Budget::new(fetching, stored),
            places: Places::new(places(config.memory)),
            hasher: RandomState::new(),
            largest: config.max_object,
            clock: tools.clock.clone(),
            metrics: Arc::clone(&tools.metrics),
            memory: config.memory,
            lineage: Arc::clone(lineage),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Makes it the newest, before it serves. What others notice begins here and not when it is made,
    /// since a reload may be refused until then. One that is kept has done so already.
    pub fn take_effect(self: &Arc<Self>) {
        self.in_effect.call_once(|| match &self.sharing {
            None => {
                self.lineage.keeps_alone();
                self.lineage.add(self);
            }
            Some(sharing) => self.share(sharing),
        });
    }

    /// Tells others of purges and hears of theirs.
    fn share(self: &Arc<Self>, sharing: &Prepared) {
        // There may be purges that Redis does not know of.
        let before = self.lineage.owed();
        let heard = PurgesShared::start(sharing, Arc::downgrade(self), before.as_ref());
        self.lineage.owe(heard.owed());
        self.others.get_or_init(|| heard);
        // Who finds it there has it tell, too.
        self.lineage.add(self);
        let is_gap = sharing.is_gap(before.as_ref(), &self.lineage);
        if before.is_some_and(|before| before.leaves_out(sharing)) || is_gap {
            self.purge(&Aim::Everything, false);
        }
    }

    /// Where answers are kept that gateways share, if anywhere.
    pub(super) fn second(&self) -> Option<&Arc<SecondTier>> {
        self.second.as_ref()
    }

    /// Whether other gateways are told of purges.
    #[must_use]
    pub fn shares_purges(&self) -> bool {
        self.others.get().is_some()
    }

    /// Purges; `soft` makes stale what a hard purge forgets. A fetch that is under way can't bring
    /// back what was there before.
    pub fn purge(&self, aim: &Aim, soft: bool) {
        self.count_purge();
        self.purge_alone(aim, soft);
        for newer in self.lineage.since(self) {
            newer.purge_alone(aim, soft);
        }
    }

    /// The same for a URL that a client's request has changed.
    pub(super) fn invalidate(&self, url: &Aim) {
        // Each tells those with which it shares answers, of whom another may know nothing. What comes
        // behind this one is looked for when it has announced the change: a cache that takes effect
        // meanwhile is among them.
        self.invalidate_alone(url);
        for newer in self.lineage.since(self) {
            newer.invalidate_alone(url);
        }
    }

    /// Purges in one cache, and tells with whom that shares purges.
    fn purge_alone(&self, aim: &Aim, soft: bool) {
        match self.others.get() {
            None => self.forget(aim, soft),
            Some(others) => others.tell(self, aim, soft, self.forget_untold(others, aim, soft)),
        }
    }

    /// Forgets a URL in one cache. Where answers are shared all are told.
    fn invalidate_alone(&self, url: &Aim) {
        let others = self.others.get().filter(|_| self.second.is_some());
        match others {
            None => self.forget(url, false),
            Some(others) => {
                let untold = self.forget_untold(others, url, false);
                others.tell_changed(self, url.clone(), untold);
            }
        }
    }

    /// Purges in this process what others are to be told of.
    fn forget_untold(&self, others: &PurgesShared, aim: &Aim, soft: bool) -> Untold {
        // The marks are there before the moment, or there would be nothing to write it into.
        let untold = others.announce(self.purges.hold(aim), || {
            let at = self.stamp();
            self.purges.purge(aim, soft, at);
            at
        });
        self.let_go(aim, soft);
        untold
    }

    /// Counts a purge that somebody has asked for.
    pub(super) fn count_purge(&self) {
        self.metrics.cache_purged();
    }

    /// Does what [`purge`](Self::purge) does, in this process alone.
    pub(super) fn forget(&self, aim: &Aim, soft: bool) {
        self.forget_at(aim, soft, self.stamp());
    }

    /// The same at a moment, which must not be behind now.
    pub(super) fn forget_at(&self, aim: &Aim, soft: bool, at: Stamp) {
        self.purges.purge(aim, soft, at);
        self.let_go(aim, soft);
    }

    /// Frees the memory of what has been purged, where that is everything: nothing of it can be served
    /// any more.
    fn let_go(&self, aim: &Aim, soft: bool) {
        if *aim == Aim::Everything && !soft {
            self.store.clear();
        }
    }

    /// What it holds.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        // Bodies that had to make room are in memory as long as somebody reads them.
        let stored = self.store.weight().max(self.budget.bodies().bytes());
        let waiting = self.others.get().map_or(0, PurgesShared::bytes);
        CacheFigures {
            memory: self.memory,
            used: stored + self.budget.used() + self.purges.weight() + waiting,
            objects: self.store.len() as u64,
            evictions: self.store.evicted(),
            fetches: self.flights.len() as u64,
            bans: self.purges.bans() as u64,
            redis: self.second.as_ref().map(|second| second.figures()),
        }
    }

    /// Ends the fetches under way, and waits for that. Nobody reads them any more when a drain is
    /// over, and what they would store goes with the process.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs a task on the worker of who asked for it; it is ended by [`stop`](Self::stop).
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Boxed before it is wrapped: each wrapper has room for what it was given and for what it polls,
        // and a fetch of 8 KiB became one of 33, moved four times.
        let task = Box::pin(task);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _ = stop.run_until_cancelled_owned(task).await;
        });
    }

    /// Runs a fetch so. When nobody waits for it or reads it any more it goes on in a place, which one
    /// that begins without a client has from the beginning, and ends when that is needed by another, or at
    /// once where there is none for it.
    pub(super) fn spawn_fetch(
        &self,
        fill: &Arc<Fill<Outcome>>,
        place: Option<Place>,
        fetch: impl Future<Output = ()> + Send + 'static,
    ) {
        let (fill, places) = (Arc::clone(fill), Arc::clone(&self.places));
        let fetch = Box::pin(fetch);
        self.spawn(async move {
            tokio::select! {
                biased;
                () = fetch => {}
                () = fill.forsaken(&places, place) => {}
            }
        });
    }

    /// Now, as purges count.
    pub(super) fn stamp(&self) -> Stamp {
        stamp(self.clock.now())
    }

    /// Now, on the wall clock.
    pub(super) fn moment(&self) -> Moment {
        Moment::from(self.clock.wall())
    }

    /// When a moment of purges was, on the wall clock.
    pub(super) fn moment_at(&self, at: Stamp) -> Moment {
        let ago = self.stamp().saturating_sub(at) / NANOS_PER_MILLI;
        Moment::from_millis(self.moment().millis().saturating_sub(ago))
    }

    /// Looks for what a request selects under a key.
    pub(super) fn look(&self, key: &Sought, request: &HeaderMap, now: (Moment, Stamp)) -> Stored {
        let Some(shelf) = self.store.find(key) else {
            return Stored::Nothing;
        };
        let Some((index, facts)) = self.selected(&shelf, request, now) else {
            return self.unselected(&shelf, now);
        };
        let found = shelf.take(index).map(|object| Found::of(object, facts));
        found.map_or(Stored::Nothing, Stored::Found)
    }

    /// Which variant a request selects.
    fn selected(
        &self,
        shelf: &Shelf<Object>,
        request: &HeaderMap,
        now: (Moment, Stamp),
    ) -> Option<(usize, Facts)> {
        // Most variants vary by the same fields, whose values need be read but once.
        let mut read: Option<(&Nominated, VariantKey)> = None;
        for (index, object) in shelf.variants().iter().enumerate() {
            let nominated = &object.draft.nominated;
            if !nominated.is_empty() {
                let known = read.take().filter(|(names, _)| *names == nominated);
                let (_, key) =
                    read.insert(known.unwrap_or_else(|| (nominated, nominated.key(request))));
                if *key != object.draft.variant {
                    continue;
                }
            }
            if let Some(facts) = object.facts(&self.purges, now) {
                // One that does not vary has no others to give way to.
                if !nominated.is_empty() {
                    object.ask(now.1);
                }
                return Some((index, facts));
            }
        }
        None
    }

    /// What there is besides what a request selects.
    fn unselected(&self, shelf: &Shelf<Object>, now: (Moment, Stamp)) -> Stored {
        let stands = |object: &Arc<Object>| object.facts(&self.purges, now).is_some();
        match shelf.variants() {
            [] => Stored::Nothing,
            [newest, ..] if shelf.variants().iter().any(stands) => {
                Stored::Others(Arc::clone(newest))
            }
            [newest, ..] => Stored::Purged(Arc::clone(newest)),
        }
    }

    /// Whether a purge has reached an answer since its fetch began.
    pub(super) fn is_gone(&self, object: &Object) -> bool {
        object.is_gone(&self.purges)
    }

    /// Stores a whole answer, unless a purge has reached it since its fetch began.
    pub(super) fn put(&self, object: &Arc<Object>) {
        if self.is_gone(object) {
            return;
        }
        let replaces = |known: &Object| object.draft.replaces(&known.draft);
        let has_to_go = |known: &Object| known.is_outdated() || self.is_gone(known);
        // A purge that comes from here on reaches it where it stands.
        self.store.put(object, replaces, has_to_go);
    }

    /// The fetch under way for this that will do for who asks now, if somebody makes one.
    pub(super) fn under_way(&self, id: &Id) -> Option<Arc<Flight<Outcome>>> {
        let flight = self.flights.under_way(id)?;
        self.will_do(&flight).then_some(flight)
    }

    /// Whether who asks now may wait for a fetch: no purge has come since it began.
    pub(super) fn will_do(&self, flight: &Flight<Outcome>) -> bool {
        let none = AtomicU64::new(0);
        // Of its tags one knows when its head is there.
        let settled = flight.fill.settled();
        let marks = match &settled {
            Some(Outcome::Storing(draft)) => &draft.origin.marks,
            Some(Outcome::Refreshed(object)) => &object.draft.origin.marks,
            Some(Outcome::Brought(found)) => &found.object.draft.origin.marks,
            _ => &flight.marks,
        };
        self.purges.reached(marks, flight.began, &none) == Reached::No
    }
}

/// How many fetches may go on without their clients.
fn places(memory: u64) -> usize {
    let places = (memory / BYTES_PER_PLACE).clamp(FEWEST_PLACES, MOST_PLACES);
    places as usize
}

/// A moment as purges count.
pub(super) fn stamp(since_origin: Duration) -> Stamp {
    // Never the zero that stands for no purge.
    u64::try_from(since_origin.as_nanos())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// One fetch that goes on without its client for each so many bytes of memory.
const BYTES_PER_PLACE: u64 = 256 << 10;
const FEWEST_PLACES: u64 = 16;
const MOST_PLACES: u64 = 4096;
const NANOS_PER_MILLI: u64 = 1_000_000;
/// The part of the memory that fetches under way may hold, as a divisor: as much as one answer.
const SHARE_OF_FETCHES: u64 = 4;
