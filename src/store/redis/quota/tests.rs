use proptest::prelude::*;

use super::*;
use crate::store::KeyHasher;

fn with_ask<T>(run: impl FnOnce(&[SharedAsk<'_>]) -> T) -> T {
    let windows = [Window::new(5, std::time::Duration::from_secs(1), None)];
    run(&[SharedLimit {
        name: "one",
        algorithm: SharedAlgorithm::TokenBucket,
        windows: &windows,
        largest: 5,
    }
    .take(KeyHasher::default().hash(b"key"), (1, 3))])
}

/// An answer of whether it fits, the window, what is left, what was taken, and the wait.
fn parsed(fits: u8, window: u8, (left, got, wait): (u32, u32, u64)) -> Option<SharedTaken> {
    let bytes = [
        &[fits, window][..],
        &left.to_be_bytes(),
        &got.to_be_bytes(),
        &wait.to_be_bytes(),
    ];
    parsed_bytes(&bytes.concat())
}

fn parsed_bytes(bytes: &[u8]) -> Option<SharedTaken> {
    with_ask(|asks| parse(bytes, asks)).map(|taken| taken[0])
}

#[test]
fn an_answer_is_eighteen_bytes_of_numbers_in_range() {
    let standing = Standing {
        remaining: 2,
        reset: Some(7_000),
    };
    let granted = Decision::Granted {
        window: 0,
        standing,
    };
    let taken = parsed(1, 0, (2, 3, 7)).unwrap();
    assert_eq!((taken.decision, taken.got), (granted, 3));
    let refusal = Refused { wait: Some(9_000) };
    let refused = Decision::Refused { window: 0, refusal };
    assert_eq!(parsed(0, 0, (0, 0, 9)).unwrap().decision, refused);
    for wrong in [
        (1, 1, (2, 3, 7)),
        (1, 0, (2, 4, 7)),
        (2, 0, (2, 0, 7)),
        (0, 0, (0, 1, 9)),
        (1, 0, (2, 3, u64::MAX)),
    ] {
        let (fits, window, numbers) = wrong;
        assert_eq!(parsed(fits, window, numbers), None, "{wrong:?}");
    }
    for length in [0, 1, 17, 19, 36] {
        let mut bytes = vec![0; length];
        bytes.iter_mut().take(1).for_each(|fits| *fits = 1);
        assert_eq!(parsed_bytes(&bytes), None, "{length}");
    }
}

#[test]
fn anything_else_is_garbage() {
    for value in [
        Value::Nil,
        Value::Okay,
        Value::Int(1),
        Value::BulkString(b"1".to_vec()),
        Value::Array(vec![Value::Int(1); 5]),
    ] {
        let bytes = bytes_of(&value);
        assert!(bytes.is_none_or(|bytes| with_ask(|asks| parse(bytes, asks)).is_none()));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = parsed_bytes(&bytes);
    }

    #[test]
    fn no_numbers_make_it_panic(fits in 0..3_u8, window in 0..3_u8, numbers in any::<(u32, u32, u64)>()) {
        let _ = parsed(fits, window, numbers);
    }
}
