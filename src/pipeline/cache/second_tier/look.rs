//! Whether a value in Redis is the answer that was looked for, and may be used.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    super::{
        Visit,
        body::StoredBody,
        codec::{Entry, Value, decode},
        found::Found,
        kinds::Kinds,
        object::{Draft, Object, Origin},
        policy::Nominated,
        purge::{Reached, Stamp},
        shared::Cache,
    },
    SecondTier,
    guard::{parts, soft_moment},
    place::Shelf,
};
use crate::store::{Away, Guard, LogHead};

/// One look: what values are compared with.
pub(super) struct Look<'a> {
    pub(super) cache: &'a Cache,
    pub(super) tier: &'a SecondTier,
    pub(super) visit: &'a Visit,
    pub(super) head: LogHead,
    pub(super) guard: Guard,
    pub(super) began: Stamp,
    pub(super) since: Stamp,
}

/// What has become of a value.
pub(super) enum Judged {
    Found(Found),
    Varies(Nominated),
    Purged,
    Invalid,
}

impl Look<'_> {
    /// What stands under the key of the variant that the request selects.
    pub(super) async fn variant(
        &self,
        shelf: &Shelf,
        rule: &Nominated,
    ) -> Result<Option<Found>, Away> {
        let name = shelf.variant(rule, &self.visit.headers);
        let worker = self.visit.context.connection.worker;
        let mut values = self.tier.redis.read(worker, &[name.as_str()]).await?;
        let _room = self.tier.room(self.cache, &mut values);
        let judge = |value: &Bytes| self.judge(shelf, Some(rule), value);
        let value = values.into_iter().next().flatten();
        Ok(match self.tier.counted(&value, judge) {
            Some(Judged::Found(found)) => Some(found),
            _ => None,
        })
    }

    /// Whether a value is what was looked for, by the rule that led to it.
    pub(super) fn judge(&self, shelf: &Shelf, rule: Option<&Nominated>, value: &Bytes) -> Judged {
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
        let body = StoredBody::compact(&entry.body, self.cache.budget.bodies());
        let variant = entry.nominated.key(&self.visit.headers);
        let origin = Origin {
            marks,
            began: self.began,
            tags: entry.tags,
        };
        let validating = Kinds::of_bits(entry.validating);
        let selected = (entry.nominated, variant);
        let draft = Draft::of(&head, selected, entry.audience, validating, origin);
        let key = self.visit.keys.of(&draft);
        let object = Object::new(key, Arc::new(draft), body, entry.trailers);
        let object = Arc::new(object);
        Judged::Found(Found::of(object, facts))
    }
}

/// How far other gateways' clocks may be ahead of ours: an answer is taken to be fresh for that much
/// longer.
const MOST_AHEAD: Duration = Duration::from_secs(5);
