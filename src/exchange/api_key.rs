//! The form of an API key: `tgk_`, 43 letters of randomness, 6 of checksum.
//!
//! The prefix lets scanners find keys that leaked into a repository (`tgk_[0-9A-Za-z]{49}`), the
//! checksum spares a look-up for what was mistyped or made up, and tells a scanner that a find is
//! one. Letters and digits only: the whole key is marked by a double click.

use sha2::{Digest, Sha256};

/// What keys are told apart by: the SHA-256 of one. Only [`hash`] makes it, so nothing that was presented
/// can be compared as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// As files of keys have it.
    #[must_use]
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }
}

/// A new key. It is shown once and then known only to its owner.
///
/// # Errors
///
/// When the system gives no randomness.
pub fn generate() -> Result<String, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(written(random))
}

fn written(random: [u8; 32]) -> String {
    let body: [u8; BODY] = base62(random);
    let check = checksum(&body);
    let letters = body.iter().chain(&check).copied().map(char::from);
    PREFIX.chars().chain(letters).collect()
}

/// The hash of a key as it was presented; `None` when it has not the form of one.
#[must_use]
pub fn hash(presented: &[u8]) -> Option<KeyDigest> {
    let rest = presented.strip_prefix(PREFIX.as_bytes())?;
    let (body, check) = rest.split_at_checked(BODY)?;
    let sane = body.iter().all(u8::is_ascii_alphanumeric) && checksum(body) == check;
    sane.then(|| KeyDigest(Sha256::digest(presented).into()))
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    base62(crc32fast::hash(body).to_be_bytes())
}

/// A big-endian number in so many letters; what does not fit is lost.
fn base62<const BYTES: usize, const LETTERS: usize>(mut number: [u8; BYTES]) -> [u8; LETTERS] {
    let mut text = [0; LETTERS];
    for letter in text.iter_mut().rev() {
        let rest = number.iter_mut().fold(0, |rest, byte| {
            let value = rest << 8 | u32::from(*byte);
            // The rest is below 62, so the quotient is below 256.
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            value % 62
        });
        *letter = ALPHABET[rest as usize];
    }
    text
}

/// What every key begins with.
pub const PREFIX: &str = "tgk_";
/// 62 to the power of 43 is just over 2 to the power of 256.
const BODY: usize = 43;
/// 62 to the power of 6 is over 2 to the power of 32.
const CHECKSUM: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_have_their_form_and_differ() {
        let keys: HashSet<_> = (0..100).map(|_| generate().unwrap()).collect();
        assert_eq!(keys.len(), 100);
        for key in keys {
            assert_eq!(key.len(), 53);
            assert!(key.starts_with("tgk_"));
            assert!(key[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert!(hash(key.as_bytes()).is_some());
        }
    }

    #[test]
    fn the_largest_number_fits() {
        assert_ne!(written([0xff; 32]), written([0; 32]));
        assert_eq!(&base62(61_u32.to_be_bytes()), b"0z");
        assert_eq!(&base62(62_u32.to_be_bytes()), b"10");
    }

    proptest! {
        #[test]
        fn no_change_of_a_letter_has_the_form_of_a_key(
            random: [u8; 32], at in 0_usize..53, letter in 0_u8..128
        ) {
            let key = written(random);
            let mut changed = key.clone().into_bytes();
            changed[at] = letter;
            prop_assume!(changed != key.as_bytes());
            prop_assert_eq!(hash(&changed), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = hash(&bytes);
        }
    }
}
