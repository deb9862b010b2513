//! What a limit costs a request: the table and the algorithms alone, and a whole refusal.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::store::{
    Algorithm, Counters, Counting, FixedWindow, KeyHash, KeyHasher, SlidingLog, SlidingWindow,
    TokenBucket, Window,
};

const SECOND: u64 = 1_000_000_000;

fn keys(count: u64) -> Vec<KeyHash> {
    let hasher = KeyHasher::default();
    (0..count)
        .map(|it| hasher.hash(&it.to_le_bytes()))
        .collect()
}

/// Decisions over so many keys, all granted.
fn decisions<A: Algorithm>(criterion: &mut Criterion, name: &str, windows: &[Window], count: u64) {
    let (keys, counters) = (keys(count), Counters::<A, 4>::new(200_000, None));
    let (mut now, mut next) = (1_700_000_000 * SECOND, 0);
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            now += 1_000;
            next = (next + 7919) % keys.len();
            black_box(counters.take(keys[next], windows, now, 1))
        });
    });
}

fn algorithms(criterion: &mut Criterion) {
    let generous = [Window::new(1_000_000_000, Duration::from_secs(1), None)];
    let two = [
        generous[0],
        Window::new(4_000_000_000, Duration::from_secs(3600), None),
    ];
    let small = [Window::new(100, Duration::from_millis(1), None)];
    decisions::<TokenBucket>(criterion, "token bucket, one key", &generous, 1);
    decisions::<TokenBucket>(criterion, "token bucket, 100,000 keys", &generous, 100_000);
    decisions::<TokenBucket>(criterion, "token bucket, two windows", &two, 1);
    decisions::<SlidingWindow>(criterion, "sliding window, one key", &generous, 1);
    decisions::<FixedWindow>(criterion, "fixed window, one key", &generous, 1);
    decisions::<SlidingLog>(criterion, "sliding log of 100, one key", &small, 1);
}

fn refusals(criterion: &mut Criterion) {
    let window = [Window::new(1, Duration::from_secs(3600), None)];
    let counters = Counters::<TokenBucket, 1>::new(100_000, None);
    let key = keys(1)[0];
    counters.take(key, &window, 0, 1);
    criterion.bench_function("token bucket, refused", |bencher| {
        bencher.iter(|| black_box(counters.take(key, &window, 1, 1)));
    });
}

fn floods(criterion: &mut Criterion) {
    let window = [Window::new(1, Duration::from_secs(3600), None)];
    let counters = Counters::<TokenBucket, 1>::new(10_000, None);
    let hasher = KeyHasher::default();
    let mut next = 0u64;
    criterion.bench_function("token bucket, a new key in a full table", |bencher| {
        bencher.iter(|| {
            next += 1;
            let key = hasher.hash(&next.to_le_bytes());
            black_box(counters.take(key, &window, next * SECOND, 1))
        });
    });
    criterion.bench_function("hash of an address", |bencher| {
        bencher.iter(|| hasher.hash(black_box(b"4\x04\0\0\0\0\0\0\0\xc0\0\x02\x01")));
    });
}

criterion_group!(benches, algorithms, refusals, floods);
criterion_main!(benches);
