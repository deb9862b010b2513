//! What finding a route costs: with 10 routes and with 10,000 it should be the same.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, Method, uri::PathAndQuery};
use tollgate::{
    config::{Config, HostPattern, PathPattern, PathSegment, Route, ValueMatch},
    exchange::target::normalise,
    router::{Lookup, Router},
};

const SIZES: [usize; 2] = [10, 10_000];

fn route(name: &str, segments: &[&str], rest: bool) -> Route {
    let segment = |text: &&str| match text.strip_prefix(':') {
        Some(name) => PathSegment::Capture(name.into()),
        None => PathSegment::Literal((*text).into()),
    };
    Route {
        name: name.into(),
        paths: vec![PathPattern {
            text: segments.join("/").into(),
            segments: segments.iter().map(segment).collect(),
            rest: rest.then_some(None),
        }],
        ..blank()
    }
}

/// A route with every default.
fn blank() -> Route {
    let loaded = Config::parse("bench.toml", "[routes.x]\nrespond = {}");
    let mut routes = loaded.expect("it is valid").config.routes;
    routes.remove(0)
}

/// Prefixes, captures, hosts and a condition, over and over, and a catch-all.
fn routes(count: usize) -> Vec<Route> {
    let one = |index: usize| {
        let service = format!("service-{index}");
        let mut route = route(&service, &["api", "v1", &service], true);
        match index % 5 {
            1 => {
                route.paths[0] =
                    self::route("", &["api", "v1", &service, ":id"], false).paths[0].clone()
            }
            2 => route.hosts = vec![HostPattern::Exact(format!("h{index}.example.com").into())],
            3 => route.methods = Some(vec![Method::GET]),
            4 => {
                route.match_headers = vec![(
                    HeaderName::from_static("x-canary"),
                    ValueMatch::Exact("1".into()),
                )]
            }
            _ => {}
        }
        route
    };
    let mut routes: Vec<_> = (0..count - 1).map(one).collect();
    routes.push(route("all", &[], true));
    routes
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find");
    let cases = [
        ("prefix", "/api/v1/service-5/orders/17"),
        ("capture", "/api/v1/service-6/17"),
        ("host", "/api/v1/service-7/orders"),
        ("fallback", "/api/v1/service-4/orders"),
        ("catch-all", "/assets/app.js"),
    ];
    for count in SIZES {
        let routes = routes(count);
        let router = Router::build(routes.iter().zip(0_usize..));
        for (name, path) in cases {
            let lookup = Lookup {
                host: if name == "host" {
                    "h7.example.com"
                } else {
                    "example.com"
                },
                path,
                query: None,
                method: &Method::GET,
                headers: &HeaderMap::new(),
                preflight: None,
            };
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| black_box(router.find(black_box(&lookup))));
            });
        }
    }
    group.finish();
}

fn build(c: &mut Criterion) {
    let routes = routes(10_000);
    c.bench_function("build/10000", |b| {
        b.iter(|| Router::build(routes.iter().zip(0_usize..)));
    });
}

fn normal_form(c: &mut Criterion) {
    let mut group = c.benchmark_group("normalise");
    for (name, target) in [
        ("normal", "/api/v1/orders/17?expand=items"),
        ("dots", "/api/v1/./users/../orders/%31%37?expand=items"),
    ] {
        let target = PathAndQuery::from_static(target);
        group.bench_function(name, |b| {
            b.iter(|| black_box(normalise(black_box(&target))))
        });
    }
    group.finish();
}

criterion_group!(benches, find, build, normal_form);
criterion_main!(benches);
