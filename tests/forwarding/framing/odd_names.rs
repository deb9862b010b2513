//! Header fields whose names servers may read as others: which go on where a route keeps them.

use crate::support::{Gateway, Origin, Raw, Recorded};

const KEEP: &str = "odd_header_names = \"keep\"";

/// What the server gets of a request with these fields, by a route with these keys.
async fn received(keys: &str, fields: &str) -> Recorded {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{}\"\n{keys}\n",
        origin.url()
    ));
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    origin.request()
}

/// The same for many fields, each of the value 1.
async fn received_names(keys: &str, names: &[&str]) -> Recorded {
    let fields: String = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
    received(keys, &fields).await
}

#[tokio::test]
async fn odd_names_go_on_where_the_route_keeps_them() {
    let names = ["my_key", "x.tenant", "x-amz-meta-my_key", "api_key", "a~b"];
    for (keys, expected) in [
        ("", None),
        ("odd_header_names = \"drop\"", None),
        (KEEP, Some("1")),
    ] {
        let request = received_names(keys, &names).await;
        for name in names {
            assert_eq!(request.header(name), expected, "{keys} {name}");
        }
    }
}

#[tokio::test]
async fn a_route_may_drop_what_the_defaults_keep() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[defaults]\n{KEEP}\n[routes.all]\nupstream = \"{0}\"\n\
         [routes.strict]\npath = \"/strict\"\nodd_header_names = \"drop\"\nupstream = \"{0}\"\n",
        origin.url()
    ));
    for (path, expected) in [("/", Some("1")), ("/strict", None)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nmy_key: 1\r\n\r\n");
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.status, 200);
        let requests = origin.requests();
        let last = requests.last().expect("a request");
        assert_eq!(last.header("my_key"), expected, "{path}");
    }
}

#[tokio::test]
async fn disguises_of_what_no_client_may_say_never_go_on() {
    let names = [
        "content_length",
        "x_forwarded_for",
        "x.forwarded.port",
        "x_real_ip",
        "forwarded_",
        "x_request_id",
        "traceparent~",
        "tracestate.",
        "proxy_authorization",
        "keep_alive",
        "authorization_",
        "_cookie",
        "host.",
        "x_http_method_override",
        "x__original_url",
    ];
    let request = received_names(KEEP, &[&names[..], &["my_key"]].concat()).await;
    for name in names {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("my_key"), Some("1"));
}

#[tokio::test]
async fn disguised_overrides_go_on_where_the_route_keeps_both() {
    let keys = format!("{KEEP}\noverride_headers = \"keep\"");
    let request = received_names(&keys, &["x_http_method_override", "x.original-url"]).await;
    assert_eq!(request.header("x_http_method_override"), Some("1"));
    assert_eq!(request.header("x.original-url"), Some("1"));
}

#[tokio::test]
async fn no_odd_name_says_again_what_the_routes_rules_have_judged() {
    let keys = format!(
        "{KEEP}\nmatch_headers = {{ x-plan = \"1\" }}\nvalidation = {{ headers = [\"x-tenant\", \"my_key\"] }}\n\
         request_headers = {{ set = {{ x-kind = \"web\" }}, remove = [\"x-debug\"] }}"
    );
    let fields = "x-plan: 1\r\nx_plan: 2\r\nx-tenant: a\r\nx_tenant: b\r\nx_kind: root\r\n\
                  x_debug: 1\r\nmy_key: 1\r\n";
    let request = received(&keys, fields).await;
    for name in ["x_plan", "x_tenant", "x_kind", "x_debug"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("x-kind"), Some("web"));
    assert_eq!(request.header("my_key"), Some("1"));
}

/// It would miss the guarded route, and be read by the server behind both.
#[tokio::test]
async fn no_odd_name_says_what_another_routes_condition_is_about() {
    let keys = format!(
        "{KEEP}\n[routes.guarded]\nmatch_headers = {{ x-version = \"2\" }}\nrespond = {{ status = 403 }}"
    );
    let request = received_names(&keys, &["x_version", "x.version", "my_key"]).await;
    for name in ["x_version", "x.version"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("my_key"), Some("1"));
}

/// What a rule has judged is the field that it names, whichever one the server takes.
#[tokio::test]
async fn nothing_says_again_what_a_rule_has_judged_under_an_odd_name() {
    let keys = format!("{KEEP}\nvalidation = {{ headers = [\"my_key\"] }}");
    for other in ["my.key", "my__key", "my-key"] {
        let request = received(&keys, &format!("my_key: 1\r\n{other}: evil\r\n")).await;
        assert_eq!(request.header("my_key"), Some("1"));
        assert_eq!(request.header(other), None, "{other}");
    }
}

#[tokio::test]
async fn no_odd_name_says_again_what_limits_and_the_cache_go_by() {
    let keys = format!(
        "{KEEP}\nrate_limits = [\"tenants\", \"all\"]\ncache = {{ key_headers = [\"x-site\", \"my_key\"] }}\n\
         [rate_limits.tenants]\nkey = \"header:x-tenant\"\nquota = \"9/1m\"\n\
         [rate_limits.all]\nkey = \"client_ip\"\nquota = \"9/1m\""
    );
    let names = ["x_tenant", "x.site", "my_key", "other_key"];
    let request = received_names(&keys, &names).await;
    for (name, expected) in names.into_iter().zip([None, None, Some("1"), Some("1")]) {
        assert_eq!(request.header(name), expected, "{name}");
    }
}

#[tokio::test]
async fn no_odd_name_says_who_calls() {
    let keys = format!(
        "auth = \"public\"\n{KEEP}\n[auth.jwt.main]\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
         from = \"header:x-token\"\nforward_claims = {{ x-user = \"sub\" }}"
    );
    let request = received_names(&keys, &["x_user", "x.user", "x_token", "my_key"]).await;
    for name in ["x_user", "x.user", "x_token"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("my_key"), Some("1"));
}

#[tokio::test]
async fn a_requests_trailers_go_by_the_same_rule() {
    let ask = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
               Trailer: my_sum, x-sum, x_forwarded_for, x_http_method_override\r\n\r\n\
               2\r\nhi\r\n0\r\nmy_sum: 7\r\nx-sum: 7\r\nx_forwarded_for: 1.1.1.1\r\n\
               x_http_method_override: PUT\r\n\r\n";
    let both = format!("{KEEP}\noverride_headers = \"keep\"");
    for (keys, expected) in [
        ("", &["x-sum"][..]),
        (KEEP, &["my_sum", "x-sum"][..]),
        // As the override fields themselves, which no trailer may hold.
        (both.as_str(), &["my_sum", "x-sum"][..]),
    ] {
        let origin = Origin::ok().await;
        let gateway = Gateway::start(&format!(
            "[routes.all]\nupstream = \"{}\"\n{keys}\n",
            origin.url()
        ));
        let answer = Raw::ask(gateway.address(), ask).await;
        assert_eq!(answer.status, 200);
        let request = origin.request();
        let names = request.trailers.iter().map(|(name, _)| name.as_str());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{keys}");
    }
}

#[tokio::test]
async fn an_answers_odd_names_reach_the_client_in_head_and_trailers() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nmy_head: 1\r\n\
         Trailer: my_sum, x_forwarded_for\r\n\r\n\
         2\r\nok\r\n0\r\nmy_sum: 7\r\nx_forwarded_for: 1.1.1.1\r\n\r\n",
    )
    .await;
    let gateway = Gateway::to(&origin.url());
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n";
    let answer = Raw::ask(gateway.address(), ask).await;
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("my_head"), Some("1"));
    let names = answer.trailers.iter();
    let names: Vec<_> = names.map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names, ["my_sum"]);
}
