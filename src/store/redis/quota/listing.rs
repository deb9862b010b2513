//! What an operator may see of a limit's keys, as far as looking for them may cost.
//!
//! Nothing in Redis tells which keys a limit has, and a list of them would cost every request something.
//! So its keys are looked for among all others, by names, in many calls that do little each: no request
//! waits for long behind one. How much is done in all has bounds, and what is found by then is a sample.
//!
//! One list is made at a time, and kept for a few seconds: the pages of a list hang together, and many who
//! look at it cost Redis no more than one.

mod reading;
mod search;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::Mutex, time::timeout};

use super::{SharedAlgorithm, SharedLimit};
use crate::store::{
    KeyHash, Standing, Window,
    redis::{Away, Redis},
};

/// What was found of a limit's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedKeys {
    /// How each window of each key stands, in the order of the hashes.
    pub keys: Vec<(KeyHash, Vec<Standing>)>,
    /// How many were found: of some Redis may not have told how they stand.
    pub total: usize,
    /// Whether these are all.
    pub is_whole: bool,
}

/// Why keys are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// Redis does not tell.
    Away,
    /// Others have been listed for too long.
    Busy,
}

/// Who lists keys, and what was listed last.
#[derive(Default)]
pub(in crate::store::redis) struct Listing {
    last: Mutex<Option<Listed>>,
    /// Keys that were reset: a list that was begun before may tell of them.
    resets: AtomicU64,
}

impl Listing {
    /// Has the next list be made anew, whatever is under way.
    fn forget(&self) {
        self.resets.fetch_add(1, SeqCst);
    }
}

/// A reset that is under way. When it has ended, however it did, the list is forgotten.
pub(super) struct Forgetting<'l>(pub(super) &'l Listing);

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

/// A list, and of which limit.
struct Listed {
    limit: Box<str>,
    algorithm: SharedAlgorithm,
    windows: Box<[Window]>,
    largest: u32,
    /// How many keys had been reset when it was begun.
    resets: u64,
    made: Instant,
    keys: Arc<SharedKeys>,
}

impl Listed {
    fn is_for(&self, limit: SharedLimit<'_>, resets: u64) -> bool {
        self.limit() == limit && self.resets == resets && self.made.elapsed() < KEPT
    }

    fn limit(&self) -> SharedLimit<'_> {
        SharedLimit {
            name: &self.limit,
            algorithm: self.algorithm,
            windows: &self.windows,
            largest: self.largest,
        }
    }
}

impl Redis {
    /// The keys of a limit, as they are or were some seconds ago. For the control runtime.
    ///
    /// # Errors
    ///
    /// When Redis does not tell of any, or others are being listed for too long.
    pub async fn list_keys(
        self: &Arc<Self>,
        worker: usize,
        limit: SharedLimit<'_>,
    ) -> Result<Arc<SharedKeys>, Unlisted> {
        // Who leaves gives it back, whatever has been found by then.
        let turn = timeout(LONGEST_WAIT, self.listing.last.lock()).await;
        let mut last = turn.map_err(|_| Unlisted::Busy)?;
        let resets = self.listing.resets.load(SeqCst);
        if let Some(listed) = last.as_ref().filter(|last| last.is_for(limit, resets)) {
            return Ok(Arc::clone(&listed.keys));
        }
        let keys = self.found_keys(worker, limit).await;
        let keys = Arc::new(keys.map_err(|_| Unlisted::Away)?);
        *last = Some(Listed {
            limit: limit.name.into(),
            algorithm: limit.algorithm,
            windows: limit.windows.into(),
            largest: limit.largest,
            resets,
            made: Instant::now(),
            keys: Arc::clone(&keys),
        });
        Ok(keys)
    }

    async fn found_keys(
        self: &Arc<Self>,
        worker: usize,
        limit: SharedLimit<'_>,
    ) -> Result<SharedKeys, Away> {
        let found = self.find_keys(limit.name, limit.algorithm).await?;
        let mut readings = Vec::with_capacity(found.servers.len());
        for keys in &found.servers {
            readings.push(self.read_keys(worker, limit, keys));
        }
        let readings = join_all(readings).await;
        let away = readings.iter().find_map(|reading| reading.away);
        // Once, however many nodes it is.
        if let Some(away) = away.filter(|away| *away != Away::Open) {
            self.count_error(away);
        }
        let total: usize = found.servers.iter().map(Vec::len).sum();
        let mut keys = Vec::with_capacity(total);
        for (found, reading) in found.servers.iter().zip(readings) {
            let told = found.iter().zip(reading.told);
            keys.extend(told.filter_map(|(&key, standings)| Some((key, standings?))));
        }
        keys.sort_unstable_by_key(|(key, _)| *key);
        // What stands before several servers may have answered for one of them.
        let is_one = self.is_cluster() || !self.has_slots();
        match away {
            Some(away) if keys.is_empty() => Err(away),
            _ => Ok(SharedKeys {
                is_whole: is_one && found.is_whole && keys.len() == total,
                keys,
                total,
            }),
        }
    }
}

/// How long it may take to look for keys, and then to read them.
const LONGEST: Duration = Duration::from_secs(3);
/// How long others may be listed meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a list is kept.
const KEPT: Duration = Duration::from_secs(5);
