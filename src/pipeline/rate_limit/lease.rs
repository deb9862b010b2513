//! Tokens that this process has taken of Redis in advance, by key.
//!
//! One batch at a time: one request fetches it, and the others wait for it, so that a hot key costs one
//! round trip a batch and a gateway never holds more than one. Whom the batch does not reach waits for
//! the next; what Redis refuses, it refuses to all who waited. Nobody waits longer than Redis's own
//! deadline: then it asks by itself. What is left of a batch is forgotten after the shortest window, so
//! at most a batch less one comes on top of a quota, for each gateway.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use tokio::{sync::Notify, time::timeout};

use crate::store::{KeyHash, Refused, Standing, Window};

/// The batches of one limit.
pub(super) struct Leases {
    size: u32,
    /// How long a request waits for a batch that another fetches.
    patience: Duration,
    held: Cache<KeyHash, Arc<Lease>>,
}

/// What is left of a key's batch.
#[derive(Default)]
struct Lease {
    batch: Mutex<Batch>,
    /// Woken when a fetch has ended.
    fetched: Notify,
}

#[derive(Default)]
struct Batch {
    left: u32,
    until: u64,
    fetching: bool,
    window: usize,
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
    /// Nothing: another limit refused, or the client left.
    Nothing,
}

/// What a request gets at once.
pub(super) enum Leased {
    /// What it costs; how the limit stands then.
    Given(usize, Standing),
    /// It is to fetch a batch.
    Fetch(Fetch),
    /// Nothing yet: another fetches one.
    Wait,
}

/// What a request gets that has waited for a batch.
pub(super) enum Waited {
    /// What it costs; how the limit stands then.
    Given(usize, Standing),
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
    /// How many.
    pub(super) size: u32,
}

impl Leases {
    /// Batches of a size, for so many keys.
    pub(super) fn new(size: u32, keys: usize, patience: Duration) -> Self {
        Self {
            size,
            patience,
            held: Cache::new(keys),
        }
    }

    /// Takes from a key's batch, or the duty to fetch one.
    pub(super) fn take(&self, key: KeyHash, now: u64, cost: u32) -> Leased {
        self.take_now(&self.of(key), now, cost)
    }

    /// Waits for the batch that another request fetches. Nobody who has to fetch for others may wait
    /// for them.
    pub(super) async fn take_fetched(&self, key: KeyHash, now: u64, cost: u32) -> Waited {
        let lease = self.of(key);
        let waited = timeout(self.patience, self.wait(&lease, now, cost)).await;
        waited.unwrap_or(Waited::Alone)
    }

    async fn wait(&self, lease: &Arc<Lease>, now: u64, cost: u32) -> Waited {
        for _ in 0..MOST_WAITS {
            // Made before the look at the batch: a fetch that ends in between wakes it too.
            let fetched = lease.fetched.notified();
            if let Some(waited) = self.take_now(lease, now, cost).after_waiting() {
                return waited;
            }
            fetched.await;
            let last = lease.locked().last;
            match last {
                Fetched::Batch => {}
                Fetched::Refused(least, window, refused) if cost >= least => {
                    return Waited::Refused(window, refused);
                }
                Fetched::Away => return Waited::Away,
                Fetched::Refused(..) | Fetched::Nothing => break,
            }
        }
        let last = self.take_now(lease, now, cost).after_waiting();
        last.unwrap_or(Waited::Alone)
    }

    /// Puts back what a request took that another limit refused.
    pub(super) fn give_back(&self, key: KeyHash, cost: u32) {
        let lease = self.of(key);
        let mut batch = lease.locked();
        // Who fetched the batch has taken one at least.
        let most = self.size.saturating_sub(1);
        batch.left = batch.left.saturating_add(cost).min(most);
    }

    /// As [`take`](Self::take).
    fn take_now(&self, lease: &Arc<Lease>, now: u64, cost: u32) -> Leased {
        let mut batch = lease.locked();
        if now < batch.until
            && let (Some(standing), Some(left)) = (batch.standing, batch.left.checked_sub(cost))
        {
            batch.left = left;
            let remaining = standing.remaining.saturating_add(left);
            let standing = Standing {
                remaining,
                ..standing
            };
            return Leased::Given(batch.window, standing);
        }
        if batch.fetching {
            return Leased::Wait;
        }
        batch.fetching = true;
        Leased::Fetch(Fetch {
            lease: Arc::clone(lease),
            ended: AtomicBool::new(false),
            size: self.size.max(cost),
        })
    }

    fn of(&self, key: KeyHash) -> Arc<Lease> {
        // One for all who come at once: two would be two batches.
        let made = self
            .held
            .get_or_insert_with(&key, || Ok::<_, Infallible>(Arc::default()));
        made.unwrap_or_default()
    }
}

impl Leased {
    /// The same for a request that has waited; `None` when it is to wait again.
    fn after_waiting(self) -> Option<Waited> {
        match self {
            Self::Given(window, standing) => Some(Waited::Given(window, standing)),
            Self::Fetch(fetch) => Some(Waited::Fetch(fetch)),
            Self::Wait => None,
        }
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
        self.end(|batch| {
            batch.left = left;
            batch.window = window;
            batch.standing = Some(standing);
            batch.until = now.saturating_add(shortest.unwrap_or(0));
            batch.last = Fetched::Batch;
        });
    }

    /// Tells those who wait that there is no batch.
    pub(super) fn failed(&self, why: Fetched) {
        self.end(|batch| batch.last = why);
    }

    fn end(&self, note: impl FnOnce(&mut Batch)) {
        let mut batch = self.lease.locked();
        note(&mut batch);
        batch.fetching = false;
        drop(batch);
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

impl Lease {
    fn locked(&self) -> MutexGuard<'_, Batch> {
        // Whole after a panic elsewhere: nothing under the lock can panic half-way.
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Batches that a request waits for before it asks by itself.
const MOST_WAITS: usize = 4;

#[cfg(test)]
mod tests;
