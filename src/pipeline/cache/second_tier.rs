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

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    Visit,
    body::StoredBody,
    codec::{Birth, Entry, Value, decode, encode, encode_varies},
    key::Key,
    object::{Draft, Object, Origin},
    policy::{Audience, Moment, Nominated},
    purge::{Reached, Stamp},
    purge_log::{PurgeLog, guard_key, hex, url_tag},
    redis_time::RedisTime,
    shared::{Cache, Found, SecondTierFigures},
};
use crate::{
    store::{Away, Guard, Keeping, LogHead, Redis, Turn},
    telemetry::SecondTierMetrics,
};

/// Answers in Redis.
pub(super) struct SecondTier {
    redis: Arc<Redis>,
    log: Arc<PurgeLog>,
    metrics: SecondTierMetrics,
    /// What is being written; it is memory that no account knows of.
    writing: Arc<Semaphore>,
    head: String,
}

/// Where the answers of one request stand.
pub(super) struct Place {
    tag: String,
    guard: String,
    /// Those of everybody, behind those of the caller if it has any.
    shelves: Vec<Shelf>,
}

struct Shelf {
    /// Its key in Redis.
    name: String,
    key: Vec<u8>,
    audience: Audience,
}

/// What there is for a request.
pub(super) struct Looked {
    pub(super) found: Option<Found>,
    /// What was known of purges.
    head: LogHead,
    /// By what the answers vary among which it was looked.
    nominated: Option<Nominated>,
}

/// What a fetch has to know for its answer to be stored, and perhaps the others' waiting for it.
pub(super) struct Ticket {
    tier: Arc<SecondTier>,
    worker: usize,
    birth: Birth,
    guard: String,
    tag: String,
    lease: String,
    /// Nothing where nobody waits.
    token: String,
    end: AtomicU8,
}

/// How fetching for others has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing came that could be stored: for a while nobody waits.
    Nothing,
    /// Nothing is known of the answer, so that the next may have its turn: another gateway was quicker, or
    /// the upstream failed.
    Next,
    /// It was stored, and said so.
    Stored,
}

/// Whose turn it is to fetch.
pub(super) enum Begun {
    /// Ours, and others wait for us.
    Ours(Arc<Ticket>),
    /// Nobody waits for anybody.
    Everybodys(Arc<Ticket>),
    /// Another's. Who has waited enough may fetch with this.
    Others(Arc<Ticket>),
}

/// What has become of a value.
enum Judged {
    Found(Found),
    Varies(Nominated),
    Purged,
    Invalid,
    /// It would be one body too many in memory.
    NoRoom,
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

    /// Where the answers to a request stand. `whole` tells whether all of the query counts.
    pub(super) fn place(&self, visit: &Visit, whole: bool) -> Place {
        let target = &*visit.target;
        let target = match whole {
            true => target,
            false => target.split('?').next().unwrap_or_default(),
        };
        let prefix = self.redis.prefix();
        let tag = url_tag(&visit.host, target, whole);
        let shelf = |key: &Key, audience| {
            let key = key.canonical();
            let name = format!("{prefix}cache:{{{tag}}}:{}", hex(&Sha256::digest(&key)));
            Shelf {
                name,
                key,
                audience,
            }
        };
        let callers = visit.keys.caller.as_ref();
        let callers = callers.map(|key| shelf(key, Audience::Caller));
        let everyones = shelf(&visit.keys.everyone, Audience::Everyone);
        Place {
            guard: guard_key(prefix, &tag),
            shelves: callers.into_iter().chain([everyones]).collect(),
            tag,
        }
    }

    /// How long Redis may take.
    pub(super) fn timeout(&self) -> Duration {
        self.redis.timeout()
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
        let values = self.redis.read(worker, &keys).await?;
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
            looked.found = match self.counted(value, |value| look.judge(shelf, None, value)) {
                Some(Judged::Found(found)) => Some(found),
                Some(Judged::Varies(nominated)) => {
                    let found = look.variant(shelf, &nominated).await?;
                    looked.nominated = Some(nominated);
                    found
                }
                _ => None,
            };
            if looked.found.is_some() {
                break;
            }
        }
        Ok(looked)
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

    /// Begins a fetch. With a length of time it asks for a turn: others wait for it so long at most.
    pub(super) async fn begin(
        self: &Arc<Self>,
        visit: &Visit,
        place: &Place,
        looked: &Looked,
        turn: Option<Duration>,
    ) -> Result<Begun, Away> {
        let worker = visit.context.connection.worker;
        let mut fresh: Guard = [0; _];
        fresh[..WHO].copy_from_slice(&fastrand::u64(1..).to_be_bytes());
        let token = match turn {
            Some(_) => format!("{:016x}", fastrand::u64(..)),
            None => String::new(),
        };
        let lease = place.lease(looked.nominated.as_ref(), visit);
        let length = turn.unwrap_or_default().min(LONGEST_TURN);
        let guard = (place.guard.as_str(), &fresh, SPAN_OF_GUARD);
        let lent = (lease.as_str(), token.as_str(), length);
        let begun = self.redis.begin(worker, guard, lent).await?;
        let (guard, soft) = parts(&begun.guard);
        let ours = begun.turn == Turn::Ours && turn.is_some();
        let ticket = Arc::new(Ticket {
            tier: Arc::clone(self),
            worker,
            birth: Birth {
                log: looked.head.name,
                last: looked.head.last,
                guard,
                soft,
            },
            guard: place.guard.clone(),
            tag: place.tag.clone(),
            lease,
            token: if ours { token } else { String::new() },
            end: AtomicU8::new(End::Nothing as u8),
        });
        Ok(match begun.turn {
            Turn::Ours if ours => Begun::Ours(ticket),
            Turn::Others => Begun::Others(ticket),
            _ => Begun::Everybodys(ticket),
        })
    }

    /// Writes an answer, beside whoever is being served; whether it has been taken.
    async fn write(&self, ticket: &Ticket, object: &Object, key: &Key, now: Moment) {
        let result = match self.written(ticket, object, key, now).await {
            Some(Ok(true)) => "stored",
            Some(Ok(false)) => "purged",
            Some(Err(_)) => "away",
            None => "unfit",
        };
        self.metrics.stores.with_label_values(&[result]).inc();
        if matches!(result, "stored" | "purged") {
            ticket.end(End::Stored);
        }
    }

    async fn written(
        &self,
        ticket: &Ticket,
        object: &Object,
        key: &Key,
        now: Moment,
    ) -> Option<Result<bool, Away>> {
        let draft = &object.draft;
        let span = draft.head.facts.useful_until().since(now);
        if span.is_zero() {
            return None;
        }
        let key = key.canonical();
        let shelf = Shelf {
            name: ticket.shelf(&key),
            key,
            audience: draft.audience,
        };
        let value = encode(&entry(ticket, object, &shelf.key), LARGEST_VALUE)?;
        let varies = !draft.nominated.is_empty();
        let rule = match varies {
            true => Some(encode_varies(&shelf.key, &draft.nominated)?),
            false => None,
        };
        let own = match varies {
            true => shelf.variant_of(&draft.nominated, draft.variant.as_bytes()),
            false => shelf.name.clone(),
        };
        let keep = Keeping {
            guard: &ticket.guard,
            who: &ticket.birth.guard.to_be_bytes(),
            lease: &ticket.lease,
            token: &ticket.token,
            key: &own,
            value: &value,
            rule: rule.as_deref().map(|rule| (shelf.name.as_str(), rule)),
            span: span.min(LONGEST_SPAN),
        };
        Some(self.redis.keep(ticket.worker, &keep).await)
    }
}

/// One look: what values are compared with.
struct Look<'a> {
    cache: &'a Cache,
    tier: &'a SecondTier,
    visit: &'a Visit,
    head: LogHead,
    guard: Guard,
    began: Stamp,
    since: Stamp,
}

impl Look<'_> {
    /// What stands under the key of the variant that the request selects.
    async fn variant(&self, shelf: &Shelf, rule: &Nominated) -> Result<Option<Found>, Away> {
        let name = shelf.variant(rule, &self.visit.headers);
        let worker = self.visit.context.connection.worker;
        let values = self.tier.redis.read(worker, &[name.as_str()]).await?;
        let judge = |value: &Bytes| self.judge(shelf, Some(rule), value);
        let value = values.into_iter().next().flatten();
        Ok(match self.tier.counted(&value, judge) {
            Some(Judged::Found(found)) => Some(found),
            _ => None,
        })
    }

    /// Whether a value is what was looked for, by the rule that led to it.
    fn judge(&self, shelf: &Shelf, rule: Option<&Nominated>, value: &Bytes) -> Judged {
        match (decode(value), rule) {
            (Some(Value::Varies(varies)), None) if varies.key == shelf.key => {
                Judged::Varies(varies.nominated)
            }
            (Some(Value::Answer(entry)), rule) if self.is_meant(shelf, rule, &entry) => {
                self.answer(*entry)
            }
            _ => Judged::Invalid,
        }
    }

    fn is_meant(&self, shelf: &Shelf, rule: Option<&Nominated>, entry: &Entry) -> bool {
        let varies = match rule {
            Some(rule) => *rule == entry.nominated,
            None => entry.nominated.is_empty(),
        };
        let variant = entry.nominated.key(&self.visit.headers);
        let ahead = entry.head.facts.received.since(self.cache.moment());
        varies
            && entry.key == shelf.key
            && entry.audience == shelf.audience
            && entry.variant == variant.as_bytes()
            && ahead <= MOST_AHEAD
    }

    /// The answer, unless a purge has reached it.
    fn answer(&self, entry: Entry) -> Judged {
        let (who, soft) = parts(&self.guard);
        if entry.birth.guard != who || entry.birth.log != self.head.name {
            return Judged::Purged;
        }
        let birth = LogHead {
            name: entry.birth.log,
            last: entry.birth.last,
        };
        let Some(since) = self.tier.log.moment_of(birth) else {
            return Judged::Purged;
        };
        let purges = &self.cache.purges;
        let mut marks = self.visit.marks.clone();
        purges.tag(&mut marks, entry.tags.lines());
        let reached = purges.reached_elsewhere(&marks, since.min(self.since), self.since);
        let mut stale = match reached {
            Reached::Gone => return Judged::Purged,
            Reached::Stale(at) => Some(self.cache.moment_at(at)),
            Reached::No => None,
        };
        if entry.birth.soft != soft {
            let at = soft_moment(&self.guard, self.cache.moment());
            stale = Some(stale.map_or(at, |known| known.max(at)));
        }
        let mut head = entry.head;
        if let Some(at) = stale {
            head.facts = head.facts.expired_at(at);
        }
        let facts = head.facts;
        let Some(body) = StoredBody::read_in(&entry.body, &self.cache.budget) else {
            return Judged::NoRoom;
        };
        let variant = entry.nominated.key(&self.visit.headers);
        let origin = Origin {
            marks,
            began: self.began,
            tags: entry.tags,
        };
        let draft = Draft::of(&head, (entry.nominated, variant), entry.audience, origin);
        let object = Arc::new(Object::new(Arc::new(draft), body, entry.trailers));
        Judged::Found(Found { object, facts })
    }
}

impl Place {
    /// The key of the turn for what a request waits for.
    fn lease(&self, nominated: Option<&Nominated>, visit: &Visit) -> String {
        // Those of one caller wait for each other, where callers have answers of their own.
        let name = match (self.shelves.first(), nominated) {
            (Some(shelf), Some(nominated)) => shelf.variant(nominated, &visit.headers),
            (Some(shelf), None) => shelf.name.clone(),
            (None, _) => self.guard.clone(),
        };
        name + ":turn"
    }
}

impl Shelf {
    /// The key of the variant that a request selects.
    fn variant(&self, nominated: &Nominated, request: &HeaderMap) -> String {
        self.variant_of(nominated, nominated.key(request).as_bytes())
    }

    fn variant_of(&self, nominated: &Nominated, variant: &[u8]) -> String {
        let mut digest = Sha256::new();
        for name in nominated.names() {
            digest.update(name.as_str());
            digest.update([0]);
        }
        digest.update([0, u8::from(nominated.is_by_identity())]);
        digest.update(variant);
        format!("{}+{}", self.name, hex(&digest.finalize()))
    }
}

impl Ticket {
    /// Stores an answer for others, beside serving it.
    pub(super) fn store(self: &Arc<Self>, cache: &Arc<Cache>, key: &Key, object: &Arc<Object>) {
        if cache.is_gone(object) {
            return;
        }
        let tier = &self.tier;
        let Ok(permit) = Arc::clone(&tier.writing).try_acquire_owned() else {
            return tier.metrics.stores.with_label_values(&["busy"]).inc();
        };
        let (ticket, key, object) = (Arc::clone(self), key.clone(), Arc::clone(object));
        let now = cache.moment();
        cache.spawn(async move {
            ticket.tier.write(&ticket, &object, &key, now).await;
            drop(permit);
        });
    }

    /// Whether an answer with a body of that length can be stored.
    pub(super) fn fits(length: u64) -> bool {
        length <= LARGEST_VALUE as u64
    }

    /// Says how it ended; the first word counts.
    pub(super) fn end(&self, end: End) {
        let _ = self
            .end
            .compare_exchange(End::Nothing as u8, end as u8, Relaxed, Relaxed);
    }

    fn shelf(&self, key: &[u8]) -> String {
        let prefix = self.tier.redis.prefix();
        format!(
            "{prefix}cache:{{{}}}:{}",
            self.tag,
            hex(&Sha256::digest(key))
        )
    }
}

impl Drop for Ticket {
    /// Others do not wait any longer, however it ended.
    fn drop(&mut self) {
        let end = self.end.load(Relaxed);
        if self.token.is_empty() || end == End::Stored as u8 {
            return;
        }
        let pass = match end == End::Next as u8 {
            true => Duration::ZERO,
            false => PASS,
        };
        // Where there is no runtime any more the turn ends by itself.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (redis, worker) = (Arc::clone(&self.tier.redis), self.worker);
        let (lease, token) = (self.lease.clone(), std::mem::take(&mut self.token));
        runtime.spawn(async move { redis.release(worker, (&lease, &token), pass).await });
    }
}

fn entry(ticket: &Ticket, object: &Object, key: &[u8]) -> Entry {
    let draft = &object.draft;
    Entry {
        birth: ticket.birth,
        key: Bytes::copy_from_slice(key),
        audience: draft.audience,
        head: draft.as_received(),
        nominated: draft.nominated.clone(),
        variant: Bytes::copy_from_slice(draft.variant.as_bytes()),
        tags: draft.origin.tags.clone(),
        trailers: object.trailers.clone(),
        body: object.body.pieces().to_vec(),
    }
}

/// Who a guard is, and its last soft purge.
fn parts(guard: &Guard) -> (u64, u64) {
    (number(guard, 0), number(guard, 1))
}

/// When its answers became stale. That is a moment of whoever purged, whose clock may be ahead; they
/// are stale now.
fn soft_moment(guard: &Guard, now: Moment) -> Moment {
    Moment::from_millis(number(guard, 2)).min(now)
}

fn number(guard: &Guard, index: usize) -> u64 {
    let bytes = guard.get(index * WHO..(index + 1) * WHO);
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}

/// The largest value; larger ones would hold up those behind them.
const LARGEST_VALUE: usize = 1 << 20;
/// Values that are written at once; more are not stored.
const MOST_WRITES: usize = 64;
/// Bytes that tell who a guard is.
const WHO: usize = 8;
/// How long a guard stands without anything that it guards: longer than any fetch that is stored.
const SPAN_OF_GUARD: Duration = Duration::from_secs(600);
/// How long anything is kept.
const LONGEST_SPAN: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long others wait for one gateway, which may be gone.
const LONGEST_TURN: Duration = Duration::from_secs(5);
/// How long nobody waits, behind a fetch that brought nothing to store.
const PASS: Duration = Duration::from_secs(1);
/// How far other gateways' clocks may be ahead of ours: an answer is taken to be fresh for that much
/// longer.
const MOST_AHEAD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soft_purge_by_a_clock_that_is_ahead_makes_stale_now() {
        let mut guard: Guard = [0; _];
        guard[2 * WHO..].copy_from_slice(&5_000_u64.to_be_bytes());
        for (now, wanted) in [(4_000, 4_000), (5_000, 5_000), (6_000, 5_000)] {
            let at = soft_moment(&guard, Moment::from_millis(now));
            assert_eq!(at, Moment::from_millis(wanted));
        }
    }
}
