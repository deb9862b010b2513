//! Until when requests for a key do not wait for each other, and of whose answers that was learnt.
//!
//! Who is answered apart says little of others, so it is noted of whom it was learnt: by a digest. Those
//! who ask may be any number, so there are few groups of them, and the last of each group is noted:
//! however many ask, a key takes no more than these.

use smallvec::SmallVec;

/// Until when the answers of some are taken for nobody else's.
#[derive(Clone, Debug, Default)]
pub(super) struct Passes(SmallVec<[Mark; 1]>);

/// What was learnt of one who asked.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// A digest of it.
    asker: u64,
    until: u64,
    learnt: Learnt,
}

/// By what an answer turned out to be nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// By fields that its 304 would have too (RFC 9110 15.4.5): one without them says that it is not so.
    Fields,
    /// By something else, its size for one, of which no 304 tells.
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
        let mut all = self.without_group_of(asker);
        all.0.push(Mark {
            asker,
            until,
            learnt,
        });
        all
    }

    /// The same but for one's group.
    #[must_use]
    pub(super) fn without_group_of(&self, asker: u64) -> Self {
        let others = self.0.iter();
        let others = others.filter(|mark| !is_one_group(mark.asker, asker));
        Self(others.copied().collect())
    }

    /// Until when it is so of anybody.
    pub(super) fn until(&self) -> u64 {
        let moments = self.0.iter().map(|mark| mark.until);
        moments.max().unwrap_or(0)
    }

    /// Until when it is so of one.
    pub(super) fn until_for(&self, asker: u64) -> u64 {
        self.until_where(|known| known == asker)
    }

    /// Until when it is so of the last of one's group.
    pub(super) fn until_for_group_of(&self, asker: u64) -> u64 {
        self.until_where(|known| is_one_group(known, asker))
    }

    /// By what it was learnt of the last of one's group, if it was.
    pub(super) fn learnt_of_group_of(&self, asker: u64) -> Option<Learnt> {
        let meant = self.0.iter().find(|mark| is_one_group(mark.asker, asker));
        meant.map(|mark| mark.learnt)
    }

    fn until_where(&self, is_meant: impl Fn(u64) -> bool) -> u64 {
        let meant = self.0.iter().find(|mark| is_meant(mark.asker));
        meant.map_or(0, |mark| mark.until)
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        match self.0.spilled() {
            true => self.0.capacity() * size_of::<Mark>(),
            false => 0,
        }
    }
}

fn is_one_group(one: u64, other: u64) -> bool {
    one % GROUPS == other % GROUPS
}

/// The groups of those who ask for one key.
const GROUPS: u64 = 16;

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
        let all = all.without_group_of(15);
        assert_eq!((all.until(), all.until_for(47)), (146, 0));
    }
}
