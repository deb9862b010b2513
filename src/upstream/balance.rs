//! Choosing a server: weighted round robin over those that are healthy.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::server::Server;

/// The order in which servers take turns.
///
/// The turns of one round are laid out once, spread evenly (smooth weighted round robin), so that
/// choosing is one atomic addition and an unhealthy server's turns go to the next healthy one.
pub(super) struct Balance {
    turns: Box<[u16]>,
    next: AtomicUsize,
}

impl Balance {
    pub(super) fn new(weights: &[u32]) -> Self {
        Self {
            turns: round(weights),
            next: AtomicUsize::new(0),
        }
    }

    /// The next healthy server; `None` when there is none.
    pub(super) fn choose<'a>(&self, servers: &'a [Arc<Server>]) -> Option<&'a Arc<Server>> {
        if let [only] = servers {
            return only.is_healthy().then_some(only);
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.turns.len())
            .map(|step| &servers[usize::from(self.turns[(start + step) % self.turns.len()])])
            .find(|server| server.is_healthy())
    }
}

/// One round of turns: server `i` has `weights[i]` of them (scaled down when they are large).
fn round(weights: &[u32]) -> Box<[u16]> {
    let weights = scaled(weights);
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    (0..total)
        .map(|_| {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += weight;
            }
            // The first of the richest, so equal weights keep the order of the file.
            let richest = (0..credit.len()).max_by_key(|i| (credit[*i], usize::MAX - i));
            let chosen = richest.unwrap_or(0);
            credit[chosen] -= total;
            chosen as u16
        })
        .collect()
}

/// Divides by the greatest common divisor, and by more while a round would be too long.
fn scaled(weights: &[u32]) -> Vec<i64> {
    let gcd = weights
        .iter()
        .fold(0, |a, b| greatest_common_divisor(a, *b));
    let total: u64 = weights.iter().map(|w| u64::from(w / gcd.max(1))).sum();
    let shrink = total.div_ceil(LONGEST_ROUND).max(1) as u32;
    weights
        .iter()
        .map(|weight| i64::from((weight / gcd.max(1) / shrink).max(1)))
        .collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

const LONGEST_ROUND: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_take_turns_in_order() {
        assert_eq!(&*round(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(&*round(&[7, 7]), [0, 1]);
    }

    #[test]
    fn weighted_turns_are_spread_and_not_bunched() {
        assert_eq!(&*round(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn huge_weights_keep_a_round_short_and_everybody_in_it() {
        let turns = round(&[u32::MAX, 1]);
        assert!(turns.len() as u64 <= LONGEST_ROUND + 2);
        assert!(turns.contains(&1));
    }
}
