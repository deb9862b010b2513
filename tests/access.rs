//! Who may use a route, over real sockets: addresses, permissions, and rules that only watch.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use http::Response;
use support::{Gateway, Sent, Server, empty, eventually, full, http1, read, request, within};

/// A server that says "here".
async fn origin() -> Server {
    Server::http1(|_| async { Response::new(full("here")) }).await
}

/// A GET as the client behind our proxy at loopback.
async fn from(gateway: &Gateway, client: &str) -> Sent {
    send(gateway, "GET", "/", &[("x-forwarded-for", client)]).await
}

async fn send(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Sent {
    let mut request = request(method, path).header("host", "gateway.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
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
async fn addresses_are_checked_before_anything_is_known_of_the_caller() {
    let gateway = Gateway::start(
        "[routes.a]\nrespond = {}\nip = { deny = ['127.0.0.1'] }\nroles = ['admin']\n",
    );
    assert_eq!(send(&gateway, "GET", "/", &[]).await.reason(), "ip.denied");
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
