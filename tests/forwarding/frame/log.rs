//! The access log: one line a request, whatever its end.

use http_body_util::BodyExt;
use serde_json::Value;

use super::{get, site};
use crate::support::{
    Gateway, Origin, Raw, Server, chunks, empty, eventually, http2, reply, request, within,
};

#[tokio::test]
async fn a_line_tells_the_whole_request() {
    let (origin, gateway) = site("").await;
    let request = "POST /items?id=7 HTTP/1.1\r\nHost: a.test:8080\r\nUser-Agent: \"me\"\r\n\
                   Content-Length: 4\r\n\r\nbody";
    let mut client = Raw::connect(gateway.address()).await;
    client.send(request).await;
    client.answer().await;
    let line = gateway.log_line().await;
    for (field, expected) in [
        ("level", "info"),
        ("message", "request"),
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", "a.test:8080"),
        ("path", "/items?id=***"),
        ("protocol", "HTTP/1.1"),
        ("user_agent", "\"me\""),
        ("route", "all"),
        ("upstream", &*origin.url()),
        ("server", &*origin.url()),
    ] {
        assert_eq!(line[field], expected, "{line:#}");
    }
    for (field, expected) in [
        ("status", 200),
        ("bytes_in", 4),
        ("bytes_out", 2),
        ("attempts", 1),
    ] {
        assert_eq!(line[field], expected, "{line:#}");
    }
    for field in [
        "duration_ms",
        "ttfb_ms",
        "upstream_connect_ms",
        "upstream_response_ms",
    ] {
        let value = line[field].as_f64().expect(field);
        assert!((0.0..10_000.0).contains(&value), "{field} in {line:#}");
    }
    for field in ["reason", "complete", "upgraded"] {
        assert!(line.get(field).is_none(), "{field} in {line:#}");
    }
    assert_eq!(line["trace_id"].as_str().map(str::len), Some(32));
    let timestamp = line["timestamp"].as_str().expect("a timestamp");
    assert_eq!(
        timestamp.len(),
        "2026-01-01T00:00:00.000000Z".len(),
        "{timestamp}"
    );
    assert!(timestamp.ends_with('Z') && timestamp.as_bytes()[19] == b'.');

    client.send(request).await;
    client.answer().await;
    let second = gateway.log_lines(2).await.remove(1);
    assert!(second.get("upstream_connect_ms").is_none(), "{second:#}");
}

#[tokio::test]
async fn credentials_and_values_of_queries_are_never_logged() {
    let (_origin, gateway) = site("").await;
    let request = "GET /?token=sEcReT&b=sEcReT&flag&=sEcReT HTTP/1.1\r\nHost: a\r\n\
                   Authorization: Bearer sEcReT\r\nCookie: sid=sEcReT\r\nX-Api-Key: sEcReT\r\n\
                   Proxy-Authorization: sEcReT\r\nReferer: http://x/?t=sEcReT\r\n\r\n";
    Raw::ask(gateway.address(), request).await;
    let line = gateway.log_line().await;
    assert!(!line.to_string().contains("sEcReT"), "{line:#}");
    assert_eq!(line["path"], "/?token=***&b=***&flag&=***");
}

#[tokio::test]
async fn queries_are_logged_as_the_option_says() {
    for (option, expected) in [("keep", "/?a=1"), ("drop", "/")] {
        let (_origin, gateway) = site(&format!("[log.access]\nquery = \"{option}\"\n")).await;
        Raw::ask(gateway.address(), "GET /?a=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(gateway.log_line().await["path"], expected);
    }
}

#[tokio::test]
async fn configured_fields_are_logged() {
    let (_origin, gateway) =
        site("[log.access]\nrequest_headers = [\"x-tenant\", \"x-none\"]\n").await;
    Raw::ask(gateway.address(), get("X-Tenant: blue\r\n")).await;
    let line = gateway.log_line().await;
    assert_eq!(
        line["request_headers"],
        serde_json::json!({"x-tenant": "blue"})
    );
}

#[tokio::test]
async fn whatever_comes_a_line_is_one_line_of_json() {
    let (_origin, gateway) = site("").await;
    let agent = "a\t\"\\\u{e9}\u{2028}";
    let fields = format!("User-Agent: {agent}\r\n");
    Raw::ask(gateway.address(), get(&fields)).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(10_000));
    Raw::ask(gateway.address(), long).await;
    let latin = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe\r\n\r\n";
    Raw::ask(gateway.address(), latin).await;
    let lines = gateway.log_lines(3).await;
    assert_eq!(lines[0]["user_agent"], agent);
    let path = lines[1]["path"].as_str().expect("a path");
    assert!(path.len() < 4_096, "{}", path.len());
}

#[tokio::test]
async fn a_sample_leaves_out_what_went_well_and_keeps_every_refusal() {
    let text =
        "[log.access]\nsample = 0.0\n[routes.all]\npath = \"/here\"\nrespond = { body = \"x\" }";
    let gateway = Gateway::start(text);
    let mut client = Raw::connect(gateway.address()).await;
    for path in ["/here", "/gone", "/here", "/gone"] {
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        client.answer().await;
    }
    let lines = gateway.log_lines(2).await;
    assert!(lines.iter().all(|line| line["status"] == 404), "{lines:#?}");
}

#[tokio::test]
async fn no_log_is_written_where_it_is_off() {
    let (_origin, gateway) = site("[log.access]\nenabled = false\n").await;
    assert_eq!(Raw::ask(gateway.address(), get("")).await.status, 200);
    assert!(gateway.log().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_logged_as_499() {
    let (origin, mut told) = Origin::silent().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(get("")).await;
    assert_eq!(within(told.recv()).await, Some("request"));
    client.reset();
    assert_eq!(within(told.recv()).await, Some("closed"));
    expect_gone(&gateway, 499).await;
}

#[tokio::test]
async fn an_http_2_client_that_resets_its_stream_is_logged_as_499() {
    let (origin, mut told) = Origin::silent().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let request = request("GET", "/").body(empty()).expect("a request");
    let answer = tokio::spawn(client.send_request(request));
    assert_eq!(within(told.recv()).await, Some("request"));
    answer.abort();
    assert_eq!(within(told.recv()).await, Some("closed"));
    expect_gone(&gateway, 499).await;
}

#[tokio::test]
async fn a_client_that_leaves_inside_the_answer_is_logged_with_its_status() {
    let (frames, body) = chunks();
    let origin = Server::once(http::Response::new(body)).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(get("")).await;
    let part = hyper::body::Frame::data("part".into());
    frames.send(Ok(part)).await.expect("a reader");
    client.head().await;
    client.read(4).await;
    client.reset();
    let line = expect_gone(&gateway, 200).await;
    assert_eq!(line["bytes_out"], 4);
    // The origin's writer is told too.
    within(frames.closed()).await;
}

async fn expect_gone(gateway: &Gateway, status: u16) -> Value {
    let line = gateway.log_line().await;
    assert_eq!(line["status"], status, "{line:#}");
    assert_eq!(line["reason"], "client.gone", "{line:#}");
    assert_eq!(line["complete"], false, "{line:#}");
    assert_eq!(line["level"], "warn", "{line:#}");
    let labels = [&*format!("status=\"{status}\""), "route=\"all\""];
    assert_eq!(gateway.metric("tollgate_requests_total", &labels), 1.0);
    // To the server's metrics, an answer that has begun is an answer.
    let outcome = if status == 499 { "cancelled" } else { "ok" };
    eventually(|| gateway.outcomes(outcome) == 1.0).await;
    line
}

#[tokio::test]
async fn answers_without_a_body_are_complete() {
    let origin = Server::http1(|request| async move {
        let mut answer = reply("");
        *answer.status_mut() = match request.uri().path() {
            "/204" => http::StatusCode::NO_CONTENT,
            "/304" => http::StatusCode::NOT_MODIFIED,
            _ => http::StatusCode::OK,
        };
        answer
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    for (count, (method, path)) in [
        ("HEAD", "/"),
        ("GET", "/204"),
        ("GET", "/304"),
        ("GET", "/0"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Raw::connect(gateway.address()).await;
        client
            .send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        client.answer_to(method).await;
        let mut client = http2(gateway.address()).await;
        let request = request(method, path).body(empty()).expect("a request");
        let answer = within(client.send_request(request))
            .await
            .expect("an answer");
        within(answer.into_body().collect()).await.expect("its end");
        let lines = gateway.log_lines(2 * count + 2).await;
        for line in &lines[2 * count..] {
            assert!(line.get("reason").is_none(), "{line:#}");
            assert!(line.get("complete").is_none(), "{line:#}");
            assert_eq!(line["bytes_out"], 0, "{line:#}");
        }
    }
}

#[tokio::test]
async fn an_http_2_request_is_logged_like_any_other() {
    let (_origin, gateway) = site("").await;
    let mut client = http2(gateway.address()).await;
    let request = request("GET", "/x").body(empty()).expect("a request");
    let answer = within(client.send_request(request))
        .await
        .expect("an answer");
    within(answer.into_body().collect()).await.expect("its end");
    let line = gateway.log_line().await;
    assert_eq!(line["protocol"], "HTTP/2");
    assert_eq!(line["host"], "gateway.test");
    assert_eq!(
        (&line["status"], &line["bytes_out"]),
        (&200.into(), &2.into())
    );
    assert!(line.get("complete").is_none(), "{line:#}");
}
