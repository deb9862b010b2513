use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use super::*;

/// Sends one request and reads the answer to the connection's end.
fn ask(backend: &Backend, head: &str, body: &str) -> (u16, String, String) {
    let mut stream = connect(backend);
    let length = body.len();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn connect(backend: &Backend) -> TcpStream {
    let stream = TcpStream::connect(backend.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

fn data(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[test]
fn items_come_in_pages_that_continue() {
    let backend = Backend::start().unwrap();
    let (status, _, body) = ask(&backend, "GET /items?limit=5", "");
    let page = data(&body);
    assert_eq!(status, 200);
    assert_eq!(page["data"].as_array().unwrap().len(), 5);
    assert_eq!(page["meta"]["next"], 5);
    let (_, _, body) = ask(&backend, "GET /items?limit=5&after=5", "");
    let page = data(&body);
    assert_eq!(page["data"][0]["id"], 6);
    assert_eq!(page["meta"]["next"], Value::Null);
}

#[test]
fn an_item_is_created_read_and_deleted() {
    let backend = Backend::start().unwrap();
    let (status, head, _) = ask(&backend, "POST /items", r#"{"name":"pliers"}"#);
    assert_eq!(status, 201);
    assert!(head.contains("location: /items/9"), "{head}");
    let (_, _, body) = ask(&backend, "GET /items/9", "");
    assert_eq!(data(&body)["data"]["name"], "pliers");
    assert_eq!(ask(&backend, "DELETE /items/9", "").0, 204);
    assert_eq!(ask(&backend, "GET /items/9", "").0, 404);
}

#[test]
fn an_item_without_a_name_is_refused() {
    let backend = Backend::start().unwrap();
    assert_eq!(ask(&backend, "POST /items", "{}").0, 400);
    assert_eq!(ask(&backend, "POST /items", &"x".repeat(20_000)).0, 413);
}

#[test]
fn the_collection_does_not_grow_without_end() {
    let backend = Backend::start().unwrap();
    let statuses: Vec<u16> = (0..=1000)
        .map(|_| ask(&backend, "POST /items", r#"{"name":"x"}"#).0)
        .take_while(|status| *status == 201)
        .collect();
    assert_eq!(
        statuses.len(),
        1000 - 8,
        "eight items are there at the start"
    );
    assert_eq!(ask(&backend, "POST /items", r#"{"name":"x"}"#).0, 507);
}

#[test]
fn echo_tells_what_arrived_and_keeps_only_the_start_of_a_body() {
    let backend = Backend::start().unwrap();
    let (status, _, body) = ask(&backend, "PUT /echo/here?a=1", &"x".repeat(10_000));
    let echo = &data(&body)["data"];
    assert_eq!(status, 200);
    assert_eq!(echo["method"], "PUT");
    assert_eq!(echo["target"], "/echo/here?a=1");
    assert_eq!(echo["headers"]["host"], "demo");
    assert_eq!(echo["body"]["bytes"], 10_000);
    assert_eq!(echo["body"]["start"].as_str().unwrap().len(), 4096);
}

#[test]
fn fail_answers_with_the_status_that_was_asked_for() {
    let backend = Backend::start().unwrap();
    assert_eq!(ask(&backend, "GET /fail?status=503", "").0, 503);
    assert_eq!(ask(&backend, "GET /fail", "").0, 500);
    assert_eq!(ask(&backend, "GET /fail?status=200", "").0, 400);
}

#[test]
fn events_come_one_by_one() {
    let backend = Backend::start().unwrap();
    let mut stream = connect(&backend);
    write!(stream, "GET /events?count=2 HTTP/1.1\r\nHost: demo\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines();
    let first = lines
        .map(Result::unwrap)
        .find(|line| line.starts_with("data:"));
    assert_eq!(first.as_deref(), Some(r#"data: {"number":1,"of":2}"#));
}

#[test]
fn a_web_socket_says_everything_back() {
    let backend = Backend::start().unwrap();
    let stream = connect(&backend);
    let url = format!("ws://{}/ws", backend.address());
    let (mut socket, _) = tokio_tungstenite::tungstenite::client(url, stream).unwrap();
    socket.send("hello".into()).unwrap();
    assert_eq!(socket.read().unwrap().into_text().unwrap(), "hello");
}

#[test]
fn a_plain_request_to_the_web_socket_is_told_to_upgrade() {
    let backend = Backend::start().unwrap();
    let (status, head, _) = ask(&backend, "GET /ws", "");
    assert_eq!(status, 426);
    assert!(head.contains("upgrade: websocket"), "{head}");
}

#[test]
fn a_dropped_backend_is_gone() {
    let backend = Backend::start().unwrap();
    let address = backend.address();
    drop(backend);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_catalogue_may_be_kept_and_counts_how_often_it_was_made() {
    let backend = Backend::start().unwrap();
    let (_, head, first) = ask(&backend, "GET /catalogue", "");
    let (_, _, second) = ask(&backend, "GET /catalogue", "");
    assert!(head.contains("cache-control: max-age=5"), "{head}");
    assert_eq!(data(&first)["data"]["made"], 1);
    assert_eq!(data(&second)["data"]["made"], 2);
}
