//! The example of the page does what the page says.

use super::*;

#[tokio::test]
async fn the_example_of_the_page_runs() {
    let (service, origin) = (Service::start().await, Origin::ok().await);
    let fields = &[
        ("x-auth-user", "alice"),
        ("x-auth-roles", "editor"),
        ("x-user-id", "7"),
    ];
    service.says(200, fields, "");
    let text = support::example("docs/auth-external.md")
        .replace("http://127.0.0.1:4180", &service.server.url())
        .replace("http://127.0.0.1:3000", &origin.url());
    let gateway = Gateway::start(&text);
    let request = "GET /orders/1 HTTP/1.1\r\nHost: a\r\nCookie: session=1\r\n\r\n";
    for _ in 0..2 {
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.text(), "ok");
    }
    assert_eq!(service.asked(), 1);
    assert_eq!(origin.requests()[1].all("x-user-id"), ["7"]);
    assert_eq!(
        gateway.log_lines(2).await[1]["principal"],
        "external.sso:alice"
    );
}
