//! Tokens that this process has taken of Redis in advance, by key.
//!
//! One batch at a time: while one request fetches a batch the others take what they need each by
//! itself, so that a gateway never holds more than one. What is left of a batch is forgotten after the
//! shortest window, so at most a batch less one comes on top of a quota, for each gateway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;

use crate::store::{KeyHash, Standing, Window};

/// The batches of one limit.
pub(super) struct Leases {
    size: u32,
    held: Cache<KeyHash, Arc<Lease>>,
}

/// What is left of a key's batch.
#[derive(Default)]
pub(super) struct Lease(Mutex<Batch>);

#[derive(Default)]
struct Batch {
    left: u32,
    until: u64,
    fetching: bool,
    window: usize,
    /// How Redis stood when the batch was taken.
    standing: Option<Standing>,
}

/// What a request gets.
pub(super) enum Leased {
    /// What it costs; how the limit stands then.
    Given(usize, Standing),
    /// It is to fetch a batch.
    Fetch(Fetch),
    /// Another fetches one; it takes what it costs.
    Alone,
}

/// The duty to fetch a batch; dropping it leaves that to another.
pub(super) struct Fetch {
    lease: Arc<Lease>,
    /// How many.
    pub(super) size: u32,
}

impl Leases {
    /// Batches of a size, for so many keys.
    pub(super) fn new(size: u32, keys: usize) -> Self {
        Self {
            size,
            held: Cache::new(keys),
        }
    }

    /// Takes from a key's batch.
    pub(super) fn take(&self, key: KeyHash, now: u64, cost: u32) -> Leased {
        let lease = self.of(key);
        let mut batch = lease.locked();
        if now < batch.until
            && let (Some(standing), Some(left)) = (batch.standing, batch.left.checked_sub(cost))
        {
            batch.left = left;
            let remaining = standing.remaining.saturating_add(left);
            return Leased::Given(
                batch.window,
                Standing {
                    remaining,
                    ..standing
                },
            );
        }
        if batch.fetching {
            return Leased::Alone;
        }
        batch.fetching = true;
        drop(batch);
        Leased::Fetch(Fetch {
            lease,
            size: self.size.max(cost),
        })
    }

    /// Puts back what a request took that another limit refused.
    pub(super) fn give_back(&self, key: KeyHash, cost: u32) {
        let lease = self.of(key);
        let mut batch = lease.locked();
        batch.left = batch.left.saturating_add(cost).min(self.size);
    }

    fn of(&self, key: KeyHash) -> Arc<Lease> {
        self.held.get(&key).unwrap_or_else(|| {
            let lease = Arc::<Lease>::default();
            // Of two who make one at a time, one's tokens are used up by itself.
            self.held.insert(key, Arc::clone(&lease));
            lease
        })
    }
}

impl Fetch {
    /// Keeps what is left of a batch. What was left of the one before is dropped.
    pub(super) fn keep(
        &self,
        left: u32,
        (window, standing): (usize, Standing),
        windows: &[Window],
        now: u64,
    ) {
        let shortest = windows.iter().map(|window| window.per).min();
        let mut batch = self.lease.locked();
        batch.left = left;
        batch.window = window;
        batch.standing = Some(standing);
        batch.until = now.saturating_add(shortest.unwrap_or(0));
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.lease.locked().fetching = false;
    }
}

impl Lease {
    fn locked(&self) -> MutexGuard<'_, Batch> {
        // Whole after a panic elsewhere: nothing under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::KeyHasher;

    #[test]
    fn one_request_fetches_a_batch_and_the_next_live_on_it_until_it_is_old() {
        let leases = Leases::new(10, 100);
        let key = KeyHasher::default().hash(b"key");
        let windows = [Window::new(100, Duration::from_secs(1), None)];
        let standing = Standing {
            remaining: 90,
            reset: None,
        };
        let Leased::Fetch(fetch) = leases.take(key, 1, 1) else {
            panic!("there is no batch yet");
        };
        assert_eq!(fetch.size, 10);
        assert!(matches!(leases.take(key, 1, 1), Leased::Alone));
        fetch.keep(9, (0, standing), &windows, 1);
        drop(fetch);
        for left in (0..9).rev() {
            let Leased::Given(0, told) = leases.take(key, 1, 1) else {
                panic!("{left} are left");
            };
            assert_eq!(told.remaining, 90 + left);
        }
        assert!(matches!(leases.take(key, 1, 1), Leased::Fetch(_)));
        leases.give_back(key, 1);
        assert!(matches!(leases.take(key, 1, 1), Leased::Given(..)));
        leases.give_back(key, 1);
        assert!(matches!(
            leases.take(key, windows[0].per + 1, 1),
            Leased::Fetch(_)
        ));
    }
}
