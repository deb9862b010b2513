//! Places in flight that are counted in Redis: for how long each counts, who says that it is held on, and
//! who that it is not.
//!
//! Whoever holds a place may die without a word. So each lapses, unless the process that holds it tells of it
//! again before that. What Redis has lost, or has not heard of while it was away, it hears of then.

use std::{
    collections::HashMap,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use redis::{Cmd, Value};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Lane, Redis, Sending,
    quota::{SharedAlgorithm, write_name},
};
use crate::store::KeyHash;

/// A place of a limit that a request takes. Its last owner gives it back: whoever asks for it has to be one
/// until there is an answer, or it would be given back before it was taken.
pub struct Place {
    redis: Arc<Redis>,
    worker: usize,
    name: u64,
    is_void: AtomicBool,
    /// Until Redis has heard that it is given back.
    token: TaskTrackerToken,
}

/// What a worker's requests hold.
#[derive(Default)]
pub(super) struct Places {
    held: HashMap<u64, Seat>,
    /// Whether a task tells of them.
    is_kept: bool,
}

/// Where a place is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    limit: Arc<str>,
    key: KeyHash,
}

/// The task that tells of a worker's places. Where it ends with its runtime, the next place has another.
struct Keeper {
    redis: Arc<Redis>,
    worker: usize,
}

impl Place {
    /// What it is called in Redis.
    #[must_use]
    pub fn name(&self) -> u64 {
        self.name
    }

    /// Redis has not given it: there is nothing to give back.
    pub fn refused(&self) {
        self.is_void.store(true, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = self.redis.lock_places(self.worker).held.remove(&self.name);
        let Some(seat) = seat.filter(|_| !self.is_void.load(Relaxed)) else {
            return;
        };
        // What ends with its runtime lapses.
        if let Ok(runtime) = Handle::try_current() {
            let (redis, worker, name) = (Arc::clone(&self.redis), self.worker, self.name);
            let token = self.token.clone();
            runtime.spawn(async move {
                redis.leave(worker, &seat, name).await;
                drop(token);
            });
        }
    }
}

impl Redis {
    /// A place that a request of a worker is about to take of a limit's key. On that worker's runtime.
    #[must_use]
    pub fn place(self: &Arc<Self>, worker: usize, limit: &Arc<str>, key: KeyHash) -> Arc<Place> {
        let name = fastrand::u64(..);
        let limit = Arc::clone(limit);
        let mut places = self.lock_places(worker);
        places.held.insert(name, Seat { limit, key });
        if !std::mem::replace(&mut places.is_kept, true) {
            let redis = Arc::clone(self);
            tokio::spawn(Keeper { redis, worker }.run());
        }
        drop(places);
        Arc::new(Place {
            redis: Arc::clone(self),
            worker,
            name,
            is_void: AtomicBool::new(false),
            token: self.taken.token(),
        })
    }

    /// Resolves when all places have been given back and Redis has heard of it, or has had its time for that.
    /// For a process that ends.
    pub async fn all_given_back(&self) {
        self.taken.close();
        // What it has not heard of lapses.
        let _ = timeout(self.timeout, self.taken.wait()).await;
    }

    /// Tells of all places that the worker's requests hold; `false` when there are none, and nobody tells
    /// of the next one.
    async fn tell_of_places(self: &Arc<Self>, worker: usize) -> bool {
        let mut held = {
            let mut places = self.lock_places(worker);
            places.is_kept = !places.held.is_empty();
            let held = places.held.iter();
            held.map(|(&name, seat)| (seat.clone(), name))
                .collect::<Vec<_>>()
        };
        if held.is_empty() {
            return false;
        }
        // A call reaches one key of a cluster.
        let parts: Vec<_> = if self.has_slots() {
            held.sort_unstable();
            let keys = held.chunk_by(|one, other| one.0.key == other.0.key);
            keys.flat_map(|places| places.chunks(MOST)).collect()
        } else {
            held.chunks(MOST).collect()
        };
        let telling = stream::iter(parts);
        telling
            .for_each_concurrent(AT_ONCE, |places| self.tell_of(worker, places))
            .await;
        true
    }

    /// Tells of a few. Those that have been given back meanwhile are given back behind that: which of the
    /// two Redis has heard first is not known.
    async fn tell_of(self: &Arc<Self>, worker: usize, places: &[(Seat, u64)]) {
        let push = |command: &mut Cmd| self.push_places(command, places);
        let (script, lane) = (&self.scripts.places, Lane::Counts);
        // A failure is counted; there is nobody who could do anything about it until the next time.
        let told = self.call(lane, worker, script, Sending::ALONE, push).await;
        match told {
            Ok(Value::Int(_)) => self.succeeded(lane),
            Ok(_) => drop(self.garbage_on(lane, 1)),
            Err(_) => {}
        }
        for (seat, name) in places {
            let is_held = self.lock_places(worker).held.contains_key(name);
            if !is_held {
                self.leave(worker, seat, *name).await;
            }
        }
    }

    fn push_places(&self, command: &mut Cmd, places: &[(Seat, u64)]) {
        command.arg(places.len());
        for (seat, _) in places {
            command.arg(self.key_of(seat));
        }
        command.arg(LAPSE_MICROS);
        for (_, name) in places {
            command.arg(&name.to_be_bytes());
        }
    }

    /// Gives a place back. One of which Redis does not hear it lapses.
    async fn leave(self: &Arc<Self>, worker: usize, seat: &Seat, name: u64) {
        let mut remove = redis::cmd("ZREM");
        remove.arg(self.key_of(seat)).arg(&name.to_be_bytes());
        if let Ok(value) = self.ask(worker, &remove).await
            && !matches!(value, Value::Int(_))
        {
            self.garbage_on(Lane::Counts, 1);
        }
    }

    fn key_of(&self, seat: &Seat) -> Vec<u8> {
        let mut key = Vec::new();
        let name = (&*seat.limit, seat.key, SharedAlgorithm::InFlight);
        write_name(&mut key, self.prefix(), name);
        key
    }

    fn lock_places(&self, worker: usize) -> MutexGuard<'_, Places> {
        let places = &self.places[worker.min(self.places.len() - 1)];
        places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    async fn run(self) {
        loop {
            sleep(TOLD).await;
            if !self.redis.tell_of_places(self.worker).await {
                return;
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.redis.lock_places(self.worker).is_kept = false;
    }
}

/// How long a place counts that nobody tells of again.
const LAPSE: Duration = Duration::from_secs(30);
pub(super) const LAPSE_MICROS: u64 = LAPSE.as_secs() * 1_000_000;
/// How often places are told of again: twice in vain is not too late yet.
const TOLD: Duration = Duration::from_secs(10);
/// Places of a call, some 5 us of Redis each; and calls at once.
const MOST: usize = 100;
const AT_ONCE: usize = 4;

#[cfg(test)]
mod tests;
