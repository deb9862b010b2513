//! Request heads that have no single meaning.

use crate::support::{Answer, Gateway, Origin, Raw, eventually};

/// Sends a request that must be refused: the gateway closes behind its answer, and nothing of it
/// reaches the origin.
async fn refused(request: impl AsRef<[u8]> + 'static) -> Answer {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let answer = Raw::ask_and_close(gateway.address(), request).await;
    assert_eq!(origin.connections(), 0, "{}", origin.received());
    answer
}

/// Refused by the frame: with an envelope, and a log line with the same reason.
async fn refused_with_reason(requests: &[&'static str], status: u16, reason: &str) {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    for (count, request) in requests.iter().enumerate() {
        let answer = Raw::ask_and_close(gateway.address(), *request).await;
        assert_eq!(answer.refusal(), (status, reason.to_owned()), "{request:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{request:?}");
        let line = gateway.log_lines(count + 1).await.pop().expect("a line");
        assert_eq!(line["status"], status, "{request:?}");
        assert_eq!(line["reason"], reason, "{request:?}");
    }
    assert_eq!(origin.connections(), 0, "{}", origin.received());
}

/// Refused by the parser: the envelope, a count, and no log line since there is no request.
async fn refused_by_the_parser(requests: &[&'static [u8]]) {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    for (count, request) in requests.iter().enumerate() {
        let shown = String::from_utf8_lossy(request);
        let answer = Raw::ask_and_close(gateway.address(), *request).await;
        let expected = (400, "http.malformed".to_owned());
        assert_eq!(answer.refusal(), expected, "{shown:?}");
        // Counted when the connection has ended, a moment after its last byte.
        let malformed = || gateway.metric("tollgate_malformed_requests_total", &["http.malformed"]);
        eventually(|| malformed() == (count + 1) as f64).await;
    }
    assert_eq!(origin.connections(), 0, "{}", origin.received());
}

/// A request that goes on, as the origin received it.
async fn received(request: &'static str) -> String {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    origin.received()
}

#[tokio::test]
async fn a_request_without_exactly_one_valid_host_is_refused() {
    refused_with_reason(
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
        400,
        "request.host_invalid",
    )
    .await;
}

#[tokio::test]
async fn the_authority_of_an_absolute_target_replaces_the_host() {
    let received =
        received("GET http://real.test:81/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert!(received.starts_with("GET /x?y HTTP/1.1\r\n"), "{received}");
    let lower = received.to_ascii_lowercase();
    assert!(lower.contains("\r\nhost: real.test:81\r\n"), "{received}");
    assert!(!received.contains("other.test"), "{received}");
}

#[tokio::test]
async fn a_target_that_is_no_path_is_refused() {
    refused_with_reason(
        &[
            "GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ],
        400,
        "request.target_invalid",
    )
    .await;
}

#[tokio::test]
async fn trace_and_connect_are_refused_with_the_methods_that_are_served() {
    for request in [
        "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
    ] {
        let answer = refused(request).await;
        assert_eq!(
            answer.refusal(),
            (405, "request.method_refused".to_owned()),
            "{request:?}"
        );
        let allow = answer.header("allow").expect("Allow");
        assert!(allow.contains("GET") && !allow.contains("TRACE"), "{allow}");
    }
}

#[tokio::test]
async fn a_transfer_coding_other_than_chunked_once_is_refused() {
    refused_with_reason(
        &[
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
        400,
        "request.framing_invalid",
    )
    .await;
}

#[tokio::test]
async fn a_length_that_has_no_single_reading_is_refused() {
    refused_by_the_parser(&[
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -4\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4 4\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_head_that_programs_read_differently_is_refused() {
    refused_by_the_parser(&[
        // obs-fold, also before the first field
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        // bare CR and NUL
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n",
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        // space before the colon, no name, no colon, bytes that are no token
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding : chunked\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\x80: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX(y): 1\r\n\r\n",
        // lines that end without CR, wherever they stand
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        // the start line
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn empty_lines_in_front_and_odd_spaces_are_framed_anew() {
    let received = received("\r\n\r\nGET /x HTTP/1.1\r\nHost:\ta\r\nX:  1 \t\r\n\r\n").await;
    assert!(received.starts_with("GET /x HTTP/1.1\r\n"), "{received:?}");
    assert!(received.to_ascii_lowercase().contains("\r\nx: 1\r\n"));
}

#[tokio::test]
async fn two_equal_lengths_become_one() {
    let received = received(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    )
    .await;
    let lengths = received
        .to_ascii_lowercase()
        .matches("content-length")
        .count();
    assert_eq!(lengths, 1, "{received}");
    assert!(received.ends_with("\r\n\r\nbody"), "{received}");
}

#[tokio::test]
async fn a_fragment_does_not_go_on() {
    let received = received("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(received.starts_with("GET /a HTTP/1.1\r\n"), "{received}");
}

#[tokio::test]
async fn an_http_1_0_request_goes_on_as_http_1_1_and_its_connection_closes() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let request = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    let answer = Raw::ask_and_close(gateway.address(), request).await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(origin.request().line, "GET / HTTP/1.1");
}

#[tokio::test]
async fn a_target_over_the_limit_is_refused() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[server.limits]\ntarget_bytes = \"1KiB\"\n[routes.all]\nupstream = \"{}\"",
        origin.url()
    ));
    let target = |length: usize| format!("/{}", "a".repeat(length - 1));
    let request = |length| format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target(length));
    let fits = Raw::ask(gateway.address(), request(1024)).await;
    assert_eq!(fits.status, 200);
    let long = Raw::ask_and_close(gateway.address(), request(1025)).await;
    assert_eq!(long.refusal(), (414, "http.target_too_long".to_owned()));
    let huge = Raw::ask_and_close(gateway.address(), request(65_600)).await;
    assert!(matches!(huge.status, 414 | 431), "{}", huge.status);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn too_many_header_fields_are_refused() {
    let fields = |count: usize| {
        let fields: String = (1..count).map(|i| format!("x-{i}: 1\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    };
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[server.limits]\nmax_headers = 20\n[routes.all]\nupstream = \"{}\"",
        origin.url()
    ));
    assert_eq!(Raw::ask(gateway.address(), fields(20)).await.status, 200);
    let answer = Raw::ask_and_close(gateway.address(), fields(21)).await;
    assert_eq!(answer.status, 431);
    let kind = ["http.head_too_large"];
    let counted = || gateway.metric("tollgate_malformed_requests_total", &kind);
    eventually(|| counted() == 1.0).await;
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn header_fields_over_the_limit_are_refused() {
    let request = |bytes: usize| {
        let value = "v".repeat(bytes);
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n")
    };
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[server.limits]\nheader_bytes = \"8KiB\"\n[routes.all]\nupstream = \"{}\"",
        origin.url()
    ));
    let fits = Raw::ask(gateway.address(), request(8 * 1024 - 100)).await;
    assert_eq!(fits.status, 200);
    for bytes in [8 * 1024 + 1, 200 * 1024] {
        let answer = Raw::ask_and_close(gateway.address(), request(bytes)).await;
        assert_eq!(answer.status, 431, "{bytes}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_request_behind_a_refused_one_is_never_read() {
    let first = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    let second = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = refused(format!("{first}{second}")).await;
    assert_eq!(answer.reason(), "request.host_invalid");
}
