//! Until when requests for a key do not wait for each other, and of whose answers that was learnt.
//!
//! Who is answered apart says little of others, so it is noted of whom it was learnt: by a digest. Those
//! who ask may be any number, so there are few groups of them, and the last of each group is noted:
//! however many ask, a key takes no more than these.

use std::time::Duration;

use smallvec::SmallVec;

/// Until when the answers of some are taken for nobody else's.
#[derive(Clone, Debug, Default)]
pub(super) struct Passes(SmallVec<[Mark; 1]>);

/// What was learnt of one who asked.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// A digest of it.
    asker: u64,
    /// Zero when that was taken back.
    until: u64,
    /// When a 304 to one of its group was last taken at its word; where none was, until when that was so as it was
    /// first learnt.
    since: u64,
    is_doubted: bool,
    learnt: Learnt,
}

/// By what an answer turned out to be nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// By its head, whose fields a 304 mostly has too (RFC 9110 15.4.5): one that may be kept by its own says
    /// that it is not so.
    Fields,
    /// By its size, of which no 304 tells, and which is mostly alike for all who ask.
    Whole,
}

impl Passes {
    /// Whether that is so of nobody, and never was.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with what has been learnt of one, who takes the place of the last of its group.
    #[must_use]
    pub(super) fn with(&self, asker: u64, until: u64, learnt: Learnt) -> Self {
        let known = self.of_group_of(asker);
        let (since, is_doubted) =
            known.map_or((until, false), |mark| (mark.since, mark.is_doubted));
        let mut all = self.where_not(|mark| is_one_group(mark.asker, asker));
        all.0.push(Mark {
            asker,
            until,
            since,
            is_doubted,
            learnt,
        });
        all
    }

    /// The same but for one's group; `None` where nothing was learnt of that.
    pub(super) fn without_group_of(&self, asker: u64) -> Option<Self> {
        self.of_group_of(asker)?;
        Some(self.where_not(|mark| is_one_group(mark.asker, asker)))
    }

    /// The same but for what was over by then.
    #[must_use]
    pub(super) fn since(&self, moment: u64) -> Self {
        self.where_not(|mark| mark.until.max(mark.since) <= moment)
    }

    /// The same when a 304 to one of a group says otherwise; `None` where it is not heeded.
    ///
    /// An upstream may leave out of its 304s what its answers say, `Set-Cookie` with good reason. So such a guess
    /// is made now and then only: else each would cost an answer that nobody keeps. How long ago was the last
    /// one counts, and not when it was learnt: else who has it learnt again and again would have none made. An
    /// answer that is too large costs most; but a request may choose that, too, by a field that others do not send.
    pub(super) fn doubted(&self, asker: u64, now: u64) -> Option<Self> {
        let is_meant = |mark: &Mark| is_one_group(mark.asker, asker);
        let at = self.0.iter().position(is_meant)?;
        let known = self.0[at];
        (known.until > 0 && known.may_be_doubted(now)).then(|| {
            let mut all = self.clone();
            all.0[at] = Mark {
                until: 0,
                since: now,
                is_doubted: true,
                ..known
            };
            all
        })
    }

    /// Until when it is so of anybody.
    pub(super) fn until(&self) -> u64 {
        let moments = self.0.iter().map(|mark| mark.until);
        moments.max().unwrap_or(0)
    }

    /// Until when it is so of one.
    pub(super) fn until_for(&self, asker: u64) -> u64 {
        let meant = self.0.iter().find(|mark| mark.asker == asker);
        meant.map_or(0, |mark| mark.until)
    }

    /// Until when it is so of the last of one's group.
    pub(super) fn until_for_group_of(&self, asker: u64) -> u64 {
        self.of_group_of(asker).map_or(0, |mark| mark.until)
    }

    fn of_group_of(&self, asker: u64) -> Option<&Mark> {
        self.0.iter().find(|mark| is_one_group(mark.asker, asker))
    }

    fn where_not(&self, leaves: impl Fn(&Mark) -> bool) -> Self {
        let kept = self.0.iter().filter(|mark| !leaves(mark));
        Self(kept.copied().collect())
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        match self.0.spilled() {
            true => self.0.capacity() * size_of::<Mark>(),
            false => 0,
        }
    }
}

impl Mark {
    /// Whether it is time to take a 304 at its word.
    fn may_be_doubted(&self, now: u64) -> bool {
        let pause = match self.learnt {
            Learnt::Fields if !self.is_doubted => return true,
            Learnt::Fields => BETWEEN_DOUBTS,
            Learnt::Whole => BETWEEN_DOUBTS_OF_SIZES,
        };
        now >= self.since.saturating_add(pause)
    }
}

fn is_one_group(one: u64, other: u64) -> bool {
    one % GROUPS == other % GROUPS
}

/// The groups of those who ask for one key.
const GROUPS: u64 = 16;
/// How long a group's answers are taken for what they were behind a 304 that was taken at its word.
const BETWEEN_DOUBTS: u64 = Duration::from_secs(30).as_nanos() as u64;
/// The same where they were too large, also before the first 304 that is.
const BETWEEN_DOUBTS_OF_SIZES: u64 = Duration::from_secs(300).as_nanos() as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_group_has_a_moment_of_its_own() {
        let mut all = Passes::default();
        assert!(all.is_empty() && all.until() == 0);
        for asker in 0..48 {
            all = all.with(asker, 100 + asker, Learnt::Fields);
        }
        assert_eq!((all.until(), all.until_for(35)), (147, 135));
        assert_eq!((all.until_for(3), all.until_for_group_of(3)), (0, 135));
        assert!(all.heap() <= 2 * 16 * size_of::<Mark>());
        // Whoever of a group is answered like all others says it of the group.
        let all = all.without_group_of(15).unwrap();
        assert_eq!((all.until(), all.until_for(47)), (146, 0));
        assert!(all.without_group_of(15).is_none());
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_is_not_stays() {
        let all = Passes::default().with(1, 100, Learnt::Fields);
        let all = all.with(2, 200, Learnt::Whole).since(100);
        assert_eq!((all.until_for(1), all.until_for(2)), (0, 200));
        assert!(all.since(200).is_empty());
    }

    #[test]
    fn a_304_is_taken_at_its_word_once_in_a_while() {
        let marked = Passes::default().with(1, 100, Learnt::Fields);
        let doubted = marked.doubted(17, 90).expect("it is one of its group");
        assert_eq!((doubted.until(), doubted.until_for_group_of(1)), (0, 0));
        assert!(doubted.doubted(17, u64::MAX).is_none(), "it is done");
        // That was wrong, and is noted of whoever asked.
        let next = 90 + BETWEEN_DOUBTS;
        let again = doubted
            .with(1, next, Learnt::Fields)
            .with(17, next, Learnt::Fields);
        assert!(again.doubted(1, next - 1).is_none());
        assert!(again.doubted(1, next).is_some());
        // Of another group nothing was said.
        let other = again.with(2, next, Learnt::Fields);
        assert!(other.doubted(2, 91).is_some());
        // It is remembered as long as marks are.
        assert!(!doubted.since(89).is_empty() && doubted.since(90).is_empty());
    }

    #[test]
    fn a_304_of_what_was_too_large_is_taken_at_its_word_much_later() {
        let marked = Passes::default().with(1, 100, Learnt::Whole);
        let due = 100 + BETWEEN_DOUBTS_OF_SIZES;
        // However often it is learnt.
        let marked = marked.with(17, due, Learnt::Whole);
        assert!(marked.doubted(1, due - 1).is_none());
        let doubted = marked.doubted(1, due).expect("it is time");
        let next = due + BETWEEN_DOUBTS_OF_SIZES;
        let again = doubted.with(1, next, Learnt::Whole);
        assert!(again.doubted(1, next - 1).is_none() && again.doubted(1, next).is_some());
        // By what it was learnt last counts.
        let fields = again.with(1, next, Learnt::Fields);
        assert!(fields.doubted(1, due + BETWEEN_DOUBTS).is_some());
    }
}
