//! What servers say before their answers, and how connections end behind answers.

use std::io::ErrorKind;

use tokio::io::AsyncReadExt;

use crate::support::{Gateway, Origin, Raw, eventually, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An origin that gives these bytes for each request, and waits for a word of ours between them.
async fn saying(parts: &'static [&'static str]) -> Origin {
    Origin::start(move |mut peer| async move {
        while peer.request().await.is_some() {
            for part in parts {
                peer.write(part).await;
            }
        }
    })
    .await
}

const HINTS: &str = "HTTP/1.1 100 Continue\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
    Content-Length: 9\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=b\r\nX-Request-Id: theirs\r\n\
    Surrogate-Key: k\r\n\r\n\
    HTTP/1.1 102 Processing\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn interim_answers_reach_the_client_without_what_is_of_one_hop() {
    for cached in ["", "cache = {}\n"] {
        let origin = saying(&[HINTS, ANSWER]).await;
        let gateway = Gateway::start(&format!(
            "[routes.all]\nupstream = \"{}\"\n{cached}",
            origin.url()
        ));
        let mut client = Raw::connect(gateway.address()).await;
        for _ in 0..2 {
            client.send(GET).await;
            let hints = client.head().await;
            assert_eq!(
                hints,
                "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
            );
            assert_eq!(client.head().await, "HTTP/1.1 102 Processing\r\n\r\n");
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.text()), (200, "ok"));
        }
    }
}

/// What a server says while an old answer is refreshed is for nobody, and least of all for the next.
#[tokio::test]
async fn what_a_server_says_behind_an_answer_is_not_said_before_the_next() {
    let origin = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.target() == "/next" {
                peer.write(ANSWER).await;
                continue;
            }
            let hint = "HTTP/1.1 103 Early Hints\r\nLink: </of-another>\r\n\r\n";
            peer.write(hint).await;
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=0, stale-while-revalidate=60\r\n";
            peer.write(format!("{head}Content-Length: 3\r\n\r\nold"))
                .await;
        }
    })
    .await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{}\"\ncache = {{}}\n",
        origin.url()
    ));
    let mut client = Raw::connect(gateway.address()).await;
    client.send(GET).await;
    assert!(client.head().await.starts_with("HTTP/1.1 103"));
    assert_eq!(client.answer().await.text(), "old");
    for round in 2..=4 {
        client.send(GET).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "old"));
        // The refreshing fetch has been answered by then.
        eventually(|| {
            origin
                .requests()
                .iter()
                .filter(|it| it.target() == "/")
                .count()
                >= round
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_hears_the_answer_alone() {
    let origin = saying(&[HINTS, ANSWER]).await;
    let gateway = Gateway::to(&origin.url());
    let old = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send(old).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
}

#[tokio::test]
async fn interim_answers_wait_for_the_client_and_not_without_end() {
    const MANY: usize = 2_000;
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        let hint = format!(
            "HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n",
            "a".repeat(200)
        );
        peer.write(hint.repeat(MANY)).await;
        peer.write(ANSWER).await;
        peer.closed().await;
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(GET).await;
    let mut hints = 0;
    while client.head().await.starts_with("HTTP/1.1 103") {
        hints += 1;
    }
    assert!((1..=MANY).contains(&hints), "{hints}");
    assert_eq!(client.read(2).await, b"ok");
}

/// RFC 9112 9.3: HTTP/1.0 knows no chunks, so only the connection's end tells the body's.
#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole_to_a_client_of_http_1_0() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    for (end, whole) in [("0\r\n\r\n", true), ("broken\r\n", false)] {
        let origin = Origin::start(move |mut peer| async move {
            peer.request().await;
            peer.write(chunks).await;
            // Behind the first half, which the client has by then.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            peer.write(end).await;
            peer.closed().await;
        })
        .await;
        let gateway = Gateway::to(&origin.url());
        let mut client = Raw::connect(gateway.address()).await;
        client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
        let head = client.head().await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("connection: close") && !head.contains("chunked"));
        assert_eq!(client.read(4).await, b"half");
        let mut rest = Vec::new();
        let end = within(client.stream().read_to_end(&mut rest)).await;
        match whole {
            true => assert_eq!(end.expect("it ends in order"), 0),
            false => assert_eq!(
                end.expect_err("it is cut").kind(),
                ErrorKind::ConnectionReset
            ),
        }
    }
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_costs_no_connection() {
    let gateway = Gateway::start("[routes.own]\npath = \"/own\"\nrespond = { body = \"own\" }");
    let mut client = Raw::connect(gateway.address()).await;
    for length in [10, 3_000, 7_000, 30_000] {
        let head = format!("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        client.send(format!("{head}{}", "b".repeat(length))).await;
        assert_eq!(client.answer().await.status, 404, "{length}");
    }
}

#[tokio::test]
async fn a_body_that_was_never_asked_for_ends_the_connection() {
    let gateway = Gateway::start("[routes.own]\npath = \"/own\"\nrespond = { body = \"own\" }");
    let held =
        "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    let answer = Raw::ask_and_close(gateway.address(), held).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("connection"), Some("close"));
}
