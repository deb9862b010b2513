//! Which keys of a limit have used most, for the operator.

use std::cmp::Reverse;

use super::{
    book::{CONTROL, LimitKeyState},
    limit::Limit,
    shared::Shared,
    tier::Tier,
};
use crate::{
    config::LimitStore,
    store::{Standing, Unlisted, Window},
};

/// The busiest keys of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitKeyList {
    /// Where they are counted.
    pub store: LimitStore,
    /// The busiest first.
    pub keys: Vec<LimitKeyState>,
    /// How many keys there are, or were found.
    pub total: usize,
    /// Whether there may be others that were not looked at.
    pub is_sample: bool,
}

impl Limit {
    /// The keys that have used most: of a limit over Redis those that are found there. While Redis does
    /// not tell, those that this process counts in its place; `None` where that are none, or where it takes
    /// others too long to list theirs.
    pub async fn busiest(&self, most: usize) -> Option<LimitKeyList> {
        let Some(shared) = &self.shared else {
            return Some(self.busiest_here(most));
        };
        match self.busiest_there(shared, most).await {
            Ok(list) => Some(list),
            Err(Unlisted::Away) => self.busiest_instead(most),
            Err(Unlisted::Busy) => None,
        }
    }

    /// What this process counts in Redis's place, if it does: others count by themselves, too.
    fn busiest_instead(&self, most: usize) -> Option<LimitKeyList> {
        let here = LimitKeyList {
            is_sample: true,
            ..self.busiest_here(most)
        };
        (!here.keys.is_empty()).then_some(here)
    }

    fn busiest_here(&self, most: usize) -> LimitKeyList {
        let now = self.now();
        let busiest = self.counters.counting.busiest(now, most);
        let states = busiest
            .into_iter()
            .filter_map(|key| self.state_at(key, self.tier(), now));
        LimitKeyList {
            store: LimitStore::Memory,
            keys: states.collect(),
            total: self.keys(),
            is_sample: false,
        }
    }

    async fn busiest_there(&self, shared: &Shared, most: usize) -> Result<LimitKeyList, Unlisted> {
        let tier: &Tier = self.tier();
        let limit = shared.limit(self, tier);
        let found = shared.redis.list_keys(CONTROL, limit).await?;
        let mut keys: Vec<_> = found.keys.iter().collect();
        keys.sort_by_cached_key(|(_, standings)| Reverse(used(&tier.windows, standings)));
        let states = keys.into_iter().take(most).map(|(key, standings)| {
            let key = (*key, tier);
            self.shown_state(key, LimitStore::Redis, standings.clone())
        });
        Ok(LimitKeyList {
            store: LimitStore::Redis,
            keys: states.collect(),
            total: found.total,
            is_sample: !found.is_whole,
        })
    }
}

/// How much a key has used: of those that have used all of a quota, who waits longer has used more.
fn used(windows: &[Window], standings: &[Standing]) -> (u64, u64) {
    let used = |(window, standing): (&Window, &Standing)| {
        u64::from(window.bucket.saturating_sub(standing.remaining))
    };
    let resets = standings.iter().filter_map(|standing| standing.reset);
    let used = windows.iter().zip(standings).map(used).sum();
    (used, resets.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_has_used_more_is_busier_and_of_equals_who_waits_longer() {
        let minute = Duration::from_secs(60);
        let windows = [
            Window::new(10, minute, Some(4)),
            Window::new(100, 60 * minute, None),
        ];
        let of = |standings: [(u32, u64); 2]| {
            let standing = |(remaining, reset)| Standing {
                remaining,
                reset: Some(reset),
            };
            used(&windows, &standings.map(standing))
        };
        assert_eq!(of([(4, 0), (100, 0)]), (0, 0));
        assert_eq!(of([(1, 7), (90, 9)]), (13, 9));
        let by_use = [
            [(4, 0), (99, 5)],
            [(3, 6), (50, 5)],
            [(0, 6), (0, 5)],
            [(0, 6), (0, 500)],
        ];
        assert!(by_use.map(of).is_sorted());
    }
}
