//! Names of keys that were looked for and not found: they are not worth another fetch.

use std::{collections::VecDeque, hash::BuildHasher, time::Duration};

use foldhash::quality::RandomState;

/// A bounded memory. Names come from tokens that nobody has verified: they are kept as hashes that
/// an attacker can't foresee, and the oldest one goes when there are too many.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    hasher: RandomState,
    /// In the order in which they were remembered.
    names: VecDeque<(u64, Duration)>,
}

impl Unknown {
    /// Whether a name is remembered at a moment.
    pub(super) fn contains(&mut self, name: &str, now: Duration) -> bool {
        while self.names.front().is_some_and(|(_, until)| *until <= now) {
            self.names.pop_front();
        }
        let hash = self.hasher.hash_one(name);
        self.names.iter().any(|(known, _)| *known == hash)
    }

    /// Remembers a name until a moment, which never lies before that of another.
    pub(super) fn remember(&mut self, name: &str, until: Duration) {
        let hash = self.hasher.hash_one(name);
        self.names.retain(|(known, _)| *known != hash);
        if self.names.len() >= MOST {
            self.names.pop_front();
        }
        self.names.push_back((hash, until));
    }

    /// Forgets all: there are new keys.
    pub(super) fn clear(&mut self) {
        self.names.clear();
    }
}

const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_name_is_remembered_until_its_time_or_new_keys() {
        let mut unknown = Unknown::default();
        unknown.remember("a", SECOND * 10);
        assert!(unknown.contains("a", SECOND * 9));
        assert!(!unknown.contains("b", SECOND * 9));
        assert!(!unknown.contains("a", SECOND * 10));
        unknown.remember("a", SECOND * 20);
        unknown.clear();
        assert!(!unknown.contains("a", SECOND));
    }

    #[test]
    fn made_up_names_take_no_more_than_their_room() {
        let mut unknown = Unknown::default();
        for index in 0..10 * MOST {
            unknown.remember(&index.to_string(), SECOND);
        }
        assert_eq!(unknown.names.len(), MOST);
        assert!(!unknown.contains("0", Duration::ZERO));
        assert!(unknown.contains(&(10 * MOST - 1).to_string(), Duration::ZERO));
    }
}
