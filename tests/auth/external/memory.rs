//! Answers that are remembered.

use super::*;

#[tokio::test]
async fn a_good_answer_is_remembered_for_its_time() {
    let site = Site::with("remember = '1m'\nforward_headers = 'x-user-id'").await;
    site.service.says(200, &[("x-user-id", "7")], "");
    for _ in 0..3 {
        assert_eq!(site.get("/", "Authorization: a\r\n").await.status, 200);
    }
    assert_eq!(site.service.asked(), 1);
    assert_eq!(site.results("remembered"), 2.0);
    let requests = site.origin.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.all("x-user-id") == ["7"])
    );
    site.service.says(403, &[], "");
    site.clock.advance(SECOND * 60);
    assert_eq!(site.get("/", "Authorization: a\r\n").await.status, 403);
}

#[tokio::test]
async fn a_request_of_which_the_service_would_be_told_anything_else_is_asked_for() {
    let site = Site::with("remember = '1m'\nrequest_headers = ['x-a', 'x-b']").await;
    let host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let questions = [
        site.get("/", "").await,
        site.get("/?q", "").await,
        site.get("/", "X-A: 1\r\n").await,
        site.get("/", "X-A: 1, 2\r\n").await,
        site.get("/", "X-A: 1\r\nX-A: 2\r\n").await,
        site.get("/", "X-B: 1\r\n").await,
        site.get("/", "X-A: 1\r\nX-B: 1\r\n").await,
        site.get("/", "X-A:\r\n").await,
        Raw::ask(site.gateway.address(), host("other.test")).await,
        Raw::ask(
            site.gateway.address(),
            host("gateway.test").replace("GET", "DELETE"),
        )
        .await,
    ];
    assert!(questions.iter().all(|answer| answer.status == 200));
    assert_eq!(site.service.asked(), questions.len());
    // What it is not told makes no difference.
    site.get("/", "X-C: 1\r\n").await;
    assert_eq!(site.service.asked(), questions.len());
}

#[tokio::test]
async fn refusals_and_failures_are_not_remembered() {
    let site = Site::with("remember = '1h'").await;
    for status in [403, 500] {
        site.service.says(status, &[], "");
        assert_ne!(site.get("/", "").await.status, 200);
    }
    site.service.says(200, &[], "");
    assert_eq!(site.get("/", "").await.status, 200);
}

#[tokio::test]
async fn callers_that_the_service_does_not_name_are_told_apart_by_what_they_sent() {
    let site = Site::with("").await;
    for fields in [
        "Authorization: a\r\n",
        "Authorization: a\r\n",
        "Authorization: b\r\n",
        "",
    ] {
        site.get("/", fields).await;
    }
    let lines = site.gateway.log_lines(4).await;
    let names: Vec<_> = lines
        .iter()
        .map(|line| line["principal"].as_str().unwrap())
        .collect();
    assert_eq!(names[0], names[1]);
    assert_ne!(names[0], names[2]);
    assert_eq!(names[3], "external.sso:127.0.0.1");
    // Nothing of it can be read from the name.
    assert_eq!(names[0].len(), "external.sso:".len() + 32);
}

/// The service is not told the address, and says yes to both alike; to limits and the log they are two.
#[tokio::test]
async fn a_remembered_answer_to_a_caller_who_is_known_by_the_address_is_nobody_elses() {
    let keys = "remember = '1m'\nsend = ['uri']\n[server]\ntrusted_proxies = ['127.0.0.1']";
    let site = Site::with(keys).await;
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.1"];
    for address in addresses {
        let field = format!("X-Forwarded-For: {address}\r\n");
        assert_eq!(site.get("/", &field).await.status, 200);
    }
    assert_eq!(site.service.asked(), 2);
    let lines = site.gateway.log_lines(3).await;
    for (line, address) in lines.iter().zip(addresses) {
        assert_eq!(line["principal"], format!("external.sso:{address}"));
    }
}
