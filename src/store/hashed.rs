//! A table's own hash of what is a hash already.

use std::hash::Hasher;

/// Hashes nothing again: for tables whose keys are hashes under a secret.
///
/// Of a key of several parts all count, so they must be independent of each other: equal ones would cancel
/// out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 ^= hash;
    }

    /// A hasher has to take bytes; what is a hash has none.
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;
    use crate::store::KeyHasher;

    #[test]
    fn a_hash_stays_what_it_is_and_all_parts_of_a_key_count() {
        let same = BuildHasherDefault::<Hashed>::default();
        assert_eq!(same.hash_one(7_u64), 7);
        let keys = KeyHasher::default();
        let (one, other) = (keys.hash(b"one"), keys.hash(b"other"));
        let hashes = [(one, 1_u64), (one, 2), (other, 1), (other, 2)].map(|key| same.hash_one(key));
        for (place, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..place].contains(hash), "{hashes:?}");
        }
    }
}
