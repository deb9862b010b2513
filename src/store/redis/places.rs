//! Places in flight that are counted in Redis: for how long each counts, who says that it is held on, and
//! who that it is not.
//!
//! Whoever holds a place may die without a word. So each lapses, unless the process that holds it tells of it
//! again before that. A task of each worker does so, and gives back what its requests have left, many at a
//! time. What Redis could not be told of while it was away it is told of when it is back.
//!
//! One task does both, one after the other: which of two calls Redis hears first is known then, and no place
//! is told of behind its end.

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use redis::{Cmd, Value};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Lane, Redis, Sending,
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
    token: TaskTrackerToken,
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
    /// What Redis has given, or may have given.
    held: HashMap<u64, Seat, BuildHasherDefault<Hashed>>,
    /// What it is to be given back.
    owed: Vec<Owed>,
    /// Whether a task sees to all that.
    is_kept: bool,
}

/// A place that nobody holds any more.
struct Owed {
    seat: Seat,
    name: u64,
    /// When it has lapsed by itself.
    until: Instant,
    /// Until Redis has heard of it.
    _token: TaskTrackerToken,
}

/// The task that sees to a worker's places. Where it ends with its runtime, the next place has another.
struct Keeper {
    redis: Arc<Redis>,
    worker: usize,
    /// How often it tells of them.
    every: Duration,
}

impl Place {
    /// What it is called in Redis.
    #[must_use]
    pub fn name(&self) -> u64 {
        self.name
    }

    /// Redis has given it, or has not answered and may have. From now on it is told of.
    pub fn given(&self) {
        let hold = |state: &mut State| drop(state.held.insert(self.name, self.seat.clone()));
        self.redis.change_places(self.worker, hold);
    }

    /// Redis has not given it: there is nothing to give back.
    pub fn refused(&self) {
        self.is_refused.store(true, Relaxed);
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
            _token: self.token.clone(),
        };
        let leave = |state: &mut State| {
            state.held.remove(&self.name);
            // What is over that lapses.
            if state.owed.len() < MOST_OWED {
                state.owed.push(owed);
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
            token: self.unreturned.token(),
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

    /// Changes what a worker's requests hold, and has a task see to it.
    fn change_places(self: &Arc<Self>, worker: usize, change: impl FnOnce(&mut State)) {
        // Where there is no runtime any more the process ends.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let is_kept = {
            let mut state = self.places(worker).locked();
            change(&mut state);
            std::mem::replace(&mut state.is_kept, true)
        };
        if !is_kept {
            let redis = Arc::clone(self);
            let every = TOLD;
            let keeper = Keeper {
                redis,
                worker,
                every,
            };
            runtime.spawn(keeper.run());
        }
    }

    /// Gives back all that is owed; whether Redis has heard of all of it.
    async fn give_back_places(self: &Arc<Self>, worker: usize) -> bool {
        let now = Instant::now();
        let owed = std::mem::take(&mut self.places(worker).locked().owed);
        let named = owed.iter().filter(|owed| owed.until > now);
        let named = named.map(|owed| (owed.seat.clone(), owed.name)).collect();
        let unheard = self.say_all(worker, named, Duration::ZERO).await;
        if unheard.is_empty() {
            return true;
        }
        let mut state = self.places(worker).locked();
        let still = owed.into_iter().filter(|it| unheard.contains(&it.name));
        let room = MOST_OWED.saturating_sub(state.owed.len());
        state.owed.extend(still.take(room));
        false
    }

    /// Tells of all places that the worker's requests hold; whether Redis has heard of all of them.
    async fn tell_of_places(self: &Arc<Self>, worker: usize) -> bool {
        let named: Vec<Named> = {
            let state = self.places(worker).locked();
            let held = state.held.iter();
            held.map(|(&name, seat)| (seat.clone(), name)).collect()
        };
        let mut is_heard = true;
        for some in named.chunks(TOLD_AT_ONCE) {
            let still = {
                let state = self.places(worker).locked();
                let is_held = |(_, name): &&Named| state.held.contains_key(name);
                some.iter().filter(is_held).cloned().collect()
            };
            is_heard &= self.say_all(worker, still, LAPSE).await.is_empty();
            // Nobody waits for a place until all others have been told of.
            is_heard &= self.give_back_places(worker).await;
        }
        is_heard
    }

    /// Says of places that each counts so long from now on, or not any more; of which Redis has not heard.
    async fn say_all(
        self: &Arc<Self>,
        worker: usize,
        mut places: Vec<Named>,
        long: Duration,
    ) -> HashSet<u64> {
        places.sort_unstable();
        // A call reaches one key of a cluster, whose nodes have one part each.
        let (parts, at_once): (Vec<_>, _) = if self.has_slots() {
            let keys = places.chunk_by(|(one, _), (other, _)| one.key == other.key);
            (keys.flat_map(|it| it.chunks(MOST)).collect(), MOST)
        } else {
            (places.chunks(MOST).collect(), AT_ONCE)
        };
        let mut saying = Vec::with_capacity(parts.len());
        for part in parts {
            saying.push(self.say(worker, part, long));
        }
        let mut saying = stream::iter(saying).buffer_unordered(at_once);
        let mut unheard = HashSet::new();
        while let Some(said) = saying.next().await {
            let part = said.err().unwrap_or_default();
            unheard.extend(part.iter().map(|(_, name)| *name));
        }
        unheard
    }

    /// The same in one call.
    ///
    /// # Errors
    ///
    /// The places, where Redis has not heard of them.
    async fn say<'p>(
        self: &Arc<Self>,
        worker: usize,
        places: &'p [Named],
        long: Duration,
    ) -> Result<(), &'p [Named]> {
        let push = |command: &mut Cmd| self.push_places(command, places, long);
        let (script, lane) = (&self.scripts.places, Lane::Counts);
        // Nothing is made for a Redis that is away.
        if self.way(lane).breaker.is_open() {
            return Err(places);
        }
        let said = self.call(lane, worker, script, Sending::ALONE, push).await;
        match said {
            Ok(Value::Int(_)) => {
                self.succeeded(lane);
                Ok(())
            }
            Ok(_) => {
                self.garbage_on(lane, 1);
                Err(places)
            }
            Err(_) => Err(places),
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
        state.is_kept = !state.held.is_empty() || !state.owed.is_empty();
        !state.is_kept
    }
}

impl Keeper {
    async fn run(self) {
        let (redis, worker) = (&self.redis, self.worker);
        let places = redis.places(worker);
        let mut due = Instant::now() + self.every;
        while !places.is_over() {
            let began = Instant::now();
            let mut is_heard = redis.give_back_places(worker).await;
            if began >= due {
                is_heard &= redis.tell_of_places(worker).await;
                due = began + self.every;
            }
            if is_heard {
                // Who has left meanwhile has left a note.
                let _ = timeout_at(due, places.left.notified()).await;
            } else {
                // When it is back it may have lost all.
                due = due.min(began + TOLD_AGAIN);
                sleep(AGAIN).await;
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.redis.places(self.worker).locked().is_kept = false;
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
/// How long Redis is left alone behind a try that came to nothing, and how long at least until it is told of
/// all places then.
const AGAIN: Duration = Duration::from_millis(250);
const TOLD_AGAIN: Duration = Duration::from_secs(1);
/// Places of a call, 5 to 10 us of Redis each; and calls at once, where each has so many.
const MOST: usize = 100;
const AT_ONCE: usize = 4;
/// Places that are told of until those that have been left meanwhile are given back.
const TOLD_AT_ONCE: usize = AT_ONCE * MOST;
/// Places that a worker gives back later, where Redis is away: some 10 MiB. Those beyond lapse.
const MOST_OWED: usize = 100_000;
/// How long a process that ends waits for Redis.
const LONGEST_END: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
