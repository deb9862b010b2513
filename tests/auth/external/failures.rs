//! No answer that says yes is no.

use crate::support::eventually;

use super::*;

#[tokio::test]
async fn whatever_is_not_a_verdict_refuses_the_request() {
    let site = Site::with("").await;
    for status in [304, 400, 404, 407, 418, 429, 500, 502, 503] {
        site.service.says(status, &[], "");
        let answer = site.get("/", "").await;
        assert_eq!(answer.refusal(), unavailable(), "{status}");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert!(site.origin.requests().is_empty());
    assert_eq!(site.results("failed"), 9.0);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_refuses_the_request() {
    let silent = Origin::start(|mut peer| async move {
        peer.closed().await;
    })
    .await;
    let service = Service::start().await;
    let site = Site::asking(service, &silent.url(), "timeout = '50ms'").await;
    assert_eq!(site.get("/", "").await.refusal(), unavailable());
    let line = site.gateway.log_line().await;
    assert!(line.to_string().contains("no answer in time"), "{line}");
}

#[tokio::test]
async fn a_service_that_is_away_or_talks_garbage_refuses_the_request() {
    let garbage = Origin::answering_once("SSH-2.0-OpenSSH_9.2\r\n").await;
    let cut = Origin::answering_once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").await;
    let large = "HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n";
    let large = Origin::answering_once(large).await;
    let away = Origin::ok().await.url();
    for url in [garbage.url(), cut.url(), large.url(), away] {
        let service = Service::start().await;
        let site = Site::asking(service, &url, "").await;
        assert_eq!(site.get("/", "").await.refusal(), unavailable(), "{url}");
        assert_eq!(site.get("/open", "").await.status, 200);
    }
}

#[tokio::test]
async fn a_caller_that_the_service_should_name_and_does_not_is_refused() {
    let site = Site::with("subject_header = 'x-auth-user'").await;
    site.service.says(200, &[], "");
    assert_eq!(site.get("/", "").await.refusal(), unavailable());
    site.service
        .says(200, &[("x-auth-user", "a"), ("x-auth-user", "b")], "");
    assert_eq!(site.get("/", "").await.refusal(), unavailable());
    site.service.says(200, &[("x-auth-user", "a")], "");
    assert_eq!(site.get("/", "").await.status, 200);
}

#[tokio::test]
async fn more_questions_than_allowed_are_not_asked() {
    let (silent, keys) = (silent().await, "timeout = '30s'\nmax_in_flight = 1");
    let service = Service::start().await;
    let site = Site::asking(service, &silent.url(), keys).await;
    let mut first = Raw::connect(site.gateway.address()).await;
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(|| silent.requests().len() == 1).await;
    assert_eq!(site.get("/", "").await.refusal(), unavailable());
    // A client that leaves takes its question with it.
    drop(first);
    eventually(|| silent.requests().len() == 1 && site.gateway.log().len() == 2).await;
    let mut next = Raw::connect(site.gateway.address()).await;
    next.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(|| silent.requests().len() == 2).await;
}

/// Takes requests and never answers.
async fn silent() -> Origin {
    Origin::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await
}
