//! wip
mod support;
use support::{Gateway, Origin, Raw};

#[tokio::test]
async fn a_request_passes() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let answer = Raw::ask(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    assert_eq!(origin.request().target(), "/");
    assert_eq!(gateway.log_line().await["status"], 200);
}
