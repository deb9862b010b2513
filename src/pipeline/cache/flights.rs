//! The fetches under way, by what they are for: who asks for the same joins in.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    fill::Fill,
    found::Found,
    key::Key,
    purge::{Marks, Stamp},
};

/// All fetches under way.
#[derive(Debug)]
pub(super) struct Flights<T> {
    hasher: RandomState,
    shards: Box<[Shard<T>]>,
}

type Shard<T> = Mutex<HashMap<Id, Arc<Flight<T>>>>;

/// What a fetch is for: a key, and the variant as far as one can tell before the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    /// The first level of the key.
    pub(super) key: Key,
    /// A digest of what known variants are told apart by.
    pub(super) variant: u64,
}

/// One fetch under way.
#[derive(Debug)]
pub(super) struct Flight<T> {
    /// Its answer.
    pub(super) fill: Arc<Fill<T>>,
    /// When it began.
    pub(super) began: Stamp,
    /// What its answer can be purged by, as far as one knows before the head.
    pub(super) marks: Marks,
    /// What has been found elsewhere to be validated, or served in the place of a failure.
    pub(super) stale: OnceLock<Found>,
}

/// What a request has to do.
pub(super) enum Role<T> {
    /// Fetch; others may join until the ticket is dropped.
    Lead(Arc<Flight<T>>, Ticket<T>),
    /// Wait for another's.
    Follow(Arc<Flight<T>>),
}

/// A fetch's place among those under way.
pub(super) struct Ticket<T> {
    flights: Arc<Flights<T>>,
    id: Id,
    flight: Arc<Flight<T>>,
}

impl<T> Flights<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    /// Joins the fetch for the same, if there is one that will do; else a new one takes its place, unless `begin` has
    /// something instead: what a fetch that has ended has brought can be seen then. It is called under a lock.
    pub(super) fn join<I>(
        self: &Arc<Self>,
        id: Id,
        will_do: impl FnOnce(&Flight<T>) -> bool,
        begin: impl FnOnce() -> Result<Flight<T>, I>,
    ) -> Result<Role<T>, I> {
        let mut shard = self.shard(&id);
        if let Some(flight) = shard.get(&id)
            && will_do(flight)
        {
            return Ok(Role::Follow(Arc::clone(flight)));
        }
        let flight = Arc::new(begin()?);
        shard.insert(id.clone(), Arc::clone(&flight));
        drop(shard);
        let ticket = Ticket {
            flights: Arc::clone(self),
            id,
            flight: Arc::clone(&flight),
        };
        Ok(Role::Lead(flight, ticket))
    }

    /// The fetch for this, if somebody makes one.
    pub(super) fn under_way(&self, id: &Id) -> Option<Arc<Flight<T>>> {
        self.shard(id).get(id).cloned()
    }

    /// Fetches under way.
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    fn shard(&self, id: &Id) -> MutexGuard<'_, HashMap<Id, Arc<Flight<T>>>> {
        let index = self.hasher.hash_one(id) as usize % self.shards.len();
        // Whole after a panic elsewhere: each change is one insertion or removal.
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut shard = self.flights.shard(&self.id);
        // Behind a purge another may have taken its place.
        if shard
            .get(&self.id)
            .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
        {
            shard.remove(&self.id);
        }
    }
}

const SHARDS: usize = 64;
