use proptest::prelude::*;

use super::*;
use crate::store::KeyHasher;

fn with_ask<T>(run: impl FnOnce(&[SharedAsk<'_>]) -> T) -> T {
    let windows = [Window::new(5, std::time::Duration::from_secs(1), None)];
    run(&[SharedAsk {
        limit: "one",
        key: KeyHasher::default().hash(b"key"),
        algorithm: SharedAlgorithm::TokenBucket,
        windows: &windows,
        cost: 1,
        want: 3,
        enforced: true,
    }])
}

fn parsed(numbers: &[i64]) -> Option<SharedTaken> {
    let words: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    parsed_text(&words.join(" "))
}

fn parsed_text(text: &str) -> Option<SharedTaken> {
    let value = Value::BulkString(text.into());
    with_ask(|asks| parse(&value, asks)).map(|taken| taken[0])
}

#[test]
fn an_answer_is_five_numbers_in_range() {
    let standing = Standing {
        remaining: 2,
        reset: Some(7_000),
    };
    let granted = Decision::Granted {
        window: 0,
        standing,
    };
    let taken = parsed(&[1, 0, 2, 7, 3]).unwrap();
    assert_eq!((taken.decision, taken.got), (granted, 3));
    let refusal = Refused { wait: Some(9_000) };
    let refused = Decision::Refused { window: 0, refusal };
    assert_eq!(parsed(&[0, 0, 0, 9, 0]).unwrap().decision, refused);
    for wrong in [
        &[1, 0, 2, 7][..],
        &[1, 0, 2, 7, 3, 1],
        &[1, 1, 2, 7, 3],
        &[1, 0, 2, 7, 4],
        &[2, 0, 2, 7, 0],
        &[0, 0, 0, 9, 1],
        &[1, 0, -1, 7, 3],
        &[1, 0, 1 << 40, 7, 3],
        &[1, 0, 2, i64::MAX, 3],
    ] {
        assert_eq!(parsed(wrong), None, "{wrong:?}");
    }
    for wrong in [
        "",
        "1 0 2 7 3 ",
        " 1 0 2 7 3",
        "1 0  2 7 3",
        "1 0 2 +7 3",
        "1 0 2 7 3\n",
    ] {
        assert_eq!(parsed_text(wrong), None, "{wrong:?}");
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
        assert_eq!(with_ask(|asks| parse(&value, asks)), None);
    }
}

proptest! {
    #[test]
    fn no_numbers_make_it_panic(numbers in prop::collection::vec(any::<i64>(), 0..12)) {
        let _ = parsed(&numbers);
    }
}
