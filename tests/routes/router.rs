//! Which route answers, as a client sees it. The rules in detail are tested beside the router.

use crate::support::{Answer, Gateway, Origin, Raw};

async fn ask(gateway: &Gateway, method: &str, host: &str, path: &str, fields: &str) -> Answer {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n");
    Raw::ask(gateway.address(), request).await
}

/// The body of each route's answer is its name.
fn named(routes: &[(&str, &str)]) -> Gateway {
    let route = |(name, keys): &(&str, &str)| {
        format!("[routes.{name}]\n{keys}\nrespond = {{ body = \"{name}\" }}\n")
    };
    Gateway::start(&routes.iter().map(route).collect::<String>())
}

#[tokio::test]
async fn the_most_specific_route_answers_whatever_the_order_in_the_file() {
    let gateway = named(&[
        ("all", ""),
        ("below", "path = \"/items/**\""),
        ("one", "path = \"/items/{id}\""),
        ("fixed", "path = \"/items/new\""),
        (
            "search",
            "path = \"/items/new\"\nmatch_query = { q = { present = true } }",
        ),
        (
            "canary",
            "path = \"/items/new\"\nmatch_headers = { x-canary = \"1\" }\npriority = 1",
        ),
        ("tenant", "hosts = [\"{tenant}.example.com\"]"),
        ("deep", "hosts = [\"**.example.com\"]"),
        ("api", "hosts = [\"api.example.com\"]\npath = \"/v1/**\""),
    ]);
    for (host, path, fields, name) in [
        ("a", "/", "", "all"),
        ("a", "/items", "", "below"),
        ("a", "/items/", "", "below"),
        ("a", "/items/7", "", "one"),
        ("a", "/items/7/parts", "", "below"),
        ("a", "/items/new", "", "fixed"),
        ("a", "/items/new?q", "", "search"),
        ("a", "/items/new?q=1", "X-Canary: 1\r\n", "canary"),
        ("a", "/items/new", "X-Canary: 2\r\n", "fixed"),
        ("a", "/itemsx", "", "all"),
        ("x.example.com", "/items/7", "", "tenant"),
        ("y.x.example.com", "/items/7", "", "deep"),
        ("api.example.com", "/v1", "", "api"),
        ("API.example.com:8080", "/v1/x", "", "api"),
        // Nothing fits under the exact host: its wildcard does.
        ("api.example.com", "/v2", "", "tenant"),
        // What was matched is the normal form.
        ("a", "/x/../items//new", "", "fixed"),
        ("a", "/items/%6eew", "", "fixed"),
    ] {
        let answer = ask(&gateway, "GET", host, path, fields).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, name),
            "{host}{path} {fields}"
        );
    }
}

#[tokio::test]
async fn a_path_is_found_in_every_spelling_whichever_the_file_has() {
    let gateway = named(&[
        ("all", ""),
        ("escaped", "path = \"/items%3abatch\""),
        ("plain", "path = \"/carts:batch\""),
    ]);
    for (path, name) in [
        ("/items:batch", "escaped"),
        ("/items%3Abatch", "escaped"),
        ("/carts:batch", "plain"),
        ("/carts%3abatch", "plain"),
        ("/items%253Abatch", "all"),
    ] {
        let answer = ask(&gateway, "GET", "a", path, "").await;
        assert_eq!((answer.status, answer.text()), (200, name), "{path}");
    }
}

#[tokio::test]
async fn what_no_route_matches_is_404_in_the_envelope() {
    let gateway = named(&[("one", "path = \"/one\"\nhosts = [\"a.example.com\"]")]);
    for (host, path) in [
        ("a.example.com", "/"),
        ("b.example.com", "/one"),
        ("a.example.com", "/One"),
    ] {
        let answer = ask(&gateway, "GET", host, path, "").await;
        assert_eq!(
            answer.refusal(),
            (404, "route.not_found".into()),
            "{host}{path}"
        );
        let envelope = answer.json();
        assert_eq!(envelope["success"], false);
        assert_eq!(envelope["error"]["code"], "NOT_FOUND");
        assert_eq!(
            Some(envelope["request_id"].as_str().expect("an id")),
            answer.header("x-request-id")
        );
        assert_eq!(answer.header("allow"), None);
    }
    let lines = gateway.log_lines(3).await;
    assert!(
        lines
            .iter()
            .all(|line| line["reason"] == "route.not_found" && line["route"].is_null())
    );
    assert_eq!(
        gateway.metric("tollgate_rejections_total", &["route.not_found", "_none"]),
        3.0
    );
}

#[tokio::test]
async fn a_wrong_method_on_the_best_path_is_405_and_never_falls_to_a_catch_all() {
    let gateway = named(&[
        ("all", ""),
        ("read", "path = \"/items\"\nmethods = [\"GET\"]"),
        (
            "write",
            "path = \"/items\"\nmethods = [\"POST\", \"DELETE\"]",
        ),
    ]);
    let answer = ask(&gateway, "PUT", "a", "/items", "Content-Length: 0\r\n").await;
    assert_eq!(answer.refusal(), (405, "route.method_not_allowed".into()));
    assert_eq!(answer.json()["error"]["code"], "METHOD_NOT_ALLOWED");
    assert_eq!(answer.header("allow"), Some("DELETE, GET, HEAD, POST"));
    assert_eq!(ask(&gateway, "GET", "a", "/items", "").await.text(), "read");
    assert_eq!(
        ask(&gateway, "DELETE", "a", "/items", "").await.text(),
        "write"
    );
    assert_eq!(ask(&gateway, "PUT", "a", "/other", "").await.text(), "all");
}

#[tokio::test]
async fn head_follows_get() {
    let gateway = named(&[("read", "path = \"/items\"\nmethods = [\"GET\"]")]);
    let mut client = Raw::connect(gateway.address()).await;
    client
        .send("HEAD /items HTTP/1.1\r\nHost: a\r\n\r\nGET /items HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let head = client.answer_to("HEAD").await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("4"))
    );
    assert_eq!(client.answer().await.text(), "read");
}

#[tokio::test]
async fn an_answer_names_the_header_fields_that_its_route_depended_on() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nVary: Accept-Encoding\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let gateway = Gateway::start(&format!(
        "[routes.v2]\npath = \"/x\"\nmatch_headers = {{ accept = {{ media_type = \"application/vnd.a.v2+json\" }} }}\n\
         respond = {{ body = \"v2\" }}\n\
         [routes.plain]\npath = \"/x\"\nupstream = \"{}\"\n\
         [routes.other]\npath = \"/y\"\nrespond = {{ body = \"y\" }}\n",
        origin.url()
    ));
    let accept = "Accept: text/html, application/vnd.a.v2+json;q=0.5\r\n";
    let versioned = ask(&gateway, "GET", "a", "/x", accept).await;
    assert_eq!(
        (versioned.text(), versioned.all("vary")),
        ("v2", vec!["accept"])
    );
    // The plain route answers because the other one did not, so it varies too; the server's own
    // word stays.
    let plain = ask(&gateway, "GET", "a", "/x", "Accept: */*\r\n").await;
    assert_eq!(
        (plain.text(), plain.all("vary")),
        ("ok", vec!["Accept-Encoding", "accept"])
    );
    assert_eq!(
        ask(&gateway, "GET", "a", "/y", "").await.header("vary"),
        None
    );
}

#[tokio::test]
async fn a_redirect_keeps_to_its_template_and_a_rewrite_to_its_prefix() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.old]\npath = \"/old/{{*rest}}\"\nredirect = \"/new/${{path.rest}}${{query}}\"\n\
         [routes.api]\npath = \"/api/**\"\nupstream = \"{}\"\nrewrite = {{ strip_prefix = \"/api\" }}\n",
        origin.url()
    ));
    let moved = ask(&gateway, "GET", "a", "/old/a/b?c=d", "").await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (308, Some("/new/a/b?c=d"))
    );
    for (asked, seen) in [
        ("/api/items?x=1", "/items?x=1"),
        ("/api", "/"),
        ("/api/", "/"),
    ] {
        ask(&gateway, "GET", "a", asked, "").await;
        let requests = origin.requests();
        assert_eq!(requests.last().map(|request| request.target()), Some(seen));
    }
}

#[tokio::test]
async fn ten_thousand_routes_all_answer() {
    let routes = (0..10_000).map(|number| {
        format!("[routes.r{number}]\npath = \"/r{number}/{{id}}\"\nrespond = {{ body = \"{number}\" }}\n")
    });
    let gateway = Gateway::start(&routes.collect::<String>());
    for number in [0, 1, 4_999, 9_999] {
        let answer = ask(&gateway, "GET", "a", &format!("/r{number}/x"), "").await;
        assert_eq!(answer.text(), number.to_string());
    }
    assert_eq!(ask(&gateway, "GET", "a", "/r10000/x", "").await.status, 404);
}
