//! Whom what was taken in advance belongs to, and how it goes back there.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    super::{
        book::CONTROL,
        limit::{Ask, Limit},
        tier::Tier,
    },
    InAdvance, Lease, Leases,
};
use crate::store::KeyHash;

/// Whom what was taken in advance belongs to.
pub(super) struct Owner {
    /// A limit that has ended takes nothing back: what counts now is another.
    limit: Weak<Limit>,
    tier: Arc<Tier>,
}

impl Owner {
    fn new(limit: &Arc<Limit>, tier: &Arc<Tier>) -> Self {
        Self {
            limit: Arc::downgrade(limit),
            tier: Arc::clone(tier),
        }
    }

    pub(super) fn tier(&self) -> &Tier {
        &self.tier
    }

    /// What was taken for a key had to make room: what is left of it goes back.
    pub(super) fn evicted(&self, key: KeyHash, left: u32, until: u64) {
        if self.give_back(key, left, until)
            && let Some(limit) = self.limit.upgrade()
        {
            limit.counters.table.evictions.inc();
        }
    }

    /// Gives back what is left of a batch that is good until a moment; whether there was anything.
    pub(super) fn give_back(&self, key: KeyHash, left: u32, until: u64) -> bool {
        let limit = self.limit.upgrade().filter(|_| left > 0);
        let Some(limit) = limit else { return false };
        let moment = limit.clock.now();
        let now = limit.counters.at(moment);
        let Some(shared) = limit.shared.as_ref().filter(|_| now < until) else {
            return false;
        };
        // However many keys somebody makes up, the control runtime has other things to do.
        let Some(place) = shared.leases.as_ref().and_then(Leases::place_to_return) else {
            return true;
        };
        let came = until.saturating_sub(self.tier.shortest());
        let taken = moment.saturating_sub(Duration::from_nanos(now.saturating_sub(came)));
        let (tier, redis) = (Arc::clone(&self.tier), Arc::clone(&shared.redis));
        // Whoever pushed it out has a worker, whose connection is for its requests.
        redis.beside().clone().spawn(async move {
            if let Some(shared) = &limit.shared {
                let ask = shared.ask(&limit, (key, &tier), (left, left));
                let ago = limit.clock.now().saturating_sub(taken);
                redis.give_back(CONTROL, ask, ago).await;
            }
            drop(place);
        });
        true
    }
}

impl Limit {
    /// What is taken in advance for a request, once nothing in memory refuses it: for one that is refused
    /// nobody else has to make room.
    pub(in super::super) fn lease_of<'q>(
        self: &Arc<Self>,
        ask: &'q mut Ask,
    ) -> Option<&'q Arc<Lease>> {
        if let InAdvance::Not(key) = ask.in_advance {
            let leases = self.shared.as_ref()?.leases.as_ref()?;
            let made = leases.make(key, ask.key, Owner::new(self, ask.tier(self)));
            ask.in_advance = InAdvance::Held(made);
        }
        match &ask.in_advance {
            InAdvance::Held(lease) => Some(lease),
            InAdvance::Never | InAdvance::Not(_) => None,
        }
    }
}

#[cfg(test)]
impl Owner {
    /// Of a limit that there is no more.
    pub(super) fn of_nobody(tier: &Arc<Tier>) -> Self {
        Self {
            limit: Weak::new(),
            tier: Arc::clone(tier),
        }
    }
}
