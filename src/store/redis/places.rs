//! Places in flight that are counted in Redis: for how long each counts, who says that it is held on, and
//! who that it is not.
//!
//! Whoever holds a place may die without a word. So each lapses, unless the process that holds it tells of it
//! again before that. A task of each worker does so, and gives back what its requests have left, many at a
//! time. What Redis could not be told of while it was away it is told of when it is back.
//!
//! One task does both, one after the other: which of two calls that Redis answers it has heard first is known
//! then, and no place is told of behind its end.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use redis::{Cmd, Value};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Away, Lane, Redis, Sending,
    breaker::MOST_FAILURES,
    quota::{SharedAlgorithm, write_name},
};
use crate::store::{Hashed, KeyHash};

/// A place of a limit that a request takes. Its last owner gives it back: whoever asks for it has to be one
/// until there is an answer, or it would be given back before it was taken.
pub struct Place {
    redis: Arc<Redis>,
    worker: usize,
    name: u64,
    seat: Seat,
    is_refused: AtomicBool,
    token: Option<TaskTrackerToken>,
}

/// Where a place is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    // In this order those of one key, which a call reaches in a cluster, come together.
    pub(super) key: KeyHash,
    pub(super) limit: Arc<str>,
}

pub(super) type Named = (Seat, u64);

/// What a worker's requests hold, and have held.
#[derive(Default)]
pub(super) struct Places {
    state: Mutex<State>,
    /// Something is to be given back.
    left: Notify,
}

#[derive(Default)]
struct State {
    held: HashMap<u64, Held, BuildHasherDefault<Hashed>>,
    /// What Redis is to be given back, and that of which it has not heard.
    owed: VecDeque<Owed>,
    again: Vec<Owed>,
    /// Whether a task sees to all that.
    is_kept: bool,
}

/// A place that a request holds.
struct Held {
    seat: Seat,
    /// Whether Redis may know of it.
    is_known: bool,
}

/// A place that nobody holds any more.
struct Owed {
    seat: Seat,
    name: u64,
    /// When it has lapsed by itself.
    until: Instant,
    /// Until Redis has heard of it.
    _token: Option<TaskTrackerToken>,
}

/// Names of places, which are random.
type Names = HashSet<u64, BuildHasherDefault<Hashed>>;

/// The task that sees to a worker's places. Where it ends with its runtime, the next place has another.
struct Keeper {
    redis: Arc<Redis>,
    worker: usize,
    /// How often it tells of them.
    every: Duration,
    /// Whether it has ended, and another may see to them already.
    is_over: bool,
}

impl Place {
    /// What it is called in Redis.
    #[must_use]
    pub fn name(&self) -> u64 {
        self.name
    }

    /// Redis has given it, or has not answered and may have.
    pub fn given(&self) {
        self.hold(true);
    }

    /// It is held, and Redis was not asked: it is to be told when it is back.
    pub fn unasked(&self) {
        self.hold(false);
    }

    /// Redis has not given it: there is nothing to give back.
    pub fn refused(&self) {
        self.is_refused.store(true, Relaxed);
    }

    fn hold(&self, is_known: bool) {
        let seat = self.seat.clone();
        let held = Held { seat, is_known };
        let hold = |state: &mut State| drop(state.held.insert(self.name, held));
        self.redis.change_places(self.worker, hold);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_refused.load(Relaxed) {
            return;
        }
        let owed = Owed {
            seat: self.seat.clone(),
            name: self.name,
            until: Instant::now() + LAPSE,
            _token: self.token.take(),
        };
        let leave = |state: &mut State| {
            let held = state.held.remove(&self.name);
            let is_unknown = held.is_some_and(|held| !held.is_known);
            // What is over that lapses.
            if !is_unknown && state.owed.len() < MOST_OWED {
                state.owed.push_back(owed);
            }
        };
        self.redis.change_places(self.worker, leave);
        self.redis.places(self.worker).left.notify_one();
    }
}

impl Redis {
    /// A place that a request of a worker is about to take of a limit's key.
    #[must_use]
    pub fn place(self: &Arc<Self>, worker: usize, limit: &Arc<str>, key: KeyHash) -> Arc<Place> {
        let limit = Arc::clone(limit);
        Arc::new(Place {
            redis: Arc::clone(self),
            worker,
            name: fastrand::u64(..),
            seat: Seat { key, limit },
            is_refused: AtomicBool::new(false),
            token: Some(self.unreturned.token()),
        })
    }

    /// Resolves when all places have been given back and Redis has heard of it, or has had its time for that.
    /// For a process that ends.
    pub async fn all_given_back(&self) {
        self.unreturned.close();
        // What it does not hear of lapses.
        if !self.way(Lane::Counts).breaker.is_open() {
            let _ = timeout(LONGEST_END, self.unreturned.wait()).await;
        }
    }

    /// Has the tasks look at their places, now that Redis is back.
    pub(super) fn wake_keepers(&self) {
        for places in &self.places {
            places.left.notify_one();
        }
    }

    /// Changes what a worker's requests hold, and has a task see to it.
    fn change_places(self: &Arc<Self>, worker: usize, change: impl FnOnce(&mut State)) {
        // Where there is none any more the process ends.
        let runtime = Handle::try_current().ok();
        let is_kept = {
            let mut state = self.places(worker).locked();
            change(&mut state);
            let is_kept = state.is_kept;
            state.is_kept |= runtime.is_some();
            is_kept
        };
        if let (false, Some(runtime)) = (is_kept, runtime) {
            let redis = Arc::clone(self);
            runtime.spawn(Keeper::new(redis, worker, TOLD).run());
        }
    }

    /// Gives back what is owed now. What Redis does not hear of is to be tried again.
    async fn give_back_places(self: &Arc<Self>, worker: usize) {
        let places = self.places(worker);
        let mut left = places.locked().owed.len();
        let until = Instant::now() + LONGEST_PASS;
        while left > 0 && Instant::now() < until && !self.way(Lane::Counts).breaker.is_open() {
            let mut some = places.next_owed(left.min(SAID_AT_ONCE));
            left = left.saturating_sub(SAID_AT_ONCE);
            let named = some.iter().map(|owed| (owed.seat.clone(), owed.name));
            let unheard = self.say_all(worker, named.collect(), Duration::ZERO).await;
            some.retain(|owed| unheard.contains(&owed.name));
            places.locked().again.append(&mut some);
            // What comes to nothing waits for nothing.
            yield_now().await;
        }
        if left > 0 {
            // It does not wait until places are told of.
            places.left.notify_one();
        }
    }

    /// Tells of the places that the worker's requests hold, of all or of these; of which Redis has not heard.
    async fn tell_of_places(self: &Arc<Self>, worker: usize, these: Option<&Names>) -> Names {
        let named: Vec<Named> = {
            let state = self.places(worker).locked();
            let held = state.held.iter();
            let held = held.filter(|(name, _)| these.is_none_or(|these| these.contains(name)));
            held.map(|(&name, held)| (held.seat.clone(), name))
                .collect()
        };
        let mut unheard = Names::default();
        for some in named.chunks(SAID_AT_ONCE) {
            let still = self.places(worker).still_held(some);
            unheard.extend(self.say_all(worker, still, LAPSE).await);
            // Nobody waits for a place until all others have been told of.
            self.give_back_places(worker).await;
            yield_now().await;
        }
        unheard
    }

    /// Says of places that each counts so long from now on, or not any more; of which Redis has not heard.
    async fn say_all(
        self: &Arc<Self>,
        worker: usize,
        mut places: Vec<Named>,
        long: Duration,
    ) -> Names {
        places.sort_unstable();
        let parts: Vec<_> = match self.has_slots() {
            // A call reaches one key.
            true => {
                let keys = places.chunk_by(|(one, _), (other, _)| one.key == other.key);
                keys.flat_map(|it| it.chunks(MOST)).collect()
            }
            false => places.chunks(MOST).collect(),
        };
        let at_once = match self.has_slots() {
            true => KEYS_AT_ONCE,
            false => AT_ONCE,
        };
        let mut unheard: Names = places.iter().map(|(_, name)| *name).collect();
        let mut why = None;
        for some in parts.chunks(at_once) {
            let saying = some.iter().enumerate().map(|(index, part)| {
                // One round that is too late does not open the breaker.
                let is_weighed = !self.is_cluster() && index < AT_ONCE;
                self.say(worker, part, (long, u32::from(is_weighed)))
            });
            for (part, said) in some.iter().zip(join_all(saying).await) {
                match said {
                    Ok(()) => {
                        for (_, name) in part.iter() {
                            unheard.remove(name);
                        }
                    }
                    Err(away) if why.is_none_or(|why| why == Away::Open) => why = Some(away),
                    Err(_) => {}
                }
            }
            // One server that has not heard some hears no others.
            if why.is_some() && !self.is_cluster() {
                break;
            }
        }
        if let Some(away) = why.filter(|away| self.is_cluster() && *away != Away::Open) {
            // Once, however many keys of however many nodes that was about.
            self.count_error(away);
        }
        unheard
    }

    /// The same in one call.
    async fn say(
        self: &Arc<Self>,
        worker: usize,
        places: &[Named],
        (long, requests): (Duration, u32),
    ) -> Result<(), Away> {
        let push = |command: &mut Cmd| self.push_places(command, places, long);
        let (script, lane) = (&self.scripts.places, Lane::Counts);
        // Nothing is made for a Redis that is away.
        if self.way(lane).breaker.is_open() {
            return Err(Away::Open);
        }
        let sending = Sending {
            requests,
            again: true,
        };
        match self.call(lane, worker, script, sending, push).await? {
            Value::Int(_) => {
                // A full server takes places back, and gives none.
                if !long.is_zero() {
                    self.succeeded(lane);
                }
                Ok(())
            }
            _ => Err(self.garbage_on(lane, requests)),
        }
    }

    pub(super) fn push_places(&self, command: &mut Cmd, places: &[Named], long: Duration) {
        command.arg(places.len());
        for (seat, _) in places {
            command.arg(self.key_of(seat));
        }
        command.arg(micros(long));
        for (_, name) in places {
            command.arg(&name.to_be_bytes());
        }
    }

    fn key_of(&self, seat: &Seat) -> Vec<u8> {
        let mut key = Vec::new();
        let name = (&*seat.limit, seat.key, SharedAlgorithm::InFlight);
        write_name(&mut key, self.prefix(), name);
        key
    }

    fn places(&self, worker: usize) -> &Places {
        // There is one at least.
        &self.places[worker.min(self.places.len() - 1)]
    }
}

impl Places {
    fn locked(&self) -> MutexGuard<'_, State> {
        // Whole after a panic elsewhere: each change is one insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is nothing to see to any more. Who comes next has another task.
    fn is_over(&self) -> bool {
        let mut state = self.locked();
        state.is_kept = !(state.held.is_empty() && state.owed.is_empty() && state.again.is_empty());
        !state.is_kept
    }

    /// Takes the first of what is owed. What has lapsed meanwhile is none of it.
    fn next_owed(&self, count: usize) -> Vec<Owed> {
        let now = Instant::now();
        let mut state = self.locked();
        let count = count.min(state.owed.len());
        let next = state.owed.drain(..count).filter(|owed| owed.until > now);
        let next = next.collect();
        if state.owed.is_empty() {
            // An outage may have made it large.
            state.owed = VecDeque::new();
        }
        next
    }

    /// Those of some that are held still. From now on Redis may know of them.
    fn still_held(&self, some: &[Named]) -> Vec<Named> {
        let mut state = self.locked();
        let mut still = Vec::with_capacity(some.len());
        for named in some {
            if let Some(held) = state.held.get_mut(&named.1) {
                held.is_known = true;
                still.push(named.clone());
            }
        }
        still
    }

    /// Nobody need hear of what has lapsed.
    fn forget_lapsed(&self) {
        let (now, mut state) = (Instant::now(), self.locked());
        state.owed.retain(|owed| owed.until > now);
        state.again.retain(|owed| owed.until > now);
    }

    /// Whether Redis may know of all that is held.
    fn is_all_known(&self) -> bool {
        self.locked().held.values().all(|held| held.is_known)
    }

    /// Whether Redis has heard of all that was given back.
    fn is_all_heard(&self) -> bool {
        self.locked().again.is_empty()
    }

    /// Has what Redis has not heard of given back once more, behind all else.
    fn try_again(&self) {
        let mut state = self.locked();
        let again = std::mem::take(&mut state.again);
        let room = MOST_OWED.saturating_sub(state.owed.len());
        state.owed.extend(again.into_iter().take(room));
    }
}

impl Keeper {
    fn new(redis: Arc<Redis>, worker: usize, every: Duration) -> Self {
        Self {
            redis,
            worker,
            every,
            is_over: false,
        }
    }

    async fn run(mut self) {
        let (redis, worker) = (Arc::clone(&self.redis), self.worker);
        let places = redis.places(worker);
        let way = redis.way(Lane::Counts);
        let mut due = Instant::now() + self.every;
        // Since when it has been told of all; none, where it was away or was not asked.
        let mut told = places.is_all_known().then(|| way.generation.load(Relaxed));
        let (mut unheard, mut again) = (Names::default(), AGAIN);
        while !places.is_over() {
            if way.breaker.is_open() {
                (told, again) = (None, AGAIN);
                sleep(AGAIN).await;
                places.forget_lapsed();
                continue;
            }
            let began = Instant::now();
            let (is_due, latest) = (began >= due, Some(way.generation.load(Relaxed)));
            redis.give_back_places(worker).await;
            // One that was away may have lost all.
            if is_due || latest != told {
                unheard = redis.tell_of_places(worker, None).await;
                (due, told) = (began + self.every, latest);
            } else if !unheard.is_empty() {
                unheard = redis.tell_of_places(worker, Some(&unheard)).await;
            }
            if unheard.is_empty() && places.is_all_heard() && !way.breaker.is_open() {
                again = AGAIN;
                // Who has left meanwhile has left a note.
                let _ = timeout_at(due, places.left.notified()).await;
            } else {
                sleep(again).await;
                // Of a cluster other nodes are to hear meanwhile of what is left.
                if !redis.is_cluster() {
                    again = (2 * again).min(LONGEST_AGAIN);
                }
                places.try_again();
            }
        }
        self.is_over = true;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !self.is_over {
            self.redis.places(self.worker).locked().is_kept = false;
        }
    }
}

const fn micros(long: Duration) -> u64 {
    long.as_secs() * 1_000_000
}

/// How long a place counts that nobody tells of again.
pub(super) const LAPSE: Duration = Duration::from_secs(30);
pub(super) const LAPSE_MICROS: u64 = micros(LAPSE);
/// How often places are told of again: where that comes to nothing, there is time for many tries more.
const TOLD: Duration = Duration::from_secs(8);
const _: () = assert!(3 * TOLD.as_secs() < LAPSE.as_secs());
/// How long Redis is left alone behind a try that came to nothing: longer each time.
const AGAIN: Duration = Duration::from_millis(250);
const LONGEST_AGAIN: Duration = Duration::from_secs(1);
/// Places of a call, 5 to 10 us of Redis each, and calls at once: fewer than open the breaker.
const MOST: usize = 100;
const AT_ONCE: usize = 4;
const _: () = assert!((AT_ONCE as u32) < MOST_FAILURES);
/// Where each is about one key.
const KEYS_AT_ONCE: usize = 16;
/// Places that are gone through at once.
const SAID_AT_ONCE: usize = AT_ONCE * MOST;
/// How long giving back may keep others from being told of.
const LONGEST_PASS: Duration = Duration::from_millis(500);
/// Places that a worker gives back later, where Redis is away: some 10 MiB. Those beyond lapse.
const MOST_OWED: usize = 100_000;
/// How long a process that ends waits for Redis.
const LONGEST_END: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
