//! The upstream is not trusted either.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{mpsc, oneshot};

use crate::support::{
    Answer, Gateway, Origin, Raw, answering_frames, empty, http2, request, within,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers the first request of the first connection with `bytes` and then waits; the first request
/// of any other connection with `ok`. Tells when the first connection was closed by the gateway,
/// with what came on it behind the first request.
async fn once(bytes: impl Into<Vec<u8>>) -> (Origin, oneshot::Receiver<Vec<u8>>) {
    let bytes = bytes.into();
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
    let origin = Origin::start(move |mut peer| {
        let bytes = bytes.clone();
        let sender = Arc::clone(&sender);
        async move {
            peer.request().await;
            if peer.index > 0 {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
                peer.closed().await;
                return;
            }
            peer.write(&bytes).await;
            let rest = peer.closed().await;
            if let Some(sender) = sender.lock().expect("no panic").take() {
                let _ = sender.send(rest);
            }
        }
    })
    .await;
    (origin, receiver)
}

/// The answer is refused with 502 and the reason, in the envelope and the log; the connection is
/// closed, and the next request has another.
async fn refused(bytes: impl Into<Vec<u8>>, reason: &str) {
    let bytes = bytes.into();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    let (origin, closed) = once(bytes).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(GET).await;
    let answer = client.answer().await;
    assert_eq!(answer.refusal(), (502, reason.to_owned()), "{shown:?}");
    let rest = within(closed).await.expect("the connection was closed");
    assert!(rest.is_empty(), "{shown:?}");
    assert_eq!(gateway.log_line().await["reason"], reason, "{shown:?}");
    assert_eq!(gateway.outcomes("protocol_error"), 1.0, "{shown:?}");
    // The client's own connection has done nothing wrong.
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "ok", "{shown:?}");
    assert_eq!(origin.connections(), 2, "{shown:?}");
}

#[tokio::test]
async fn an_answer_without_a_single_length_is_refused() {
    for head in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "Content-Length: 2, 2\r\n\r\nok",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "Content-Length: +2\r\n\r\nok",
        "Content-Length: two\r\n\r\nok",
        "Content-Length:\r\n\r\nok",
        "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip\r\n\r\nok",
        "Transfer-Encoding: identity\r\n\r\nok",
    ] {
        refused(
            format!("HTTP/1.1 200 OK\r\n{head}"),
            "upstream.protocol_error",
        )
        .await;
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let big = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let many: String = (0..120).map(|i| format!("x-{i}: 1\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n");
    for bytes in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r2\r\nContent-Length: 0\r\n\r\n",
        "<html></html>\r\n\r\n",
        &big,
        &many,
    ] {
        refused(bytes, "upstream.protocol_error").await;
    }
}

#[tokio::test]
async fn an_unasked_switch_of_protocols_is_refused() {
    refused(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "upstream.unasked_upgrade",
    )
    .await;
}

#[tokio::test]
async fn a_switch_to_another_protocol_than_the_asked_is_refused() {
    let (origin, closed) =
        once("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")
            .await;
    let gateway = Gateway::to(&origin.url());
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = Raw::ask(gateway.address(), request).await;
    let expected = (502, "upstream.unasked_upgrade".to_owned());
    assert_eq!(answer.refusal(), expected);
    assert_eq!(gateway.outcomes("protocol_error"), 1.0);
    within(closed).await.expect("the connection was closed");
}

#[tokio::test]
async fn a_server_that_closes_or_resets_without_an_answer_is_bad_gateway() {
    for reset in [false, true] {
        let origin = Origin::start(move |mut peer| async move {
            peer.request().await;
            if reset {
                peer.reset();
            }
        })
        .await;
        let gateway = Gateway::to(&origin.url());
        let answer = Raw::ask(gateway.address(), GET).await;
        assert_eq!(answer.refusal(), (502, "upstream.closed".to_owned()));
        let line = gateway.log_line().await;
        assert_eq!(line["reason"], "upstream.closed");
        assert_eq!(line["level"], "error");
        assert_eq!(gateway.outcomes("reset"), 1.0, "{reset}");
    }
}

#[tokio::test]
async fn an_answer_of_500_is_counted_as_the_servers_error() {
    let answer = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::answering(answer).await;
    let gateway = Gateway::to(&origin.url());
    assert_eq!(Raw::ask(gateway.address(), GET).await.status, 500);
    assert_eq!(gateway.outcomes("error_5xx"), 1.0);
}

#[tokio::test]
async fn a_server_that_closes_inside_its_head_is_bad_gateway() {
    let origin = Origin::answering_once("HTTP/1.1 200 OK\r\nContent-Le").await;
    let gateway = Gateway::to(&origin.url());
    let answer = Raw::ask(gateway.address(), GET).await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.reason().starts_with("upstream."),
        "{}",
        answer.text()
    );
}

/// The client sees that the answer is not whole, and the log says why.
async fn cut(bytes: &'static str, close: bool) -> Answer {
    let (told, mut closed) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            peer.write(bytes).await;
            if !close {
                peer.closed().await;
            }
            let _ = told.send(());
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(GET).await;
    let answer = client.answer().await;
    assert!(!answer.complete, "{answer:?}");
    assert!(client.rest().await.is_empty());
    within(closed.recv())
        .await
        .expect("the connection was closed");
    let line = gateway.log_line().await;
    assert_eq!(line["reason"], "upstream.body_cut", "{line}");
    assert_eq!(
        (&line["status"], &line["complete"]),
        (&200.into(), &false.into())
    );
    assert_eq!(line["level"], "error");
    let errors = gateway.metric("tollgate_upstream_body_errors_total", &[]);
    assert_eq!((errors, gateway.outcomes("ok")), (1.0, 1.0));
    answer
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_visibly_cut() {
    let answer = cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", true).await;
    assert_eq!(answer.text(), "half");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    assert_eq!(cut(chunked, true).await.text(), "half");
}

#[tokio::test]
async fn broken_chunking_is_visibly_cut() {
    for chunk in [
        "xyz\r\nmore\r\n",
        "4\nmore\r\n",
        "4\r\nmoreX\r\n",
        "-4\r\n",
        "11111111111111111\r\n",
    ] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        let bytes = Box::leak(format!("{head}{chunk}").into_boxed_str());
        assert!(
            cut(bytes, false).await.text().starts_with("half"),
            "{chunk:?}"
        );
    }
}

#[tokio::test]
async fn a_cut_answer_resets_the_stream_of_an_http_2_client() {
    use http_body_util::BodyExt;
    let origin = Origin::answering_once("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let request = request("GET", "/").body(empty()).expect("a request");
    let answer = within(client.send_request(request)).await.expect("a head");
    assert_eq!(answer.status(), 200);
    let outcome = within(answer.into_body().collect()).await;
    let error = outcome.expect_err("the body must not end well");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert!(
        source
            .as_deref()
            .is_some_and(|text| text.contains("stream")),
        "{error:?}"
    );
    assert_eq!(gateway.log_line().await["reason"], "upstream.body_cut");
    // The client's connection lives on.
    let request = crate::support::request("GET", "/")
        .body(empty())
        .expect("a request");
    within(client.send_request(request)).await.expect("a head");
}

#[tokio::test]
async fn bytes_behind_an_answer_never_answer_the_next_request() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for framed in [
        "Content-Length: 2\r\n\r\nok",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{framed}{poison}");
        let origin = Origin::answering(bytes).await;
        let gateway = Gateway::to(&origin.url());
        let mut client = Raw::connect(gateway.address()).await;
        for count in 0..50 {
            client.send(GET).await;
            assert_eq!(client.answer().await.text(), "ok", "request {count}");
        }
    }
}

#[tokio::test]
async fn bytes_that_come_on_an_idle_connection_never_answer_a_request() {
    let (told, mut written) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
                .await;
            let rest = peer.closed().await;
            let _ = told.send(rest);
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "ok");
    let rest = within(written.recv()).await.expect("it was closed");
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_body_where_none_may_be_never_answers_the_next_request() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for (method, head) in [
        ("HEAD", "200 OK\r\nContent-Length: 47\r\n\r\n"),
        ("GET", "204 No Content\r\n\r\n"),
        ("GET", "304 Not Modified\r\nContent-Length: 47\r\n\r\n"),
    ] {
        let origin = Origin::answering(format!("HTTP/1.1 {head}{poison}")).await;
        let gateway = Gateway::to(&origin.url());
        let mut client = Raw::connect(gateway.address()).await;
        for _ in 0..20 {
            client
                .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
                .await;
            let answer = client.answer_to(method).await;
            assert_eq!(answer.status.to_string(), head[..3], "{head:?}");
        }
        assert_eq!(origin.connections(), 20, "{head:?}");
    }
}

#[tokio::test]
async fn a_connection_on_which_a_body_is_told_of_where_none_may_be_is_not_used_again() {
    let hints = "103 Early Hints\r\nContent-Length: 47\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (answer, connections) in [
        ("204 No Content\r\n\r\n", 1),
        ("204 No Content\r\nContent-Length: 0\r\n\r\n", 1),
        ("204 No Content\r\nContent-Length: 47\r\n\r\n", 3),
        ("204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 3),
        (hints, 3),
    ] {
        let origin = Origin::answering(format!("HTTP/1.1 {answer}")).await;
        let gateway = Gateway::to(&origin.url());
        let mut client = Raw::connect(gateway.address()).await;
        for _ in 0..3 {
            client.send(GET).await;
            while client.answer().await.status < 200 {}
        }
        assert_eq!(origin.connections(), connections, "{answer:?}");
    }
}

#[tokio::test]
async fn an_interim_answer_whose_length_has_two_readings_is_refused_like_any_other() {
    for fields in [
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 47\r\n",
    ] {
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let answers = format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n{last}");
        refused(answers, "upstream.protocol_error").await;
    }
}

#[tokio::test]
async fn interim_answers_leave_the_connection_as_it_was() {
    let origin = Origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send(GET).await;
        assert!(client.head().await.starts_with("HTTP/1.1 103"));
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        assert_eq!(answer.header("link"), None);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_passes() {
    for version in ["1.0", "1.1"] {
        let bytes = format!("HTTP/{version} 200 OK\r\nX-A: 1\r\n\r\nuntil the end");
        let origin = Origin::answering_once(bytes).await;
        let gateway = Gateway::to(&origin.url());
        let mut client = Raw::connect(gateway.address()).await;
        for _ in 0..2 {
            client.send(GET).await;
            let answer = client.answer().await;
            assert_eq!(answer.text(), "until the end");
            assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        }
        assert_eq!(origin.connections(), 2);
    }
}

#[tokio::test]
async fn an_http_1_0_answer_ends_its_connection() {
    let origin = Origin::answering("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn an_answer_that_says_close_ends_its_connection_and_not_the_clients() {
    let bytes = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let origin = Origin::answering(bytes).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send(GET).await;
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.header("connection")), ("ok", None));
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_good_connection_is_used_again() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let origin = Origin::start(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            while peer.request().await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                peer.write(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                )
                .await;
            }
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..20 {
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(served.load(Ordering::SeqCst), 20);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_chunked_answer_reaches_an_http_1_0_client_without_chunks() {
    let bytes = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                 Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let origin = Origin::answering(bytes).await;
    let gateway = Gateway::to(&origin.url());
    let request = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let answer = Raw::ask_and_close(gateway.address(), request).await;
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.header("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
}

/// What comes of an answer of an HTTP/2 server: the answer, and the line of the log.
async fn over_http2(fields: &[(&str, &[u8])], body: &[u8]) -> (Answer, serde_json::Value) {
    let origin = answering_frames(fields, body).await;
    let gateway = Gateway::to(&origin.url().replace("http:", "h2c:"));
    let mut client = Raw::connect(gateway.address()).await;
    client.send(GET).await;
    let answer = client.answer_or_end().await.expect("a head");
    (answer, gateway.log_line().await)
}

#[tokio::test]
async fn what_an_h2c_server_may_not_say_is_refused() {
    let status: (&str, &[u8]) = (":status", b"200");
    let length: (&str, &[u8]) = ("content-length", b"2");
    let blocks: &[&[(&str, &[u8])]] = &[
        // Blanks at the ends of a value (RFC 9113 8.2.1).
        &[status, ("x", b" a")],
        &[status, ("x", b"a ")],
        &[status, ("x", b"\ta")],
        &[status, ("x", b" ")],
        // What ends a line.
        &[status, ("x", b"a\r\nb: c")],
        &[status, ("x", b"a\rb")],
        &[status, ("x", b"a\nb")],
        &[status, ("x", b"a\0b")],
        &[status, ("X", b"a")],
        // Lengths.
        &[status, length, length],
        &[status, length, ("content-length", b"3")],
        &[status, ("content-length", b"2, 2")],
        &[status, ("content-length", b"+2")],
        &[status, ("content-length", b"two")],
        &[status, ("content-length", b"")],
        // Fields of a connection (8.2.2).
        &[status, ("connection", b"close")],
        &[status, ("keep-alive", b"timeout=1")],
        &[status, ("transfer-encoding", b"chunked")],
        &[status, ("upgrade", b"websocket")],
        // No status, or another than one (8.3.2, 8.6).
        &[(":status", b"101")],
        &[(":status", b"abc")],
        &[status, status],
        &[("x", b"a")],
        &[("x", b"a"), status],
    ];
    let refusal = (502, "upstream.protocol_error".to_owned());
    for fields in blocks {
        let (answer, line) = over_http2(fields, b"ok").await;
        assert_eq!(answer.refusal(), refusal, "{fields:?}");
        assert_eq!(line["reason"], "upstream.protocol_error", "{fields:?}");
    }
    // An empty value has no ends, and within a value a blank may stand.
    let (answer, _) = over_http2(&[status, ("x", b""), ("y", b"a \tb")], b"ok").await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(answer.header("x"), Some(""));
    assert_eq!(answer.header("y"), Some("a \tb"));
}

/// RFC 9113 8.1.1. The head has gone by then.
#[tokio::test]
async fn a_body_of_another_length_than_an_h2c_server_told_is_cut() {
    for length in [b"1", b"3"] {
        let fields: [(&str, &[u8]); 2] = [(":status", b"200"), ("content-length", length)];
        let (answer, line) = over_http2(&fields, b"ok").await;
        assert!(!answer.complete, "{length:?}");
        assert_eq!(line["reason"], "upstream.body_cut", "{length:?}");
    }
}
