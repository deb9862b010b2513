//! Header edits and security headers over real sockets.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::{Gateway, KeysFile, Origin, PROTOCOLS, Protocol, Raw, Sent, ask, empty};

async fn get(gateway: &Gateway, protocol: Protocol, path: &str, fields: &[(&str, &str)]) -> Sent {
    ask(gateway.address(), protocol, ("GET", path), fields, empty()).await
}

#[tokio::test]
async fn the_upstream_gets_what_the_route_says() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.items]
        path = '/items/{{id}}'
        upstream = '{}'
        [routes.items.request_headers]
        remove = ['x-debug', 'x-kept-away']
        set = {{ x-static = 'ours', x-id = '${{request_id}}', x-route = 'route ${{route}}', x-item = '${{path.id}}', x-client = '${{client_ip}}', x-dollar = '$$1' }}
        add = {{ x-list = 'ours' }}",
        origin.url()
    ));
    for (count, protocol) in PROTOCOLS.into_iter().enumerate() {
        let fields = [
            ("x-debug", "1"),
            ("x-debug", "2"),
            ("x-static", "theirs"),
            ("x-list", "theirs"),
            ("x-other", "kept"),
        ];
        let sent = get(&gateway, protocol, "/items/a%20b", &fields).await;
        let seen = &origin.requests()[count];
        let all = |name: &str| seen.all(name);
        assert_eq!(all("x-debug"), [""; 0]);
        assert_eq!(all("x-static"), ["ours"]);
        assert_eq!(all("x-id"), [sent.header("x-request-id").expect("an id")]);
        assert_eq!(all("x-route"), ["route items"]);
        assert_eq!(all("x-item"), ["a%20b"]);
        assert_eq!(all("x-client"), ["127.0.0.1"]);
        assert_eq!(all("x-dollar"), ["$1"]);
        assert_eq!(all("x-list"), ["theirs", "ours"]);
        assert_eq!(all("x-other"), ["kept"]);
    }
}

/// A token that is good for an hour.
pub(crate) fn token(subject: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let claims = json!({ "sub": subject, "exp": now.as_secs() + 3600 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

pub(crate) const SECRET: &str = "a secret of the tests with 32 bytes";

/// A guarded route that tells the upstream who calls, and a public one that does not.
async fn with_callers() -> (Gateway, Origin) {
    let origin = Origin::ok().await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[auth.jwt.main]
        secret = '{SECRET}'
        [routes.guarded]
        path = '/guarded'
        auth = 'jwt.main'
        upstream = '{url}'
        request_headers = {{ set = {{ x-user = '${{principal}}' }}, add = {{ x-note = 'by ${{principal}}' }} }}
        [routes.public]
        auth = 'public'
        upstream = '{url}'"
    ));
    (gateway, origin)
}

#[tokio::test]
async fn the_upstream_is_told_who_calls_and_no_client_can_say_it_instead() {
    let (gateway, origin) = with_callers().await;
    let bearer = format!("Bearer {}", token("alice"));
    for (count, protocol) in PROTOCOLS.into_iter().enumerate() {
        let fields = [
            ("authorization", &*bearer),
            ("x-user", "admin"),
            ("x_user", "admin"),
            ("X-Note", "admin"),
        ];
        let sent = get(&gateway, protocol, "/guarded", &fields).await;
        assert_eq!(sent.status(), 200);
        let seen = &origin.requests()[2 * count];
        assert_eq!(
            (seen.all("x-user"), seen.all("x-note")),
            (vec!["alice"], vec!["by alice"])
        );
        // A route that sets nothing must not let it pass either.
        get(&gateway, protocol, "/", &fields[1..]).await;
        let seen = &origin.requests()[2 * count + 1];
        assert_eq!((seen.all("x-user"), seen.all("x_user")), (vec![], vec![]));
        assert_eq!(seen.all("x-note"), [""; 0]);
    }
}

#[tokio::test]
async fn trailers_do_not_say_who_calls() {
    let (gateway, origin) = with_callers().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-user, x-sum\r\n\r\n\
                   0\r\nx-user: admin\r\nx-sum: 17\r\n\r\n";
    assert_eq!(Raw::ask(gateway.address(), request).await.status, 200);
    let seen = origin.request();
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "17".to_owned())]);
}

#[tokio::test]
async fn a_subject_that_no_field_can_hold_is_left_out() {
    let (gateway, origin) = with_callers().await;
    let bearer = format!("Bearer {}", token("a\r\nx-admin: 1"));
    for (count, protocol) in PROTOCOLS.into_iter().enumerate() {
        let fields = [("authorization", &*bearer), ("x-user", "admin")];
        let sent = get(&gateway, protocol, "/guarded", &fields).await;
        assert_eq!(sent.status(), 200);
        let seen = &origin.requests()[count];
        assert_eq!((seen.all("x-user"), seen.all("x-note")), (vec![], vec![]));
        assert_eq!(seen.all("x-admin"), [""; 0]);
    }
}

#[tokio::test]
async fn nobody_is_named_where_nobody_is_known() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]
        upstream = '{}'
        request_headers = {{ set = {{ x-user = '${{principal}}' }}, add = {{ x-note = 'by ${{principal}}' }} }}",
        origin.url()
    ));
    for (count, protocol) in PROTOCOLS.into_iter().enumerate() {
        get(&gateway, protocol, "/", &[("x-user", "admin")]).await;
        let seen = &origin.requests()[count];
        assert_eq!((seen.all("x-user"), seen.all("x-note")), (vec![], vec![]));
    }
}

/// What one method calls alice is somebody else than the alice of another.
#[tokio::test]
async fn callers_of_one_name_are_told_apart_by_their_method() {
    let origin = Origin::ok().await;
    let mut keys = KeysFile::new();
    let key = keys.add("alice", "");
    let gateway = Gateway::start(&format!(
        "[auth.jwt.app]
        secret = '{SECRET}'
        [auth.api_keys.partners]
        keys_file = '{}'
        [routes.all]
        auth = ['jwt.app', 'api_keys.partners', 'anonymous']
        upstream = '{}'
        request_headers = {{ set = {{ x-user = '${{principal}}', x-caller = '${{caller}}' }}, add = {{ x-note = 'by ${{caller}}' }} }}",
        keys.path().display(),
        origin.url()
    ));
    let bearer = format!("Bearer {}", token("alice"));
    for protocol in PROTOCOLS {
        for (credential, caller) in [
            (("authorization", &*bearer), "jwt.app:alice"),
            (("x-api-key", &*key), "api_keys.partners:alice"),
        ] {
            let fields = [credential, ("x-caller", "jwt.app:root"), ("x_note", "root")];
            let sent = get(&gateway, protocol, "/", &fields).await;
            assert_eq!(sent.status(), 200);
            let requests = origin.requests();
            let seen = requests.last().expect("a request");
            assert_eq!(seen.all("x-user"), ["alice"]);
            assert_eq!(seen.all("x-caller"), [caller]);
            assert_eq!(seen.all("x-note"), [format!("by {caller}")]);
        }
        // Whom nobody knows has no name, least of all one of its own choice.
        get(&gateway, protocol, "/", &[("x-caller", "jwt.app:root")]).await;
        let requests = origin.requests();
        let seen = requests.last().expect("a request");
        assert_eq!((seen.all("x-caller"), seen.all("x-note")), (vec![], vec![]));
    }
    // A reader may trim a blank, and would take one caller for the other.
    for subject in [" alice", "alice "] {
        let bearer = format!("Bearer {}", token(subject));
        let fields = [("authorization", &*bearer), ("x-caller", "jwt.app:root")];
        for protocol in PROTOCOLS {
            let sent = get(&gateway, protocol, "/", &fields).await;
            assert_eq!(sent.status(), 200);
            let requests = origin.requests();
            let seen = requests.last().expect("a request");
            assert_eq!((seen.all("x-user"), seen.all("x-caller")), (vec![], vec![]));
        }
    }
}

#[tokio::test]
async fn the_client_gets_what_the_route_says_of_the_targets_answer() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: secret/1.0\r\nCache-Control: private\r\n\
         Set-Cookie: a=1\r\n\r\nok",
    )
    .await;
    let edits = "remove = ['server'], set = { cache-control = 'public, max-age=60' }, add = { set-cookie = 'b=2', x-served = '${route}' }";
    let gateway = Gateway::start(&format!(
        "[defaults]
        response_headers = {{ {edits} }}
        [routes.app]
        upstream = '{}'
        max_body = '1B'
        [routes.own]
        path = '/own'
        respond = {{ body = 'here' }}
        [routes.down]
        path = '/down'
        upstream = 'http://127.0.0.1:1'",
        origin.url()
    ));
    for protocol in PROTOCOLS {
        let sent = get(&gateway, protocol, "/", &[]).await;
        assert_eq!(sent.header("server"), None);
        assert_eq!(sent.header("cache-control"), Some("public, max-age=60"));
        assert_eq!(sent.header("x-served"), Some("app"));
        let cookies: Vec<_> = sent.head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        let sent = get(&gateway, protocol, "/own", &[]).await;
        assert_eq!(sent.header("x-served"), Some("own"));
        // A refusal must not become storable.
        let sent = get(&gateway, protocol, "/down", &[]).await;
        assert_eq!(
            (sent.status(), sent.header("cache-control")),
            (502, Some("no-store"))
        );
        assert_eq!(sent.header("x-served"), None);
    }
}

#[tokio::test]
async fn the_client_is_told_of_its_request_where_the_route_says_so() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-User: theirs\r\nX-Id: theirs\r\n\r\nok",
    )
    .await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[auth.jwt.main]
        secret = '{SECRET}'
        [routes.guarded]
        path = '/guarded'
        auth = 'jwt.main'
        upstream = '{url}'
        [routes.guarded.response_headers]
        set = {{ x-id = '${{request_id}}', x-client = '${{client_ip}}', x-user = '${{principal}}', x-served = 'by ${{route}}' }}
        [routes.open]
        auth = 'public'
        upstream = '{url}'
        response_headers = {{ set = {{ x-user = '${{principal}}' }} }}"
    ));
    let bearer = format!("Bearer {}", token("alice"));
    for protocol in PROTOCOLS {
        let fields = [("authorization", &*bearer)];
        let sent = get(&gateway, protocol, "/guarded", &fields).await;
        assert_eq!(sent.status(), 200);
        let id = sent.header("x-request-id").expect("an id");
        let all = |name: &str| {
            let values = sent.head.headers.get_all(name).iter();
            values
                .map(|value| value.to_str().expect("a text"))
                .collect::<Vec<_>>()
        };
        assert_eq!(all("x-id"), [id]);
        assert_eq!(all("x-client"), ["127.0.0.1"]);
        assert_eq!(all("x-user"), ["alice"]);
        assert_eq!(all("x-served"), ["by guarded"]);
        // Where nobody is known, nobody is named: not by the upstream either.
        let sent = get(&gateway, protocol, "/", &[]).await;
        assert_eq!((sent.status(), sent.header("x-user")), (200, None));
    }
}

#[tokio::test]
async fn strict_security_headers_stand_on_every_answer_of_the_route() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[defaults]
        security_headers = 'strict'
        [routes.app]
        methods = ['GET']
        upstream = '{}'
        [routes.down]
        path = '/down'
        upstream = 'http://127.0.0.1:1'
        [routes.moved]
        path = '/moved'
        redirect = '/'
        [routes.off]
        path = '/off'
        security_headers = 'off'
        respond = {{ body = 'here' }}",
        origin.url()
    ));
    for protocol in PROTOCOLS {
        for (line, status) in [
            (("GET", "/"), 200),
            (("GET", "/down"), 502),
            (("GET", "/moved"), 308),
            (("DELETE", "/"), 405),
        ] {
            let sent = ask(gateway.address(), protocol, line, &[], empty()).await;
            assert_eq!(sent.status(), status);
            assert_eq!(sent.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(sent.header("x-frame-options"), Some("DENY"));
            let policy = "strict-origin-when-cross-origin";
            assert_eq!(sent.header("referrer-policy"), Some(policy));
            assert_eq!(sent.header("content-security-policy"), None);
            assert_eq!(sent.header("strict-transport-security"), None, "over http");
        }
        let sent = get(&gateway, protocol, "/off", &[]).await;
        assert_eq!(sent.header("x-content-type-options"), None);
    }
}

#[tokio::test]
async fn a_policy_of_the_routes_own_stands_on_answers_and_on_refusals() {
    let origin = Origin::ok().await;
    let policy = "default-src 'self'; frame-ancestors 'none'";
    let gateway = Gateway::start(&format!(
        "[defaults]
        security_headers = {{ csp = \"{policy}\" }}
        [routes.app]
        upstream = '{}'
        [routes.down]
        path = '/down'
        upstream = 'http://127.0.0.1:1'",
        origin.url()
    ));
    for protocol in PROTOCOLS {
        for (path, status) in [("/", 200), ("/down", 502)] {
            let sent = get(&gateway, protocol, path, &[]).await;
            assert_eq!(
                (sent.status(), sent.header("content-security-policy")),
                (status, Some(policy))
            );
        }
    }
}

#[tokio::test]
async fn what_the_upstream_says_itself_stays_but_for_sniffing() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Frame-Options: SAMEORIGIN\r\n\
         X-Content-Type-Options: sniff\r\nContent-Security-Policy: default-src *\r\n\r\nok",
    )
    .await;
    let gateway = Gateway::start(&format!(
        "[routes.all]
        upstream = '{}'
        response_headers = {{ set = {{ referrer-policy = 'origin' }} }}
        security_headers = {{ csp = \"default-src 'self'\" }}",
        origin.url()
    ));
    let sent = get(&gateway, Protocol::Http1, "/", &[]).await;
    assert_eq!(sent.header("x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(
        sent.header("content-security-policy"),
        Some("default-src *")
    );
    assert_eq!(sent.header("referrer-policy"), Some("origin"));
    assert_eq!(sent.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn clients_that_came_by_https_are_held_to_it() {
    let gateway = Gateway::start(
        "[server]
        trusted_proxies = ['127.0.0.0/8']
        [routes.strict]
        respond = { body = 'here' }
        security_headers = 'strict'
        [routes.own]
        path = '/own'
        respond = { body = 'here' }
        security_headers = { hsts = 'max-age=63072000; includeSubDomains', frame = 'off', referrer = 'no-referrer', nosniff = false }",
    );
    for protocol in PROTOCOLS {
        let by = async |path, scheme| {
            let fields = [
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-proto", scheme),
            ];
            let sent = get(&gateway, protocol, path, &fields).await;
            sent.header("strict-transport-security").map(str::to_owned)
        };
        assert_eq!(by("/", "https").await.as_deref(), Some("max-age=31536000"));
        assert_eq!(by("/", "http").await, None);
        let own = "max-age=63072000; includeSubDomains";
        assert_eq!(by("/own", "https").await.as_deref(), Some(own));
        let sent = get(&gateway, protocol, "/own", &[]).await;
        assert_eq!(sent.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(sent.header("x-frame-options"), None);
        assert_eq!(sent.header("x-content-type-options"), None);
    }
}
