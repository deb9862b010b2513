//! Sniffing, time limits and what the parser refuses.

use std::time::{Duration, Instant};

use tollgate::exchange::Reason;

use crate::support::{Client, PATIENCE, h2, millis, start};

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    let running = start(|_| {});
    let mut client = running.connect();
    for _ in 0..3 {
        let (head, body) = client.get("/").answer();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(body, b"ok");
    }
    assert_eq!(running.connections(), 1);
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let running = start(|_| {});
    let mut client = running.connect();
    for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" {
        client.send([*byte]);
    }
    assert_eq!(client.answer().1, b"abc");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/worker").get("/").get("/worker");
    let bodies: Vec<_> = (0..3).map(|_| client.answer().1).collect();
    assert_eq!(bodies, [b"0".to_vec(), b"ok".to_vec(), b"0".to_vec()]);
}

#[test]
fn http2_is_known_by_its_preface_even_in_pieces() {
    let running = start(|_| {});
    let mut client = running.connect();
    let (first, second) = h2::PREFACE.split_at(10);
    client.send(first);
    std::thread::sleep(millis(20));
    client.send(second).send(h2::frame(h2::SETTINGS, 0, 0, &[]));
    client.send(h2::get(1, "/"));
    assert_eq!(h2::body(&mut client), b"ok");
}

#[test]
fn a_broken_preface_is_malformed_http1() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert!(client.rest().starts_with("HTTP/1.1 400"));
    drop(client);
    assert_eq!(running.told.after_all_closed(), [Reason::Malformed]);
}

fn hurried() -> crate::support::Running {
    start(|server| {
        server.limits.header_timeout = millis(150);
        server.limits.keep_alive = millis(150);
        server.limits.write_timeout = millis(150);
    })
}

/// The time until the other side closes, since a moment before the connection's: this thread may come
/// late to look.
fn until_closed(client: &mut Client, since: Instant) -> Duration {
    client.rest();
    since.elapsed()
}

#[test]
fn a_head_that_does_not_come_whole_in_time_ends_the_connection() {
    let running = hurried();
    let start = Instant::now();
    let mut client = running.connect();
    client.send("GET / HTTP/1.1\r\nHost:");
    assert!(until_closed(&mut client, start) >= millis(100));
    assert_eq!(running.told.after_all_closed(), [Reason::HeaderTimeout]);
}

#[test]
fn trickled_bytes_do_not_prolong_the_time_of_a_head() {
    let running = start(|server| server.limits.header_timeout = millis(300));
    let mut client = running.connect();
    client.get("/").answer();
    client.send("GET / HTTP/1.1\r\nX: ");
    let start = Instant::now();
    use std::io::Write as _;
    while client.is_open() && client.0.write_all(b"a").is_ok() {
        assert!(start.elapsed() < PATIENCE, "trickling goes on for ever");
        std::thread::sleep(millis(20));
    }
    assert!(start.elapsed() >= millis(250));
    assert_eq!(running.told.after_all_closed(), [Reason::HeaderTimeout]);
}

#[test]
fn a_few_bytes_that_could_be_a_preface_have_the_same_time() {
    let running = hurried();
    let mut client = running.connect();
    client.send("PRI");
    client.rest();
    assert_eq!(running.told.after_all_closed(), [Reason::HeaderTimeout]);
}

#[test]
fn a_connection_that_never_speaks_is_closed_without_blame() {
    let running = hurried();
    let start = Instant::now();
    let mut client = running.connect();
    assert!(until_closed(&mut client, start) >= millis(100));
    assert_eq!(running.told.after_all_closed(), []);
}

#[test]
fn an_idle_connection_is_closed_without_blame() {
    let running = hurried();
    let start = Instant::now();
    let mut client = running.connect();
    client.get("/").answer();
    assert!(until_closed(&mut client, start) >= millis(100));
    drop(client);
    assert_eq!(running.told.after_all_closed(), []);
}

#[test]
fn requests_move_the_idle_time_on() {
    let running = hurried();
    let mut client = running.connect();
    for _ in 0..5 {
        client.get("/").answer();
        std::thread::sleep(millis(60));
    }
    assert!(client.is_open());
}

#[test]
fn a_request_may_take_longer_than_any_of_these_times() {
    let running = hurried();
    let mut client = running.connect();
    client.get("/gate");
    std::thread::sleep(millis(400));
    running.let_through();
    assert_eq!(client.answer().1, b"gated");
}

#[test]
fn a_body_may_take_longer_than_any_of_these_times() {
    let running = hurried();
    let mut client = running.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    std::thread::sleep(millis(400));
    client.send("def");
    assert_eq!(client.answer().1, b"abcdef");
}

#[test]
fn what_the_parser_refuses_is_answered_and_told() {
    let cases = [
        (
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
            "400",
            Reason::Malformed,
        ),
        (
            "GET /\0 HTTP/1.1\r\n\r\n".to_owned(),
            "400",
            Reason::Malformed,
        ),
        (
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(9000)),
            "431",
            Reason::HeadTooLarge,
        ),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(101)),
            "431",
            Reason::HeadTooLarge,
        ),
    ];
    for (request, status, reason) in cases {
        let running = start(|server| server.limits.header_bytes = 8 << 10);
        let mut client = running.connect();
        client.send(request);
        let answer = client.rest();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        drop(client);
        assert_eq!(running.told.after_all_closed(), [reason]);
    }
}

#[test]
fn a_target_beyond_what_the_parser_takes_is_told_apart() {
    let running = start(|server| server.limits.header_bytes = 128 << 10);
    let mut client = running.connect();
    client.send(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000)));
    assert!(client.rest().starts_with("HTTP/1.1 414"));
    drop(client);
    assert_eq!(running.told.after_all_closed(), [Reason::TargetTooLong]);
}

#[test]
fn the_number_of_header_fields_is_as_configured() {
    let running = start(|server| server.limits.max_headers = 3);
    let mut client = running.connect();
    client.send("GET / HTTP/1.1\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n");
    assert!(client.answer().0.starts_with("http/1.1 200"));
    client.send("GET / HTTP/1.1\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n\r\n");
    assert!(client.rest().starts_with("HTTP/1.1 431"));
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_dropped() {
    let running = hurried();
    let mut client = running.connect();
    client.get("/big");
    assert_eq!(running.told.after_all_closed(), [Reason::WriteTimeout]);
}

#[test]
fn a_client_that_reads_slowly_but_steadily_is_served() {
    use std::io::Read as _;
    let running = hurried();
    let mut client = running.connect();
    client.get("/big");
    let mut space = vec![0; 4 << 20];
    for _ in 0..10 {
        client.0.read_exact(&mut space).unwrap();
        std::thread::sleep(millis(50));
    }
    assert_eq!(running.told.reasons(), []);
}
