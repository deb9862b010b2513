//! Where routes lead: to servers in turns, to several upstreams by weight, elsewhere, nowhere.

use std::collections::BTreeMap;

use crate::support::{Gateway, Origin, Raw, Server, reply};

async fn named(name: &'static str) -> Server {
    Server::http1(move |_| async move { reply(name) }).await
}

async fn asked(gateway: &Gateway, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..count {
        client.send(crate::GET).await;
        let answer = client.answer().await;
        *answers.entry(answer.text().to_owned()).or_default() += 1;
    }
    answers
}

#[tokio::test]
async fn servers_take_turns_by_their_weights() {
    let (one, two) = (named("one").await, named("two").await);
    let gateway = Gateway::start(&format!(
        "[[upstreams.u.servers]]\nurl = \"{}\"\n\
         [[upstreams.u.servers]]\nurl = \"{}\"\nweight = 2\n[routes.all]\nupstream = \"u\"",
        one.url(),
        two.url()
    ));
    let answers = asked(&gateway, 30).await;
    assert_eq!((answers["one"], answers["two"]), (10, 20));
}

#[tokio::test]
async fn a_split_divides_by_its_weights() {
    let (old, new) = (named("old").await, named("new").await);
    let gateway = Gateway::start(&format!(
        "[upstreams.old]\nservers = [\"{}\"]\n[upstreams.new]\nservers = [\"{}\"]\n\
         [routes.all]\nsplit = {{ old = 3, new = 1 }}",
        old.url(),
        new.url()
    ));
    let answers = asked(&gateway, 400).await;
    // Six standard deviations around 300.
    assert!((248..=352).contains(&answers["old"]), "{answers:?}");
    assert_eq!(answers["old"] + answers["new"], 400);
}

/// What the origin receives for a request to a route with this rewrite.
async fn rewritten(route: &str, request: &'static str) -> (String, String) {
    let origin = Origin::ok().await;
    let url = origin.url();
    let gateway = Gateway::start(&format!("[routes.it]\n{route}\nupstream = \"{url}\""));
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let request = origin.request();
    let host = request.header("host").expect("Host");
    let host = host.replace(&origin.address().to_string(), "SERVER");
    (request.target().to_owned(), host)
}

#[tokio::test]
async fn paths_are_rewritten_and_queries_stay() {
    for (route, target, expected) in [
        (
            "path = \"/api/**\"\nrewrite = { strip_prefix = \"/api\" }",
            "/api/x?y=/api",
            "/x?y=/api",
        ),
        (
            "path = \"/api/**\"\nrewrite = { strip_prefix = \"/api\" }",
            "/api",
            "/",
        ),
        ("rewrite = { add_prefix = \"/v2\" }", "/x", "/v2/x"),
        (
            "path = \"/api/**\"\nrewrite = { strip_prefix = \"/api\", add_prefix = \"/v2\" }",
            "/api/x",
            "/v2/x",
        ),
        (
            "path = \"/items/{id}\"\nrewrite = { path = \"/things/${path.id}/show\" }",
            "/items/a%2Cb?z",
            "/things/a%2Cb/show?z",
        ),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let (came, host) = rewritten(route, Box::leak(request.into_boxed_str())).await;
        assert_eq!((&*came, &*host), (expected, "a.test"), "{route}");
    }
}

#[tokio::test]
async fn the_host_is_kept_replaced_or_the_servers_own() {
    for (host, expected) in [
        ("preserve", "a.test"),
        ("server", "SERVER"),
        ("b.test:81", "b.test:81"),
    ] {
        let route = format!("rewrite = {{ host = \"{host}\" }}");
        assert_eq!(rewritten(&route, crate::GET).await.1, expected);
    }
}

#[tokio::test]
async fn a_redirect_sends_the_client_elsewhere() {
    let gateway = Gateway::start(
        "[routes.plain]\npath = \"/old\"\nredirect = \"/new\"\n\
         [routes.template]\npath = \"/items/{id}\"\n\
         redirect = { to = \"https://${host}/things/${path.id}${query}\", status = 301 }\n\
         [routes.whole]\npath = \"/all/**\"\nredirect = \"https://${host}${path}${query}\"",
    );
    for (target, status, location) in [
        ("/old", 308, "/new"),
        ("/items/7?a=b", 301, "https://a.test/things/7?a=b"),
        ("/all/x/../y", 308, "https://a.test/all/y"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a.test:8080\r\n\r\n");
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("location"), Some(location), "{target}");
        assert_eq!(answer.text(), "");
    }
    let line = gateway.log_lines(3).await.remove(0);
    assert_eq!(
        (&line["status"], &line["route"]),
        (&308.into(), &"plain".into())
    );
    assert!(
        line.get("upstream").is_none() && line.get("reason").is_none(),
        "{line:#}"
    );
}

#[tokio::test]
async fn an_answer_of_the_gateways_own_is_sent() {
    let gateway = Gateway::start(
        "[routes.text]\npath = \"/text\"\nrespond = { body = \"hello\" }\n\
         [routes.json]\npath = \"/json\"\n\
         respond = { status = 418, body = \"{}\", headers = { content-type = \"application/json\", x-a = \"1\" } }\n\
         [routes.none]\npath = \"/none\"\nrespond = { status = 204 }",
    );
    let mut client = Raw::connect(gateway.address()).await;
    client.send("GET /text HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let text = client.answer().await;
    assert_eq!((text.status, text.text()), (200, "hello"));
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    client.send("HEAD /text HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.answer_to("HEAD").await;
    assert_eq!(head.header("content-length"), Some("5"));
    client
        .send("POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    let json = client.answer().await;
    assert_eq!(
        (json.status, json.text(), json.header("x-a")),
        (418, "{}", Some("1"))
    );
    assert_eq!(json.header("content-type"), Some("application/json"));
    client.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let none = client.answer().await;
    assert_eq!((none.status, none.header("content-length")), (204, None));
}
