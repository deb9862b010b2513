//! What takes too long.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hyper::body::Frame;
use socket2::{Domain, Socket, Type};
use tokio::{sync::mpsc, time::timeout};

use crate::support::{BoxBody, Gateway, Origin, PATIENCE, Raw, Server, chunks, within};

fn gateway(url: &str, timeouts: &str) -> Gateway {
    Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\n[routes.all.timeouts]\n{timeouts}"
    ))
}

/// Answers with these bytes and then says no more; tells when the gateway closes.
async fn stuck(bytes: &'static str) -> (Origin, mpsc::UnboundedReceiver<()>) {
    let (told, closed) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            peer.write(bytes).await;
            peer.closed().await;
            let _ = told.send(());
        }
    })
    .await;
    (origin, closed)
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_a_gateway_timeout() {
    for (setting, reason) in [
        ("response = \"80ms\"", "upstream.response_timeout"),
        ("total = \"80ms\"", "upstream.total_timeout"),
        (
            "response = \"off\"\ntotal = \"80ms\"",
            "upstream.total_timeout",
        ),
    ] {
        let (origin, mut closed) = stuck("").await;
        let gateway = gateway(&origin.url(), setting);
        let answer = Raw::ask(gateway.address(), crate::GET).await;
        assert_eq!(answer.refusal(), (504, reason.to_owned()));
        // The late answer must find nobody.
        within(closed.recv()).await;
        assert_eq!(gateway.log_line().await["reason"], reason);
        assert_eq!(gateway.outcomes("timeout"), 1.0, "{setting}");
    }
}

#[tokio::test]
async fn an_interim_answer_does_not_prolong_the_wait() {
    let (origin, _closed) = stuck("HTTP/1.1 102 Processing\r\n\r\n").await;
    let gateway = gateway(&origin.url(), "response = \"80ms\"");
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    assert_eq!(client.head().await, "HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(client.answer().await.reason(), "upstream.response_timeout");
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut() {
    for (setting, reason) in [
        ("idle = \"80ms\"", "upstream.idle_timeout"),
        ("total = \"80ms\"", "upstream.total_timeout"),
    ] {
        let (origin, mut closed) =
            stuck("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
        let gateway = gateway(&origin.url(), setting);
        let mut client = Raw::connect(gateway.address()).await;
        client.send(crate::GET).await;
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.complete), ("half", false));
        assert!(client.rest().await.is_empty());
        within(closed.recv()).await;
        let line = gateway.log_line().await;
        assert_eq!(
            (&line["status"], &line["reason"]),
            (&200.into(), &reason.into())
        );
        let errors = gateway.metric("tollgate_upstream_body_errors_total", &[]);
        assert_eq!(errors, 1.0, "{setting}");
    }
}

#[tokio::test]
async fn the_total_time_ends_an_answer_that_keeps_moving() {
    let (feed, body) = chunks();
    let origin = Server::once(http::Response::new(body)).await;
    let gateway = gateway(&origin.url(), "total = \"300ms\"\nidle = \"10s\"");
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    let feeding = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while feed.send(Ok(Frame::data("x".into()))).await.is_ok() {
            ticks.tick().await;
        }
    });
    let answer = client.answer().await;
    assert!(!answer.complete && !answer.body.is_empty());
    let line = gateway.log_line().await;
    assert_eq!(line["reason"], "upstream.total_timeout", "{line:#}");
    within(feeding).await.expect("the origin was told");
}

#[tokio::test]
async fn a_slow_reader_is_not_mistaken_for_a_stalled_origin() {
    let (feed, body) = chunks();
    let origin = Server::once(http::Response::new(body)).await;
    let gateway = gateway(&origin.url(), "idle = \"500ms\"");
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    let chunk = bytes::Bytes::from(vec![b'x'; 256 << 10]);
    let mut taken = 0;
    // Longer than `idle`, in which the client takes nothing.
    while let Ok(sent) = timeout(
        Duration::from_millis(800),
        feed.send(Ok(Frame::data(chunk.clone()))),
    )
    .await
    {
        sent.expect("a reader");
        taken += chunk.len();
    }
    drop(feed);
    let answer = client.answer().await;
    assert!(answer.complete && answer.body.len() >= taken);
}

#[tokio::test]
async fn an_upload_that_stalls_is_refused() {
    let (origin, mut closed) = stuck("").await;
    let gateway = gateway(&origin.url(), "idle = \"80ms\"");
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    let answer = Raw::ask_and_close(gateway.address(), request).await;
    assert_eq!(answer.refusal(), (408, "request.body_timeout".to_owned()));
    assert_eq!(gateway.outcomes("cancelled"), 1.0);
    within(closed.recv()).await;
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn the_wait_for_an_answer_begins_when_the_upload_has_ended() {
    let origin = Origin::ok().await;
    let gateway = gateway(&origin.url(), "response = \"200ms\"");
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n";
    client.send(head).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..12 {
        ticks.tick().await;
        client.send("x").await;
    }
    assert_eq!(client.answer().await.text(), "ok");
}

/// The time that a server has must not begin anew because the upload was under way when it began.
#[tokio::test]
async fn a_server_has_its_time_once_behind_an_upload() {
    let (silent, _closed) = stuck("").await;
    let silent_h2c = Server::h2c(|request| async move {
        let _held = request;
        std::future::pending::<http::Response<BoxBody>>().await
    })
    .await;
    for url in [silent.url(), silent_h2c.url()] {
        let gateway = gateway(&url, "response = \"1s\"");
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
        let start = Instant::now();
        let answer = Raw::ask(gateway.address(), request).await;
        let took = start.elapsed();
        assert_eq!(answer.reason(), "upstream.response_timeout", "{url}");
        assert!(took >= Duration::from_secs(1), "{url}: {took:?}");
        assert!(took < Duration::from_millis(1800), "{url}: {took:?}");
    }
}

#[tokio::test]
async fn events_may_be_silent_for_longer_than_other_answers() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let (origin, _closed) = stuck(head).await;
    let gateway = gateway(&origin.url(), "idle = \"50ms\"\ntunnel_idle = \"400ms\"");
    let start = Instant::now();
    let answer = Raw::ask(gateway.address(), crate::GET).await;
    assert!(!answer.complete);
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn nobody_listening_is_bad_gateway() {
    let address = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("an address")
    };
    let directory = tempfile::tempdir().expect("a directory");
    let missing = format!("unix:{}/none.sock", directory.path().display());
    for url in [
        format!("http://{address}"),
        format!("h2c://{address}"),
        missing,
    ] {
        let gateway = gateway(&url, "");
        let answer = Raw::ask(gateway.address(), crate::GET).await;
        let expected = (502, "upstream.connect_refused".to_owned());
        assert_eq!(answer.refusal(), expected, "{url}");
        let line = gateway.log_line().await;
        assert_eq!(line["reason"], "upstream.connect_refused");
        assert_eq!(line["attempts"], 1);
        let errors = gateway.metric("tollgate_upstream_connect_errors_total", &[]);
        assert_eq!(errors, 1.0, "{url}");
    }
}

/// An address whose queue of connections is full: the kernel leaves further SYNs unanswered.
struct FullQueue {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl FullQueue {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any.into()).expect("a port");
        listener.listen(0).expect("it listens");
        let address = listener.local_addr().expect("an address");
        let waiting = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            // Under way, which is enough.
            let _ = socket.connect(&address);
            socket
        });
        Self {
            _waiting: waiting.collect(),
            address: address.as_socket().expect("TCP"),
            _listener: listener,
        }
    }
}

fn impatient(url: &str) -> Gateway {
    Gateway::start(&format!(
        "[upstreams.far]\nservers = [\"{url}\"]\nconnect_timeout = \"200ms\"\n\
         [routes.all]\nupstream = \"far\""
    ))
}

#[tokio::test]
async fn a_connection_that_is_not_there_in_time_is_a_gateway_timeout() {
    let queue = FullQueue::new();
    let gateway = impatient(&format!("http://{}", queue.address));
    let answer = Raw::ask(gateway.address(), crate::GET).await;
    let expected = (504, "upstream.connect_timeout".to_owned());
    assert_eq!(answer.refusal(), expected);
    let line = gateway.log_line().await;
    assert_eq!(line["reason"], "upstream.connect_timeout");
    assert!(
        line["upstream_connect_ms"].as_f64() >= Some(200.0),
        "{line:#}"
    );
}

#[tokio::test]
async fn many_that_wait_for_one_h2c_connection_wait_no_longer_than_one() {
    let queue = FullQueue::new();
    let gateway = impatient(&format!("h2c://{}", queue.address));
    let start = Instant::now();
    let asked = (0..20).map(|_| Raw::ask(gateway.address(), crate::GET));
    for answer in timeout(PATIENCE, futures_util::future::join_all(asked))
        .await
        .expect("all are answered")
    {
        let expected = (504, "upstream.connect_timeout".to_owned());
        assert_eq!(answer.refusal(), expected);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn the_total_time_holds_while_connecting_too() {
    let queue = FullQueue::new();
    for protocol in ["http", "h2c"] {
        let gateway = gateway(
            &format!("{protocol}://{}", queue.address),
            "total = \"100ms\"",
        );
        let start = Instant::now();
        let answer = Raw::ask(gateway.address(), crate::GET).await;
        let expected = (504, "upstream.total_timeout".to_owned());
        assert_eq!(answer.refusal(), expected, "{protocol}");
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn the_total_time_ends_an_answer_that_its_reader_delays() {
    let origin = Server::http1(|_| async {
        let (feed, body) = chunks();
        tokio::spawn(async move {
            let chunk = bytes::Bytes::from(vec![b'x'; 64 << 10]);
            while feed.send(Ok(Frame::data(chunk.clone()))).await.is_ok() {}
        });
        http::Response::new(body)
    })
    .await;
    let gateway = gateway(&origin.url(), "total = \"200ms\"");
    let mut client = Raw::connect(gateway.address()).await;
    client.send(crate::GET).await;
    let answer = client.answer().await;
    assert!(!answer.complete);
    assert_eq!(gateway.log_line().await["reason"], "upstream.total_timeout");
}
