//! What the look-up of an API key costs, with few keys and with many.

// Panics end a benchmark, which is what they are for here.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::{
    config::{KeyHash, KeysFile, StoredKey},
    exchange::{RequestHead, api_key},
    pipeline::auth::api_keys::KeyTable,
};

/// A table of so many keys, and some of the keys.
fn table(number: usize) -> (KeyTable, Vec<String>) {
    let mut keys = BTreeMap::new();
    let mut shown = Vec::new();
    for at in 0..number {
        let key = api_key::generate().unwrap();
        let stored = StoredKey {
            hash: KeyHash(api_key::hash(key.as_bytes()).unwrap().bytes()),
            previous: Vec::new(),
            roles: vec!["editor".to_owned()],
            permissions: Vec::new(),
            created: None,
            not_before: None,
            expires: Some(SystemTime::now() + std::time::Duration::from_secs(86_400)),
            revoked: None,
            routes: Vec::new(),
            cidrs: Vec::new(),
            quota: Vec::new(),
        };
        keys.insert(Arc::from(format!("key-{at}")), stored);
        shown.push(key);
    }
    let table = KeyTable::of(&"api_keys.partners".into(), &KeysFile { keys });
    // Others each time, so that the processor does not know the place by heart.
    fastrand::Rng::with_seed(7).shuffle(&mut shown);
    shown.truncate(4096);
    (table, shown)
}

fn look_up(criterion: &mut Criterion) {
    let context = support::context(RequestHead::default());
    for number in [10, 100_000] {
        let (table, keys) = table(number);
        let mut turns = keys.iter().cycle();
        criterion.bench_function(&format!("keys/look_up/{number}"), |bench| {
            bench.iter(|| {
                let key = turns.next().unwrap();
                let hash = api_key::hash(black_box(key.as_bytes())).unwrap();
                table.admit(&hash, &context).is_ok()
            });
        });
    }
    criterion.bench_function("keys/malformed", |bench| {
        let key = format!("tgk_{}", "x".repeat(49));
        bench.iter(|| api_key::hash(black_box(key.as_bytes())).is_some());
    });
    let (elsewhere, (table, _)) = (api_key::generate().unwrap(), table(100_000));
    criterion.bench_function("keys/unknown/100000", |bench| {
        bench.iter(|| {
            let hash = api_key::hash(black_box(elsewhere.as_bytes())).unwrap();
            table.admit(&hash, &context).is_err()
        });
    });
}

criterion_group!(benches, look_up);
criterion_main!(benches);
