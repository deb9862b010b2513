//! Request id and trace context.

use super::{TRUSTING, get, site};
use crate::support::Raw;

#[tokio::test]
async fn a_request_has_one_id_everywhere() {
    let (origin, gateway) = site("").await;
    let answer = Raw::ask(gateway.address(), get("")).await;
    let id = answer.header("x-request-id").expect("an id");
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!(&id[14..15], "7", "a UUIDv7: {id}");
    assert_eq!(origin.request().header("x-request-id"), Some(id));
    assert_eq!(gateway.log_line().await["request_id"], id);
}

#[tokio::test]
async fn an_untrusted_callers_id_is_replaced() {
    let (origin, gateway) = site("").await;
    let answer = Raw::ask(gateway.address(), get("X-Request-Id: mine\r\n")).await;
    assert_ne!(answer.header("x-request-id"), Some("mine"));
    let forwarded = origin.request().header("x-request-id").map(str::to_owned);
    assert_eq!(forwarded.as_deref(), answer.header("x-request-id"));
}

#[tokio::test]
async fn a_trusted_proxys_id_is_taken_over_if_it_is_sane() {
    let (origin, gateway) = site(TRUSTING).await;
    let answer = Raw::ask(gateway.address(), get("X-Request-Id: mine-1\r\n")).await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(origin.request().header("x-request-id"), Some("mine-1"));
    assert_eq!(gateway.log_line().await["request_id"], "mine-1");
    for odd in ["a b", "<script>", "a,b", &"x".repeat(129), "\u{e9}"] {
        let answer = Raw::ask(gateway.address(), get(&format!("X-Request-Id: {odd}\r\n"))).await;
        let id = answer.header("x-request-id").expect("an id");
        assert_eq!(id.len(), 36, "{odd:?} became {id:?}");
    }
}

#[tokio::test]
async fn an_answer_carries_the_requests_id_and_not_the_origins() {
    for (version, end) in [
        ("1.1", "Content-Length: 0\r\n\r\n"),
        ("1.1", "Content-Length: 2\r\n\r\nok"),
        ("1.0", "Content-Length: 2\r\n\r\nok"),
    ] {
        let theirs =
            format!("HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nX-Request-Id: twice\r\n{end}");
        let origin = crate::support::Origin::answering(theirs).await;
        let gateway = crate::support::Gateway::to(&origin.url());
        let ask = format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n");
        let answer = Raw::ask(gateway.address(), ask).await;
        let ours = origin.request().header("x-request-id").map(str::to_owned);
        assert_eq!(answer.all("x-request-id"), [ours.expect("an id")]);
    }
}

#[tokio::test]
async fn a_callers_trace_is_continued_with_a_span_of_our_own() {
    let (origin, gateway) = site("").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let fields = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n");
    Raw::ask(gateway.address(), get(&fields)).await;
    let request = origin.request();
    let sent = request.header("traceparent").expect("a traceparent");
    assert!(sent.starts_with(&format!("00-{trace}-")), "{sent}");
    assert!(!sent.contains("00f067aa0ba902b7"), "{sent}");
    assert!(sent.ends_with("-01"), "{sent}");
    assert_eq!(request.header("tracestate"), Some("a=1"));
    assert_eq!(gateway.log_line().await["trace_id"], trace);
}

#[tokio::test]
async fn a_request_without_a_valid_trace_gets_one() {
    for fields in [
        "",
        "traceparent: 00-zz-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n",
    ] {
        let (origin, gateway) = site("").await;
        Raw::ask(gateway.address(), get(fields)).await;
        let request = origin.request();
        let sent = request.header("traceparent").expect("a traceparent");
        let parts: Vec<_> = sent.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{sent}");
        assert_eq!(request.header("tracestate"), None);
        assert_eq!(gateway.log_line().await["trace_id"], sent[3..35]);
    }
}
