//! Targets: what the router matched is what the origin gets.

use crate::support::{Gateway, Origin, Raw};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[tokio::test]
async fn the_normal_form_goes_on() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let cases = [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("//a///b", "/a/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E./b", "/b"),
        ("/%61%7e", "/a~"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a?x=../%2e&y=%2F//", "/a?x=../%2e&y=%2F//"),
        ("/a%252fb", "/a%252fb"),
        ("/a;x=1/b", "/a;x=1/b"),
    ];
    for (count, (target, expected)) in cases.into_iter().enumerate() {
        let answer = Raw::ask(gateway.address(), get(target)).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert_eq!(origin.requests()[count].target(), expected, "{target}");
    }
}

#[tokio::test]
async fn a_target_with_a_hidden_meaning_is_refused() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    for target in [
        "/..",
        "/a/../../b",
        "/%2e%2e/b",
        "/a%2Fb",
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "/a%00b",
        "/a%0d%0ab",
        "/a%zz",
        "/a%2",
        "/a/..;/b",
        "/a/..%2fb",
        "/%c0%ae%c0%ae/b",
    ] {
        let answer = Raw::ask_and_close(gateway.address(), get(target)).await;
        let expected = (400, "request.target_invalid".to_owned());
        assert_eq!(answer.refusal(), expected, "{target}");
    }
    assert_eq!(origin.connections(), 0, "{}", origin.received());
}

#[tokio::test]
async fn raw_utf8_in_a_target_is_refused() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    for target in ["/caf\u{e9}", "/a?x=\u{e9}"] {
        let answer = Raw::ask_and_close(gateway.address(), get(target)).await;
        assert_eq!(answer.status, 400, "{target}");
    }
    assert_eq!(origin.connections(), 0, "{}", origin.received());
}

#[tokio::test]
async fn an_encoded_slash_goes_on_where_the_route_keeps_it() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{}\"\nencoded_slash = \"keep\"",
        origin.url()
    ));
    let answer = Raw::ask(gateway.address(), get("/files/a%2fb%5cc/x")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(origin.request().target(), "/files/a%2Fb%5Cc/x");
    let hidden = Raw::ask_and_close(gateway.address(), get("/files/..%2fsecret")).await;
    assert_eq!(hidden.reason(), "request.target_invalid");
}

/// A gateway, what is behind all paths, and what is behind `/admin`.
async fn with_a_guarded_path() -> (Gateway, Origin, Origin) {
    let (open, guarded) = (Origin::ok().await, Origin::ok().await);
    let gateway = Gateway::start(&format!(
        "[routes.open]\npath = \"/**\"\nupstream = \"{}\"\n\
         [routes.guarded]\npath = \"/admin/**\"\nupstream = \"{}\"",
        open.url(),
        guarded.url()
    ));
    (gateway, open, guarded)
}

#[tokio::test]
async fn no_spelling_of_a_path_walks_past_its_route() {
    let (gateway, open, guarded) = with_a_guarded_path().await;
    let spellings = [
        "/admin/x",
        "/%61dmin/x",
        "//admin/x",
        "/./admin/x",
        "/public/../admin/x",
        "/public/%2e%2e/admin/x",
        "/admin//x",
    ];
    for target in spellings {
        let answer = Raw::ask(gateway.address(), get(target)).await;
        assert_eq!(answer.status, 200, "{target}");
    }
    assert_eq!(open.connections(), 0, "{}", open.received());
    let targets: Vec<_> = guarded
        .requests()
        .iter()
        .map(|it| it.target().to_owned())
        .collect();
    assert_eq!(targets, ["/admin/x"; 7]);
}

#[tokio::test]
async fn a_parameter_does_not_lead_past_the_route_that_guards_a_path() {
    let (gateway, open, guarded) = with_a_guarded_path().await;
    // What Tomcat and its kin serve as /admin and /admin/x.
    let past = [
        "/admin;x",
        "/admin;x=1/x",
        "/admin;",
        "/;/admin/x",
        "//;a=b//admin",
        "/admin%3bx",
        "/%61dmin;x",
    ];
    for target in past {
        let answer = Raw::ask_and_close(gateway.address(), get(target)).await;
        let expected = (400, "request.target_invalid".to_owned());
        assert_eq!(answer.refusal(), expected, "{target}");
    }
    assert_eq!(open.connections() + guarded.connections(), 0);
    for (target, origin) in [("/a;x=1/b;y", &open), ("/admin/x;y=2", &guarded)] {
        let answer = Raw::ask(gateway.address(), get(target)).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert_eq!(origin.request().target(), target);
    }
}
