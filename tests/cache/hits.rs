//! Served out of the store: whole, as a 304, in parts, to HEAD.

use futures_util::future::join_all;

use crate::{
    site::{Site, answer, numbered},
    support::{empty, eventually, full},
};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn a_fresh_answer_is_served_again_with_its_age() {
    let site = Site::with("", FRESH).await;
    let first = site.get("/a").await;
    assert_eq!((first.status(), &*first.body), (200, &b"1"[..]));
    assert_eq!(first.header("age"), None);
    assert_eq!(
        first.header("cache-status"),
        Some("tollgate; fwd=uri-miss; stored")
    );
    site.later(7);
    let again = site.get("/a").await;
    assert_eq!((again.status(), &*again.body), (200, &b"1"[..]));
    assert_eq!(again.header("cache-control"), Some("max-age=60"));
    assert_eq!(again.header("content-length"), Some("1"));
    assert_eq!(again.header("date"), first.header("date"));
    assert_eq!(again.header("cache-status"), Some("tollgate; hit"));
    let age: u64 = again
        .header("age")
        .expect("an age")
        .parse()
        .expect("a number");
    assert!((7..10).contains(&age), "{age}");
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(site.count(), 1);
}

#[tokio::test]
async fn what_is_stale_or_says_nothing_is_asked_for_anew() {
    let site = Site::with("", FRESH).await;
    assert_eq!(site.bodies("/a", 2).await, ["1", "1"]);
    site.later(61);
    assert_eq!(site.bodies("/a", 2).await, ["2", "2"]);
    let silent = Site::with("", &[]).await;
    assert_eq!(silent.bodies("/a", 2).await, ["1", "2"]);
    assert_eq!(
        silent.logged(2).await,
        ("miss".into(), "no-freshness".into())
    );
}

#[tokio::test]
async fn path_query_host_and_scheme_tell_answers_apart() {
    let site = Site::with("", FRESH).await;
    for (path, host, body) in [
        ("/a", "a.test", "1"),
        ("/b", "a.test", "2"),
        ("/a?", "a.test", "3"),
        ("/a?x=1&y", "a.test", "4"),
        ("/a?y&x=1", "a.test", "5"),
        ("/a", "b.test", "6"),
        ("/a", "A.Test:80", "1"),
        ("/./a", "a.test", "1"),
        ("/%61", "a.test", "1"),
    ] {
        let sent = site.get_with(path, &[("host", host)]).await;
        assert_eq!(sent.body, body, "{path} {host}");
    }
}

#[tokio::test]
async fn a_rule_says_what_of_the_query_counts() {
    let sorted = Site::with("query = 'sorted'", FRESH).await;
    assert_eq!(sorted.get("/a?x=1&y").await.body, "1");
    assert_eq!(sorted.get("/a?y&x=1").await.body, "1");
    assert_eq!(sorted.get("/a?y").await.body, "2");
    let chosen = Site::with("query = ['page']", FRESH).await;
    assert_eq!(chosen.get("/a?page=1&utm=x").await.body, "1");
    assert_eq!(chosen.get("/a?utm=y&page=1").await.body, "1");
    assert_eq!(chosen.get("/a?page=2").await.body, "2");
    assert_eq!(
        chosen.seen()[0].target,
        "/a?page=1&utm=x",
        "it goes on whole"
    );
}

#[tokio::test]
async fn more_header_fields_can_be_part_of_the_key() {
    let site = Site::with("key_headers = ['x-tenant']", FRESH).await;
    assert_eq!(site.get_with("/a", &[("x-tenant", "1")]).await.body, "1");
    assert_eq!(site.get_with("/a", &[("x-tenant", "2")]).await.body, "2");
    assert_eq!(site.get_with("/a", &[("x-tenant", "1")]).await.body, "1");
    assert_eq!(site.get("/a").await.body, "3");
    assert_eq!(site.get_with("/a", &[("x-tenant", "")]).await.body, "4");
}

#[tokio::test]
async fn the_path_that_counts_is_the_clients_and_not_the_rewritten_one() {
    let route = "[routes.site]\nupstream = 'ORIGIN'\npath = '/x/**'\n\
                 rewrite = { strip_prefix = '/x' }\ncache = {}\n";
    let site = Site::configured(route, |count, _| numbered(count, FRESH)).await;
    assert_eq!(site.bodies("/x/a", 2).await, ["1", "1"]);
    assert_eq!(site.seen()[0].target, "/a");
}

#[tokio::test]
async fn variants_of_one_url_are_kept_side_by_side() {
    let site = Site::with("", &[("cache-control", "max-age=60"), ("vary", "x-a")]).await;
    for (value, body) in [("1", "1"), ("2", "2"), ("1", "1"), ("2", "2"), ("3", "3")] {
        assert_eq!(site.get_with("/", &[("x-a", value)]).await.body, body);
    }
    assert_eq!(site.get("/").await.body, "4", "absent is another value");
}

const TAGGED: &[(&str, &str)] = &[
    ("cache-control", "max-age=60"),
    ("etag", "\"one\""),
    ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
];

#[tokio::test]
async fn who_has_the_answer_already_gets_a_304() {
    let site = Site::with("", TAGGED).await;
    site.get("/a").await;
    for (name, value) in [
        ("if-none-match", "\"two\", W/\"one\""),
        ("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ] {
        let sent = site.get_with("/a", &[(name, value)]).await;
        assert_eq!((sent.status(), &*sent.body), (304, &b""[..]), "{name}");
        assert_eq!(sent.header("etag"), Some("\"one\""));
        assert_eq!(sent.header("cache-status"), Some("tollgate; hit"));
        assert!(sent.header("age").is_some());
    }
    let sent = site.get_with("/a", &[("if-none-match", "\"two\"")]).await;
    assert_eq!((sent.status(), &*sent.body), (200, &b"1"[..]));
    assert_eq!(site.count(), 1);
}

#[tokio::test]
async fn parts_are_cut_out_of_a_whole_of_any_size() {
    let bytes: bytes::Bytes = (0..900_000_u32).map(|index| (index % 251) as u8).collect();
    let body = bytes.clone();
    let site = Site::start("", move |_, _| answer(200, TAGGED, body.clone())).await;
    assert_eq!(site.get("/a").await.body.len(), 900_000);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=262143-262144", 262_143, 262_144),
        ("bytes=100-700000", 100, 700_000),
        ("bytes=899999-", 899_999, 899_999),
        ("bytes=-10", 899_990, 899_999),
        ("bytes=5-99999999", 5, 899_999),
    ] {
        let sent = site.get_with("/a", &[("range", range)]).await;
        assert_eq!(sent.status(), 206, "{range}");
        let told = format!("bytes {first}-{last}/900000");
        assert_eq!(sent.header("content-range"), Some(&*told));
        let length = (last - first + 1).to_string();
        assert_eq!(sent.header("content-length"), Some(&*length));
        assert_eq!(sent.header("cache-status"), Some("tollgate; hit"));
        assert!(sent.body == bytes.slice(first..=last), "{range}");
    }
    let sent = site.get_with("/a", &[("range", "bytes=900000-")]).await;
    assert_eq!(sent.status(), 416);
    assert_eq!(sent.header("content-range"), Some("bytes */900000"));
    assert_eq!(sent.header("cache-status"), Some("tollgate; hit"));
    assert_eq!(site.count(), 1);
}

#[tokio::test]
async fn a_part_of_what_is_not_stored_is_the_upstreams_and_not_kept() {
    let site = Site::start("", |count, seen| match seen.header("range") {
        Some(_) => answer(
            206,
            &[("content-range", "bytes 0-0/5"), FRESH[0]],
            count.to_string(),
        ),
        None => numbered(count, FRESH),
    })
    .await;
    let part = site.get_with("/a", &[("range", "bytes=0-0")]).await;
    assert_eq!((part.status(), &*part.body), (206, &b"1"[..]));
    assert_eq!(site.get("/a").await.body, "2");
    assert_eq!(site.get("/a").await.body, "2");
}

#[tokio::test]
async fn head_is_answered_from_a_stored_get_and_stores_nothing() {
    let site = Site::with("", FRESH).await;
    for _ in 0..2 {
        let sent = site.send("HEAD", "/a", &[], empty()).await;
        assert_eq!((sent.status(), &*sent.body), (200, &b""[..]));
    }
    assert_eq!(site.count(), 2);
    site.get("/a").await;
    let sent = site.send("HEAD", "/a", &[], empty()).await;
    assert_eq!(sent.header("content-length"), Some("1"));
    assert_eq!(sent.header("cache-status"), Some("tollgate; hit"));
    assert_eq!(site.count(), 3);
}

#[tokio::test]
async fn clients_of_both_protocols_share_what_is_stored() {
    let site = Site::with("", FRESH).await;
    assert_eq!(site.get_http2("/a").await.body, "1");
    assert_eq!(site.get("/a").await.body, "1");
    let sent = site.get_http2("/a").await;
    assert_eq!(sent.header("cache-status"), Some("tollgate; hit"));
    assert_eq!(site.count(), 1);
}

#[tokio::test]
async fn who_asks_over_http2_gets_a_304_and_parts_too() {
    let site = Site::start("", |_, _| answer(200, TAGGED, "0123456789")).await;
    site.get("/a").await;
    for (field, status, body, range) in [
        (("if-none-match", "\"one\""), 304, "", None),
        (("range", "bytes=2-4"), 206, "234", Some("bytes 2-4/10")),
        (("range", "bytes=10-"), 416, "", Some("bytes */10")),
        (("if-none-match", "\"two\""), 200, "0123456789", None),
    ] {
        let sent = site.get_http2_with("/a", &[field]).await;
        assert_eq!(sent.status(), status, "{field:?}");
        assert_eq!(sent.body, body, "{field:?}");
        assert_eq!(sent.header("content-range"), range, "{field:?}");
        let length = body.len().to_string();
        let told = sent.header("content-length");
        assert!(status > 206 || told == Some(&*length), "{told:?}");
        assert_eq!(sent.header("cache-status"), Some("tollgate; hit"));
    }
    assert_eq!(site.count(), 1);
}

#[tokio::test]
async fn the_status_of_caches_behind_us_stands_before_ours() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("cache-status", "one; hit"),
    ];
    let site = Site::with("show_key = true", fields).await;
    site.get("/a").await;
    let sent = site.get("/a").await;
    let status = sent.header("cache-status").expect("a status");
    assert!(
        status.starts_with("one; hit, tollgate; hit; ttl="),
        "{status}"
    );
    assert!(status.ends_with("http://a.test/a\""), "{status}");
}

/// What the rule has put into the key looks like another URL, and the key that is shown tells them apart.
#[tokio::test]
async fn the_key_that_is_shown_tells_that_a_key_header_makes_the_difference() {
    let site = Site::with("show_key = true\nkey_headers = ['x-tenant']", FRESH).await;
    let ask = async |tenant: Option<&str>, told: &str| {
        let fields = tenant.map(|tenant| ("x-tenant", tenant));
        let sent = site.get_with("/k?q=1", fields.as_slice()).await;
        let status = sent.header("cache-status").expect("a status").to_owned();
        let (before, key) = status.split_once("; key=").expect("a key");
        assert!(before.starts_with(told), "{status}");
        assert!(key.contains("http://a.test/k?q=1 x-tenant="), "{status}");
        key.to_owned()
    };
    let miss = "tollgate; fwd=uri-miss; stored";
    let tenants = [Some("blue"), Some("red"), None];
    let mut keys = Vec::new();
    for tenant in tenants {
        keys.push(ask(tenant, miss).await);
    }
    eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == 3.0).await;
    for (tenant, key) in tenants.into_iter().zip(&keys) {
        assert_eq!(ask(tenant, "tollgate; hit; ttl=").await, *key, "{tenant:?}");
    }
    assert!(keys[2].ends_with(" x-tenant=-\""), "{keys:?}");
    let all = keys.concat();
    assert!(!all.contains("blue") && !all.contains("red"), "{all}");
    keys.dedup();
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[tokio::test]
async fn what_became_of_requests_is_logged_and_counted() {
    let site = Site::with("", FRESH).await;
    for path in ["/a", "/a", "/a", "/b"] {
        site.get(path).await;
    }
    site.send("POST", "/a", &[], empty()).await;
    assert_eq!(site.logged(5).await, ("bypass".into(), "method".into()));
    let counted = |result: &str| {
        let label = format!("result=\"{result}\"");
        site.gateway
            .metric("tollgate_cache_requests_total", &["route=\"site\"", &label])
    };
    assert_eq!(
        (counted("hit"), counted("miss"), counted("bypass")),
        (2.0, 2.0, 1.0)
    );
    assert_eq!(site.gateway.metric("tollgate_cache_objects", &[]), 2.0);
    let bytes = site.gateway.metric("tollgate_cache_memory_bytes", &[]);
    assert!(bytes > 1000.0, "{bytes}");
}

#[tokio::test]
async fn other_methods_pass_by_what_is_stored() {
    let site = Site::with("", FRESH).await;
    let bypassed = ("bypass".to_owned(), "method".to_owned());
    assert_eq!(site.get("/a").await.body, "1");
    let sent = site.send("QUERY", "/a", &[], full("x")).await;
    assert_eq!(sent.body, "2");
    assert_eq!(sent.header("cache-status"), Some("tollgate; fwd=method"));
    assert_eq!(site.logged(2).await, bypassed);
    assert_eq!(site.send("OPTIONS", "/a", &[], empty()).await.body, "3");
    assert_eq!(site.logged(3).await, bypassed);
    assert_eq!(site.get("/a").await.body, "1", "they change nothing");
    let sent = site.send("POST", "/a", &[], full("x")).await;
    assert_eq!(sent.body, "4");
    assert_eq!(sent.header("cache-status"), Some("tollgate; fwd=method"));
    assert_eq!(site.logged(5).await, bypassed);
    assert_eq!(site.count(), 4);
    let name = "tollgate_cache_requests_total";
    let labels = ["result=\"bypass\"", "detail=\"method\""];
    eventually(|| site.gateway.metric(name, &labels) == 3.0).await;
}

#[tokio::test]
async fn a_request_that_the_store_is_not_asked_for_is_told_why() {
    let text = "[routes.site]\nupstream = 'ORIGIN'\nodd_header_names = 'keep'\ncache = {}\n";
    let fields = &[
        ("cache-control", "max-age=60"),
        ("cache-status", "one; hit"),
    ];
    let site = Site::configured(text, move |count, _| numbered(count, fields)).await;
    site.get("/a").await;
    for (fields, body, why) in [
        (&[][..], full("x"), "request-body"),
        (&[("if-match", "\"a\"")][..], empty(), "precondition"),
        (&[("accept_language", "de")][..], empty(), "odd-names"),
    ] {
        let sent = site.send("GET", "/a", fields, body).await;
        let status = sent.head.headers.get_all("cache-status").iter();
        let status: Vec<_> = status.map(|value| value.to_str().expect("text")).collect();
        let ours = format!("tollgate; fwd=bypass; detail={why}");
        assert_eq!(status, ["one; hit", &*ours]);
    }
    assert_eq!(site.count(), 4);
}

#[tokio::test]
async fn what_the_cache_did_is_counted() {
    let site = Site::start("", |count, seen| {
        let control = match seen.target.as_str() {
            "/old" => "max-age=1, stale-while-revalidate=60",
            _ => "max-age=60",
        };
        let fields = [("cache-control", control), ("etag", "\"e\"")];
        match seen.header("if-none-match") {
            Some(_) => answer(304, &fields, ""),
            None => numbered(count, &fields),
        }
    })
    .await;
    let counted = |result: &str| {
        let label = format!("result=\"{result}\"");
        let name = "tollgate_cache_requests_total";
        site.gateway.metric(name, &[&label, "route=\"site\""])
    };
    for path in ["/old", "/new", "/new"] {
        site.get(path).await;
    }
    site.later(2);
    site.get("/old").await;
    eventually(|| counted("stale") == 1.0).await;
    site.later(60);
    site.get("/new").await;
    eventually(|| counted("revalidated") == 1.0).await;
    site.meeting(5, join_all((0..5).map(|_| site.get("/all"))))
        .await;
    eventually(|| counted("coalesced") == 4.0 && counted("miss") == 3.0).await;
    assert_eq!(counted("hit"), 1.0);
}
