//! What a limit costs a request: the table and the algorithms alone, and a whole refusal.

mod support;

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use tollgate::{
    config::Config,
    exchange::{
        Body, BoxFuture, Clock, Context, Handle, Request, RequestHead, Response, RouteService,
    },
    pipeline::{LimitBook, RateLimitLayer},
    store::{
        Algorithm, Counters, Counting, FixedWindow, KeyHash, KeyHasher, SlidingLog, SlidingWindow,
        TokenBucket, Window,
    },
    telemetry::Metrics,
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

/// The end of a route, without and with a limit around it.
fn layers(criterion: &mut Criterion) {
    let cases = [
        ("a route without a limit", None),
        ("a route with a limit", Some("1000000000/1s")),
        (
            "a route with two windows",
            Some("1000000000/1s', '4000000000/1h"),
        ),
        ("a route that refuses", Some("1/3650d")),
    ];
    for (name, quota) in cases {
        let service = service(quota);
        let _ = ask(&service, &context());
        criterion.bench_function(name, |bencher| {
            let run = |context: Arc<Context>| {
                // The context is dropped outside of the measurement.
                (black_box(ask(&service, &context)), context)
            };
            bencher.iter_batched(context, run, BatchSize::SmallInput);
        });
    }
}

fn ask(service: &RouteService, context: &Arc<Context>) -> Response {
    let answer = service.handle(Request::new(Body::empty()), context);
    answer.now_or_never().expect("nothing here waits")
}

fn service(quota: Option<&str>) -> RouteService {
    let leaf = RouteService::new(Leaf);
    let Some(quota) = quota else { return leaf };
    let text = format!(
        "[routes.all]\nrespond = {{}}\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = ['{quota}']\n"
    );
    let config = Config::parse("bench.toml", &text)
        .expect("it is valid")
        .config;
    let (clock, metrics) = (Clock::system(), Metrics::new());
    let book = LimitBook::build(
        &config.rate_limits,
        &clock,
        &metrics,
        &LimitBook::default(),
        None,
    );
    let layer = RateLimitLayer::before_auth(&config.routes[0], &book);
    leaf.layer(&layer.expect("the route has a limit"))
}

/// An answer with a field or two, as upstreams make them.
struct Leaf;

impl Handle for Leaf {
    fn handle(&self, _: Request, _: &Arc<Context>) -> BoxFuture<Response> {
        Box::pin(async {
            let mut response = Response::new(Body::empty());
            let headers = response.headers_mut();
            headers.insert("content-type", http::HeaderValue::from_static("text/plain"));
            headers.insert("server", http::HeaderValue::from_static("bench"));
            response
        })
    }
}

fn context() -> Arc<Context> {
    Arc::new(support::context(RequestHead::default()))
}

criterion_group!(benches, layers, algorithms, refusals, floods);
criterion_main!(benches);
