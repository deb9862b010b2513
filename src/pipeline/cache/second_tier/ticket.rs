//! What a fetch holds of Redis: the right to store its answer there, and perhaps its turn.

use std::{
    mem::take,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit};

use super::{
    super::{
        Visit,
        codec::{Birth, Entry, encode, encode_varies},
        key::Key,
        object::Object,
        policy::Moment,
        room::Room,
        shared::Cache,
        store::Kept,
    },
    LARGEST_VALUE, Looked, MOST_WRITES, SecondTier,
    guard::{fresh, parts},
    place::{Place, Shelf},
};
use crate::store::{Away, Keeping, Redis, Turn};

/// What a fetch has to know for its answer to be stored, and perhaps the others' waiting for it.
pub(in crate::pipeline::cache) struct Ticket {
    tier: Arc<SecondTier>,
    birth: Birth,
    guard: String,
    tag: String,
    lease: Lease,
}

/// A turn, which is given back when it is dropped.
struct Lease {
    redis: Arc<Redis>,
    worker: usize,
    key: String,
    /// Nothing where nobody waits.
    token: String,
    end: AtomicU8,
}

/// How fetching for others has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::cache) enum End {
    /// Nothing came that could be stored: for a while nobody waits.
    Nothing,
    /// Nothing is known of the answer, so that the next may have its turn: another gateway was quicker, or
    /// the upstream failed.
    Next,
    /// It was stored, and said so.
    Stored,
}

/// Whose turn it is to fetch.
pub(in crate::pipeline::cache) enum Begun {
    /// Ours, and others wait for us.
    Ours(Arc<Ticket>),
    /// Nobody waits for anybody.
    Everybodys(Arc<Ticket>),
    /// Another's. Who has waited enough may fetch with this.
    Others(Arc<Ticket>),
}

impl SecondTier {
    /// Begins a fetch. With a length of time it asks for a turn: others wait for it so long at most.
    pub(in crate::pipeline::cache) async fn begin(
        self: &Arc<Self>,
        visit: &Visit,
        place: &Place,
        looked: &Looked,
        turn: Option<Duration>,
    ) -> Result<Begun, Away> {
        let lease = Lease {
            redis: Arc::clone(&self.redis),
            worker: visit.context.connection.worker,
            key: place.lease(looked.nominated.as_ref(), visit),
            token: match turn {
                Some(_) => format!("{:016x}", fastrand::u64(..)),
                None => String::new(),
            },
            // It may be ours though nobody is there any more to hear of it.
            end: AtomicU8::new(End::Next as u8),
        };
        let length = turn.unwrap_or_default().min(LONGEST_TURN);
        let guard = (place.guard.as_str(), &fresh(), SPAN_OF_GUARD);
        let lent = (lease.key.as_str(), lease.token.as_str(), length);
        let begun = self.redis.begin(lease.worker, guard, lent).await?;
        let (guard, soft) = parts(&begun.guard);
        let ours = begun.turn == Turn::Ours && turn.is_some();
        let ticket = Arc::new(Ticket {
            tier: Arc::clone(self),
            birth: Birth {
                log: looked.head.name,
                last: looked.head.last,
                guard,
                soft,
            },
            guard: place.guard.clone(),
            tag: place.tag.clone(),
            lease: lease.given(ours),
        });
        Ok(match begun.turn {
            Turn::Ours if ours => Begun::Ours(ticket),
            Turn::Others => Begun::Others(ticket),
            _ => Begun::Everybodys(ticket),
        })
    }

    /// Room for writing an answer, among the fetches' own. Where nothing else is written there always
    /// is some, or a small memory would keep large answers out.
    fn may_write(&self, cache: &Cache, object: &Object) -> Option<(OwnedSemaphorePermit, Room)> {
        let permit = Arc::clone(&self.writing).try_acquire_owned().ok()?;
        let alone = self.writing.available_permits() + 1 == MOST_WRITES;
        let size = COPIES * object.weight();
        let mut room = cache.budget.room(size);
        if !room.take(size, 0) {
            if !alone {
                return None;
            }
            room.hold(size);
        }
        Some((permit, room))
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
        let shelf = Shelf::new((self.redis.prefix(), &ticket.tag), key, draft.audience);
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
            lease: &ticket.lease.key,
            token: &ticket.lease.token,
            key: &own,
            value: &value,
            rule: rule.as_deref().map(|rule| (shelf.name.as_str(), rule)),
            span: span.min(LONGEST_SPAN),
        };
        Some(self.redis.keep(ticket.lease.worker, &keep).await)
    }
}

impl Ticket {
    /// Stores an answer for others, beside serving it.
    pub(in crate::pipeline::cache) fn store(
        self: &Arc<Self>,
        cache: &Arc<Cache>,
        key: &Key,
        object: &Arc<Object>,
    ) {
        if cache.is_gone(object) {
            return;
        }
        let tier = &self.tier;
        let Some(writing) = tier.may_write(cache, object) else {
            return tier.metrics.stores.with_label_values(&["busy"]).inc();
        };
        let (ticket, key, object) = (Arc::clone(self), key.clone(), Arc::clone(object));
        let now = cache.moment();
        cache.spawn(async move {
            ticket.tier.write(&ticket, &object, &key, now).await;
            drop(writing);
        });
    }

    /// Whether an answer with a body of that length can be stored.
    pub(in crate::pipeline::cache) fn fits(length: u64) -> bool {
        length <= LARGEST_VALUE as u64
    }

    /// Says how it ended; the first word counts.
    pub(in crate::pipeline::cache) fn end(&self, end: End) {
        let _ = self
            .lease
            .end
            .compare_exchange(End::Nothing as u8, end as u8, Relaxed, Relaxed);
    }
}

impl Lease {
    /// What it is when Redis has said whose turn it is.
    fn given(mut self, ours: bool) -> Self {
        if !ours {
            self.token.clear();
        }
        *self.end.get_mut() = End::Nothing as u8;
        self
    }
}

impl Drop for Lease {
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
        let (redis, worker) = (Arc::clone(&self.redis), self.worker);
        let (key, token) = (take(&mut self.key), take(&mut self.token));
        runtime.spawn(async move { redis.release(worker, (&key, &token), pass).await });
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
        validating: draft.validating.bits(),
        tags: draft.origin.tags.clone(),
        trailers: object.trailers.as_deref().cloned(),
        body: object.body.pieces().to_vec(),
    }
}

/// How often an answer is in memory while it is written: as a value, in a command, and on its way.
const COPIES: u64 = 3;
/// How long anything is kept.
const LONGEST_SPAN: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a guard stands without anything that it guards: longer than any fetch that is stored.
const SPAN_OF_GUARD: Duration = Duration::from_secs(600);
/// How long others wait for one gateway, which may be gone.
const LONGEST_TURN: Duration = Duration::from_secs(5);
/// How long nobody waits, behind a fetch that brought nothing to store.
const PASS: Duration = Duration::from_secs(1);
