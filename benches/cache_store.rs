//! Looking up stored answers: 100,000 keys, asked for in no order, by the key of a request.
//!
//! The budget is 300 ns: a hit is made of one look. A look begins with the request's key and ends when
//! what was found has been read and let go of. `cache/key` is what that key costs beside it, of a request with
//! as many fields as browsers send, and `cache/key_told` where forwarding fields are looked for among them.

mod support;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::IntCounter;
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
    for context in &contexts {
        let label = Label::of(&key_of(context).to_key());
        let bytes = [7; 64];
        store.put(&Arc::new(Answer { label, bytes }), |_| true, |_| false);
    }
    assert_eq!(store.len(), KEYS);
    let mut random = fastrand::Rng::with_seed(1);
    criterion.bench_function("cache/look_up_100k", |bencher| {
        bencher.iter_custom(|looks| {
            let mut took = Duration::ZERO;
            // A request's own fields have just been read when it is looked up; what is stored has not.
            for begin in (0..looks).step_by(BATCH) {
                let chosen = (begin..looks).take(BATCH);
                let keys: Vec<_> = chosen
                    .map(|_| key_of(&contexts[random.usize(..KEYS)]))
                    .collect();
                let began = Instant::now();
                for key in &keys {
                    let shelf = store.find(black_box(key)).expect("it is there");
                    black_box(shelf.variants()[0].bytes[0]);
                }
                took += began.elapsed();
            }
            took
        });
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
