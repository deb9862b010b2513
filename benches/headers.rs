//! The work on header fields that every request, or many, pay for.

use std::{hint::black_box, time::SystemTime};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate::{
    exchange::{RequestId, TraceContext, fields, host::Host},
    frame::client::{self, Trust},
};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = lines.iter().map(|(name, value)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    });
    pairs.collect()
}

fn identity(criterion: &mut Criterion) {
    criterion.bench_function("headers/request_id", |bench| {
        bench.iter(|| RequestId::generate(black_box(SystemTime::UNIX_EPOCH)))
    });
    let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    criterion.bench_function("headers/traceparent", |bench| {
        bench.iter(|| TraceContext::from_caller(black_box(parent)).map(|trace| trace.header()));
    });
    criterion.bench_function("headers/host", |bench| {
        bench.iter(|| Host::parse(black_box("api.example.com:8080")).is_ok());
    });
}

fn hop_by_hop(criterion: &mut Criterion) {
    let plain = headers(&[
        ("host", "a"),
        ("connection", "keep-alive"),
        ("accept", "*/*"),
    ]);
    let nominating = headers(&[
        ("host", "a"),
        ("connection", "close, x-one, x-two"),
        ("x-one", "1"),
        ("te", "trailers"),
    ]);
    for (name, map, named) in [("plain", plain, false), ("nominating", nominating, true)] {
        criterion.bench_function(&format!("headers/hop_by_hop/{name}"), |bench| {
            bench.iter_batched_ref(
                || map.clone(),
                |map| fields::remove_hop_by_hop(map, named),
                BatchSize::SmallInput,
            );
        });
    }
}

fn client_address(criterion: &mut Criterion) {
    let networks = ["10.0.0.0/8", "fd00::/8"].iter();
    let trust = Trust {
        networks: networks
            .filter_map(|network| network.parse().ok())
            .collect(),
        ..Trust::default()
    };
    let forwarded = headers(&[
        ("x-forwarded-for", "203.0.113.7, 10.1.1.1, 10.1.1.2"),
        ("x-forwarded-proto", "https"),
    ]);
    let peer = [10, 0, 0, 1].into();
    criterion.bench_function("headers/client_behind_proxies", |bench| {
        bench.iter(|| client::behind_proxy(peer, "http", black_box(&forwarded), &trust));
    });
}

criterion_group!(benches, identity, hop_by_hop, client_address);
criterion_main!(benches);
