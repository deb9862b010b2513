//! Which slot of a cluster a key is in, and which key decides where a command goes.

use redis::{Arg, Cmd};

/// The slot of a key. What stands in the first braces decides, if anything does.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let behind = &key[open + 1..];
        let close = behind.iter().position(|byte| *byte == b'}')?;
        Some(&behind[..close]).filter(|tag| !tag.is_empty())
    };
    checksum(tag().unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, as the Redis cluster specification has it.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |sum, byte| {
        let number = (sum >> 8) ^ u16::from(*byte);
        (sum << 8) ^ CHECKSUMS[usize::from(number)]
    })
}

const fn checksums() -> [u16; 256] {
    let mut all = [0; 256];
    let mut number = 0;
    while number < all.len() {
        let mut sum = (number as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = sum & 0x8000 != 0;
            sum <<= 1;
            if carry {
                sum ^= 0x1021;
            }
            bit += 1;
        }
        all[number] = sum;
        number += 1;
    }
    all
}

/// The key that decides where a command goes; all of its keys are in one slot.
pub(super) fn key_of(command: &Cmd) -> Option<&[u8]> {
    let mut arguments = command.args_iter();
    let before = match arguments.next()? {
        // The script, and how many keys there are.
        Arg::Simple(b"EVAL" | b"EVALSHA") => 2,
        Arg::Simple(b"PUBLISH") => return None,
        _ => 0,
    };
    match arguments.nth(before)? {
        Arg::Simple(key) => Some(key),
        _ => None,
    }
}

/// How many slots there are.
pub(super) const SLOTS: u16 = 16_384;
const CHECKSUMS: [u16; 256] = checksums();

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_has_the_slot_that_the_specification_says() {
        assert_eq!(checksum(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"a{bar}b{foo}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"{}foo"), checksum(b"{}foo") % SLOTS);
        assert_eq!(slot_of(b"{foo"), checksum(b"{foo") % SLOTS);
        assert_eq!(slot_of(b"a{{foo}}"), checksum(b"{foo") % SLOTS);
    }

    #[test]
    fn a_command_goes_where_its_first_key_is() {
        let key = |arguments: &[&str]| {
            let mut command = redis::cmd(arguments[0]);
            command.arg(&arguments[1..]);
            key_of(&command).map(<[u8]>::to_vec)
        };
        let one = Some(b"one".to_vec());
        assert_eq!(key(&["EVALSHA", "hash", "2", "one", "two"]), one);
        assert_eq!(key(&["EVAL", "script", "1", "one"]), one);
        assert_eq!(key(&["MGET", "one", "two"]), one);
        assert_eq!(key(&["PUBLISH", "channel", "one"]), None);
        assert_eq!(key(&["EVALSHA", "hash"]), None);
    }

    proptest! {
        #[test]
        fn any_key_has_a_slot(key in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(slot_of(&key) < SLOTS);
        }
    }
}
