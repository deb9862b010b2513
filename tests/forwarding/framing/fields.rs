//! Header fields of one hop, of ours, and those that may be misread.

use http::{HeaderName, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::support::{
    Gateway, Origin, PROTOCOLS, Raw, Recorded, Server, ask, empty, http2, read, reply, request,
    within,
};

async fn received(fields: &str) -> Recorded {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    origin.request()
}

#[tokio::test]
async fn nominated_fields_go_but_none_of_ours_and_none_that_makes_the_request() {
    let request = received(
        "Connection: x-secret, X-Forwarded-For, authorization, host, x-request-id, via\r\n\
         X-Secret: 1\r\nAuthorization: Bearer t\r\nX-Forwarded-For: 9.9.9.9\r\n",
    )
    .await;
    assert_eq!(request.header("x-secret"), None);
    assert_eq!(request.header("host"), Some("a"));
    assert_eq!(request.header("authorization"), Some("Bearer t"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(request.header("x-request-id").is_some());
    assert!(request.header("via").is_some());
    assert_eq!(request.header("connection"), None);
}

#[tokio::test]
async fn nominations_count_over_several_lines_and_in_any_case() {
    let request =
        received("Connection: X-One\r\nConnection: keep-alive ,x-two\r\nx-one: 1\r\nX-TWO: 2\r\n")
            .await;
    assert_eq!(request.header("x-one"), None);
    assert_eq!(request.header("x-two"), None);
}

#[tokio::test]
async fn fields_of_one_hop_stay_on_it() {
    let request = received(
        "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n\
         TE: gzip\r\nUpgrade: websocket\r\n",
    )
    .await;
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "connection",
    ] {
        assert_eq!(request.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_wish_for_trailers_goes_on_alone() {
    let request = received("TE: gzip;q=0.5, trailers\r\nConnection: TE\r\n").await;
    assert_eq!(request.header("te"), Some("trailers"));
}

#[tokio::test]
async fn names_that_servers_may_read_as_others_are_dropped() {
    let request = received(
        "X_Forwarded_For: 1.1.1.1\r\nContent_Length: 4\r\nX.Forwarded.For: 1.1.1.1\r\n\
         X.HTTP-Method.Override: DELETE\r\nx-ok: 1\r\n",
    )
    .await;
    for name in [
        "x_forwarded_for",
        "content_length",
        "x.forwarded.for",
        "x.http-method.override",
    ] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("x-ok"), Some("1"));
}

#[tokio::test]
async fn an_upgrade_to_another_http_is_not_passed_on() {
    for upgrade in ["h2c", "h2c, websocket", "HTTP/2.0", "TLS/1.2"] {
        let request = received(&format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMA\r\n"
        ))
        .await;
        assert_eq!(request.header("upgrade"), None, "{upgrade}");
        assert_eq!(request.header("connection"), None, "{upgrade}");
        assert_eq!(request.header("http2-settings"), None, "{upgrade}");
    }
}

#[tokio::test]
async fn our_name_is_added_to_via() {
    let request = received("Via: 1.0 front\r\n").await;
    let via = request.all("via");
    assert_eq!(via[0], "1.0 front");
    assert!(via[1].starts_with("1.1 tollgate-"), "{via:?}");
}

#[tokio::test]
async fn a_request_that_comes_back_is_a_loop() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    Raw::ask(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let via = origin.request().header("via").expect("Via").to_owned();
    let again = format!("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x, {via}\r\n\r\n");
    let answer = Raw::ask_and_close(gateway.address(), again).await;
    assert_eq!(answer.refusal(), (508, "request.loop".to_owned()));
    let far = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nVia: {}1.1 x\r\n\r\n",
        "1.1 x,".repeat(10)
    );
    let answer = Raw::ask_and_close(gateway.address(), far).await;
    assert_eq!(answer.refusal(), (508, "request.loop".to_owned()));
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_gateway_that_leads_to_itself_answers_with_a_loop() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let itself = gateway.address();
    gateway.apply(&format!("[routes.all]\nupstream = \"http://{itself}\""));
    assert_eq!(gateway.address(), itself);
    let answer = Raw::ask(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.refusal(), (508, "request.loop".to_owned()));
}

#[tokio::test]
async fn an_answers_fields_of_one_hop_stay_on_it() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, x-internal\r\n\
         Keep-Alive: timeout=5\r\nX-Internal: 1\r\nProxy-Connection: x\r\nX-Ok: 1\r\n\
         Proxy-Authenticate: Basic\r\n\r\nok",
    )
    .await;
    let gateway = Gateway::to(&origin.url());
    for protocol in PROTOCOLS {
        let answer = ask(gateway.address(), protocol, ("GET", "/"), &[], empty()).await;
        for name in [
            "connection",
            "keep-alive",
            "x-internal",
            "proxy-connection",
            "proxy-authenticate",
        ] {
            assert_eq!(answer.header(name), None, "{protocol:?}: {name}");
        }
        assert_eq!(answer.header("x-ok"), Some("1"), "{protocol:?}");
    }
}

#[tokio::test]
async fn a_field_of_one_hop_goes_where_it_is_the_only_one() {
    for field in ["Proxy-Authenticate", "Proxy-Authorization"] {
        let origin = Origin::answering(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{field}: Basic\r\n\r\nok"
        ))
        .await;
        let gateway = Gateway::to(&origin.url());
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}: Basic\r\n\r\n");
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.text(), "ok", "{field}");
        assert_eq!(answer.header(field), None, "{field}");
        assert_eq!(origin.request().header(field), None, "{field}");
    }
}

/// A request whose `Connection` nominates one of its trailers. Another is not announced.
const NOMINATING: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                          Connection: keep-alive, X-Internal\r\nTrailer: x-internal, x-sum\r\n\r\n\
                          2\r\nhi\r\n0\r\nX-Internal: 1\r\nX-Sum: 7\r\nX-Other: 1\r\n\r\n";

#[tokio::test]
async fn nominated_names_go_from_a_requests_trailers_too() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let answer = Raw::ask(gateway.address(), NOMINATING).await;
    assert_eq!(answer.status, 200);
    let request = origin.request();
    assert_eq!(request.text(), "hi");
    assert_eq!(request.header("trailer"), Some("x-sum"));
    assert_eq!(request.trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

#[tokio::test]
async fn nominated_names_go_from_trailers_to_an_http_2_server_too() {
    let origin = Server::h2c(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.expect("a whole body");
        let trailers = body.trailers().cloned().unwrap_or_default();
        let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        reply(names.join(","))
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let answer = Raw::ask(gateway.address(), NOMINATING).await;
    assert_eq!((answer.status, answer.text()), (200, "x-sum"));
}

#[tokio::test]
async fn nominated_names_go_from_an_answers_trailers_too() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, X-Internal\r\n\
         Trailer: x-internal, x-sum\r\n\r\n2\r\nok\r\n0\r\nX-Internal: 1\r\nX-Sum: 7\r\n\r\n",
    )
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let ask = request("GET", "/").body(empty()).expect("a request");
    let answer = read(within(client.send_request(ask)).await.expect("a head")).await;
    assert_eq!(answer.header("trailer"), Some("x-sum"));
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers["x-sum"], "7");
    assert!(!trailers.contains_key("x-internal"), "{trailers:?}");
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n";
    let answer = Raw::ask(gateway.address(), ask).await;
    assert_eq!(answer.text(), "ok");
    let names: Vec<_> = answer
        .trailers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    assert_eq!(names, ["x-sum"]);
}
