//! Until when requests for a key do not wait for each other, and of whose answers that was learnt.
//!
//! Who is answered apart says little of others, so it is noted by group. There are few groups, and each
//! stands for many who ask: however many do, a key takes no more than these.

use smallvec::SmallVec;

/// Until when the answers of each group are taken for nobody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Passes(SmallVec<[(u8, u64); 1]>);

impl Passes {
    /// Whether that is so of no group, and never was.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with what has been learnt of a group.
    #[must_use]
    pub(super) fn with(&self, group: u8, until: u64) -> Self {
        let mut all = self.without(group);
        all.0.push((group, until));
        all
    }

    /// The same but for a group.
    #[must_use]
    pub(super) fn without(&self, group: u8) -> Self {
        let others = self.0.iter().filter(|(known, _)| *known != group);
        Self(others.copied().collect())
    }

    /// Until when it is so of any group.
    pub(super) fn until(&self) -> u64 {
        let moments = self.0.iter().map(|(_, until)| *until);
        moments.max().unwrap_or(0)
    }

    /// Until when it is so of one.
    pub(super) fn until_for(&self, group: u8) -> u64 {
        let of_group = self.0.iter().find(|(known, _)| *known == group);
        of_group.map_or(0, |(_, until)| *until)
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        match self.0.spilled() {
            true => self.0.capacity() * size_of::<(u8, u64)>(),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_a_moment_of_its_own() {
        let mut all = Passes::default();
        assert!(all.is_empty() && all.until() == 0);
        for round in 0..3 {
            for group in 0..16 {
                all = all.with(group, 100 * round + u64::from(group));
            }
        }
        assert_eq!((all.until(), all.until_for(3)), (215, 203));
        let all = all.without(15);
        assert_eq!((all.until(), all.until_for(15)), (214, 0));
        assert!(all.heap() <= 32 * size_of::<(u8, u64)>());
    }
}
