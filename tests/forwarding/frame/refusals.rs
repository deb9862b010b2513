//! Refusals: one envelope in three forms.

use serde_json::json;

use crate::support::{Gateway, Raw, empty, http2, read, request, within};

fn gateway() -> Gateway {
    Gateway::start(
        "[routes.items]\npath = \"/items\"\nmethods = [\"GET\", \"POST\"]\n\
         respond = { body = \"items\" }",
    )
}

#[tokio::test]
async fn what_no_route_serves_is_404_in_the_envelope() {
    let gateway = gateway();
    let answer = Raw::ask(gateway.address(), "GET /none HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let id = answer.header("x-request-id").expect("an id");
    assert_eq!(
        answer.json(),
        json!({
            "success": false,
            "error": {
                "code": "NOT_FOUND",
                "reason": "route.not_found",
                "message": "Nothing is served here.",
            },
            "request_id": id,
        })
    );
    let line = gateway.log_line().await;
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&404.into(), &"route.not_found".into())
    );
    assert_eq!(line["level"], "warn");
    assert!(
        line.get("route").is_none() && line.get("upstream").is_none(),
        "{line:#}"
    );
}

#[tokio::test]
async fn another_method_is_405_with_those_that_are_served() {
    let gateway = gateway();
    let answer = Raw::ask(gateway.address(), "PUT /items HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        answer.refusal(),
        (405, "route.method_not_allowed".to_owned())
    );
    let mut allow: Vec<_> = answer.header("allow").expect("Allow").split(", ").collect();
    allow.sort_unstable();
    assert_eq!(allow, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn a_refusal_that_is_no_fault_of_framing_keeps_the_connection() {
    let gateway = gateway();
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (404, None));
    }
    client.send("HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer_to("HEAD").await.status, 404);
    client.send("GET /items HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "items");
}

#[tokio::test]
async fn problem_details_are_sent_to_who_prefers_them() {
    let gateway = gateway();
    let request = "GET /none HTTP/1.1\r\nHost: a\r\nAccept: application/problem+json\r\n\r\n";
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let id = answer.header("x-request-id").expect("an id");
    assert_eq!(
        answer.json(),
        json!({
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "Nothing is served here.",
            "code": "NOT_FOUND",
            "reason": "route.not_found",
            "request_id": id,
        })
    );
}

#[tokio::test]
async fn a_grpc_client_gets_a_trailers_only_answer() {
    let gateway = gateway();
    let mut client = http2(gateway.address()).await;
    let request = request("POST", "/pkg.Service/Method")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(empty())
        .expect("a request");
    let answer = within(client.send_request(request))
        .await
        .expect("an answer");
    assert!(
        hyper::body::Body::is_end_stream(answer.body()),
        "trailers-only"
    );
    let answer = read(answer).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("grpc-status"), Some("12"));
    assert_eq!(
        answer.header("grpc-message"),
        Some("Nothing is served here.")
    );
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert!(answer.header("x-request-id").is_some());
    let line = gateway.log_line().await;
    assert_eq!(line["reason"], "route.not_found");
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let gateway = gateway();
    Raw::ask(gateway.address(), "GET /none HTTP/1.1\r\nHost: a\r\n\r\n").await;
    Raw::ask(gateway.address(), "GET / HTTP/1.1\r\n\r\n").await;
    gateway.log_lines(2).await;
    for reason in ["route.not_found", "request.host_invalid"] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(gateway.metric("tollgate_rejections_total", &[&label]), 1.0);
    }
    assert_eq!(gateway.metric("tollgate_requests_in_flight", &[]), 0.0);
}
