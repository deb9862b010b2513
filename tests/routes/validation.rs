//! `validation` over real sockets: parameters, media types, and bodies judged by a schema.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    BoxBody, Gateway, Origin, PROTOCOLS, Protocol, Sent, Server, ask, body, chunks, empty, http1,
    read, within,
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A file with a schema, in a directory of its own.
fn schema_file() -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("order.json");
    let schema = json!({
        "type": "object",
        "required": ["item", "count"],
        "properties": {
            "item": { "type": "string", "maxLength": 20 },
            "count": { "type": "integer", "minimum": 1 },
            "tags": { "type": "array", "items": { "type": "string" }, "uniqueItems": true },
        },
    });
    std::fs::write(&path, schema.to_string()).expect("it can be written");
    let path = path.display().to_string();
    (directory, path)
}

/// A gateway that judges bodies by a schema.
fn judging(url: &str, schema: &str) -> Gateway {
    Gateway::start(&format!(
        "[routes.all]\nupstream = '{url}'\nvalidation = {{ body_schema = '{schema}' }}\n"
    ))
}

async fn post(
    gateway: &Gateway,
    protocol: Protocol,
    path: &str,
    fields: &[(&str, &str)],
    text: impl Into<Bytes>,
) -> Sent {
    ask(
        gateway.address(),
        protocol,
        ("POST", path),
        fields,
        body(text),
    )
    .await
}

/// The same to `/`, with a body that comes in pieces.
async fn post_body(
    gateway: &Gateway,
    protocol: Protocol,
    fields: &[(&str, &str)],
    body: BoxBody,
) -> Sent {
    ask(gateway.address(), protocol, ("POST", "/"), fields, body).await
}

fn refused(sent: &Sent) -> (u16, String) {
    (sent.status(), sent.reason())
}

fn faults(sent: &Sent) -> Vec<Value> {
    let envelope: Value = serde_json::from_slice(&sent.body).expect("an envelope");
    envelope["error"]["details"]["faults"]
        .as_array()
        .expect("faults")
        .clone()
}

/// Says back what came.
async fn echo(request: Request<Incoming>) -> Response<BoxBody> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body.map_err(std::io::Error::other).boxed_unsync());
    for name in ["trailer", "content-length", "transfer-encoding"] {
        if let Some(value) = head.headers.get(name) {
            let name = format!("x-{name}")
                .parse::<http::HeaderName>()
                .expect("a name");
            response.headers_mut().insert(name, value.clone());
        }
    }
    if let Some(trailer) = head.headers.get("trailer") {
        response.headers_mut().insert("trailer", trailer.clone());
    }
    response
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_the_body_is_read() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = '{}'\nmax_body = '1KiB'\n",
        origin.url()
    ));
    for protocol in PROTOCOLS {
        // The body never comes: an answer shows that nobody waited for it.
        let (feed, streamed) = chunks();
        let fields = [("content-length", "1025")];
        let sent = post_body(&gateway, protocol, &fields, streamed).await;
        assert_eq!(refused(&sent), (413, "request.body_too_large".to_owned()));
        drop(feed);
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn parameters_that_must_be_there_are_asked_for_by_name() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]
        upstream = '{}'
        validation = {{ headers = ['x-tenant'], query = {{ page = {{ regex = '[0-9]+' }} }} }}",
        origin.url()
    ));
    for protocol in PROTOCOLS {
        let get = async |path: String, fields: &[(&str, &str)]| {
            ask(gateway.address(), protocol, ("GET", &path), fields, empty()).await
        };
        let sent = get("/?page=17".to_owned(), &[("x-tenant", "a")]).await;
        assert_eq!(sent.status(), 200);
        let sent = get("/".to_owned(), &[]).await;
        assert_eq!(refused(&sent), (400, "validation.parameters".to_owned()));
        assert_eq!(
            faults(&sent),
            [
                json!({ "in": "header", "name": "x-tenant", "message": "is missing" }),
                json!({ "in": "query", "name": "page", "message": "is missing" }),
            ]
        );
        // Which of them the upstream reads nobody knows, and escapes hide nothing.
        for query in ["page=1&page=x", "page=1%0A", "pag%65=x"] {
            let sent = get(format!("/?{query}"), &[("x-tenant", "a")]).await;
            assert_eq!(
                faults(&sent),
                [json!({ "in": "query", "name": "page", "message": "is not valid" })]
            );
        }
    }
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn a_body_has_one_of_the_media_types() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]
        upstream = '{}'
        validation = {{ content_types = ['application/json', 'image/*'] }}",
        origin.url()
    ));
    for protocol in PROTOCOLS {
        for right in ["application/json; charset=utf-8", "image/png"] {
            let sent = post(&gateway, protocol, "/", &[("content-type", right)], "{}").await;
            assert_eq!(sent.status(), 200, "{right}");
        }
        for wrong in [&[("content-type", "text/plain")][..], &[], &[JSON, JSON]] {
            let sent = post(&gateway, protocol, "/", wrong, "{}").await;
            assert_eq!(refused(&sent), (415, "request.content_type".to_owned()));
            assert_eq!(sent.header("accept"), Some("application/json, image/*"));
        }
        // Without a body there is nothing to have a type.
        let sent = ask(gateway.address(), protocol, ("POST", "/"), &[], empty()).await;
        assert_eq!(sent.status(), 200);
    }
}

#[tokio::test]
async fn a_body_that_fits_the_schema_reaches_the_upstream_as_it_came() {
    let (_directory, schema) = schema_file();
    let origin = Server::http1(echo).await;
    let gateway = judging(&origin.url(), &schema);
    // Also one that is judged beside the worker.
    let tags: Vec<_> = (0..20_000).map(|tag| format!("\"tag-{tag}\"")).collect();
    let large = format!(r#"{{"item":"a","count":1,"tags":[{}]}}"#, tags.join(","));
    let small = r#"{ "item": "a", "count": 1, "other": [1.50, "\u00e9"] }"#.to_owned();
    for protocol in PROTOCOLS {
        for text in [&small, &large] {
            let sent = post(&gateway, protocol, "/", &[JSON], text.clone()).await;
            assert_eq!(sent.status(), 200, "{:?}", sent.body);
            assert!(sent.body == text.as_bytes(), "another body came back");
            assert_eq!(
                sent.header("x-content-length"),
                Some(&*text.len().to_string())
            );
        }
    }
}

#[tokio::test]
async fn trailers_of_a_judged_body_pass() {
    let (_directory, schema) = schema_file();
    let origin = Server::http1(echo).await;
    let gateway = judging(&origin.url(), &schema);
    for protocol in PROTOCOLS {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("17"));
        let frames = [
            Frame::data(Bytes::from_static(br#"{"item":"a","#)),
            Frame::data(Bytes::from_static(br#""count":1}"#)),
            Frame::trailers(trailers.clone()),
        ];
        let frames = futures_util::stream::iter(frames.map(Ok));
        let fields = [JSON, ("trailer", "x-sum"), ("te", "trailers")];
        let streamed = StreamBody::new(frames).boxed_unsync();
        let sent = post_body(&gateway, protocol, &fields, streamed).await;
        assert_eq!(sent.body, r#"{"item":"a","count":1}"#);
        assert_eq!(sent.trailers, Some(trailers));
    }
}

#[tokio::test]
async fn each_fault_is_told_with_its_place_and_without_the_value() {
    let (_directory, schema) = schema_file();
    let origin = Origin::ok().await;
    let gateway = judging(&origin.url(), &schema);
    for protocol in PROTOCOLS {
        let wrong = r#"{ "item": "password=hunter2-hunter2", "count": 0, "tags": [1, "a"] }"#;
        let sent = post(&gateway, protocol, "/", &[JSON], wrong).await;
        assert_eq!(refused(&sent), (400, "validation.body".to_owned()));
        let faults = faults(&sent);
        let mut places: Vec<_> = faults
            .iter()
            .map(|fault| fault["pointer"].as_str())
            .collect();
        places.sort_unstable();
        assert_eq!(places, [Some("/count"), Some("/item"), Some("/tags/0")]);
        let text = String::from_utf8_lossy(&sent.body);
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(origin.connections(), 0);
    let line = &gateway.log_lines(2).await[0];
    assert_eq!(line["reason"], "validation.body");
}

#[tokio::test]
async fn what_the_upstream_might_read_otherwise_is_refused() {
    let (_directory, schema) = schema_file();
    let origin = Origin::ok().await;
    let gateway = judging(&origin.url(), &schema);
    let right = r#"{ "item": "a", "count": 1 }"#;
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for protocol in PROTOCOLS {
        for text in [
            r#"{ "item": "a", "count": 1, "count": -1 }"#,
            r#"{ "item": "a", "count": 1 } { "item": 1 }"#,
            "",
            "count=1",
            "\u{feff}{}",
            &deep,
        ] {
            let sent = post(&gateway, protocol, "/", &[JSON], text.to_owned()).await;
            assert_eq!(
                refused(&sent),
                (400, "validation.body".to_owned()),
                "{text}"
            );
            assert_eq!(faults(&sent)[0]["pointer"], "");
        }
        for fields in [
            &[("content-type", "text/plain")][..],
            &[("content-type", "application/grpc")],
            &[("content-type", "application/json; charset=utf-7")],
            &[JSON, ("content-encoding", "gzip")],
        ] {
            let sent = post(&gateway, protocol, "/", fields, right).await;
            let grpc = sent.header("grpc-status").is_some();
            assert!(grpc || sent.status() == 415, "{fields:?}");
        }
        // A method that says nothing by its body needs none.
        let sent = ask(gateway.address(), protocol, ("DELETE", "/"), &[], empty()).await;
        assert_eq!(sent.status(), 200);
    }
    assert_eq!(origin.requests().len(), 2, "only the ones without a body");
}

#[tokio::test]
async fn a_judged_body_keeps_to_the_limits_of_its_route() {
    let (_directory, schema) = schema_file();
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]
        upstream = '{}'
        max_body = '100B'
        timeouts = {{ idle = '100ms' }}
        validation = {{ body_schema = '{schema}' }}",
        origin.url()
    ));
    for protocol in PROTOCOLS {
        // Its length is not told, and it is over the limit with its last frame.
        let frames =
            [[b' '; 60], [b' '; 60]].map(|spaces| Ok(Frame::data(Bytes::from(spaces.to_vec()))));
        let streamed = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let sent = post_body(&gateway, protocol, &[JSON], streamed).await;
        assert_eq!(refused(&sent), (413, "request.body_too_large".to_owned()));
        let (feed, streamed) = chunks();
        let sent = post_body(&gateway, protocol, &[JSON], streamed).await;
        assert_eq!(refused(&sent), (408, "request.body_timeout".to_owned()));
        drop(feed);
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn in_shadow_mode_everything_passes_and_is_noted() {
    let (_directory, schema) = schema_file();
    let origin = Server::http1(echo).await;
    let gateway = Gateway::start(&format!(
        "[routes.all]
        upstream = '{}'
        validation = {{ body_schema = '{schema}', headers = ['x-tenant'], enforce = false }}",
        origin.url()
    ));
    for (count, protocol) in PROTOCOLS.into_iter().enumerate() {
        let sent = post(&gateway, protocol, "/", &[JSON], "{}").await;
        assert_eq!((sent.status(), &*sent.body), (200, &b"{}"[..]));
        let fields = [("content-type", "text/plain"), ("x-tenant", "a")];
        let sent = post(&gateway, protocol, "/", &fields, "text").await;
        assert_eq!((sent.status(), &*sent.body), (200, &b"text"[..]));
        let lines = gateway.log_lines(2 * count + 2).await;
        let shadow: Vec<_> = lines[2 * count..]
            .iter()
            .map(|line| &line["shadow"])
            .collect();
        assert_eq!(
            shadow,
            [
                "validation.parameters validation.body",
                "request.content_type"
            ]
        );
        assert!(lines.iter().all(|line| line["reason"].is_null()));
    }
    let labels = ["route=\"all\"", "reason=\"validation.body\""];
    assert_eq!(
        gateway.metric("tollgate_shadow_refusals_total", &labels),
        2.0
    );
}

#[tokio::test]
async fn grpc_is_left_alone_by_media_types_that_it_inherits() {
    let origin = Server::h2c(echo).await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[defaults]
        validation = {{ content_types = ['application/json'] }}
        [routes.all]
        upstream = '{url}'
        [routes.own]
        path = '/own'
        upstream = '{url}'
        validation = {{ content_types = ['application/json'] }}"
    ));
    let call = [("content-type", "application/grpc"), ("te", "trailers")];
    let sent = post(&gateway, Protocol::Http2, "/x.Y/Z", &call, "frame").await;
    assert_eq!((sent.status(), &*sent.body), (200, &b"frame"[..]));
    let sent = post(&gateway, Protocol::Http2, "/own", &call, "frame").await;
    assert!(
        sent.header("grpc-status").is_some(),
        "the route itself says JSON"
    );
    // Not a call: HTTP/1.1 has none.
    let sent = post(&gateway, Protocol::Http1, "/x.Y/Z", &call, "frame").await;
    assert_eq!(sent.status(), 415);
}

#[tokio::test]
async fn without_a_schema_bodies_stream() {
    let origin = Server::http1(echo).await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = '{}'\nvalidation = {{ content_types = ['application/json'] }}\n",
        origin.url()
    ));
    let (feed, streamed) = chunks();
    within(feed.send(Ok(Frame::data(Bytes::from_static(b"[1,")))))
        .await
        .expect("it is taken");
    let request = Request::post("/")
        .header("host", "a")
        .header(JSON.0, JSON.1);
    let mut connection = http1(gateway.address()).await;
    let answer = connection.send_request(request.body(streamed).expect("a request"));
    let mut answer = within(answer).await.expect("an answer");
    let first = within(answer.body_mut().frame())
        .await
        .expect("a frame")
        .expect("no error");
    assert_eq!(first.into_data().expect("data"), "[1,");
    drop(feed);
    assert_eq!(read(answer).await.body, "");
}

#[tokio::test]
async fn a_changed_schema_is_taken_over_by_a_reload() {
    let (directory, schema) = schema_file();
    let origin = Origin::ok().await;
    let text = format!(
        "[routes.all]\nupstream = '{}'\nvalidation = {{ body_schema = '{schema}' }}\n",
        origin.url()
    );
    let gateway = Gateway::start(&text);
    let sent = post(&gateway, Protocol::Http1, "/", &[JSON], "[]").await;
    assert_eq!(sent.status(), 400);
    std::fs::write(
        directory.path().join("order.json"),
        r#"{ "type": "array" }"#,
    )
    .expect("it can be written");
    gateway.apply(&text);
    let sent = post(&gateway, Protocol::Http1, "/", &[JSON], "[]").await;
    assert_eq!(sent.status(), 200);
}
