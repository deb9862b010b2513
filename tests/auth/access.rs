//! Who may use a route, over real sockets: addresses, permissions, and rules that only watch.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use http::Response;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tollgate::exchange::fields::OVERRIDES;

use crate::support::{self, Gateway, Sent, Server, empty, eventually, full, http1, read, within};

/// A server that says "here".
async fn origin() -> Server {
    Server::http1(|_| async { Response::new(full("here")) }).await
}

/// A GET as the client behind our proxy at loopback.
async fn from(gateway: &Gateway, client: &str) -> Sent {
    send(gateway, "GET", "/", &[("x-forwarded-for", client)]).await
}

async fn send(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Sent {
    let host = [("host", "gateway.test")];
    send_as_it_is(gateway, method, path, &[&host, headers].concat()).await
}

/// A request with these header fields and no others.
async fn send_as_it_is(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Sent {
    let builder = http::Request::builder().method(method).uri(path);
    let request = headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    let mut connection = http1(gateway.address()).await;
    let answer = within(connection.send_request(request.body(empty()).unwrap())).await;
    read(answer.unwrap()).await
}

fn behind_proxy(origin: &Server, rules: &str) -> String {
    format!(
        "[server]\ntrusted_proxies = ['127.0.0.1']\n{rules}\n[routes.office]\nupstream = '{}'\n",
        origin.url()
    )
}

#[tokio::test]
async fn only_allowed_addresses_get_through_and_deny_stands_above() {
    let origin = origin().await;
    let sets = "[ip_sets.office]\ncidrs = ['192.0.2.0/24', '2001:db8::/32']";
    let rules = "ip = { allow = ['@office', '198.51.100.7'], deny = ['192.0.2.66'] }";
    let gateway = Gateway::start(&format!("{}{rules}", behind_proxy(&origin, sets)));
    for admitted in [
        "192.0.2.1",
        "2001:db8::1",
        "198.51.100.7",
        "::ffff:192.0.2.9",
    ] {
        assert_eq!(from(&gateway, admitted).await.status(), 200, "{admitted}");
    }
    for refused in [
        "192.0.2.66",
        "203.0.113.1",
        "198.51.100.8",
        "2001:db9::1",
        "::ffff:192.0.2.66",
    ] {
        let sent = from(&gateway, refused).await;
        assert_eq!(
            (sent.status(), &*sent.reason()),
            (403, "ip.denied"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_refused_address_is_told_nothing_and_the_log_why() {
    let origin = origin().await;
    let rules = "ip = { allow = ['192.0.2.0/24'] }";
    let gateway = Gateway::start(&format!("{}{rules}", behind_proxy(&origin, "")));
    let sent = from(&gateway, "203.0.113.1").await;
    let body: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert!(body["error"]["details"].is_null(), "{body:#}");
    assert!(!String::from_utf8_lossy(&sent.body).contains("192.0.2"));
    let line = gateway.log_line().await;
    assert_eq!(line["reason"], "ip.denied");
    assert_eq!(
        line["detail"],
        "the address is not among those that are allowed"
    );
    assert_eq!(
        gateway.metric("tollgate_rejections_total", &["office", "ip.denied"]),
        1.0
    );
}

#[tokio::test]
async fn an_address_that_a_client_claims_without_our_proxy_is_not_believed() {
    let origin = origin().await;
    let gateway = Gateway::start(&format!(
        "[routes.office]\nupstream = '{}'\nip = {{ allow = ['192.0.2.0/24'] }}\n",
        origin.url()
    ));
    assert_eq!(from(&gateway, "192.0.2.1").await.reason(), "ip.denied");
}

#[tokio::test]
async fn a_set_in_a_file_is_read_again_when_it_changes_and_kept_when_it_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("office.txt");
    let replace = |text: &str| {
        let new = folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &file).unwrap();
    };
    replace("192.0.2.0/24\n");
    let origin = origin().await;
    let sets = format!(
        "[ip_sets.office]\ncidrs = ['198.51.100.1']\nfile = '{}'",
        file.display()
    );
    let rules = "ip = { allow = ['@office'] }";
    let gateway = Gateway::start(&format!("{}{rules}", behind_proxy(&origin, &sets)));
    assert_eq!(from(&gateway, "192.0.2.1").await.status(), 200);
    assert_eq!(from(&gateway, "198.51.100.1").await.status(), 200);
    assert_eq!(from(&gateway, "203.0.113.1").await.status(), 403);

    let reads =
        |result: &str| gateway.metric("tollgate_file_reads_total", &["ip_sets.office", result]);
    replace("# moved\n203.0.113.0/24\n");
    eventually(|| reads("success") == 2.0).await;
    assert_eq!(from(&gateway, "192.0.2.1").await.status(), 403);
    assert_eq!(from(&gateway, "198.51.100.1").await.status(), 200);
    assert_eq!(from(&gateway, "203.0.113.1").await.status(), 200);

    replace("203.0.113.0/24\nnonsense\n");
    eventually(|| reads("failure") == 1.0).await;
    assert_eq!(
        from(&gateway, "203.0.113.1").await.status(),
        200,
        "what it said before"
    );
}

#[tokio::test]
async fn a_reload_that_changes_a_set_changes_the_routes_that_name_it() {
    let origin = origin().await;
    let text = |network: &str| {
        let sets = format!("[ip_sets.office]\ncidrs = ['{network}']");
        format!(
            "{}ip = {{ allow = ['@office'] }}",
            behind_proxy(&origin, &sets)
        )
    };
    let gateway = Gateway::start(&text("192.0.2.0/24"));
    assert_eq!(from(&gateway, "192.0.2.1").await.status(), 200);
    gateway.apply(&text("203.0.113.0/24"));
    assert_eq!(from(&gateway, "192.0.2.1").await.status(), 403);
    assert_eq!(from(&gateway, "203.0.113.1").await.status(), 200);
}

#[tokio::test]
async fn a_rule_on_addresses_in_shadow_mode_lets_through_logs_and_counts() {
    let origin = origin().await;
    let rules = "ip = { deny = ['203.0.113.0/24'], enforce = false }\n[log.access]\nsample = 0.0\n";
    let text = format!("{}{rules}", behind_proxy(&origin, ""));
    let gateway = Gateway::start(&text);
    assert_eq!(from(&gateway, "192.0.2.1").await.status(), 200);
    assert_eq!(from(&gateway, "203.0.113.1").await.status(), 200);
    // The other request is not an error, and nothing else is kept with this sample.
    let line = gateway.log_line().await;
    assert_eq!(
        (&line["status"], &line["shadow"]),
        (&200.into(), &"ip.denied".into())
    );
    assert_eq!(line["client"], "203.0.113.1");
    assert!(line["reason"].is_null(), "{line:#}");
    let counted = |name: &str| gateway.metric(name, &["route=\"office\"", "ip.denied"]);
    assert_eq!(counted("tollgate_shadow_refusals_total"), 1.0);
    assert_eq!(counted("tollgate_rejections_total"), 0.0);
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const GUARDED: &str = "
    [auth.jwt.customers]
    issuer = 'https://id.example.com/'
    algorithms = ['HS256']
    secret = '0123456789abcdef0123456789abcdef'
    from = ['header:authorization', 'cookie:session']
    roles_claim = ['realm', 'roles']
    permissions_claim = 'scope'
    [roles.viewer]
    permissions = ['orders:read']
    [roles.editor]
    includes = ['viewer']
    permissions = ['orders:write']
    [routes.orders]
    hosts = ['{tenant}.example.com']
    auth = ['jwt.customers']
";

fn guarded(origin: &Server, keys: &str) -> Gateway {
    Gateway::start(&format!(
        "{GUARDED}\nupstream = '{}'\n{keys}\n",
        origin.url()
    ))
}

fn token(claims: &Value) -> String {
    let in_an_hour = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3600;
    let mut all = json!({ "iss": "https://id.example.com/", "sub": "alice", "exp": in_an_hour });
    all.as_object_mut()
        .unwrap()
        .extend(claims.as_object().unwrap().clone());
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), &all, &key).unwrap()
}

fn with_roles(roles: &[&str]) -> Value {
    json!({ "realm": { "roles": roles } })
}

/// A request of a caller whose token says this.
async fn call(gateway: &Gateway, method: &str, claims: Value) -> Sent {
    let bearer = format!("Bearer {}", token(&claims));
    let headers = [("authorization", &*bearer), ("host", "acme.example.com")];
    send_as_it_is(gateway, method, "/orders/1", &headers).await
}

#[tokio::test]
async fn a_caller_may_do_what_its_roles_permit() {
    let origin = origin().await;
    let keys = "permissions = { GET = 'orders:read', DELETE = 'orders:write' }";
    let gateway = guarded(&origin, keys);
    for (method, roles, status) in [
        ("GET", &["viewer"][..], 200),
        ("HEAD", &["viewer"], 200),
        ("GET", &["editor"], 200),
        ("DELETE", &["editor"], 200),
        ("DELETE", &["viewer"], 403),
        ("GET", &[], 403),
        ("GET", &["stranger"], 403),
        ("POST", &["editor"], 403),
    ] {
        let sent = call(&gateway, method, with_roles(roles)).await;
        assert_eq!(sent.status(), status, "{method} {roles:?}");
        assert!(status == 200 || sent.reason() == "rbac.denied");
    }
    let carried = call(
        &gateway,
        "DELETE",
        json!({ "scope": "openid orders:write" }),
    )
    .await;
    assert_eq!(
        carried.status(),
        200,
        "the token carries the permission itself"
    );
}

#[tokio::test]
async fn a_denied_caller_is_told_nothing_and_the_log_what_was_missing() {
    let origin = origin().await;
    let gateway = guarded(&origin, "permissions = ['orders:write', 'orders:export']");
    let sent = call(&gateway, "GET", with_roles(&["viewer"])).await;
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!((sent.status(), &*sent.reason()), (403, "rbac.denied"));
    assert_eq!(body["error"]["code"], "FORBIDDEN");
    assert!(body["error"]["details"].is_null(), "{body:#}");
    assert!(!String::from_utf8_lossy(&sent.body).contains("orders"));
    assert_eq!(
        sent.header("www-authenticate"),
        Some("Bearer realm=\"tollgate\", error=\"insufficient_scope\""),
        "RFC 6750 3.1, and no word of what would be sufficient"
    );
    let line = gateway.log_line().await;
    assert_eq!(
        line["detail"],
        "permission needed: orders:write or orders:export"
    );
    assert_eq!(line["principal"], "jwt.customers:alice");
    assert_eq!(
        gateway.metric("tollgate_rejections_total", &["orders", "rbac.denied"]),
        1.0
    );
}

#[tokio::test]
async fn no_field_makes_another_request_of_one_that_was_allowed() {
    let origin = support::Origin::ok().await;
    for name in [
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-HTTP-Method",
        "X-Original-URL",
        "X-Original-URI",
        "X-Rewrite-URL",
        "X-Envoy-Original-Path",
        "X-Host",
        "X-Original-Host",
        "X-Middleware-Subrequest",
        "Proxy",
    ] {
        assert!(OVERRIDES.iter().any(|known| *known == name), "{name}");
    }
    for (keys, passes) in [("", false), ("override_headers = 'keep'", true)] {
        let route = format!("[routes.all]\nupstream = '{}'\n{keys}", origin.url());
        let gateway = Gateway::start(&route);
        // Each alone: whether there is any is found out before they are taken out.
        for name in OVERRIDES.iter().map(http::HeaderName::as_str) {
            let ask = format!(
                "POST /a HTTP/1.1\r\nHost: a\r\n{name}: DELETE\r\nContent-Length: 0\r\n\r\n"
            );
            let answer = support::Raw::ask(gateway.address(), ask).await;
            assert_eq!(answer.status, 200, "{name}");
            let requests = origin.requests();
            let passed = requests.last().unwrap().header(name).is_some();
            assert_eq!(passed, passes, "{keys} {name}");
        }
    }
}

#[tokio::test]
async fn roles_stand_in_a_claim_with_one_name_or_at_a_path() {
    let origin = origin().await;
    for (claim, claims) in [
        (
            "'https://id.test/roles'",
            json!({ "https://id.test/roles": ["admin"] }),
        ),
        ("'roles'", json!({ "roles": "viewer admin" })),
        (
            "['realm.access', 'roles']",
            json!({ "realm.access": { "roles": ["admin"] } }),
        ),
    ] {
        let gateway = Gateway::start(&format!(
            "[auth.jwt.main]\nsecret = '{SECRET}'\nroles_claim = {claim}\n\
             [routes.all]\nauth = 'jwt.main'\nroles = ['admin']\nupstream = '{}'\n",
            origin.url()
        ));
        let asked = async |claims: &Value| {
            let bearer = format!("Bearer {}", token(claims));
            send(&gateway, "GET", "/", &[("authorization", &bearer)]).await
        };
        assert_eq!(asked(&claims).await.status(), 200, "{claim}");
        let elsewhere = json!({ "realm": { "access": { "roles": ["admin"] } } });
        assert_eq!(asked(&elsewhere).await.reason(), "rbac.denied", "{claim}");
    }
}

#[tokio::test]
async fn a_tenant_gets_no_further_than_its_own_host() {
    let origin = origin().await;
    let gateway = guarded(&origin, "claims = { tenant = '${host.tenant}' }");
    assert_eq!(
        call(&gateway, "GET", json!({ "tenant": "acme" }))
            .await
            .status(),
        200
    );
    for claims in [
        json!({ "tenant": "other" }),
        json!({ "tenant": "" }),
        json!({}),
    ] {
        let sent = call(&gateway, "GET", claims).await;
        assert_eq!((sent.status(), &*sent.reason()), (403, "rbac.denied"));
    }
}

#[tokio::test]
async fn who_is_not_known_is_401_before_any_rule_is_asked() {
    let origin = origin().await;
    let gateway = guarded(&origin, "roles = ['editor']");
    let host = [("host", "acme.example.com")];
    let sent = send_as_it_is(&gateway, "GET", "/", &host).await;
    assert_eq!(sent.status(), 401);
    assert_eq!(
        call(&gateway, "GET", with_roles(&["editor"]))
            .await
            .status(),
        200
    );
    assert_eq!(
        call(&gateway, "GET", with_roles(&["viewer"]))
            .await
            .reason(),
        "rbac.denied"
    );
}

#[tokio::test]
async fn anonymous_callers_hold_no_rule() {
    let origin = origin().await;
    let text = GUARDED
        .replace(
            "auth = ['jwt.customers']",
            "auth = ['jwt.customers', 'anonymous']",
        )
        .replace("hosts = ['{tenant}.example.com']", "");
    let gateway = Gateway::start(&format!(
        "{text}\nupstream = '{}'\npermissions = 'authenticated'\n",
        origin.url()
    ));
    assert_eq!(
        send(&gateway, "GET", "/", &[]).await.reason(),
        "rbac.denied"
    );
    assert_eq!(call(&gateway, "GET", json!({})).await.status(), 200);
}

#[tokio::test]
async fn addresses_are_checked_before_anybody_is_asked_who_they_are() {
    let origin = origin().await;
    let gateway = guarded(&origin, "ip = { deny = ['127.0.0.1'] }");
    let sent = call(&gateway, "GET", json!({})).await;
    assert_eq!(sent.reason(), "ip.denied");
    assert!(gateway.log_line().await["principal"].is_null());
}

#[tokio::test]
async fn rules_about_callers_in_shadow_mode_let_through_log_and_count() {
    let origin = origin().await;
    let gateway = guarded(
        &origin,
        "permissions = 'orders:write'\nrbac = { enforce = false }",
    );
    assert_eq!(
        call(&gateway, "GET", with_roles(&["editor"]))
            .await
            .status(),
        200
    );
    assert_eq!(
        call(&gateway, "GET", with_roles(&["viewer"]))
            .await
            .status(),
        200
    );
    let lines = gateway.log_lines(2).await;
    let shadows: Vec<&Value> = lines.iter().map(|line| &line["shadow"]).collect();
    assert_eq!(shadows, [&Value::Null, &json!("rbac.denied")]);
    assert_eq!(lines[1]["detail"], "permission needed: orders:write");
    let counted = gateway.metric("tollgate_shadow_refusals_total", &["orders", "rbac.denied"]);
    assert_eq!(counted, 1.0);
}

#[tokio::test]
async fn a_reload_that_changes_a_role_changes_what_its_holders_may() {
    let origin = origin().await;
    let text = |role: &str| {
        let text = GUARDED.replace("permissions = ['orders:write']", role);
        format!(
            "{text}\nupstream = '{}'\npermissions = 'orders:write'\n[roles.root]\npermissions = ['*']\n",
            origin.url()
        )
    };
    let gateway = Gateway::start(&text("permissions = ['orders:write']"));
    assert_eq!(
        call(&gateway, "GET", with_roles(&["editor"]))
            .await
            .status(),
        200
    );
    gateway.apply(&text("permissions = ['orders:list']"));
    assert_eq!(
        call(&gateway, "GET", with_roles(&["editor"]))
            .await
            .status(),
        403
    );
    assert_eq!(
        call(&gateway, "GET", with_roles(&["root"])).await.status(),
        200
    );
}

/// A request of a page of an origin, with the caller's token in a cookie.
async fn from_page(gateway: &Gateway, method: &str, origin: &str, more: &[(&str, &str)]) -> Sent {
    let cookie = format!("a=b; session={}", token(&json!({})));
    let headers = [
        ("origin", origin),
        ("cookie", &*cookie),
        ("host", "acme.example.com"),
    ];
    send_as_it_is(gateway, method, "/", &[&headers, more].concat()).await
}

#[tokio::test]
async fn a_page_of_another_origin_does_nothing_with_the_readers_cookie() {
    let origin = origin().await;
    let gateway = guarded(&origin, "");
    let (own, evil) = ("https://acme.example.com", "https://evil.test");
    assert_eq!(from_page(&gateway, "POST", own, &[]).await.status(), 200);
    assert_eq!(
        from_page(&gateway, "GET", evil, &[]).await.status(),
        200,
        "it can't read that"
    );
    for (method, more) in [
        ("POST", &[][..]),
        ("DELETE", &[]),
        ("POST", &[("sec-fetch-site", "cross-site")]),
        (
            "GET",
            &[("connection", "upgrade"), ("upgrade", "websocket")],
        ),
    ] {
        let sent = from_page(&gateway, method, evil, more).await;
        assert_eq!(
            (sent.status(), &*sent.reason()),
            (403, "origin.denied"),
            "{method} {more:?}"
        );
    }
    let from_proxied = [("sec-fetch-site", "same-origin")];
    assert_eq!(
        from_page(&gateway, "POST", "https://public.test", &from_proxied)
            .await
            .status(),
        200
    );
    let twice = from_page(&gateway, "POST", own, &[("origin", evil)]).await;
    assert_eq!(
        twice.reason(),
        "origin.denied",
        "of two origins neither is believed"
    );
}

#[tokio::test]
async fn who_brings_no_cookie_is_not_asked_where_it_comes_from() {
    let origin = origin().await;
    let gateway = guarded(&origin, "");
    assert_eq!(call(&gateway, "POST", json!({})).await.status(), 200);
    let bearer = format!("Bearer {}", token(&json!({})));
    let headers = [
        ("authorization", &*bearer),
        ("origin", "https://app.test"),
        ("host", "acme.example.com"),
    ];
    let sent = send_as_it_is(&gateway, "POST", "/", &headers).await;
    assert_eq!(
        sent.status(),
        200,
        "a page must know the token to send it so"
    );
}

#[tokio::test]
async fn a_route_names_the_origins_that_it_knows() {
    let origin = origin().await;
    let gateway = guarded(&origin, "origins = ['same-host', 'https://*.app.test']");
    for (page, status) in [
        ("https://acme.example.com", 200),
        ("https://one.app.test", 200),
        ("https://app.test", 403),
        ("https://evil.test", 403),
        ("null", 403),
    ] {
        assert_eq!(
            from_page(&gateway, "POST", page, &[]).await.status(),
            status,
            "{page}"
        );
    }
    let gateway = guarded(&origin, "origins = 'any'");
    assert_eq!(
        from_page(&gateway, "POST", "https://evil.test", &[])
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn an_origin_that_cors_lets_act_with_credentials_passes_and_a_refused_one_can_read_why() {
    let origin = origin().await;
    let cors = "cors = { origins = ['https://app.test'], credentials = true }";
    let gateway = guarded(&origin, cors);
    assert_eq!(
        from_page(&gateway, "POST", "https://app.test", &[])
            .await
            .status(),
        200
    );
    assert_eq!(
        from_page(&gateway, "POST", "https://evil.test", &[])
            .await
            .reason(),
        "origin.denied"
    );
    let gateway = guarded(&origin, &format!("{cors}\norigins = 'same-host'"));
    let sent = from_page(&gateway, "POST", "https://app.test", &[]).await;
    assert_eq!(
        sent.reason(),
        "origin.denied",
        "the route's own rule is all of it"
    );
    assert_eq!(
        sent.header("access-control-allow-origin"),
        Some("https://app.test")
    );
}

#[tokio::test]
async fn a_grpc_method_has_a_rule_of_its_own_and_its_denial_is_a_grpc_status() {
    let origin = Server::h2c(|_| async {
        let mut response = Response::new(full(""));
        let headers = response.headers_mut();
        headers.insert("content-type", "application/grpc".parse().unwrap());
        headers.insert("grpc-status", "0".parse().unwrap());
        response
    })
    .await;
    let keys = "permissions = { 'rpc:GetOrder' = 'orders:read', '*' = 'orders:write' }";
    let gateway = guarded(&origin, keys);
    let bearer = format!("Bearer {}", token(&with_roles(&["viewer"])));
    let call = async |path: &str, media_type: &str| {
        let request = http::Request::post(format!("http://acme.example.com{path}"))
            .header("authorization", &bearer)
            .header("content-type", media_type)
            .header("te", "trailers");
        let request = match media_type {
            "application/json" => request.header("connect-protocol-version", "1"),
            _ => request,
        };
        let mut connection = support::http2(gateway.address()).await;
        let sent = within(connection.send_request(request.body(empty()).unwrap())).await;
        let sent = read(sent.unwrap()).await;
        (sent.status(), sent.header("grpc-status").map(str::to_owned))
    };
    let grpc = "application/grpc";
    assert_eq!(
        call("/shop.v1.Orders/GetOrder", grpc).await,
        (200, Some("0".into()))
    );
    assert_eq!(
        call("/shop.v1.Orders/DropOrder", grpc).await,
        (200, Some("7".into()))
    );
    // Connect: the same methods as JSON.
    let json = "application/json";
    assert_eq!(call("/shop.v1.Orders/DropOrder", json).await, (403, None));
    assert_eq!(call("/shop.v1.Orders/GetOrder", json).await.0, 200);
    // Something else that ends in the name of a call.
    assert_eq!(call("/orders/GetOrder", "text/plain").await, (403, None));
    assert_eq!(
        gateway.metric("tollgate_rejections_total", &["orders", "rbac.denied"]),
        3.0
    );
}

#[tokio::test]
async fn what_is_denied_uses_up_nothing_of_a_callers_limit() {
    let origin = origin().await;
    let keys = "permissions = { GET = 'orders:read', DELETE = 'orders:write' }\n\
         rate_limits = ['few']\n[rate_limits.few]\nkey = 'caller'\nquota = '1/1h'";
    let gateway = guarded(&origin, keys);
    for _ in 0..3 {
        let sent = call(&gateway, "DELETE", with_roles(&["viewer"])).await;
        assert_eq!((sent.status(), &*sent.reason()), (403, "rbac.denied"));
    }
    for status in [200, 429] {
        let sent = call(&gateway, "GET", with_roles(&["viewer"])).await;
        assert_eq!(sent.status(), status);
    }
}

#[tokio::test]
async fn who_is_not_known_is_not_told_what_is_wrong_with_the_body() {
    let origin = origin().await;
    let keys = "max_body = '1KiB'\nvalidation = { content_types = ['application/json'] }";
    let gateway = guarded(&origin, keys);
    let post = async |authorization: Option<&str>, length: usize| {
        let request = http::Request::post("/orders/1")
            .header("host", "acme.example.com")
            .header("content-type", "text/plain");
        let request = match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        let request = request.body(full("x".repeat(length))).unwrap();
        let mut connection = http1(gateway.address()).await;
        let sent = within(connection.send_request(request)).await;
        let sent = read(sent.unwrap()).await;
        (sent.status(), sent.reason())
    };
    let expected = (401, "auth.missing".to_owned());
    assert_eq!(post(None, 2048).await, expected);
    // Both are wrong, as a known caller is told.
    let bearer = format!("Bearer {}", token(&json!({})));
    let expected = (413, "request.body_too_large".to_owned());
    assert_eq!(post(Some(bearer.as_str()), 2048).await, expected);
    let expected = (415, "request.content_type".to_owned());
    assert_eq!(post(Some(bearer.as_str()), 10).await, expected);
}
