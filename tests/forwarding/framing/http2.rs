//! HTTP/2 to HTTP/1.1 (RFC 9113 section 8).

use http::{HeaderValue, Request};
use hyper::body::{Frame, Incoming};

use crate::support::{
    FrameClient, Gateway, Origin, Server, chunks, empty, eventually, http2, read, reply, request,
    within,
};

const GOOD: [(&str, &[u8]); 4] = [
    (":method", b"GET"),
    (":scheme", b"http"),
    (":authority", b"a.test"),
    (":path", b"/"),
];

/// Each field list is refused, by RST_STREAM, GOAWAY or 400, and nothing reaches the origin.
async fn refused(requests: &[Vec<(&str, &[u8])>]) {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    for fields in requests {
        let mut client = FrameClient::connect(gateway.address()).await;
        client.request(fields).await;
        let outcome = client.outcome().await;
        let refused = outcome.is_refusal() || outcome.is_bad_request();
        assert!(refused, "{fields:?}: {outcome:?}");
    }
    assert_eq!(origin.connections(), 0, "{}", origin.received());
}

fn with<'a>(name: &'a str, value: &'a [u8]) -> Vec<(&'a str, &'a [u8])> {
    GOOD.into_iter().chain([(name, value)]).collect()
}

fn without(name: &str) -> Vec<(&'static str, &'static [u8])> {
    GOOD.into_iter()
        .filter(|(known, _)| *known != name)
        .collect()
}

fn replaced<'a>(name: &str, value: &'a [u8]) -> Vec<(&'a str, &'a [u8])> {
    let change = |(known, old): (&'static str, &'static [u8])| match known == name {
        true => (known, value),
        false => (known, old),
    };
    GOOD.into_iter().map(change).collect()
}

#[tokio::test]
async fn a_well_formed_request_written_by_hand_passes() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = FrameClient::connect(gateway.address()).await;
    client.request(&GOOD).await;
    assert!(client.outcome().await.is_headers());
    assert_eq!(origin.request().line, "GET / HTTP/1.1");
}

#[tokio::test]
async fn the_windows_of_the_configuration_are_those_that_are_announced() {
    let small = "[server.http2]\nstream_window = \"20KiB\"\nconnection_window = \"128KiB\"\n";
    for (table, windows) in [("", (64 << 10, 256 << 10)), (small, (20 << 10, 128 << 10))] {
        let gateway = Gateway::start(&format!("{table}[routes.all]\nrespond = {{}}\n"));
        let mut client = FrameClient::connect(gateway.address()).await;
        assert_eq!(client.windows().await, windows, "{table}");
    }
}

#[tokio::test]
async fn malformed_pseudo_fields_are_refused() {
    refused(&[
        without(":method"),
        without(":scheme"),
        without(":path"),
        with(":path", b"/twice"),
        with(":unknown", b"x"),
        with(":status", b"200"),
        vec![
            (":method", b"GET"),
            ("x", b"1"),
            (":scheme", b"http"),
            (":path", b"/"),
            (":authority", b"a.test"),
        ],
        replaced(":path", b""),
        replaced(":path", b"no-slash"),
        replaced(":path", b"*"),
        replaced(":path", b"/a b"),
        replaced(":path", b"/a\xc3\xa9"),
        replaced(":method", b"G T"),
        replaced(":method", b""),
    ])
    .await;
}

#[tokio::test]
async fn names_and_values_that_would_split_a_head_are_refused() {
    refused(&[
        with("X-Upper", b"1"),
        with("x y", b"1"),
        with("x:y", b"1"),
        with("", b"1"),
        with("x\r\ny", b"1"),
        with("x", b"1\r\nhost: evil"),
        with("x", b"1\n2"),
        with("x", b"1\r2"),
        with("x", b"1\x002"),
        replaced(":path", b"/\r\nhost: evil"),
        replaced(":path", b"/ HTTP/1.1\r\nx: y"),
        replaced(":authority", b"a\r\nx: y"),
        replaced(":method", b"GET / HTTP/1.1\r\nx:"),
    ])
    .await;
}

#[tokio::test]
async fn values_with_blanks_at_their_ends_are_refused() {
    refused(&[
        with("x-role", b" admin"),
        with("x-role", b"admin "),
        with("x-role", b"\tadmin"),
        with("x-role", b" "),
        with("content-type", b"application/json\t"),
    ])
    .await;
    // An empty value has no ends, and within a value a blank may stand.
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = FrameClient::connect(gateway.address()).await;
    let mut fields = with("x-empty", b"");
    fields.push(("x-two", b"a \tb"));
    client.request(&fields).await;
    assert!(client.outcome().await.is_headers());
    let request = origin.request();
    assert_eq!(request.header("x-empty"), Some(""));
    assert_eq!(request.header("x-two"), Some("a \tb"));
}

#[tokio::test]
async fn fields_of_a_connection_are_refused() {
    refused(&[
        with("connection", b"close"),
        with("keep-alive", b"1"),
        with("proxy-connection", b"x"),
        with("transfer-encoding", b"chunked"),
        with("upgrade", b"websocket"),
        with("te", b"gzip"),
    ])
    .await;
}

#[tokio::test]
async fn hosts_that_are_missing_doubled_or_differ_are_refused() {
    refused(&[
        without(":authority"),
        with("host", b"b.test"),
        replaced(":authority", b"user@a.test"),
        replaced(":authority", b"a b"),
        vec![
            (":method", b"GET"),
            (":scheme", b"http"),
            (":path", b"/"),
            ("host", b"a"),
            ("host", b"a"),
        ],
    ])
    .await;
}

#[tokio::test]
async fn a_body_that_differs_from_its_length_is_refused() {
    refused(&[with("content-length", b"5"), with("content-length", b"+0")]).await;
}

#[tokio::test]
async fn connect_is_refused() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    for extra in [None, Some((":protocol", "websocket".as_bytes()))] {
        let fields = [(":method", "CONNECT".as_bytes()), (":authority", b"a:443")];
        let mut client = FrameClient::connect(gateway.address()).await;
        client
            .request(&fields.into_iter().chain(extra).collect::<Vec<_>>())
            .await;
        client.outcome().await;
    }
    assert_eq!(gateway.log_line().await["reason"], "request.method_refused");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn host_comes_from_the_authority_and_cookie_crumbs_are_joined() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let request = request("GET", "/x?y")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(empty())
        .expect("a request");
    let answer = within(client.send_request(request))
        .await
        .expect("an answer");
    assert_eq!(read(answer).await.status(), 200);
    let request = origin.request();
    assert_eq!(request.line, "GET /x?y HTTP/1.1");
    assert_eq!(request.header("host"), Some("gateway.test"));
    assert_eq!(request.header("cookie"), Some("a=1; b=2"));
    assert_eq!(request.header("te"), Some("trailers"));
    let via = request.header("via").expect("Via");
    assert!(via.starts_with("2 tollgate-"), "{via}");
    assert_eq!(request.header("transfer-encoding"), None);
}

#[tokio::test]
async fn cookie_crumbs_are_one_field_for_an_http_2_server_too() {
    let origin = Server::h2c(|request: Request<Incoming>| async move {
        let cookies = request.headers().get_all("cookie").iter();
        let cookies: Vec<_> = cookies.map(HeaderValue::as_bytes).collect();
        reply(cookies.join(&b"|"[..]))
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let request = request("GET", "/")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("cookie", "c=3")
        .body(empty())
        .expect("a request");
    let answer = within(client.send_request(request))
        .await
        .expect("an answer");
    assert_eq!(read(answer).await.body, "a=1; b=2; c=3");
}

#[tokio::test]
async fn a_target_over_the_limit_is_refused_and_other_streams_go_on() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[server.limits]\ntarget_bytes = \"1KiB\"\n[routes.all]\nupstream = \"{}\"",
        origin.url()
    ));
    let mut client = http2(gateway.address()).await;
    let (feed, upload) = chunks();
    let open = request("POST", "/open").body(upload).expect("a request");
    let open = client.clone().send_request(open);
    let half = Frame::data("ha".into());
    feed.send(Ok(half)).await.expect("a reader");
    eventually(|| origin.connections() == 1).await;
    let long = format!("/{}", "a".repeat(1024));
    let long = request("GET", &long).body(empty()).expect("a request");
    let refused = within(client.send_request(long)).await.expect("an answer");
    let refused = read(refused).await;
    assert_eq!(refused.status(), 414);
    assert_eq!(refused.reason(), "http.target_too_long");
    let rest = Frame::data("lf".into());
    feed.send(Ok(rest)).await.expect("a reader");
    drop(feed);
    let answer = within(open).await.expect("an answer");
    assert_eq!(read(answer).await.status(), 200);
    assert_eq!(origin.request().text(), "half");
}

#[tokio::test]
async fn the_scheme_is_not_believed() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = FrameClient::connect(gateway.address()).await;
    client.request(&replaced(":scheme", b"https")).await;
    assert!(client.outcome().await.is_headers());
    assert_eq!(origin.request().header("x-forwarded-proto"), Some("http"));
}

#[tokio::test]
async fn host_alone_serves_where_there_is_no_authority() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = FrameClient::connect(gateway.address()).await;
    let mut fields = without(":authority");
    fields.push(("host", b"only.test"));
    client.request(&fields).await;
    assert!(client.outcome().await.is_headers());
    assert_eq!(origin.request().header("host"), Some("only.test"));
}

#[tokio::test]
async fn an_upload_that_its_client_resets_is_no_request_to_the_origin() {
    const NO_ERROR: u32 = 0;
    const CANCEL: u32 = 8;
    for reason in [NO_ERROR, CANCEL] {
        let (told, mut outcome) = tokio::sync::mpsc::unbounded_channel();
        let origin = Origin::start(move |mut peer| {
            let told = told.clone();
            async move {
                peer.head().await;
                let _ = told.send("head".to_owned());
                let rest = peer.closed().await;
                let _ = told.send(String::from_utf8_lossy(&rest).into_owned());
            }
        })
        .await;
        let gateway = Gateway::to(&origin.url());
        let mut client = FrameClient::connect(gateway.address()).await;
        client.upload(&replaced(":method", b"POST")).await;
        assert_eq!(within(outcome.recv()).await.as_deref(), Some("head"));
        client.data(b"half").await;
        client.reset(reason).await;
        let rest = within(outcome.recv()).await.expect("its end");
        assert!(!rest.ends_with("0\r\n\r\n"), "{reason}: {rest:?}");
    }
}
