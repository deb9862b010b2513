//! The drain: what is told, what is waited for, what ends.

use std::{io::Read, time::Duration};

use tollgate::config::Drain;

use crate::support::{Running, eventually, h2, millis, start};

const LONG: Duration = Duration::from_secs(600);

fn drain(running: &Running, delay: Duration, grace: Duration, deadline: Duration) {
    running.listeners().drain(&Drain {
        delay,
        grace,
        deadline,
    });
}

#[test]
fn the_delay_is_waited_for_even_with_nothing_open() {
    let running = start(|_| {});
    drain(&running, millis(200), LONG, LONG);
    // A load balancer may still send connections; they are served and told to close.
    let (head, body) = running.connect().get("/").answer();
    assert_eq!(body, b"ok");
    assert!(head.contains("connection: close"), "{head}");
    assert!(running.drained() >= millis(100));
    assert!(std::net::TcpStream::connect(running.address).is_err());
}

#[test]
fn answers_say_close_at_once_and_the_connection_then_ends() {
    let running = start(|_| {});
    let mut client = running.connect();
    let (head, _) = client.get("/").answer();
    assert!(!head.contains("connection: close"), "{head}");
    drain(&running, LONG, LONG, LONG);
    let (head, _) = client.get("/").answer();
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(client.rest(), "");
}

#[test]
fn an_idle_connection_is_kept_for_delay_and_grace() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/").answer();
    drain(&running, millis(100), millis(200), LONG);
    std::thread::sleep(millis(200));
    assert!(client.is_open(), "within the grace");
    assert_eq!(client.rest(), "");
    drop(client);
    running.drained();
}

#[test]
fn a_request_in_the_grace_is_served() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/").answer();
    drain(&running, Duration::ZERO, LONG, LONG);
    eventually("accepting has ended", || {
        std::net::TcpStream::connect(running.address).is_err()
    });
    let (head, body) = client.get("/").answer();
    assert_eq!(body, b"ok");
    assert!(head.contains("connection: close"), "{head}");
    drop(client);
    running.drained();
}

#[test]
fn a_request_under_way_is_finished_after_delay_and_grace() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/").answer();
    client.get("/gate");
    running.wait_begun(2);
    drain(&running, Duration::ZERO, Duration::ZERO, LONG);
    std::thread::sleep(millis(100));
    running.let_through();
    let (head, body) = client.answer();
    assert_eq!(body, b"gated");
    assert!(head.contains("connection: close"), "{head}");
    drop(client);
    running.drained();
}

#[test]
fn a_request_whose_head_has_begun_is_served() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/").answer();
    client.send("GET / HTTP/1.1\r\n");
    std::thread::sleep(millis(50));
    drain(&running, Duration::ZERO, Duration::ZERO, LONG);
    std::thread::sleep(millis(100));
    client.send("Host: a\r\n\r\n");
    assert_eq!(client.answer().1, b"ok");
    drop(client);
    running.drained();
}

#[test]
fn a_connection_that_has_not_spoken_ends_after_the_grace() {
    let running = start(|_| {});
    let mut client = running.connect();
    eventually("it is accepted", || running.connections() == 1);
    drain(&running, Duration::ZERO, millis(50), LONG);
    assert_eq!(client.rest(), "");
    running.drained();
}

#[test]
fn http2_is_told_after_the_delay_and_its_streams_are_finished() {
    let running = start(|_| {});
    let mut client = h2::plain(&running);
    client.send(h2::get(1, "/gate"));
    running.wait_begun(1);
    drain(&running, millis(50), LONG, LONG);
    let goaway = h2::until(&mut client, h2::GOAWAY);
    assert_eq!(h2::code(&goaway), 0);
    running.let_through();
    assert_eq!(h2::body(&mut client), b"gated");
    while h2::next(&mut client).is_some() {}
    drop(client);
    running.drained();
}

#[test]
fn the_deadline_aborts_what_is_left() {
    let running = start(|_| {});
    let mut hanging = running.connect();
    hanging.get("/hang");
    let mut h2_hanging = h2::plain(&running);
    h2_hanging.send(h2::get(1, "/hang"));
    running.wait_begun(2);
    drain(&running, Duration::ZERO, Duration::ZERO, millis(150));
    running.drained();
    assert_eq!(hanging.rest(), "");
    eventually("both are aborted", || running.aborted() == 2);
    eventually("both are closed", || running.connections() == 0);
}

#[test]
fn the_deadline_ends_tunnels() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    client.answer();
    drain(&running, Duration::ZERO, Duration::ZERO, millis(200));
    client.send("alive");
    client.0.read_exact(&mut [0; 5]).unwrap();
    running.drained();
    assert_eq!(client.rest(), "");
    eventually("the tunnel is gone", || running.connections() == 0);
}

#[test]
fn an_abort_ends_everything_now() {
    let running = start(|server| server.workers = Some(2.try_into().unwrap()));
    let mut clients = [running.connect(), running.connect()];
    for client in &mut clients {
        client.get("/hang");
    }
    running.wait_begun(2);
    drain(&running, LONG, LONG, LONG);
    running.listeners().abort();
    assert!(running.drained() < Duration::from_secs(1));
    for client in &mut clients {
        assert_eq!(client.rest(), "");
    }
}
