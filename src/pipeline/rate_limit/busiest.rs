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
    store::{Standing, Window},
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
    /// not tell, those that this process counts in its place; `None` where that are none.
    pub async fn busiest(&self, most: usize) -> Option<LimitKeyList> {
        let Some(shared) = &self.shared else {
            return Some(self.busiest_here(most));
        };
        let there = self.busiest_there(shared, most).await;
        there.or_else(|| Some(self.busiest_here(most)).filter(|here| !here.keys.is_empty()))
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

    async fn busiest_there(&self, shared: &Shared, most: usize) -> Option<LimitKeyList> {
        let redis = &shared.redis;
        let tier: &Tier = self.tier();
        let _turn = redis.turn_to_list().await;
        let name = &self.config.name;
        let found = redis.find_keys(name, shared.algorithm, most).await.ok()?;
        let asks = found.keys.iter().map(|&key| self.look(shared, key, tier));
        let asks: Vec<_> = asks.collect();
        let told = redis.all_standings(CONTROL, &asks).await;
        let told = found.keys.iter().zip(told);
        let mut known: Vec<_> = told
            .filter_map(|(&key, standings)| Some((key, standings?)))
            .collect();
        let total = found.keys.len();
        if known.is_empty() && total > 0 {
            return None;
        }
        let is_sample = !found.is_whole || known.len() < total;
        known.sort_by_cached_key(|(_, standings)| Reverse(used(&tier.windows, standings)));
        let states = known.into_iter().map(|(key, standings)| {
            let key = (key, tier);
            self.shown_state(key, LimitStore::Redis, standings)
        });
        Some(LimitKeyList {
            store: LimitStore::Redis,
            keys: states.collect(),
            total,
            is_sample,
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
