//! What the upstream is told about the caller, and that nobody else can tell it.

use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::{
    Site, bearer,
    signer::{Signer, alice, alice_with},
    support::{Origin, Raw, full, http2, read, request, within},
};

const SHOWN: &str = "[auth.jwt.main.forward_claims]\n\
                     x-user = 'sub'\nx-tenant = ['org', 'id']\nx-roles = 'roles'\nx-mail = 'mail'\n";

fn signer() -> Signer {
    Signer::new(Algorithm::HS256)
}

#[tokio::test]
async fn claims_are_shown_to_the_upstream_in_headers() {
    let signer = signer();
    let site = Site::of(&signer, SHOWN).await;
    let claims = json!({ "org": { "id": 7 }, "roles": ["a", "b"], "mail": "a\r\nx-user: root" });
    site.bearer(&signer.token(&alice_with(claims))).await;
    let seen = site.origin.request();
    assert_eq!(seen.header("x-user"), Some("alice"));
    assert_eq!(seen.header("x-tenant"), Some("7"));
    assert_eq!(seen.header("x-roles"), Some("a,b"));
    assert_eq!(seen.header("x-mail"), None, "no header can show it");
}

#[tokio::test]
async fn what_a_client_sends_under_these_names_is_gone_on_every_route() {
    let signer = signer();
    let keys = signer.keys();
    let tables = format!(
        "[auth.jwt.main]\n{keys}\n{SHOWN}\n\
         [routes.open]\npath = '/open'\nauth = 'public'\nupstream = 'ORIGIN'\n\
         [routes.either]\npath = '/either'\nauth = ['jwt.main', 'anonymous']\nupstream = 'ORIGIN'\n"
    );
    let site = Site::with(&tables, "auth = \"jwt.main\"").await;
    let lies = "X-User: root\r\nx-user: root\r\nX-TENANT: 1\r\nx_user: root\r\nX_Roles: admin\r\n\
                X.User: root\r\nx~roles: admin\r\nConnection: x-user\r\nx-mail: a@b\r\nx-other: kept\r\n";
    let token = bearer(&signer.token(&alice()));
    for (target, fields) in [
        ("/open", lies.to_owned()),
        ("/either", lies.to_owned()),
        ("/", format!("{token}{lies}")),
    ] {
        let answer = site.ask(&format!("GET {target} HTTP/1.1"), &fields).await;
        assert_eq!(answer.status, 200);
    }
    let seen = site.origin.requests();
    for request in &seen {
        for name in [
            "x_user", "x_roles", "x.user", "x~roles", "x-tenant", "x-roles", "x-mail",
        ] {
            assert!(request.all(name).is_empty(), "{request:#?}");
        }
        assert_eq!(request.header("x-other"), Some("kept"));
    }
    let users: Vec<_> = seen
        .iter()
        .map(|request| request.header("x-user"))
        .collect();
    assert_eq!(users, [None, None, Some("alice")]);
}

#[tokio::test]
async fn neither_do_they_come_through_trailers() {
    let signer = signer();
    let site = Site::of(&signer, SHOWN).await;
    let token = bearer(&signer.token(&alice()));
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\n{token}Transfer-Encoding: chunked\r\n\
         Trailer: x-user, x_user, x.user, x-roles, x-sum\r\n\r\n\
         2\r\nok\r\n0\r\nx-user: root\r\nx_user: root\r\nx.user: root\r\nx-roles: admin\r\nx-sum: 7\r\n\r\n"
    );
    let answer = Raw::ask(site.gateway.address(), request).await;
    assert_eq!(answer.status, 200);
    let trailers = [("x-sum".to_owned(), "7".to_owned())];
    assert_eq!(site.origin.request().trailers, trailers);
}

#[tokio::test]
async fn neither_over_http_2() {
    let signer = signer();
    let site = Site::of(&signer, SHOWN).await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-user", "root".parse().unwrap());
    trailers.insert("x-sum", "7".parse().unwrap());
    let frames = [Frame::data("ok".into()), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed_unsync();
    let token = format!("Bearer {}", signer.token(&alice()));
    let request = request("POST", "/")
        .header("authorization", token)
        .header("x-user", "root")
        .header("x_user", "root")
        .header("trailer", "x-user, x-sum")
        .body(body)
        .unwrap();
    let mut client = http2(site.gateway.address()).await;
    let answer = read(within(client.send_request(request)).await.unwrap()).await;
    assert_eq!(answer.status(), 200);
    let seen = site.origin.request();
    assert_eq!(seen.all("x-user"), ["alice"]);
    assert!(seen.all("x_user").is_empty());
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

/// A reload that adds a header takes effect on routes that it does not touch.
#[tokio::test]
async fn a_header_that_a_reload_adds_is_taken_out_everywhere() {
    let signer = signer();
    let origin = Origin::ok().await;
    let tables = |shown: &str| {
        format!(
            "[auth.jwt.main]\n{}\n{shown}\n\
             [routes.all]\nupstream = '{}'\nauth = 'public'\n\
             [routes.other]\npath = '/other'\nupstream = '{}'\nauth = 'jwt.main'\n",
            signer.keys(),
            origin.url(),
            origin.url(),
        )
    };
    let gateway = crate::support::Gateway::start(&tables(""));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nx-user: root\r\nTransfer-Encoding: chunked\r\n\
                   Trailer: x-user\r\n\r\n0\r\nx-user: root\r\n\r\n";
    Raw::ask(gateway.address(), chunked).await;
    gateway.apply(&tables(SHOWN));
    Raw::ask(gateway.address(), chunked).await;
    let seen = origin.requests();
    assert_eq!(seen[0].header("x-user"), Some("root"));
    assert_eq!(seen[0].trailers.len(), 1);
    assert_eq!(seen[1].header("x-user"), None);
    assert!(seen[1].trailers.is_empty());
}

#[tokio::test]
async fn the_caller_is_named_in_the_log_by_method_and_subject() {
    let signer = signer();
    let site = Site::of(&signer, "").await;
    site.bearer(&signer.token(&alice())).await;
    let line = site.gateway.log_line().await;
    assert_eq!(line["principal"], "jwt.main:alice", "{line:#}");
    let _ = full("");
}
