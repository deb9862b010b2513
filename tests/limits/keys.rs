//! By what callers are told apart, and ways round that are none.

use super::Limited;
use crate::support::{Gateway, Raw};

#[tokio::test]
async fn who_spoofs_x_forwarded_for_is_the_same_client() {
    let limited = Limited::by("key = 'client_ip'\nquota = '3/1h'");
    let mut passed = 0;
    for number in 0..10 {
        let spoofed = format!(
            "X-Forwarded-For: 203.0.113.{number}\r\nForwarded: for=203.0.113.{number}\r\nX-Real-IP: 203.0.113.{number}\r\n"
        );
        passed += limited.passed(1, &spoofed).await;
    }
    assert_eq!(passed, 3);
}

/// Behind a trusted proxy, the rightmost untrusted hop counts and nothing left of it.
const BEHIND: &str = "[server]\ntrusted_proxies = ['127.0.0.1']\n\
     [routes.all]\nrespond = { body = 'ok' }\nrate_limits = ['one']\n\
     [rate_limits.one]\nkey = 'client_ip'\nquota = '3/1h'\n";

async fn passed_from(limited: &Limited, hops: impl Iterator<Item = String>) -> u32 {
    let mut passed = 0;
    for hop in hops {
        let lines = format!("X-Forwarded-For: {hop}\r\n");
        passed += limited.passed(1, &lines).await;
    }
    passed
}

#[tokio::test]
async fn the_hop_before_a_trusted_proxy_is_the_client() {
    let limited = Limited::start(BEHIND);
    let spoofed = (0..10).map(|number| format!("10.9.8.{number}, 203.0.113.7"));
    assert_eq!(passed_from(&limited, spoofed).await, 3);
    let others = (0..10).map(|number| format!("203.0.113.{}", 10 + number));
    assert_eq!(passed_from(&limited, others).await, 10);
}

#[tokio::test]
async fn addresses_of_one_ipv6_network_are_one_client() {
    let limited = Limited::start(BEHIND);
    let rotating = (0..10).map(|number| format!("2001:db8:1:2:{number:x}::{number:x}"));
    assert_eq!(passed_from(&limited, rotating).await, 3);
    let networks = (0..10).map(|number| format!("2001:db8:1:{:x}::1", 16 + number));
    assert_eq!(passed_from(&limited, networks).await, 10);
}

#[tokio::test]
async fn clients_whose_requests_share_a_connection_are_told_apart() {
    let limited = Limited::start(BEHIND);
    let mut proxy = Raw::connect(limited.gateway.address()).await;
    let mut passed = [0; 4];
    let clients = [
        "203.0.113.7",
        "203.0.113.8",
        "2001:db8:1:2::1",
        "2001:db8:1:3::1",
    ];
    for client in clients.repeat(5) {
        let request =
            format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: {client}\r\n\r\n");
        proxy.send(request).await;
        let place = clients.iter().position(|it| *it == client).unwrap();
        passed[place] += u32::from(proxy.answer().await.status == 200);
    }
    assert_eq!(passed, [3; 4]);
}

#[tokio::test]
async fn limits_by_one_address_count_apart_on_one_connection() {
    let limited = Limited::start(
        "[routes.few]\npath = '/few'\nrespond = {}\nrate_limits = ['few', 'either']\n\
         [routes.more]\npath = '/more'\nrespond = {}\nrate_limits = ['either', 'more']\n\
         [rate_limits.few]\nkey = 'client_ip'\nquota = '2/1h'\n\
         [rate_limits.more]\nkey = 'client_ip'\nquota = '4/1h'\n\
         [rate_limits.either]\nkey = 'client_ip'\nquota = '5/1h'\n",
    );
    // On each connection another limit is asked first.
    let passed = async |path: &str| {
        let mut client = Raw::connect(limited.gateway.address()).await;
        let mut passed = 0;
        for _ in 0..5 {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            client.send(request).await;
            passed += u32::from(client.answer().await.status == 200);
        }
        passed
    };
    assert_eq!(passed("/few").await, 2);
    assert_eq!(passed("/more").await, 3, "what both count is five");
    assert_eq!(passed("/few").await, 0);
}

#[tokio::test]
async fn the_network_of_an_ipv6_client_can_be_set() {
    let limited = Limited::start(&format!("{BEHIND}ipv6_prefix = 48\n"));
    let sites = (0..10).map(|number| format!("2001:db8:1:{number:x}::1"));
    assert_eq!(passed_from(&limited, sites).await, 3);
}

#[tokio::test]
async fn a_header_is_a_key_beside_an_address() {
    let limited = Limited::answering(
        "['tenant', 'address']",
        "[rate_limits.tenant]\nkey = 'header:x-tenant'\nquota = '2/1h'\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '5/1h'\n",
    );
    assert_eq!(limited.passed(3, "X-Tenant: a\r\n").await, 2);
    assert_eq!(limited.passed(3, "X-Tenant: b\r\n").await, 2);
    // Who makes up one tenant after another is held by the address.
    assert_eq!(limited.passed(1, "X-Tenant: c\r\n").await, 1);
    assert_eq!(limited.passed(1, "X-Tenant: d\r\n").await, 0);
}

#[tokio::test]
async fn cookies_captures_hosts_and_methods_are_keys() {
    let limited = Limited::start(
        "[routes.all]\npath = '/{item}'\nrespond = {}\nrate_limits = ['parts', 'address']\n\
         [rate_limits.parts]\nkey = ['cookie:visitor', 'path.item', 'host', 'method', 'route']\nquota = '1/1h'\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '1000/1h'\n",
    );
    let ask = async |path: &str, lines: &str| limited.ask(path, lines).await.status;
    let cookie = "Cookie: a=1; visitor=v1; b=2\r\n";
    assert_eq!(ask("/x", cookie).await, 200);
    assert_eq!(ask("/x", cookie).await, 429);
    assert_eq!(ask("/x", "Cookie: visitor=v1\r\n").await, 429);
    assert_eq!(ask("/x", "Cookie: visitor=v2\r\n").await, 200);
    assert_eq!(ask("/y", cookie).await, 200);
    let request =
        format!("GET /x HTTP/1.1\r\nHost: B.test:80\r\nConnection: close\r\n{cookie}\r\n");
    assert_eq!(
        Raw::ask(limited.gateway.address(), request.clone())
            .await
            .status,
        200
    );
    let same = request.replace("B.test:80", "b.TEST");
    assert_eq!(Raw::ask(limited.gateway.address(), same).await.status, 429);
}

#[tokio::test]
async fn routes_and_methods_together_are_a_key() {
    let limited = Limited::start(
        "[routes.a]\npath = '/a'\nrespond = {}\nrate_limits = ['parts', 'address']\n\
         [routes.b]\npath = '/b'\nrespond = {}\nrate_limits = ['parts', 'address']\n\
         [rate_limits.parts]\nkey = ['route', 'method']\nquota = '1/1h'\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '1000/1h'\n",
    );
    for status in [200, 429] {
        for (method, path) in [("GET", "/a"), ("POST", "/a"), ("GET", "/b"), ("POST", "/b")] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let answer = Raw::ask(limited.gateway.address(), request).await;
            assert_eq!(answer.status, status, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn what_becomes_of_requests_without_a_key_is_configured() {
    let with = |missing: &str| {
        Limited::answering(
            "['tenant', 'address']",
            &format!(
                "[rate_limits.tenant]\nkey = 'header:x-tenant'\nquota = '2/1h'\n{missing}\n\
                 [rate_limits.address]\nkey = 'client_ip'\nquota = '5/1h'\n"
            ),
        )
    };
    assert_eq!(with("").passed(9, "").await, 2);
    assert_eq!(with("on_missing_key = 'client_ip'").passed(9, "").await, 2);
    assert_eq!(with("on_missing_key = 'skip'").passed(9, "").await, 5);
    let refusing = with("on_missing_key = 'refuse'");
    let refusal = refusing.get().await.refusal();
    assert_eq!(refusal, (400, "limit.key_missing".to_owned()));
    assert_eq!(refusing.passed(3, "X-Tenant: a\r\n").await, 2);
}

#[tokio::test]
async fn routes_share_a_limit_unless_it_says_otherwise() {
    let with = |keys: &str| {
        Limited::start(&format!(
            "[routes.a]\npath = '/a'\nrespond = {{}}\nrate_limits = ['one']\n\
             [routes.b]\npath = '/b'\nrespond = {{}}\nrate_limits = ['one']\n\
             [rate_limits.one]\nkey = 'client_ip'\nquota = '1/1h'\n{keys}\n"
        ))
    };
    let shared = with("");
    assert_eq!(shared.ask("/a", "").await.status, 200);
    assert_eq!(shared.ask("/b", "").await.status, 429);
    let own = with("per = 'route'");
    assert_eq!(own.ask("/a", "").await.status, 200);
    assert_eq!(own.ask("/b", "").await.status, 200);
    assert_eq!(own.ask("/b", "").await.status, 429);
}

#[tokio::test]
async fn exempt_networks_are_not_limited() {
    for network in ["127.0.0.0/8", "::ffff:127.0.0.0/104", "127.0.0.1"] {
        let limited = Limited::by(&format!(
            "key = 'client_ip'\nquota = '1/1h'\nexempt = ['{network}']"
        ));
        for _ in 0..5 {
            let answer = limited.get().await;
            let told = (answer.status, answer.header("ratelimit"));
            assert_eq!(told, (200, None), "{network}");
        }
    }
}

#[tokio::test]
async fn every_worker_counts_the_same() {
    let gateway = Gateway::start(
        "[server]\nworkers = 4\n[routes.all]\nrespond = {}\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '10/1h'\n",
    );
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(Raw::connect(gateway.address()).await);
    }
    let mut passed = 0;
    for _ in 0..4 {
        for connection in &mut connections {
            connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            passed += u32::from(connection.answer().await.status == 200);
        }
    }
    assert_eq!(passed, 10);
}

#[tokio::test]
async fn a_host_or_a_part_of_a_path_that_is_spelt_otherwise_is_the_same() {
    let limited = Limited::start(
        "[server]\ntrusted_proxies = ['127.0.0.1']\n\
         [routes.host]\nhosts = ['a.test', '[::1]']\nrespond = {}\nrate_limits = ['host']\n\
         [rate_limits.host]\nkey = 'host'\nquota = '1/1h'\n\
         [routes.mail]\npath = '/{mail}/x'\nrespond = {}\nrate_limits = ['mail', 'address']\n\
         [routes.any]\npath = '/any/{name}'\npath_case = 'insensitive'\nrespond = {}\nrate_limits = ['name', 'address']\n\
         [rate_limits.mail]\nkey = 'path.mail'\nquota = '1/1h'\n\
         [rate_limits.name]\nkey = 'path.name'\nquota = '1/1h'\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '1000/1h'\n",
    );
    let ask = async |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Raw::ask(limited.gateway.address(), request).await.status
    };
    assert_eq!(ask("a.test", "/").await, 200);
    let forwarded = "b.test\r\nX-Forwarded-Host: c.test\r\nX-Forwarded-For: 203.0.113.1";
    for host in [
        "a.test.",
        "A.test:80",
        &forwarded.replace("b.test", "a.test"),
    ] {
        assert_eq!(ask(host, "/").await, 429, "{host}");
    }
    assert_eq!(ask("[::1]", "/").await, 200);
    assert_eq!(ask("[0::0:1]:80", "/").await, 429);
    assert_eq!(ask("x.test", "/a@b.test/x").await, 200);
    assert_eq!(ask("x.test", "/a%40b.test/x").await, 429);
    assert_eq!(ask("x.test", "/any/Name").await, 200);
    assert_eq!(ask("x.test", "/ANY/nAME").await, 429);
}

#[tokio::test]
async fn a_flood_of_addresses_frees_nobody_and_keeps_to_its_room() {
    let limited = Limited::start(&format!("{BEHIND}max_keys = 50\n"));
    let heavy = "X-Forwarded-For: 203.0.113.7\r\n";
    assert_eq!(limited.passed(4, heavy).await, 3);
    let flood = (0..1_000).map(|number| format!("198.51.{}.{}", number / 250, number % 250));
    let passed = passed_from(&limited, flood).await;
    assert!(passed >= 47, "{passed} strangers were let in");
    assert_eq!(limited.passed(2, heavy).await, 0);
    let of = |name: &str| limited.gateway.metric(name, &["limit=\"one\""]);
    assert_eq!(of("tollgate_rate_limit_keys"), 50.0);
    assert!(of("tollgate_rate_limit_evictions_total") > 0.0);
}

#[tokio::test]
async fn what_a_pattern_captured_of_a_host_is_a_key() {
    let limited = Limited::start(
        "[routes.all]\nhosts = ['{tenant}.test']\nrespond = {}\nrate_limits = ['tenant', 'address']\n\
         [rate_limits.tenant]\nkey = 'host.tenant'\nquota = '1/1h'\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '1000/1h'\n",
    );
    let ask = async |host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Raw::ask(limited.gateway.address(), request).await.status
    };
    assert_eq!(ask("one.test").await, 200);
    assert_eq!(ask("ONE.test.:80").await, 429);
    assert_eq!(ask("other.test").await, 200);
}
