//! How much a variant of a URL is asked for.
//!
//! There is room for so many variants of a URL, and whoever asks chooses the values that tell them apart. So it
//! counts when one was last asked for, and in how many seconds, but not how often: a client can ask for
//! each value that it makes up twice as easily as once, but what others ask for is asked for again and
//! again, and to keep up with that takes as long. It wears off, or a value that was asked for long ago
//! would have to be asked for but rarely to stay ahead. What has come in the place of another, as by each
//! validation, is as much in demand as that was.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::purge::Stamp;

/// How much one variant is asked for.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// When it was last asked for, more or less; zero when it never was.
    asked: AtomicU64,
    /// In how many seconds it was, as far as that had not worn off then.
    seconds: AtomicU8,
    /// In how many it was at all.
    total: AtomicU32,
}

impl Demand {
    /// Notes that it is asked for. Once in a second is enough, or each hit would write to what all
    /// workers read.
    pub(super) fn note(&self, now: Stamp) {
        let last = self.asked.load(Relaxed);
        let is_new = last == 0 || now.saturating_sub(last) >= SECOND;
        // Of those who ask at the same time one counts.
        let counts = is_new
            && self
                .asked
                .compare_exchange(last, now, Relaxed, Relaxed)
                .is_ok();
        if counts {
            let worn = now.saturating_sub(last) / WORTH;
            let worn = u8::try_from(worn).unwrap_or(u8::MAX);
            let seconds = self.seconds.load(Relaxed).saturating_sub(worn);
            let seconds = seconds.saturating_add(1).min(MOST_SECONDS);
            self.seconds.store(seconds, Relaxed);
            self.total.fetch_add(1, Relaxed);
        }
    }

    /// Notes that it has come in the place of another.
    pub(super) fn succeed(&self, other: &Self) {
        self.asked.fetch_max(other.asked.load(Relaxed), Relaxed);
        self.seconds.fetch_max(other.seconds.load(Relaxed), Relaxed);
        self.total.fetch_max(other.total(), Relaxed);
    }

    /// In how many seconds it was asked for since the first of those came in whose place others have come.
    pub(super) fn total(&self) -> u32 {
        self.total.load(Relaxed)
    }

    /// When it was last asked for, more or less. Whoever had it fetched asked for it too.
    pub(super) fn last(&self, began: Stamp) -> Stamp {
        self.asked.load(Relaxed).max(began)
    }

    /// A moment by which variants are compared: of one that was never asked for again its beginning, and
    /// for all others the last time, and the later the more they were asked for.
    pub(super) fn standing(&self, began: Stamp) -> Stamp {
        match self.asked.load(Relaxed) {
            0 => began,
            at => {
                let seconds = Stamp::from(self.seconds.load(Relaxed));
                at.saturating_add(seconds * WORTH)
            }
        }
    }
}

const SECOND: Stamp = 1_000_000_000;
/// By how much later each second makes it, after how long without one a second has worn off, and how many
/// count: with them, what nobody asks for any more stays ahead of what is new for two minutes.
const WORTH: Stamp = 12 * SECOND;
const MOST_SECONDS: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was asked for in these seconds.
    fn asked(seconds: impl IntoIterator<Item = u64>) -> Demand {
        let demand = Demand::default();
        for second in seconds {
            demand.note(second * SECOND);
        }
        demand
    }

    #[test]
    fn what_is_asked_for_often_at_a_time_is_in_no_more_demand() {
        let often = asked([5; 100]);
        assert_eq!(often.standing(0), asked([5]).standing(0));
        assert!(often.standing(0) < asked([4, 5]).standing(0));
    }

    #[test]
    fn what_was_asked_for_again_counts_for_more_than_what_is_new() {
        let new = Demand::default();
        assert!(asked([5]).standing(SECOND) > new.standing(16 * SECOND));
        assert!(asked(1..=20).standing(SECOND) > new.standing(139 * SECOND));
    }

    #[test]
    fn what_nobody_asks_for_any_more_counts_for_less_than_what_is_new() {
        let new = Demand::default();
        assert!(asked(1..=20).standing(SECOND) < new.standing(141 * SECOND));
    }

    #[test]
    fn what_is_asked_for_rarely_does_not_keep_what_it_was_worth() {
        let rarely = asked((1..=10).chain([130]));
        assert_eq!(rarely.standing(0), asked([130]).standing(0));
        let sometimes = asked((1..=10).chain([35]));
        assert_eq!(sometimes.standing(0), asked(27..=35).standing(0));
    }

    #[test]
    fn what_is_asked_for_every_twelve_seconds_keeps_what_it_was_worth() {
        let steadily = asked((1..=10).chain([22, 34, 46]));
        assert_eq!(steadily.standing(0), asked(37..=46).standing(0));
    }

    #[test]
    fn what_was_fetched_was_asked_for_then() {
        assert_eq!(Demand::default().last(7), 7);
        assert_eq!(asked([5]).last(7), 5 * SECOND);
        assert_eq!(asked([5]).last(6 * SECOND), 6 * SECOND);
    }

    #[test]
    fn each_second_in_which_one_is_asked_for_is_counted() {
        let demand = asked((1..=20).chain([20, 20, 500]));
        let new = Demand::default();
        new.succeed(&demand);
        new.note(501 * SECOND);
        assert_eq!((demand.total(), new.total()), (21, 22));
    }

    #[test]
    fn what_takes_the_place_of_another_is_in_the_same_demand() {
        let new = Demand::default();
        let old = asked(1..=3);
        new.succeed(&old);
        assert_eq!(new.standing(9 * SECOND), old.standing(SECOND));
        new.succeed(&Demand::default());
        assert_eq!(new.standing(9 * SECOND), old.standing(SECOND));
    }
}
