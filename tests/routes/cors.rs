//! CORS over real sockets: preflights, and what every answer of a route says to browsers.

use crate::{
    headers::{SECRET, token},
    support::{Gateway, Origin, PROTOCOLS, Protocol, Sent, ask, empty, full},
};

const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example.net";

const WEB: &str = "
[cors.web]
origins = ['https://app.example.com', 'https://*.preview.example.com']
methods = ['GET', 'PUT']
request_headers = ['authorization', 'content-type']
expose_headers = ['ratelimit', 'x-request-id']
max_age = '1h'
";

async fn send(
    gateway: &Gateway,
    protocol: Protocol,
    line: (&str, &str),
    fields: &[(&str, &str)],
) -> Sent {
    ask(gateway.address(), protocol, line, fields, empty()).await
}

async fn preflight(gateway: &Gateway, protocol: Protocol, origin: &str, method: &str) -> Sent {
    let fields = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization"),
    ];
    send(gateway, protocol, ("OPTIONS", "/items"), &fields).await
}

/// The fields that browsers look at, but for `Vary`.
fn said(sent: &Sent) -> Vec<String> {
    let fields = sent.head.headers.iter();
    let mut said: Vec<_> = fields
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("access-control-")?;
            Some(format!("{name}: {}", value.to_str().expect("text")))
        })
        .collect();
    said.sort();
    said
}

fn vary(sent: &Sent) -> String {
    let values = sent.head.headers.get_all("vary").iter();
    let values: Vec<_> = values.map(|value| value.to_str().expect("text")).collect();
    values.join(", ")
}

/// An upstream with CORS fields of its own, and a gateway with the policy `web`.
async fn gateway(policy: &str) -> (Gateway, Origin) {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAccess-Control-Allow-Origin: *\r\n\
         Access-Control-Allow-Credentials: true\r\nVary: accept\r\n\r\nok",
    )
    .await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "{policy}\n[routes.all]\nupstream = '{url}'\ncors = 'web'\n"
    ));
    (gateway, origin)
}

#[tokio::test]
async fn a_preflight_of_an_allowed_origin_is_answered_and_goes_no_further() {
    let (gateway, origin) = gateway(WEB).await;
    for protocol in PROTOCOLS {
        for from in [APP, "https://pr-7.preview.example.com"] {
            let sent = preflight(&gateway, protocol, from, "PUT").await;
            assert_eq!((sent.status(), sent.body.len()), (204, 0));
            assert_eq!(
                said(&sent),
                [
                    "allow-headers: authorization, content-type",
                    "allow-methods: GET, PUT",
                    &format!("allow-origin: {from}"),
                    "expose-headers: ratelimit, x-request-id",
                    "max-age: 3600",
                ]
            );
            for name in [
                "origin",
                "access-control-request-method",
                "access-control-request-headers",
            ] {
                assert!(vary(&sent).contains(name), "{}", vary(&sent));
            }
        }
    }
    assert!(origin.requests().is_empty(), "it reached the upstream");
    let line = &gateway.log_lines(4).await[0];
    assert_eq!(
        (&line["route"], &line["status"]),
        (&"all".into(), &204.into())
    );
}

#[tokio::test]
async fn a_preflight_of_another_origin_gets_nothing_and_goes_no_further() {
    let (gateway, origin) = gateway(WEB).await;
    for protocol in PROTOCOLS {
        for from in [
            EVIL,
            "null",
            "https://a.b.preview.example.com",
            "http://app.example.com",
        ] {
            let sent = preflight(&gateway, protocol, from, "PUT").await;
            assert_eq!((sent.status(), said(&sent)), (204, vec![]), "{from}");
            assert!(vary(&sent).contains("origin"));
        }
    }
    assert!(origin.requests().is_empty(), "it reached the upstream");
}

#[tokio::test]
async fn an_allowed_origin_may_read_and_the_upstreams_own_fields_are_replaced() {
    let (gateway, _origin) = gateway(WEB).await;
    for protocol in PROTOCOLS {
        let sent = send(&gateway, protocol, ("GET", "/items"), &[("origin", APP)]).await;
        assert_eq!(sent.status(), 200);
        assert_eq!(
            said(&sent),
            [
                "allow-origin: https://app.example.com",
                "expose-headers: ratelimit, x-request-id",
            ]
        );
        assert_eq!(vary(&sent), "accept, origin");
    }
}

#[tokio::test]
async fn another_origin_and_none_get_the_answer_without_the_fields() {
    let (gateway, _origin) = gateway(WEB).await;
    for protocol in PROTOCOLS {
        let two = [("origin", APP), ("origin", APP)];
        for fields in [&[][..], &[("origin", EVIL)], &two] {
            let sent = send(&gateway, protocol, ("GET", "/items"), fields).await;
            assert_eq!((sent.status(), &*sent.body), (200, &b"ok"[..]));
            assert_eq!(said(&sent), [""; 0], "{fields:?}");
            // A cache that kept this answer must not hand it to a page.
            assert_eq!(vary(&sent), "accept, origin");
        }
    }
}

#[tokio::test]
async fn credentials_are_allowed_only_where_the_policy_says_so() {
    let (gateway, _origin) =
        gateway("[cors.web]\norigins = ['https://app.example.com']\ncredentials = true").await;
    for protocol in PROTOCOLS {
        let sent = send(&gateway, protocol, ("GET", "/"), &[("origin", APP)]).await;
        assert_eq!(
            said(&sent),
            [
                "allow-credentials: true",
                "allow-origin: https://app.example.com"
            ]
        );
        let sent = send(&gateway, protocol, ("GET", "/"), &[("origin", EVIL)]).await;
        assert_eq!(said(&sent), [""; 0]);
    }
}

#[tokio::test]
async fn any_origin_is_a_star_and_does_not_vary() {
    let (gateway, _origin) =
        gateway("[cors.web]\norigins = '*'\nrequest_headers = '*'\nexpose_headers = '*'").await;
    for protocol in PROTOCOLS {
        for fields in [&[][..], &[("origin", EVIL)]] {
            let sent = send(&gateway, protocol, ("GET", "/"), fields).await;
            assert_eq!(said(&sent), ["allow-origin: *", "expose-headers: *"]);
            assert_eq!(vary(&sent), "accept");
        }
        let sent = preflight(&gateway, protocol, EVIL, "GET").await;
        assert!(said(&sent).contains(&"allow-headers: authorization".to_owned()));
    }
}

#[tokio::test]
async fn null_is_an_origin_only_by_name() {
    let (gateway, _origin) = gateway("[cors.web]\norigins = ['null']").await;
    let sent = send(
        &gateway,
        Protocol::Http1,
        ("GET", "/"),
        &[("origin", "null")],
    )
    .await;
    assert_eq!(said(&sent), ["allow-origin: null"]);
}

#[tokio::test]
async fn a_private_network_is_opened_only_by_option_and_when_asked() {
    let fields = [
        ("origin", APP),
        ("access-control-request-method", "GET"),
        ("access-control-request-private-network", "true"),
    ];
    for (option, opened) in [("true", true), ("false", false)] {
        let policy = format!("[cors.web]\norigins = ['{APP}']\nprivate_network = {option}");
        let (gateway, _origin) = gateway(&policy).await;
        let sent = send(&gateway, Protocol::Http1, ("OPTIONS", "/"), &fields).await;
        let said = said(&sent).contains(&"allow-private-network: true".to_owned());
        assert_eq!(said, opened);
        let sent = send(&gateway, Protocol::Http1, ("OPTIONS", "/"), &fields[..2]).await;
        assert_eq!(sent.header("access-control-allow-private-network"), None);
    }
}

#[tokio::test]
async fn refusals_of_the_route_can_be_read_too() {
    let origin = Origin::ok().await;
    let (url, policy) = (origin.url(), WEB);
    let gateway = Gateway::start(&format!(
        "{policy}
        [routes.items]
        path = '/items/{{id}}'
        methods = ['GET', 'POST']
        upstream = '{url}'
        max_body = '1KiB'
        cors = 'web'
        [routes.down]
        path = '/down'
        upstream = 'http://127.0.0.1:1'
        cors = 'web'
        [routes.plain]
        path = '/plain'
        methods = ['GET']
        upstream = '{url}'"
    ));
    let cases = [
        (("DELETE", "/items/1"), 405, "route.method_not_allowed"),
        (("GET", "/items/%2F"), 400, "request.target_invalid"),
        (("GET", "/down"), 502, "upstream.connect_refused"),
        (("POST", "/items/1"), 413, "request.body_too_large"),
    ];
    for protocol in PROTOCOLS {
        for (line, status, reason) in cases {
            let body = match status {
                413 => full(vec![0; 2000]),
                _ => empty(),
            };
            let sent = ask(gateway.address(), protocol, line, &[("origin", APP)], body).await;
            assert_eq!((sent.status(), &*sent.reason()), (status, reason));
            assert_eq!(
                sent.header("access-control-allow-origin"),
                Some(APP),
                "{reason}"
            );
            assert!(vary(&sent).contains("origin"));
        }
        // What belongs to no route with CORS has none.
        for line in [("GET", "/nowhere"), ("DELETE", "/plain"), ("GET", "/plain")] {
            let sent = send(&gateway, protocol, line, &[("origin", APP)]).await;
            assert_eq!(said(&sent), [""; 0], "{line:?}");
        }
    }
}

#[tokio::test]
async fn preflights_need_no_credential_and_a_401_can_be_read() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "{WEB}
        [auth.jwt.main]
        secret = 'a secret of the tests with 32 bytes'
        [rate_limits.once]
        key = 'route'
        quota = '1/1h'
        [routes.guarded]
        auth = 'jwt.main'
        upstream = '{}'
        cors = 'web'
        [routes.limited]
        path = '/limited'
        auth = 'public'
        rate_limits = ['once']
        upstream = '{}'
        cors = 'web'",
        origin.url(),
        origin.url()
    ));
    for protocol in PROTOCOLS {
        let sent = preflight(&gateway, protocol, APP, "PUT").await;
        assert_eq!(sent.status(), 204);
        let sent = send(&gateway, protocol, ("GET", "/items"), &[("origin", APP)]).await;
        assert_eq!((sent.status(), &*sent.reason()), (401, "auth.missing"));
        assert_eq!(sent.header("access-control-allow-origin"), Some(APP));
        // Nor do they count.
        let fields = [("origin", APP), ("access-control-request-method", "GET")];
        for _ in 0..3 {
            let sent = send(&gateway, protocol, ("OPTIONS", "/limited"), &fields).await;
            assert_eq!(sent.status(), 204);
        }
    }
    for status in [200, 429] {
        let sent = send(
            &gateway,
            Protocol::Http1,
            ("GET", "/limited"),
            &[("origin", APP)],
        )
        .await;
        assert_eq!(sent.status(), status);
        assert_eq!(sent.header("access-control-allow-origin"), Some(APP));
    }
}

/// A page has to be able to read why it is kept out, and a preflight has no credential to show.
#[tokio::test]
async fn rules_on_addresses_and_permissions_are_behind_preflights_and_their_403_can_be_read() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[cors.session]
        origins = '{APP}'
        methods = ['GET', 'PUT']
        request_headers = 'authorization'
        credentials = true
        [auth.jwt.main]
        secret = '{SECRET}'
        [defaults]
        cors = 'session'
        [routes.denied]
        path = '/denied'
        auth = 'public'
        ip = {{ deny = ['127.0.0.0/8'] }}
        upstream = '{0}'
        [routes.orders]
        path = '/orders'
        auth = 'jwt.main'
        permissions = 'orders:read'
        upstream = '{0}'",
        origin.url()
    ));
    let bearer = format!("Bearer {}", token("alice"));
    let credentials = [
        "allow-credentials: true".to_owned(),
        format!("allow-origin: {APP}"),
    ];
    for protocol in PROTOCOLS {
        for (path, reason) in [("/denied", "ip.denied"), ("/orders", "rbac.denied")] {
            let fields = [
                ("origin", APP),
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", "authorization"),
            ];
            let sent = send(&gateway, protocol, ("OPTIONS", path), &fields).await;
            assert_eq!(sent.status(), 204, "{path}");
            assert_eq!(said(&sent)[0], credentials[0]);
            let fields = [("origin", APP), ("authorization", &*bearer)];
            let sent = send(&gateway, protocol, ("GET", path), &fields).await;
            assert_eq!((sent.status(), &*sent.reason()), (403, reason));
            assert_eq!(said(&sent), credentials);
            assert_eq!(vary(&sent), "origin");
        }
    }
    assert!(origin.requests().is_empty(), "it reached the upstream");
}

#[tokio::test]
async fn a_preflight_goes_to_the_route_of_the_request_that_it_precedes() {
    let (reads, writes) = (Origin::ok().await, Origin::ok().await);
    let gateway = Gateway::start(&format!(
        "[cors.reads]
        origins = '*'
        [cors.writes]
        origins = '{APP}'
        methods = 'PUT'
        [routes.reads]
        path = '/items'
        methods = ['GET']
        upstream = '{}'
        cors = 'reads'
        [routes.writes]
        path = '/items'
        methods = ['PUT']
        match_headers = {{ x-tenant = {{ present = true }} }}
        upstream = '{}'
        cors = 'writes'",
        reads.url(),
        writes.url()
    ));
    for protocol in PROTOCOLS {
        let sent = preflight(&gateway, protocol, EVIL, "GET").await;
        assert_eq!(sent.header("access-control-allow-origin"), Some("*"));
        // The header that the route asks for comes with the request only.
        let sent = preflight(&gateway, protocol, APP, "PUT").await;
        assert_eq!(sent.header("access-control-allow-methods"), Some("PUT"));
        let sent = preflight(&gateway, protocol, EVIL, "PUT").await;
        assert_eq!((sent.status(), said(&sent)), (204, vec![]));
    }
}

#[tokio::test]
async fn without_cors_options_requests_go_where_they_go() {
    let (own, other) = (Origin::ok().await, Origin::ok().await);
    let gateway = Gateway::start(&format!(
        "{WEB}
        [routes.own]
        path = '/items'
        methods = ['GET', 'OPTIONS']
        upstream = '{}'
        [routes.with]
        path = '/with'
        upstream = '{}'
        cors = 'web'",
        own.url(),
        other.url()
    ));
    for (count, protocol) in (1..).zip(PROTOCOLS) {
        // The upstream answers preflights itself, for methods that the route does not list too.
        for (nth, method) in ["GET", "PUT"].into_iter().enumerate() {
            let sent = preflight(&gateway, protocol, APP, method).await;
            assert_eq!((sent.status(), &*sent.body), (200, &b"ok"[..]));
            let seen = own.requests();
            assert_eq!(seen.len(), 2 * (count - 1) + nth + 1);
            assert!(
                seen.iter()
                    .all(|request| request.line.starts_with("OPTIONS /items"))
            );
        }
        // No preflight: it lacks the origin, or the method.
        for fields in [
            &[][..],
            &[("origin", APP)],
            &[("access-control-request-method", "GET")],
        ] {
            let sent = send(&gateway, protocol, ("OPTIONS", "/with"), fields).await;
            assert_eq!(
                (sent.status(), &*sent.body),
                (200, &b"ok"[..]),
                "{fields:?}"
            );
        }
        assert_eq!(other.requests().len(), 3 * count);
    }
}

#[tokio::test]
async fn a_route_may_have_a_policy_of_its_own_or_switch_its_groups_off() {
    let gateway = Gateway::start(&format!(
        "{WEB}
        [defaults]
        cors = 'web'
        [routes.own]
        path = '/own'
        respond = {{ body = 'here' }}
        cors = {{ origins = '{EVIL}' }}
        [routes.off]
        path = '/off'
        respond = {{ body = 'here' }}
        cors = 'off'
        [routes.all]
        respond = {{ body = 'here' }}"
    ));
    let allowed = async |path, origin| {
        let sent = send(
            &gateway,
            Protocol::Http1,
            ("GET", path),
            &[("origin", origin)],
        )
        .await;
        sent.header("access-control-allow-origin").is_some()
    };
    assert!(allowed("/own", EVIL).await && !allowed("/own", APP).await);
    assert!(!allowed("/off", APP).await);
    assert!(allowed("/", APP).await && !allowed("/", EVIL).await);
}

#[tokio::test]
async fn a_reload_changes_who_may_read() {
    let (gateway, origin) = gateway(WEB).await;
    let url = origin.url();
    let ask = async || send(&gateway, Protocol::Http1, ("GET", "/"), &[("origin", EVIL)]).await;
    assert_eq!(said(&ask().await), [""; 0]);
    gateway.apply(&format!(
        "[routes.all]\nupstream = '{url}'\ncors = {{ origins = '{EVIL}' }}\n"
    ));
    assert_eq!(said(&ask().await), [format!("allow-origin: {EVIL}")]);
}
