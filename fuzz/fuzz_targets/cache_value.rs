//! Values as they may stand in a Redis that anybody writes to: no panic, and what is read is written
//! the same way.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tollgate::pipeline::cache::codec::{Value, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    check(Bytes::copy_from_slice(bytes));
    // Behind the mark and in front of the checksum, which would keep nearly all inputs out.
    let mut value = b"tgc\x03".to_vec();
    value.extend_from_slice(bytes);
    let sum = crc32fast::hash(&value);
    value.extend_from_slice(&sum.to_be_bytes());
    check(value.into());
});

fn check(value: Bytes) {
    let Some(Value::Answer(entry)) = decode(&value) else {
        return;
    };
    let written = encode(&entry, usize::MAX).expect("nothing is too large");
    let Some(Value::Answer(again)) = decode(&written.into()) else {
        panic!("what was written is not read");
    };
    assert_eq!(entry.birth, again.birth);
    assert_eq!(entry.key, again.key);
    assert_eq!(entry.head.headers, again.head.headers);
    assert_eq!(entry.validating, again.validating);
    assert_eq!(entry.body, again.body);
}
