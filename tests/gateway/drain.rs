//! Ending a gateway well: nobody loses a request, and nothing is waited for longer than said.

use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use hyper::{body::Incoming, client::conn::http2::SendRequest};

use crate::support::{
    BoxBody, Events, Gateway, Load, Origin, Raw, Streams, WebSocket, empty, eventually, http2,
    read, release, request, within,
};

/// A gateway in front of one origin, with times for its drain in milliseconds.
fn draining(url: &str, delay: u32, grace: u32, deadline: u32) -> Gateway {
    Gateway::start(&format!(
        "[server]\nworkers = 2\n\
         [server.drain]\ndelay = \"{delay}ms\"\ngrace = \"{grace}ms\"\ndeadline = \"{deadline}ms\"\n\
         [routes.all]\nupstream = \"{url}\"\n"
    ))
}

/// Every answer stands in the log of the one gateway or the other, and nothing else does.
async fn all_are_logged(answers: usize, gateways: [&Gateway; 2]) {
    let lines = || gateways.map(|gateway| gateway.log());
    eventually(|| lines().iter().flatten().count() >= answers).await;
    let lines = lines();
    assert!(lines.iter().all(|lines| !lines.is_empty()));
    let bad = |line: &&serde_json::Value| line["status"] != 200 || line["complete"] == false;
    assert_eq!(lines.iter().flatten().find(bad), None);
    assert_eq!(lines.iter().flatten().count(), answers);
}

async fn ask(client: &mut SendRequest<BoxBody>) -> Result<Response<Incoming>, hyper::Error> {
    let asked = request("GET", "/").body(empty()).expect("a request");
    within(client.send_request(asked)).await
}

async fn drained(gateway: &Gateway) {
    within(gateway.inner().drained()).await;
}

const LONG: u32 = 600_000;
const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_drain_under_load_of_http1_fails_no_request() {
    let origin = Origin::ok().await;
    let (first, second) = (
        draining(&origin.url(), 200, 200, LONG),
        draining(&origin.url(), 0, 0, LONG),
    );
    let mut load = Load::new();
    for _ in 0..8 {
        load.http1(&[first.address(), second.address()], "/");
    }
    load.progress(20).await;
    first.inner().drain();
    load.progress(20).await;
    drained(&first).await;
    load.progress(20).await;
    let (answers, failures) = load.stop().await;
    assert_eq!(failures, [""; 0]);
    all_are_logged(answers, [&first, &second]).await;
}

#[tokio::test]
async fn a_drain_under_load_of_http2_fails_no_request() {
    let origin = Origin::ok().await;
    let (first, second) = (
        draining(&origin.url(), 100, 0, LONG),
        draining(&origin.url(), 0, 0, LONG),
    );
    let mut load = Load::new();
    for _ in 0..4 {
        load.http2(&[first.address(), second.address()], "/", 8)
            .await;
    }
    load.progress(10).await;
    first.inner().drain();
    load.progress(10).await;
    drained(&first).await;
    load.progress(10).await;
    let (answers, failures) = load.stop().await;
    assert_eq!(failures, [""; 0]);
    all_are_logged(answers, [&first, &second]).await;
}

#[tokio::test]
async fn readiness_fails_at_once_while_requests_are_still_served() {
    let origin = Origin::ok().await;
    let gateway = draining(&origin.url(), LONG, 0, 2 * LONG);
    let ready = || {
        let probe = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n";
        Raw::ask(gateway.admin(), probe)
    };
    let mut open = Raw::connect(gateway.address()).await;
    open.send(ASK).await;
    assert_eq!(open.answer().await.header("connection"), None);
    assert_eq!(ready().await.status, 200);

    gateway.inner().drain();

    let answer = ready().await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["status"], "draining");
    open.send(ASK).await;
    let answer = open.answer().await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    // A load balancer that has not yet asked sends new connections.
    let answer = Raw::ask_and_close(gateway.address(), ASK).await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    let alive = Raw::ask(
        gateway.admin(),
        "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!(
        alive.await.status,
        200,
        "draining is no reason to be killed"
    );
}

#[tokio::test]
async fn http2_requests_are_served_on_during_the_delay() {
    let origin = Origin::ok().await;
    let gateway = draining(&origin.url(), LONG, 0, 2 * LONG);
    let mut client = http2(gateway.address()).await;
    gateway.inner().drain();
    for _ in 0..2 {
        let answer = ask(&mut client).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        // RFC 9113 8.2.2: HTTP/2 has no such field.
        assert!(!answer.headers().contains_key("connection"));
    }
}

#[tokio::test]
async fn a_long_request_under_way_is_finished() {
    let origin = Streams::start().await;
    let gateway = draining(&origin.server.url(), 0, 0, LONG);
    let address = gateway.address();
    let wait = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    let waiting = tokio::spawn(Raw::ask_and_close(address, wait));
    let feed = origin.feed().await;
    let mut client = http2(address).await;
    let asked = request("GET", "/wait").body(empty()).expect("a request");
    let stream = tokio::spawn(client.send_request(asked));
    let other_feed = origin.feed().await;

    gateway.inner().drain();
    eventually(|| std::net::TcpStream::connect(address).is_err()).await;
    within(async { while ask(&mut client).await.is_ok() {} }).await;
    release(feed).await;
    release(other_feed).await;

    let answer = waiting.await.expect("no panic");
    assert_eq!(answer.text(), "waited");
    assert_eq!(answer.header("connection"), Some("close"));
    let answer = within(stream).await.expect("no panic").expect("an answer");
    assert_eq!(read(answer).await.body, "waited");
    drained(&gateway).await;
}

#[tokio::test]
async fn an_event_stream_that_does_not_end_is_cut_at_the_deadline() {
    let origin = Streams::start().await;
    let gateway = draining(&origin.server.url(), 0, 0, 300);
    let mut events = Events::connect(gateway.address(), &origin).await;
    gateway.inner().drain();
    events.pass("data: 1\n\n").await;
    drained(&gateway).await;
    events.cut().await;
    let line = gateway.log_line().await;
    assert_eq!(line["complete"], false, "{line:#}");
}

#[tokio::test]
async fn a_tunnel_goes_on_until_the_deadline_and_is_logged() {
    let origin = Streams::start().await;
    let gateway = draining(&origin.server.url(), 0, 0, 300);
    let mut socket = WebSocket::connect(gateway.address()).await;
    socket.echo("before").await;
    let start = Instant::now();
    gateway.inner().drain();
    socket.echo("during the drain").await;
    drained(&gateway).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    socket.ended().await;
    let line = gateway.log_line().await;
    assert_eq!(
        (&line["status"], &line["upgraded"]),
        (&101.into(), &true.into())
    );
}

/// Its 101 says `upgrade`, and not `close` as other answers do by then.
#[tokio::test]
async fn a_tunnel_can_be_opened_while_a_drain_is_delayed() {
    let origin = Streams::start().await;
    let gateway = draining(&origin.server.url(), LONG / 2, 0, LONG);
    gateway.inner().drain();
    let mut socket = WebSocket::connect(gateway.address()).await;
    socket.echo("during the delay").await;
}

#[tokio::test]
async fn with_nothing_open_it_ends_after_the_delay() {
    let gateway = draining("http://127.0.0.1:1", 200, LONG - 1_000, LONG);
    let address = gateway.address();
    let start = Instant::now();
    gateway.inner().drain();
    // Twice is once.
    gateway.inner().drain();
    drained(&gateway).await;
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn idle_connections_hold_it_up_for_the_grace_only() {
    let origin = Origin::ok().await;
    let gateway = draining(&origin.url(), 0, 200, LONG);
    let mut client = Raw::connect(gateway.address()).await;
    client.send(ASK).await;
    client.answer().await;
    let start = Instant::now();
    gateway.inner().drain();
    drained(&gateway).await;
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn what_the_deadline_cuts_is_in_the_log_of_a_gateway_that_ends() {
    let origin = Streams::start().await;
    for _ in 0..20 {
        let gateway = draining(&origin.server.url(), 0, 0, 20);
        // The gateway's directory goes with it.
        let kept = tempfile::tempdir().expect("a directory");
        let log = kept.path().join("access.log");
        std::fs::hard_link(gateway.directory().join("access.log"), &log).expect("it is there");
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(Events::connect(gateway.address(), &origin).await);
        }
        gateway.inner().drain();
        drained(&gateway).await;
        drop(gateway);
        let text = std::fs::read_to_string(&log).expect("it is there");
        assert_eq!(text.lines().count(), 10, "{text}");
    }
}
