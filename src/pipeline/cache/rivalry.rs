//! Which of two variants of a URL stays where they do not fit beside each other.
//!
//! The one that is there does as long as it is in demand, or who asks for a large answer by values that it
//! makes up would take it from all others. But then whoever came first could keep it by asking now and then,
//! and what all ask for would be fetched each time. So there is a vote: each second in which one was refused
//! counts for it, and each in which the one that is there was asked for twice as much against it. What others
//! are refused counts against it too, by half and once in a second: else the place of the rival could be held
//! by a value that is asked for as rarely as the one that is there. Values that are made up never get votes
//! enough. One rival is remembered at a time, the next when the votes for it are used up; the more values a
//! second somebody makes up, and has fetched, the longer it takes until what all ask for is that one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::purge::Stamp;

/// The vote on the place of one variant.
#[derive(Debug, Default)]
pub(super) struct Rivalry(Mutex<Option<Box<Rival>>>);

/// What would have the place.
#[derive(Clone, Debug)]
struct Rival {
    /// A digest of what it is selected by.
    digest: u64,
    votes: u8,
    /// In how many seconds the one that is there had been asked for when votes were counted last.
    asked: u32,
    /// When a vote for it was counted last, and one for another; zero when none was.
    refused: Stamp,
    others: Stamp,
}

impl Rivalry {
    /// Counts that one is refused now, and whether it shall have the place instead. `asked` is in how many
    /// seconds the one that is there has been asked for so far.
    pub(super) fn refuse(&self, digest: u64, now: Stamp, asked: u32) -> bool {
        let mut locked = self.locked();
        let rival = locked.get_or_insert_with(|| Box::new(Rival::new(digest, asked)));
        rival.count(digest, now, asked);
        rival.digest == digest && rival.votes >= ENOUGH
    }

    /// Takes the vote over from the one in whose place its own has come, as by each validation.
    pub(super) fn succeed(&self, other: &Self) {
        let known = other.locked().clone();
        *self.locked() = known;
    }

    fn locked(&self) -> MutexGuard<'_, Option<Box<Rival>>> {
        // Whole after a panic elsewhere: nothing below the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rival {
    fn new(digest: u64, asked: u32) -> Self {
        Self {
            digest,
            votes: 0,
            asked,
            refused: 0,
            others: 0,
        }
    }

    fn count(&mut self, digest: u64, now: Stamp, asked: u32) {
        let seconds = u8::try_from(asked.saturating_sub(self.asked)).unwrap_or(u8::MAX);
        self.votes = self.votes.saturating_sub(seconds.saturating_mul(ASKED));
        self.asked = asked;
        if self.votes == 0 && self.digest != digest {
            *self = Self::new(digest, asked);
        }
        if self.digest == digest {
            if is_another_second(self.refused, now) {
                self.refused = now;
                self.votes = self.votes.saturating_add(REFUSED).min(ENOUGH);
            }
        } else if is_another_second(self.others, now) {
            self.others = now;
            self.votes = self.votes.saturating_sub(OTHERS);
        }
    }
}

fn is_another_second(last: Stamp, now: Stamp) -> bool {
    last == 0 || now.saturating_sub(last) >= SECOND
}

const SECOND: Stamp = 1_000_000_000;
/// The votes of a second in which it was refused, in which the one that is there was asked for, and in which
/// others were refused.
const REFUSED: u8 = 2;
const ASKED: u8 = 4;
const OTHERS: u8 = 1;
/// The votes for the place: those of ten seconds in which nobody asks for anything else.
const ENOUGH: u8 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const RIVAL: u64 = 7;

    /// The second in which one that is refused every so many seconds gets the place of one that is asked for
    /// every so many, within five minutes. So many others are refused each second.
    fn wins(refused: u64, asked: u64, others: u64) -> Option<u64> {
        let rivalry = Rivalry::default();
        let mut count = 0;
        (1..300).find(|second| {
            count += u32::from(second % asked == 0);
            let now = second * SECOND;
            for other in 0..others {
                let made_up = 1_000 + second * others + other;
                assert!(!rivalry.refuse(made_up, now, count), "one that is made up");
            }
            second % refused == 0 && rivalry.refuse(RIVAL, now, count)
        })
    }

    #[test]
    fn what_is_asked_for_more_takes_the_place() {
        assert!(wins(1, 8, 0).is_some_and(|second| second < 20));
        assert!(wins(1, 1_000, 0).is_some_and(|second| second <= 10));
        assert!(wins(5, 1_000, 0).is_some_and(|second| second <= 60));
    }

    #[test]
    fn what_is_not_asked_for_much_more_does_not() {
        assert_eq!(wins(1, 1, 0), None);
        assert_eq!(wins(1, 2, 0), None);
        assert_eq!(wins(8, 1, 0), None);
        assert_eq!(wins(8, 8, 0), None);
    }

    #[test]
    fn values_that_are_made_up_neither_take_the_place_nor_keep_it_from_others() {
        assert_eq!(wins(1_000, 8, 100), None);
        assert!(wins(1, 8, 1).is_some_and(|second| second < 60));
    }

    #[test]
    fn a_rival_that_is_asked_for_rarely_gives_way_to_one_that_is_asked_for_often() {
        let rivalry = Rivalry::default();
        for second in 1..=4 {
            assert!(!rivalry.refuse(1, 8 * second * SECOND, 0));
        }
        let mut seconds = (33..).map(|second| second * SECOND);
        let won = seconds.position(|now| rivalry.refuse(RIVAL, now, 0));
        assert!(won.is_some_and(|seconds| seconds < 25));
    }

    #[test]
    fn who_asks_often_in_a_second_has_one_vote() {
        let rivalry = Rivalry::default();
        assert!((0..100).all(|at| !rivalry.refuse(RIVAL, SECOND + at, 0)));
    }

    #[test]
    fn a_vote_goes_on_when_the_one_that_is_there_is_renewed() {
        let rivalry = Rivalry::default();
        for second in 1..10 {
            assert!(!rivalry.refuse(RIVAL, second * SECOND, 0));
        }
        let renewed = Rivalry::default();
        renewed.succeed(&rivalry);
        assert!(renewed.refuse(RIVAL, 10 * SECOND, 0));
    }
}
