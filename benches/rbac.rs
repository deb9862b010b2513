//! What a decision about a caller costs: under 200 ns, whatever the number of roles.

mod support;

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{Method, Uri};
use tollgate::{
    config::{Config, Route},
    exchange::{Asked, Context, Principal, RequestHead},
    pipeline::{Ranges, Rules},
};

fn route(keys: &str) -> Route {
    // A hundred teams with three roles each.
    let roles: String = (0..100)
        .map(|team| {
            format!(
                "[roles.viewer-{team}]\npermissions = ['team-{team}:read', 'orders:read']\n\
                 [roles.editor-{team}]\nincludes = ['viewer-{team}']\npermissions = ['team-{team}:*', 'orders:write']\n\
                 [roles.admin-{team}]\nincludes = ['editor-{team}']\npermissions = ['*']\n"
            )
        })
        .collect();
    let auth = "[auth.jwt.customers]\nissuer = 'https://id.example.com/'\nalgorithms = ['HS256']\n\
                secret = '0123456789abcdef0123456789abcdef'\n";
    let text = format!(
        "{auth}{roles}\n[routes.one]\nhosts = ['{{tenant}}.example.com']\nupstream = 'http://127.0.0.1:1'\nauth = 'jwt.customers'\n{keys}"
    );
    let loaded = Config::parse("bench.toml", &text).expect("it is valid");
    loaded.config.routes.into_iter().next().expect("a route")
}

fn context(roles: &[&str]) -> Context {
    let context = support::context(RequestHead {
        method: Method::DELETE,
        target: Uri::from_static("/api/v1/orders/1"),
        ..RequestHead::default()
    });
    context.matched(&"one".into(), vec![("host.tenant".into(), "acme".into())]);
    let mut principal = Principal::new(&"jwt.customers".into(), "alice");
    principal.roles = roles.iter().map(|&role| role.into()).collect();
    principal.claims = serde_json::json!({ "tenant": "acme" });
    context.identify(Arc::new(principal));
    context
}

fn decisions(criterion: &mut Criterion) {
    let by_method =
        "permissions = { GET = 'orders:read', POST = 'orders:write', '*' = 'orders:write' }";
    let all = "permissions = { all = ['orders:write', 'team-7:read'] }";
    let everything = "permissions = { GET = 'orders:read', '*' = 'orders:write' }\n\
                      roles = ['viewer-7']\nclaims = { tenant = '${host.tenant}' }";
    let eight = ["a", "b", "c", "d", "e", "f", "g", "editor-7"];
    for (name, keys, roles) in [
        ("one_role", by_method, &["editor-7"][..]),
        ("eight_roles", by_method, &eight),
        ("denied", by_method, &["nobody"]),
        ("all_of", all, &["editor-7"]),
        ("role_and_claim", everything, &["editor-7"]),
    ] {
        let rules = Rules::from_config(&route(keys).access);
        let (context, headers) = (context(roles), http::HeaderMap::new());
        criterion.bench_function(&format!("rbac/{name}"), |bench| {
            bench.iter(|| {
                let asked = Asked {
                    method: black_box(&Method::DELETE),
                    path: black_box("/api/v1/orders/1"),
                    headers: &headers,
                };
                rules.decide(&asked, &context).is_ok()
            });
        });
    }
}

fn addresses(criterion: &mut Criterion) {
    for count in [10_u32, 100_000] {
        let networks = (0..count).map(|at| ipnet::Ipv4Net::new_assert((at << 8).into(), 25).into());
        let ranges = Ranges::new(networks);
        let address = std::net::IpAddr::V4((((count - 1) << 8) + 200).into());
        criterion.bench_function(&format!("ip/{count}"), |bench| {
            bench.iter(|| ranges.contains(black_box(address)));
        });
    }
}

criterion_group!(benches, decisions, addresses);
criterion_main!(benches);
