//! Keys as they are kept: hashed, so that a table holds nobody's address or name.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

use sha2::{Digest, Sha256};
use siphasher::sip128::{Hash128, SipHasher13};

/// What is kept of a key.
///
/// 128 bits under a secret of this process: nobody can look for two keys that share one, nor tell
/// the key from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash {
    // The order of the fields is that of the digits.
    high: u64,
    low: u64,
}

impl KeyHash {
    /// The half that chooses a place in a table.
    pub(super) fn place(self) -> u64 {
        self.low
    }

    /// The half that chooses a shard, independent of the other.
    pub(super) fn shard(self) -> u64 {
        self.high
    }

    /// Hexadecimal.
    pub(super) fn digits(self) -> [u8; 32] {
        let mut digits = [0; 32];
        let bytes = self.to_bits().to_be_bytes();
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        digits
    }

    /// All of its bits, for whoever keeps them.
    #[must_use]
    pub fn to_bits(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    /// What has these bits.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // Its halves are meant.
    pub fn from_bits(bits: u128) -> Self {
        Self {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hash = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash {
            return None;
        }
        let (high, low) = text.split_at(16);
        let half = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Self {
            high: half(high)?,
            low: half(low)?,
        })
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Hashes keys under a secret of its own, by SipHash.
#[derive(Clone)]
pub struct KeyHasher {
    id: u64,
    secret: [u64; 2],
    shared: bool,
}

impl Default for KeyHasher {
    fn default() -> Self {
        // The standard library's are random for whoever can't see them.
        let random = || RandomState::new().hash_one(());
        Self {
            id: random(),
            secret: [random(), random()],
            shared: false,
        }
    }
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

    /// Tells the hashes of this one, and of its clones, from those of all others; nothing of the secret.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The hash of a key.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        if self.shared {
            let digest = Sha256::digest(key);
            let half = |at: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&digest[at..at + 8]);
                u64::from_be_bytes(bytes)
            };
            let (high, low) = (half(0), half(8));
            return KeyHash { high, low };
        }
        let [key0, key1] = self.secret;
        let Hash128 { h1, h2 } = SipHasher13::new_with_keys(key0, key1).hash(key);
        KeyHash { high: h2, low: h1 }
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
        assert_eq!(hash, KeyHash::from_bits(hash.to_bits()));
        assert_eq!(one.id(), one.clone().id());
        assert_ne!(one.id(), other.id());
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
