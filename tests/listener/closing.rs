//! Who closes, how, and what the other side notices.

use std::{
    io::{Read, Write},
    net::Shutdown,
    time::Instant,
};

use crate::support::{BIG, eventually, millis, start};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

#[test]
fn a_client_that_half_closes_behind_its_request_gets_its_answer() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/gate").finish();
    running.wait_begun(1);
    std::thread::sleep(millis(100));
    running.let_through();
    assert!(client.rest().ends_with("gated"));
    assert_eq!(running.aborted(), 0);
}

#[test]
fn a_client_that_half_closes_behind_a_body_gets_its_answer() {
    let running = start(|_| {});
    let mut client = running.connect();
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        .finish();
    assert!(client.rest().ends_with("abc"));
}

#[test]
fn pipelined_requests_of_a_client_that_half_closes_are_all_answered() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/").get("/").get("/").finish();
    assert_eq!(client.rest().matches("HTTP/1.1 200").count(), 3);
}

#[test]
fn a_long_answer_to_a_client_that_half_closed_is_finished() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/big").finish();
    let mut space = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match client.0.read(&mut space).unwrap() {
            0 => break,
            read => total += read,
        }
    }
    assert!(total > BIG, "{total}");
}

#[test]
fn a_client_that_half_closes_within_its_body_hears_that_it_is_incomplete() {
    let running = start(|_| {});
    let mut client = running.connect();
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        .finish();
    assert!(client.rest().starts_with("HTTP/1.1 400"));
}

#[test]
fn a_client_that_leaves_aborts_its_request_within_a_second() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/hang");
    running.wait_begun(1);
    let start = Instant::now();
    drop(client);
    eventually("the abort arrives", || running.aborted() == 1);
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert_eq!(running.told.after_all_closed(), []);
}

#[test]
fn a_reset_aborts_the_request_at_once() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/hang");
    running.wait_begun(1);
    let socket = socket2::SockRef::from(&client.0);
    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    eventually("the abort arrives", || running.aborted() == 1);
}

#[test]
fn a_client_that_leaves_within_a_silent_answer_ends_the_connection_within_a_second() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/silent-body");
    client.0.read_exact(&mut [0; 12]).unwrap();
    let start = Instant::now();
    drop(client);
    eventually("the connection ends", || running.connections() == 0);
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

#[test]
fn a_refusal_of_a_body_that_is_still_coming_is_read_every_time() {
    let running = start(|_| {});
    let body = vec![b'a'; 5 << 20];
    for round in 0..50 {
        let mut client = running.connect();
        client.send(format!(
            "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        let mut writer = client.0.try_clone().unwrap();
        std::thread::scope(|scope| {
            // It fails as soon as the client has its answer and stops.
            scope.spawn(|| writer.write_all(&body));
            let (head, answer) = client.answer();
            assert!(head.starts_with("http/1.1 413"), "round {round}: {head}");
            assert_eq!(answer, b"too large", "round {round}");
            client.0.shutdown(Shutdown::Both).unwrap();
        });
    }
}

#[test]
fn a_client_that_sends_all_before_it_reads_finds_the_refusal() {
    let running = start(|_| {});
    let mut client = running.connect();
    let head = "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 5242880\r\n\r\n";
    client.send(head);
    let _ = client.0.write_all(&vec![b'a'; 5 << 20]);
    assert!(client.rest().starts_with("HTTP/1.1 413"));
}

#[test]
fn a_small_unread_body_is_discarded_whole() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.send("POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n");
    client.send(vec![b'a'; 500_000]).finish();
    assert!(client.rest().ends_with("too large"));
}

#[test]
fn a_tunnel_counts_until_it_ends_and_half_closes_pass_through() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert!(client.answer().0.starts_with("http/1.1 101"));
    client.send("hello");
    let mut echo = [0; 5];
    client.0.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");
    assert_eq!(running.connections(), 1);
    client.send("bye").finish();
    assert_eq!(client.rest(), "bye");
    drop(client);
    eventually("the tunnel is over", || running.connections() == 0);
    assert_eq!(running.told.after_all_closed(), []);
}
