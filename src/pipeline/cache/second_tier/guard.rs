//! What the guard of a URL says: who it is, and the last soft purge.

use super::super::policy::Moment;
use crate::store::Guard;

/// A guard that no other is, for a URL that has none.
pub(super) fn fresh() -> Guard {
    let mut fresh: Guard = [0; _];
    fresh[..WHO].copy_from_slice(&fastrand::u64(1..).to_be_bytes());
    fresh
}

/// Who a guard is, and its last soft purge.
pub(super) fn parts(guard: &Guard) -> (u64, u64) {
    (number(guard, 0), number(guard, 1))
}

/// When its answers became stale. That is a moment of whoever purged, whose clock may be ahead; they
/// are stale now.
pub(super) fn soft_moment(guard: &Guard, now: Moment) -> Moment {
    Moment::from_millis(number(guard, 2)).min(now)
}

fn number(guard: &Guard, index: usize) -> u64 {
    let bytes = guard.get(index * WHO..(index + 1) * WHO);
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}

/// Bytes that tell who a guard is.
const WHO: usize = 8;

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
