//! Looking up stored answers: 100,000 keys, asked for in no order, by the key of a request.
//!
//! The budget is 300 ns: a hit is made of one look. A look begins with the request's key and ends when
//! what was found has been read and let go of. Nearly all of it is waiting for memory, which takes twice as
//! long on one machine as on another: `cache/bare_100k` says how long. It is the least that a look can be, a
//! hash table of references to answers with their keys in them, behind a lock and bounded by nothing. `cache/key` is what that key costs beside it, of a request with
//! as many fields as browsers send, and `cache/key_told` where forwarding fields are looked for among them.

mod support;

use std::{
    collections::HashMap,
    hash::BuildHasher,
    hint::black_box,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::IntCounter;
use quick_cache::DefaultHashBuilder;
use smallvec::SmallVec;
use tollgate::{
    config::CacheQuery,
    exchange::{Context, RequestHead},
    pipeline::cache::{
        key::{KeyParts, Label, Sought},
        store::{Kept, Store},
    },
};

/// What the program runs with: where it puts 100,000 answers is a part of what finding one costs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Something to be found: it has its key in it, as stored answers have.
struct Answer {
    label: Label,
    bytes: [u8; 64],
}

impl Kept for Answer {
    fn weight(&self) -> u64 {
        1024
    }

    fn label(&self) -> &Label {
        &self.label
    }
}

/// The same of the table that a look is compared with.
struct Bare {
    text: SmallVec<[u8; 128]>,
    bytes: [u8; 64],
}

fn context(target: &str) -> Context {
    support::context(RequestHead {
        target: target.parse().expect("a target"),
        host: Some(HeaderValue::from_static("api.example.com")),
        ..RequestHead::default()
    })
}

fn parts(context: &Context, told_more: bool) -> KeyParts<'_> {
    KeyParts {
        zone: "orders",
        route: "orders",
        target: context.target(),
        query: &CacheQuery::AsIs,
        headers: &[],
        rewritten: None,
        identity: &[],
        told_more,
    }
}

/// A browser's fields, and a proxy's.
fn fields() -> HeaderMap {
    let names = [
        "host",
        "user-agent",
        "accept",
        "accept-language",
        "accept-encoding",
        "referer",
        "cookie",
        "dnt",
        "sec-ch-ua",
        "sec-ch-ua-mobile",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "priority",
        "x-real-ip",
    ];
    let value = HeaderValue::from_static("a value of some length");
    let fields = names.map(|name| (HeaderName::from_static(name), value.clone()));
    fields.into_iter().collect()
}

/// So many looks, and how long they took. A request's own fields have just been read when it is looked up;
/// what is stored has not.
fn look<K>(mut key: impl FnMut(u64) -> K, find: impl Fn(&K) -> u8) -> impl FnMut(u64) -> Duration {
    move |looks| {
        let mut took = Duration::ZERO;
        for begin in (0..looks).step_by(BATCH) {
            let keys: Vec<_> = (begin..looks).take(BATCH).map(&mut key).collect();
            let began = Instant::now();
            for key in &keys {
                black_box(find(black_box(key)));
            }
            took += began.elapsed();
        }
        took
    }
}

fn look_up(criterion: &mut Criterion) {
    let counter = IntCounter::new("evictions", "evictions").expect("a name");
    let store = Store::new(512 << 20, 8 << 20, counter);
    let fields = fields();
    let key_with =
        |context: &Context, told: bool| Sought::of(&parts(context, told), context, &fields);
    let key_of = |context: &Context| key_with(context, false);
    let contexts: Vec<_> = (0..KEYS)
        .map(|index| context(&format!("/api/v1/orders/{index}?page={}", index % 7)))
        .collect();
    let bare = RwLock::new(HashMap::<u64, Arc<Bare>>::new());
    let hasher = DefaultHashBuilder::default();
    for context in &contexts {
        let label = Label::of(&key_of(context).to_key());
        let bytes = [7; 64];
        store.put(&Arc::new(Answer { label, bytes }), |_| true, |_| false);
        let text = SmallVec::from_slice(context.target().as_bytes());
        let mut bare = bare.write().unwrap_or_else(PoisonError::into_inner);
        bare.insert(hasher.hash_one(&text[..]), Arc::new(Bare { text, bytes }));
    }
    assert_eq!(store.len(), KEYS);
    let mut random = fastrand::Rng::with_seed(1);
    let mut chosen = |_| &contexts[random.usize(..KEYS)];
    criterion.bench_function("cache/look_up_100k", |bencher| {
        let key = |index| key_of(chosen(index));
        let find = |key: &Sought| {
            let shelf = store.find(key).expect("it is there");
            shelf.variants()[0].bytes[0]
        };
        bencher.iter_custom(look(key, find));
    });
    criterion.bench_function("cache/bare_100k", |bencher| {
        let key = |index| chosen(index).target().as_bytes();
        let find = |key: &&[u8]| {
            let bare = bare.read().unwrap_or_else(PoisonError::into_inner);
            let found = bare.get(&hasher.hash_one(key)).map(Arc::clone);
            drop(bare);
            let found = found.filter(|found| found.text[..] == **key);
            found.expect("it is there").bytes[0]
        };
        bencher.iter_custom(look(key, find));
    });
    criterion.bench_function("cache/key", |bencher| {
        bencher.iter(|| black_box(key_of(&contexts[7])));
    });
    criterion.bench_function("cache/key_told", |bencher| {
        bencher.iter(|| black_box(key_with(&contexts[7], true)));
    });
}

const KEYS: usize = 100_000;
/// Look-ups whose keys are made beforehand, few enough for a core's own cache.
const BATCH: usize = 500;

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3));
    targets = look_up
}
criterion_main!(benches);
