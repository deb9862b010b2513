//! Request bodies: framed anew, and refused where the chunking is broken.

use tokio::sync::mpsc;

use crate::support::{Gateway, Origin, Raw, eventually, within};

/// An origin that tells when the other side closed a connection, and what came besides a head.
async fn watching_origin() -> (Origin, mpsc::UnboundedReceiver<Option<String>>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let sender = sender.clone();
        async move {
            let whole = peer.request().await;
            if whole.is_some() {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await;
                peer.closed().await;
            }
            let _ = sender.send(whole.map(|request| request.line));
        }
    })
    .await;
    (origin, receiver)
}

#[tokio::test]
async fn a_body_that_is_framed_in_two_ways_splits_nothing() {
    // Read by length, the body is the last chunk and the rest is a second request; read in chunks, it
    // holds one.
    let body = "0\r\n\r\n";
    let second = "GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 65\r\n",
    ] {
        let origin = Origin::ok().await;
        let gateway = Gateway::to(&origin.url());
        let head = format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let request = format!("{head}{body}{second}");
        let answer = Raw::ask_and_close(gateway.address(), request).await;
        let expected = (400, "request.framing_invalid".to_owned());
        assert_eq!(answer.refusal(), expected, "{fields:?}");
        assert_eq!(origin.connections(), 0, "{}", origin.received());
    }
}

#[tokio::test]
async fn broken_chunking_is_refused_and_aborts_the_half_sent_request() {
    let overflow = "1".repeat(17);
    let bodies = [
        "xyz\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "-4\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "+4\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "0x4\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "4\nabcd\n0\n\n".to_owned(),
        "4\rabcd\r\n0\r\n\r\n".to_owned(),
        "4;a\nabcd\r\n0\r\n\r\n".to_owned(),
        "4;a\rb\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "4 4\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "4\r\nabcdef\r\n0\r\n\r\n".to_owned(),
        "4\r\nabcd0\r\n\r\n".to_owned(),
        format!("{overflow}\r\nabcd\r\n0\r\n\r\n"),
        format!("4;{}\r\nabcd\r\n0\r\n\r\n", "x".repeat(20_000)),
        "4\r\nabcd\r\n0\r\nno colon\r\n\r\n".to_owned(),
        "4\r\nabcd\r\n0\r\nX: 1\r\n 2\r\n\r\n".to_owned(),
    ];
    for body in bodies {
        let (origin, mut outcomes) = watching_origin().await;
        let gateway = Gateway::to(&origin.url());
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = Raw::connect(gateway.address()).await;
        client.send(head).await;
        // The head goes on first, so that there is a half-sent request.
        eventually(|| origin.connections() == 1).await;
        client.send(&body).await;
        let shown = &body[..body.len().min(40)];
        let answer = client.answer().await;
        let expected = (400, "request.body_invalid".to_owned());
        assert_eq!(answer.refusal(), expected, "{shown:?}");
        assert!(client.rest().await.is_empty(), "{shown:?}");
        let outcome = within(outcomes.recv()).await.expect("the origin's word");
        assert_eq!(outcome, None, "{shown:?}: {}", origin.received());
        let line = gateway.log_line().await;
        assert_eq!(line["reason"], "request.body_invalid", "{shown:?}");
    }
}

#[tokio::test]
async fn a_body_that_the_client_cuts_short_is_no_request_to_the_origin() {
    for framed in [
        "Content-Length: 10\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nha",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ] {
        let (origin, mut outcomes) = watching_origin().await;
        let gateway = Gateway::to(&origin.url());
        let mut client = Raw::connect(gateway.address()).await;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framed}"))
            .await;
        eventually(|| origin.connections() == 1).await;
        drop(client);
        let outcome = within(outcomes.recv()).await.expect("the origin's word");
        assert_eq!(outcome, None, "{framed:?}: {}", origin.received());
        let line = gateway.log_line().await;
        assert!(!line["reason"].is_null(), "{line}");
    }
}

#[tokio::test]
async fn trailers_may_not_carry_what_is_trusted_in_a_head() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let names = "x-sum, host, content-length, transfer-encoding, authorization, x-forwarded-for, \
                 x-request-id, connection, cookie";
    let trailers = "X-Sum: 1\r\nHost: evil\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\n\
                    Authorization: x\r\nX-Forwarded-For: 1.1.1.1\r\nX-Request-Id: evil\r\n\
                    Connection: x\r\nCookie: a=b\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: {names}\r\n\r\n\
         2\r\nhi\r\n0\r\n{trailers}\r\n"
    );
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.status, 200);
    let request = origin.request();
    assert_eq!(request.text(), "hi");
    let names: Vec<_> = request
        .trailers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    assert_eq!(names, ["x-sum"]);
}

#[tokio::test]
async fn a_chunked_body_is_chunked_anew() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
                   0003;name=\"va;lue\"\r\nabc\r\n2  \r\nde\r\n000\r\n\r\n";
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(origin.request().text(), "abcde");
    assert!(!origin.received().contains("lue"), "{}", origin.received());
}

#[tokio::test]
async fn chunks_of_one_byte_that_came_together_go_on_together() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "1\r\na\r\n".repeat(1000);
    let answer = Raw::ask(gateway.address(), format!("{head}{body}0\r\n\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(origin.request().text(), "a".repeat(1000));
    // One by one they would be 6,000 bytes, and a thousand packets.
    let received = origin.received().len();
    assert!(received < 2500, "{received}");
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_their_order() {
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let (line, length) = (&request.line, request.line.len());
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            peer.write(format!("{head}{line}")).await;
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    let post = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let chunked =
        "PUT /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let get = "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(format!("{post}{chunked}{get}")).await;
    for line in ["POST /1 HTTP/1.1", "PUT /2 HTTP/1.1", "GET /3 HTTP/1.1"] {
        assert_eq!(client.answer().await.text(), line);
    }
}

#[tokio::test]
async fn a_body_that_nobody_read_is_never_taken_for_a_request() {
    let inside = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = inside.len();
    let gateway = Gateway::start("[routes.own]\npath = \"/own\"\nrespond = { body = \"own\" }");
    for path in ["/own", "/none"] {
        let mut client = Raw::connect(gateway.address()).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let next = "GET /own?next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.send(format!("{head}{inside}{next}")).await;
        client.rest().await;
    }
    let line_of = |path: &'static str| {
        let paths = gateway.log();
        paths
            .iter()
            .any(|line| line["path"].as_str().is_some_and(|it| it.starts_with(path)))
    };
    eventually(|| line_of("/none")).await;
    assert!(!line_of("/smuggled"), "{:#?}", gateway.log());
}
