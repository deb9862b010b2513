//! The tier behind the memory: answers in a Redis that gateways share.
//!
//! ```text
//! head of the log of purges   {purges}:head
//! guard of a URL              cache:{URL}:guard          who the URL is, and its last soft purge
//! answer, or by what it varies  cache:{URL}:KEY
//! answer that varies          cache:{URL}:KEY+VARIANT
//! whose turn it is to fetch   cache:{URL}:KEY:turn
//! ```
//!
//! `URL` and `KEY` are digests, so that no client can make up a key, long or otherwise. What is found
//! must hold the whole key, the whole variant and the audience that it was looked up for: no
//! collision, and nobody who writes into this Redis by mistake, can have one caller's answer
//! served to another. The guard, the log and the answer are read at once; how they tell whether the
//! answer has been purged is said in [`purge_log`](super::purge_log).
//!
//! What is found becomes an object as the memory has them, of which the same functions decide: times
//! are absolute, so that it ages wherever it is. It belongs to the moment at which the look began: what
//! was purged before has been compared, and what is purged later reaches it like any other.

mod guard;
mod look;
mod place;
mod ticket;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{
    Visit,
    found::Found,
    policy::Nominated,
    purge_log::PurgeLog,
    redis_time::RedisTime,
    room::Room,
    shared::{Cache, SecondTierFigures},
};
use crate::{
    exchange::Context,
    store::{Away, Guard, LogHead, Redis},
    telemetry::SecondTierMetrics,
};
use look::{Judged, Look};
use place::Place;
pub(super) use ticket::{Begun, End, Ticket};

/// Answers in Redis.
pub(super) struct SecondTier {
    redis: Arc<Redis>,
    log: Arc<PurgeLog>,
    metrics: SecondTierMetrics,
    /// What is being written.
    writing: Arc<Semaphore>,
    head: String,
}

/// What there is for a request.
pub(super) struct Looked {
    pub(super) found: Option<Found>,
    /// What was known of purges.
    head: LogHead,
    /// By what the answers vary among which it was looked.
    nominated: Option<Nominated>,
}

impl Looked {
    /// Whether there is nothing for anybody: neither an answer nor by what answers vary.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_none() && self.nominated.is_none()
    }
}

impl SecondTier {
    pub(super) fn new(redis: &Arc<Redis>, log: Arc<PurgeLog>, metrics: SecondTierMetrics) -> Self {
        Self {
            redis: Arc::clone(redis),
            log,
            metrics,
            writing: Arc::new(Semaphore::new(MOST_WRITES)),
            head: redis.log_key(),
        }
    }

    /// What it has done so far.
    pub(super) fn figures(&self) -> SecondTierFigures {
        SecondTierFigures {
            hits: self.metrics.looked("hit"),
            misses: self.metrics.looked("miss"),
            away: self.metrics.looked("away"),
            purged: self.metrics.looked("purged"),
            invalid: self.metrics.looked("invalid"),
        }
    }

    /// How long Redis may take for a request.
    pub(super) fn time(&self, context: &Context) -> RedisTime {
        RedisTime::new(&self.redis, context.connection.worker)
    }

    /// Looks for what a request selects.
    pub(super) async fn look(
        &self,
        cache: &Cache,
        visit: &Visit,
        place: &Place,
        time: &mut RedisTime,
    ) -> Result<Looked, Away> {
        let looked = time.within(self.looked(cache, visit, place)).await;
        match &looked {
            Ok(Looked { found: Some(_), .. }) => self.count("hit"),
            Ok(_) => self.count("miss"),
            Err(_) => self.count("away"),
        }
        looked
    }

    async fn looked(&self, cache: &Cache, visit: &Visit, place: &Place) -> Result<Looked, Away> {
        let began = cache.stamp();
        // Purges that Redis does not know of count, too, and all from now on.
        let since = self.log.unsaid_since().min(began);
        let worker = visit.context.connection.worker;
        let mut keys = vec![self.head.as_str(), place.guard.as_str()];
        keys.extend(place.shelves.iter().map(|shelf| shelf.name.as_str()));
        let mut values = self.redis.read(worker, &keys).await?;
        // The log may have to be followed, and another answer to be read, while these are here.
        let answers = values.get_mut(BEFORE..).unwrap_or_default();
        let _room = self.room(cache, answers);
        let [head, guard, shelves @ ..] = values.as_slice() else {
            return Err(self.redis.garbage());
        };
        let seen = head.as_deref().and_then(LogHead::read);
        let head = self.log.follow(cache, (&self.redis, worker), seen).await?;
        let mut looked = Looked {
            found: None,
            head,
            nominated: None,
        };
        let guard = guard.as_deref();
        let Some(guard) = guard.and_then(|guard| Guard::try_from(guard).ok()) else {
            return Ok(looked);
        };
        let look = Look {
            cache,
            tier: self,
            visit,
            head,
            guard,
            began,
            since,
        };
        for (shelf, value) in place.shelves.iter().zip(shelves) {
            let found = match self.counted(value, |value| look.judge(shelf, None, value)) {
                Some(Judged::Found(found)) => Some(found),
                Some(Judged::Varies(nominated)) => {
                    let found = look.variant(shelf, &nominated).await?;
                    looked.nominated = Some(nominated);
                    found
                }
                _ => None,
            };
            let now = cache.moment();
            looked.found = match (looked.found.take(), found) {
                (Some(own), Some(other)) => Some(own.or_newer(other, &visit.asked, now)),
                (own, other) => own.or(other),
            };
            if looked
                .found
                .as_ref()
                .is_some_and(|found| found.facts.is_fresh(now))
            {
                break;
            }
        }
        Ok(looked)
    }

    /// Room for what has been read, as long as that is here. Nobody writes a value over the largest: it is not
    /// worth a look, which would hold up a whole worker, nor the room that others need.
    fn room(&self, cache: &Cache, values: &mut [Option<Bytes>]) -> Room {
        for value in &mut *values {
            if value.as_ref().map_or(0, Bytes::len) > LARGEST_VALUE {
                *value = None;
                self.count("invalid");
            }
        }
        cache.budget.read(values)
    }

    /// Judges what is there, and counts it when it is of no use.
    fn counted(
        &self,
        value: &Option<Bytes>,
        judge: impl FnOnce(&Bytes) -> Judged,
    ) -> Option<Judged> {
        let judged = judge(value.as_ref()?);
        match judged {
            Judged::Purged => self.count("purged"),
            Judged::Invalid => self.count("invalid"),
            _ => {}
        }
        Some(judged)
    }

    fn count(&self, result: &str) {
        self.metrics.looks.with_label_values(&[result]).inc();
    }
}

/// Values that are written at once; more are not stored.
const MOST_WRITES: usize = 64;
/// The largest value; larger ones would hold up those behind them.
const LARGEST_VALUE: usize = 1 << 20;
/// What is read before answers: the head of the log, and the guard.
const BEFORE: usize = 2;
