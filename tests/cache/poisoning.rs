//! Attempts to have a wrong answer stored for others.

use futures_util::future::join_all;

use crate::{
    origin::Seen,
    site::{Site, answer, numbered},
    support::{Raw, empty, full},
};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn what_a_client_says_about_forwarding_reaches_neither_the_upstream_nor_the_store() {
    let site = Site::start("", |_, seen| {
        let told = seen.header("x-forwarded-host").unwrap_or("none").to_owned();
        answer(200, FRESH, told)
    })
    .await;
    for field in [
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
        "x-forwarded-prefix",
        "x-forwarded",
        "x-scheme",
        "x-url-scheme",
        "front-end-https",
        "x-real-ip",
    ] {
        let path = format!("/{field}");
        let sent = site.get_with(&path, &[(field, "evil.test")]).await;
        assert_eq!(sent.body, "a.test", "{field}");
        assert_eq!(site.get(&path).await.body, "a.test");
        let seen = site.seen().pop().expect("a request");
        assert!(!format!("{:?}", seen.headers).contains("evil"), "{seen:?}");
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_part_of_the_key() {
    let text = "[server]\ntrusted_proxies = ['127.0.0.1']\n\
                [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
    let site = Site::configured(text, |_, seen| {
        let of = |name: &str| seen.header(name).unwrap_or("none").to_owned();
        answer(
            200,
            FRESH,
            format!("{} {}", of("x-forwarded-proto"), of("x-forwarded-host")),
        )
    })
    .await;
    for (scheme, host) in [
        ("http", "a.test"),
        ("https", "a.test"),
        ("https", "b.test"),
        ("http", "a.test"),
    ] {
        let fields = [
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", host),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        let sent = site.get_with("/", &fields).await;
        assert_eq!(sent.body, format!("{scheme} {host}"));
    }
    assert_eq!(site.count(), 3);
}

/// Many proxies write the fields for scheme and host, and let all others pass as their clients sent them.
#[tokio::test]
async fn what_a_trusted_proxy_lets_pass_is_part_of_the_key_too() {
    let text = "[server]\ntrusted_proxies = ['127.0.0.1']\n\
                [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n";
    let site = Site::configured(text, |_, seen| {
        let prefix = seen.header("x-forwarded-prefix").unwrap_or("none");
        answer(200, FRESH, prefix.to_owned())
    })
    .await;
    for prefix in ["/evil", "/own", "/evil"] {
        let sent = site.get_with("/", &[("x-forwarded-prefix", prefix)]).await;
        assert_eq!(sent.body, prefix);
    }
    for (scheme, count) in [("https", 3), ("http", 4), ("https", 4)] {
        site.get_with("/", &[("x-scheme", scheme)]).await;
        assert_eq!(site.count(), count, "{scheme}");
    }
    for address in ["192.0.2.1", "192.0.2.2"] {
        let fields = [("x-forwarded-for", address), ("x-real-ip", address)];
        assert_eq!(site.get_with("/", &fields).await.body, "none");
    }
    assert_eq!(site.count(), 5, "addresses make no difference");
}

/// Each node of a proxy writes its own name.
#[tokio::test]
async fn which_node_a_request_came_through_is_neither_told_nor_part_of_the_key() {
    for (rule, answers) in [("", 1), ("key_headers = ['x-forwarded-server']", 2)] {
        let text = format!(
            "[server]\ntrusted_proxies = ['127.0.0.1']\n\
             [routes.site]\nupstream = 'ORIGIN'\n[routes.site.cache]\n{rule}\n"
        );
        let site = Site::configured(&text, |_, seen| {
            let node = seen.header("x-forwarded-server").unwrap_or("none");
            answer(200, FRESH, node.to_owned())
        })
        .await;
        for node in ["one", "two", "one", "two"] {
            let sent = site.get_with("/", &[("x-forwarded-server", node)]).await;
            let expected = if answers == 2 { node } else { "none" };
            assert_eq!(sent.body, expected, "{rule}");
        }
        assert_eq!(site.count(), answers, "{rule}");
    }
}

#[tokio::test]
async fn a_forwarding_field_that_the_route_writes_is_part_of_the_key() {
    let text = "[server]\ntrusted_proxies = ['127.0.0.1']\n\
                [routes.site]\nupstream = 'ORIGIN'\ncache = {}\n\
                request_headers = { set = { x-forwarded-client = '${client_ip}' } }\n";
    let site = Site::configured(text, |_, seen| {
        let told = seen.header("x-forwarded-client").unwrap_or("none");
        answer(200, FRESH, told.to_owned())
    })
    .await;
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        let sent = site.get_with("/", &[("x-forwarded-for", address)]).await;
        assert_eq!(sent.body, address);
    }
    assert_eq!(site.count(), 2);
}

/// Many servers read the first of several lines.
#[tokio::test]
async fn an_empty_line_in_front_of_a_value_takes_no_ones_place() {
    let site = Site::start("", |_, seen| {
        let first = seen.header("x-tenant").unwrap_or("none").to_owned();
        answer(200, &[FRESH[0], ("vary", "x-tenant")], first)
    })
    .await;
    let twice = [("x-tenant", ""), ("x-tenant", "a")];
    assert_eq!(site.get_with("/", &twice).await.body, "");
    assert_eq!(site.get_with("/", &twice[1..]).await.body, "a");
}

#[tokio::test]
async fn a_get_with_a_body_is_passed_by() {
    let site = Site::with("", FRESH).await;
    let sent = site.send("GET", "/a", &[], full("evil")).await;
    assert_eq!(sent.body, "1");
    assert_eq!(
        site.logged(1).await,
        ("bypass".into(), "request-body".into())
    );
    assert_eq!(site.get("/a").await.body, "2", "it was not stored");
    let sent = site.send("GET", "/a", &[], full("evil")).await;
    assert_eq!(sent.body, "3", "and is not answered out of the store");
}

#[tokio::test]
async fn other_methods_store_nothing_for_get() {
    let site = Site::with("", FRESH).await;
    for method in ["POST", "PUT", "OPTIONS", "QUERY", "PROPFIND", "get"] {
        site.send(method, "/a", &[], empty()).await;
        let before = site.count();
        site.get("/a").await;
        assert_eq!(site.count(), before + 1, "{method}");
        site.purge(r#"{"everything": true}"#).await;
    }
}

#[tokio::test]
async fn a_path_has_one_meaning_for_the_upstream_and_the_store() {
    let site = Site::start("", |_, seen| answer(200, FRESH, seen.target)).await;
    for (asked, meant) in [
        ("/static/../account", "/account"),
        ("/static/%2e%2e/account", "/account"),
        ("/account;x.css", "/account;x.css"),
        ("/account/x.css", "/account/x.css"),
        ("/account%3Fx", "/account%3Fx"),
        ("/account?x.css", "/account?x.css"),
    ] {
        let text = format!("GET {asked} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let sent = Raw::ask(site.gateway.address(), text).await;
        assert_eq!(sent.text(), meant, "{asked}");
    }
    // None of them was stored under the plain path but the one that means it.
    let before = site.count();
    assert_eq!(site.get("/account").await.body, "/account");
    assert_eq!(site.count(), before);
    for refused in [
        "/static%2F..%2Faccount",
        "/static/..;/account",
        "/a%00b",
        "/a\\b",
    ] {
        let text = format!("GET {refused} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let sent = Raw::ask(site.gateway.address(), text).await;
        assert_eq!(sent.status, 400, "{refused}");
    }
    let absolute = "GET http://b.test/account HTTP/1.1\r\nHost: b.test\r\n\r\n";
    Raw::ask(site.gateway.address(), absolute).await;
    assert_eq!(site.count(), before + 1, "another host has another answer");
}

/// An error that one client's oversized or odd fields provoke must not be everybody's.
#[tokio::test]
async fn errors_get_no_lifetime_of_ours() {
    let rule = "default_ttl = '1m'\nheuristics = true";
    let site = Site::start(rule, |count, seen| match seen.header("x-odd") {
        Some("large") => answer(431, &[], "too large"),
        Some("bad") => answer(400, &[], "bad"),
        Some("broken") => answer(500, &[], "broken"),
        _ => numbered(count, &[]),
    })
    .await;
    for odd in ["large", "bad", "broken"] {
        let path = format!("/{odd}");
        assert!(site.get_with(&path, &[("x-odd", odd)]).await.status() >= 400);
        assert_eq!(site.get(&path).await.status(), 200);
    }
    let large = "x".repeat(100_000);
    let sent = site.get_with("/", &[("x-odd", &large)]).await;
    assert_eq!(sent.status(), 431);
    assert_eq!(site.get("/").await.status(), 200);
}

/// Even where the origin gives them one.
#[tokio::test]
async fn what_an_answer_says_of_one_request_is_kept_for_no_other() {
    let said = |seen: &Seen| seen.header("x-odd").and_then(|status| status.parse().ok());
    let rule = "override_ttl = '1m'";
    let site = Site::start(rule, move |count, seen| match said(&seen) {
        Some(status) => answer(status, FRESH, "odd"),
        None => numbered(count, FRESH),
    })
    .await;
    let statuses = [413, 417, 421, 425, 428, 429, 431, 511];
    for (index, status) in statuses.into_iter().enumerate() {
        let (path, said) = (format!("/{status}"), status.to_string());
        let odd = [("x-odd", &*said)];
        assert_eq!(site.get_with(&path, &odd).await.status(), status);
        let logged = site.logged(3 * index + 1).await;
        assert_eq!(logged, ("miss".into(), "status".into()), "{status}");
        let plain = site.get(&path).await;
        assert_eq!(plain.status(), 200, "{status}");
        assert_eq!(site.get_with(&path, &odd).await.body, plain.body);
    }
    // That of a URL which is too long is that URL's.
    for _ in 0..2 {
        let sent = site.get_with("/414", &[("x-odd", "414")]).await;
        assert_eq!(sent.status(), 414);
    }
    assert_eq!(site.count(), 2 * statuses.len() + 1);
}

/// Nor does it part those who would wait for each other.
#[tokio::test]
async fn what_an_answer_says_of_one_request_leaves_others_waiting_for_each_other() {
    let site = Site::start("", |count, seen| match seen.header("x-odd") {
        Some(_) => answer(429, &[], "slower"),
        None => numbered(count, FRESH),
    })
    .await;
    let refused = site.get_with("/a", &[("x-odd", "1")]).await;
    assert_eq!(refused.status(), 429);
    let sent = site
        .meeting(3, join_all((0..3).map(|_| site.get("/a"))))
        .await;
    assert!(sent.iter().all(|sent| sent.body == "2"));
    assert_eq!(site.count(), 2);
}

#[tokio::test]
async fn refusals_of_the_gateway_are_never_stored() {
    let site = Site::start("override_ttl = '1m'", |count, _| numbered(count, FRESH)).await;
    let address = site.origin.address();
    let (gateway, origin) = (site.gateway, site.origin);
    origin.stop().await;
    let get = "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let refused = Raw::ask(gateway.address(), get).await;
    assert_eq!(refused.refusal(), (502, "upstream.connect_refused".into()));
    let _again = crate::support::Server::http1_at(address, |_| async {
        crate::site::answer(200, FRESH, "here")
    })
    .await;
    assert_eq!(Raw::ask(gateway.address(), get).await.text(), "here");
}

#[tokio::test]
async fn one_rule_does_not_answer_for_another() {
    let text = "[routes.one]\nupstream = 'ORIGIN'\nmatch_headers = { x-beta = '1' }\ncache = {}\n\
                [routes.two]\nupstream = 'ORIGIN'\ncache = {}\n";
    let site = Site::configured(text, |count, _| numbered(count, FRESH)).await;
    assert_eq!(site.get_with("/a", &[("x-beta", "1")]).await.body, "1");
    assert_eq!(site.get("/a").await.body, "2");
    assert_eq!(site.get_with("/a", &[("x-beta", "1")]).await.body, "1");
    // What changes the URL is forgotten for both.
    site.send("DELETE", "/a", &[], empty()).await;
    assert_eq!(site.get("/a").await.body, "4");
    assert_eq!(site.get_with("/a", &[("x-beta", "1")]).await.body, "5");
}

/// What the rule leaves out of the key, some servers still see.
#[tokio::test]
async fn a_parameter_that_does_not_count_carries_none_that_does() {
    let site = Site::start("query = ['q']", |_, seen| answer(200, FRESH, seen.target)).await;
    for odd in ["/?utm=1;q=x", "/?Q=x", "/?q[]=x", "/?%20q=x", "/?q%00=x"] {
        assert_eq!(site.get(odd).await.body, odd);
        assert_eq!(site.get("/?utm=2").await.body, "/?utm=2", "{odd}");
        assert_eq!(site.get(odd).await.body, odd, "and it is kept for itself");
        site.purge(r#"{"everything": true}"#).await;
    }
}

/// Some servers take a GET with such a field for another method or path.
#[tokio::test]
async fn a_request_that_may_be_taken_for_another_is_not_stored() {
    let text = "[routes.site]\nupstream = 'ORIGIN'\noverride_headers = 'keep'\n\
                [routes.site.cache]\nstale_while_revalidate = '1h'\n";
    let site = Site::configured(text, |_, seen| {
        let names = ["x-http-method-override", "x-original-url", "x-rewrite-url"];
        let said = names.iter().find_map(|name| seen.header(name));
        answer(200, FRESH, said.unwrap_or("plain").to_owned())
    })
    .await;
    for name in ["x-http-method-override", "x-original-url", "x-rewrite-url"] {
        assert_eq!(site.get_with("/a", &[(name, "evil")]).await.body, "evil");
    }
    assert_eq!(site.logged(3).await, ("miss".into(), "override".into()));
    assert_eq!(site.get("/a").await.body, "plain");
    // Nor is what is stored renewed by it.
    site.later(61);
    let stale = site.get_with("/a", &[("x-original-url", "evil")]).await;
    assert_eq!(stale.body, "plain");
    assert_eq!(site.get("/a").await.body, "plain");
    crate::support::eventually(|| site.count() == 5).await;
    assert_eq!(site.get("/a").await.body, "plain");
    assert_eq!(site.count(), 5);
}

/// The answer of a POST that is for later GETs is that of another URL's, then.
#[tokio::test]
async fn a_post_that_may_be_taken_for_another_stores_nothing_for_get() {
    let text = "[routes.site]\nupstream = 'ORIGIN'\noverride_headers = 'keep'\ncache = {}\n";
    let fields = [("cache-control", "max-age=60"), ("content-location", "/a")];
    let site = Site::configured(text, move |_, seen| {
        let said = seen.header("x-host").unwrap_or("plain").to_owned();
        answer(200, &fields, said)
    })
    .await;
    let sent = site
        .send("POST", "/a", &[("x-host", "evil.test")], empty())
        .await;
    assert_eq!(sent.body, "evil.test");
    assert_eq!(site.get("/a").await.body, "plain");
    assert_eq!(site.count(), 2);
}

/// Some servers read the one as the other, which the answer varies by, the key has or a condition is.
#[tokio::test]
async fn a_request_whose_odd_names_may_be_read_as_others_is_neither_stored_nor_answered_from_the_store()
 {
    let text = "[routes.site]\nupstream = 'ORIGIN'\nodd_header_names = 'keep'\n\
                [routes.site.cache]\nkey_headers = ['x-key']\n";
    let names = ["accept_language", "x.tenant", "if_none_match"];
    let site = Site::configured(text, move |_, seen| {
        let said = names.iter().find_map(|name| seen.header(name));
        answer(200, FRESH, said.unwrap_or("plain").to_owned())
    })
    .await;
    for (at, name) in names.into_iter().enumerate() {
        assert_eq!(site.get_with("/a", &[(name, "evil")]).await.body, "evil");
        let logged = site.logged(at + 1).await;
        assert_eq!(logged, ("bypass".into(), "odd-names".into()));
    }
    assert_eq!(site.get("/a").await.body, "plain");
    assert_eq!(site.get("/a").await.body, "plain");
    assert_eq!(site.count(), 4);
    assert_eq!(
        site.get_with("/a", &[(names[0], "evil")]).await.body,
        "evil"
    );
    // Of what the key has no odd form goes on.
    assert_eq!(site.get_with("/a", &[("x_key", "1")]).await.body, "plain");
    assert_eq!(site.count(), 5);
}

#[tokio::test]
async fn an_odd_name_that_the_rule_names_tells_answers_apart_and_is_said_in_no_other_way() {
    let text = "[routes.site]\nupstream = 'ORIGIN'\nodd_header_names = 'keep'\n\
                [routes.site.cache]\nkey_headers = ['my_key']\n";
    let site = Site::configured(text, |_, seen| {
        let said = ["my-key", "my.key", "my_key"]
            .iter()
            .find_map(|name| seen.header(name));
        answer(200, FRESH, said.unwrap_or("none").to_owned())
    })
    .await;
    for key in ["a", "b", "a", "b"] {
        assert_eq!(site.get_with("/", &[("my_key", key)]).await.body, key);
    }
    assert_eq!(site.count(), 2);
    for other in ["my-key", "my.key"] {
        assert_eq!(site.get_with("/", &[(other, "evil")]).await.body, "none");
    }
    assert_eq!(site.count(), 3);
}

/// There is room for so many variants of a URL; what all ask for is not to make room for one client's.
#[tokio::test]
async fn values_that_a_client_makes_up_push_out_no_variant_that_others_ask_for() {
    const FIELDS: &[(&str, &str)] = &[FRESH[0], ("vary", "accept-encoding")];
    let site = Site::with("override_ttl = '1h'", FIELDS).await;
    let real = [("accept-encoding", "gzip")];
    let flood = async |name: &str| {
        for number in 0..40 {
            let made_up = format!("{name}{number}");
            site.get_with("/a", &[("accept-encoding", &*made_up)]).await;
        }
    };
    for _ in 0..2 {
        assert_eq!(site.get_with("/a", &real).await.body, "1");
    }
    flood("x").await;
    assert_eq!(site.count(), 41);
    assert_eq!(site.get_with("/a", &real).await.body, "1");
    // What nobody asks for any more does make room.
    site.later(120);
    flood("y").await;
    assert_eq!(site.get_with("/a", &real).await.body, "82");
}

/// Nor do made-up values that a client has asked for long enough hold all of that room.
#[tokio::test]
async fn values_that_a_client_keeps_asking_for_leave_room_for_what_others_ask_for() {
    const FIELDS: &[(&str, &str)] = &[FRESH[0], ("vary", "accept-encoding")];
    let site = Site::with("override_ttl = '1h'", FIELDS).await;
    let get = async |coding: &str| {
        let sent = site.get_with("/a", &[("accept-encoding", coding)]).await;
        sent.header("cache-status").expect("a status").to_owned()
    };
    let pin = async || {
        for number in 0..31 {
            get(&format!("x{number}")).await;
        }
    };
    for _ in 0..11 {
        pin().await;
        site.later(1);
    }
    let real = ["gzip", "br", "deflate"];
    for coding in real {
        get(coding).await;
    }
    for second in 1..=60 {
        site.later(1);
        if second == 50 {
            pin().await;
        }
        for coding in real {
            assert_eq!(get(coding).await, "tollgate; hit", "{coding}, {second}");
        }
    }
}

/// Not when it has just been fetched or validated anew either, nor by asking for each of them twice.
#[tokio::test]
async fn values_that_a_client_asks_for_twice_push_out_no_variant_that_others_keep_asking_for() {
    for (control, validates) in [
        ("max-age=3600", false),
        ("max-age=1", false),
        ("max-age=1", true),
    ] {
        let site = Site::start("", move |count, seen| {
            let fields = [
                ("cache-control", control),
                ("vary", "accept-encoding"),
                ("etag", "\"one\""),
            ];
            match seen.header("if-none-match") {
                Some(_) if validates => answer(304, &fields, ""),
                _ => numbered(count, &fields),
            }
        })
        .await;
        let get = async |coding: &str| {
            let sent = site.get_with("/a", &[("accept-encoding", coding)]).await;
            sent.header("cache-status").expect("a status").to_owned()
        };
        for _ in 0..4 {
            get("gzip").await;
            site.later(2);
        }
        get("gzip").await;
        for number in 0..40 {
            for _ in 0..2 {
                get(&format!("x{number}")).await;
            }
        }
        assert_eq!(get("gzip").await, "tollgate; hit", "{control} {validates}");
    }
}
