//! Keys as they are kept: hashed, so that a table holds nobody's address or name.

use sha2::{Digest, Sha256};
use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
};

/// What is kept of a key.
///
/// 128 bits under a secret of this process: nobody can look for two keys that share one, nor tell
/// the key from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(u128);

impl KeyHash {
    /// The half that chooses a place in a table.
    pub(super) fn place(self) -> u64 {
        #[allow(clippy::cast_possible_truncation)] // The lower half is meant.
        let low = self.0 as u64;
        low
    }

    /// The half that chooses a shard, independent of the other.
    pub(super) fn shard(self) -> u64 {
        #[allow(clippy::cast_possible_truncation)] // The upper half is meant.
        let high = (self.0 >> 64) as u64;
        high
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hash = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Hashes keys under a secret of its own: two halves of the standard library's SipHash, each with
/// its own random key.
#[derive(Clone, Debug, Default)]
pub struct KeyHasher {
    halves: [RandomState; 2],
    shared: bool,
}

impl KeyHasher {
    /// One whose hashes are the same in every process: half of SHA-256, without a secret.
    ///
    /// Nobody can find two keys that share a hash, but who guesses a key can recognise it.
    #[must_use]
    pub fn shared() -> Self {
        Self {
            shared: true,
            ..Self::default()
        }
    }

    /// The hash of a key.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        if self.shared {
            let mut half = [0; 16];
            half.copy_from_slice(&Sha256::digest(key)[..16]);
            return KeyHash(u128::from_be_bytes(half));
        }
        let [low, high] = &self.halves;
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            u128::from(hasher.finish())
        };
        KeyHash(half(low) | half(high) << 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_stable_under_one_secret_and_another_under_the_next() {
        let (one, other) = (KeyHasher::default(), KeyHasher::default());
        let hash = one.hash(b"192.0.2.1");
        assert_eq!(hash, one.clone().hash(b"192.0.2.1"));
        assert_ne!(hash, one.hash(b"192.0.2.2"));
        assert_ne!(hash, other.hash(b"192.0.2.1"));
        assert_ne!(hash.place(), hash.shard());
    }

    #[test]
    fn a_shared_hash_is_the_same_everywhere() {
        let hash = KeyHasher::shared().hash(b"abc");
        assert_eq!(hash, KeyHasher::shared().hash(b"abc"));
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn a_hash_survives_being_written() {
        let hash = KeyHasher::default().hash(b"alice");
        assert_eq!(KeyHash::parse(&hash.to_string()), Some(hash));
        for wrong in ["", "zz", "+0000000000000000000000000000000", "alice"] {
            assert_eq!(KeyHash::parse(wrong), None, "{wrong:?}");
        }
    }
}
