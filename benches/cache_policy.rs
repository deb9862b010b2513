//! What the cache decides for every request, and for every answer that it may store.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tollgate::pipeline::cache::policy::{
    Answer, Asked, CacheStatus, Incoming, Moment, Nominated, Options, StoredHead, Url, judge,
    reuse, select,
};

const NOW: Moment = Moment::from_millis(1_783_000_000_000);
const URL: Url<'_> = Url {
    scheme: "https",
    authority: "api.example.com",
    target: "/items/1?fields=name",
};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = lines.iter().map(|(name, value)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    });
    pairs.collect()
}

/// A browser's request.
fn request() -> HeaderMap {
    headers(&[
        ("host", "api.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)"),
        ("accept", "application/json"),
        ("accept-language", "en-GB,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cache-control", "max-age=0"),
        ("cookie", "session=0123456789abcdef"),
        (
            "if-none-match",
            "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"",
        ),
    ])
}

fn answer() -> HeaderMap {
    headers(&[
        ("date", "Thu, 02 Jul 2026 13:46:40 GMT"),
        ("content-type", "application/json"),
        ("content-length", "1024"),
        (
            "cache-control",
            "public, max-age=600, stale-while-revalidate=60",
        ),
        ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
        ("last-modified", "Wed, 01 Jul 2026 13:46:40 GMT"),
        ("vary", "Accept-Encoding, Accept-Language"),
    ])
}

fn asked(request: &HeaderMap, options: &Options) -> Asked {
    let incoming = Incoming {
        method: &Method::GET,
        headers: request,
        has_body: false,
        upgrade: false,
        odd_names: false,
        principal: false,
    };
    Asked::read(&incoming, options)
}

fn stored(options: &Options) -> (StoredHead, Nominated) {
    let (request, answer) = (request(), answer());
    let received = Answer {
        status: StatusCode::OK,
        headers: &answer,
        requested: NOW,
        received: NOW,
    };
    let asked = asked(&request, options);
    let verdict = judge(&asked, &URL, &received, options).expect("the answer may be stored");
    let nominated = verdict.nominated.clone();
    (verdict.store(StatusCode::OK, answer), nominated)
}

/// All that a hit needs of the policy, with the wishes of clients heard and not.
fn hit(criterion: &mut Criterion) {
    let request = request();
    let heard = Options {
        request_directives: true,
        ..Options::default()
    };
    for (name, options) in [("plain", Options::default()), ("wishes_heard", heard)] {
        let (head, nominated) = stored(&options);
        criterion.bench_function(&format!("cache_policy/hit/{name}"), |bench| {
            bench.iter(|| {
                let request = black_box(&request);
                let asked = asked(request, &options);
                let key = nominated.key(request);
                let reuse = reuse(&asked, &head.facts, NOW);
                let selected = select(&asked, request, &head, Some(1024), NOW);
                (key, reuse, selected)
            });
        });
    }
}

fn parts(criterion: &mut Criterion) {
    let (request, options) = (request(), Options::default());
    let (head, nominated) = stored(&options);
    criterion.bench_function("cache_policy/asked", |bench| {
        bench.iter(|| asked(black_box(&request), &options));
    });
    criterion.bench_function("cache_policy/variant_key", |bench| {
        bench.iter(|| nominated.key(black_box(&request)));
    });
    let asked = asked(&request, &options);
    criterion.bench_function("cache_policy/reuse", |bench| {
        bench.iter(|| reuse(black_box(&asked), &head.facts, NOW));
    });
    criterion.bench_function("cache_policy/cache_status", |bench| {
        bench.iter(|| CacheStatus::hit("tollgate", black_box(&head.facts).ttl(NOW)).header());
    });
}

fn storing(criterion: &mut Criterion) {
    let (request, headers, options) = (request(), answer(), Options::default());
    let asked = asked(&request, &options);
    let answer = Answer {
        status: StatusCode::OK,
        headers: &headers,
        requested: NOW,
        received: NOW,
    };
    criterion.bench_function("cache_policy/judge", |bench| {
        bench.iter(|| judge(&asked, &URL, black_box(&answer), &options).is_ok());
    });
}

criterion_group!(benches, hit, parts, storing);
criterion_main!(benches);
