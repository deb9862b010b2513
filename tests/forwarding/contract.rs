//! What every middleware must leave alone: bodies, trailers and streaming pass untouched, and each
//! request makes one log line and one count, whatever its route does.
//!
//! A new middleware gets a line in [`FORWARDING`], or in [`ANSWERING`] when it answers by itself.

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::Value;

use crate::support::{
    BoxBody, Gateway, Sent, Server, answer, body, chunks, empty, eventually, full, http1, http2,
    read, within,
};

/// A route that forwards; `ORIGIN` stands for the server's URL, `SERVICE` for that of a service which
/// lets everything pass, `FILES` for the folder of files that are named.
struct Forwarding {
    name: &'static str,
    keys: &'static str,
    /// What the client asks for, and what the server is asked for.
    paths: (&'static str, &'static str),
    /// What the client shows in Authorization.
    credential: Option<&'static str>,
}

impl Forwarding {
    /// A gateway with this route alone.
    fn gateway(&self, behind: &Behind) -> Gateway {
        let keys = self.keys.replace("SERVICE", &behind.service.url());
        start(self.name, &keys, &behind.origin.url())
    }

    fn request(&self, protocol: Protocol, method: &str, body: BoxBody) -> Request<BoxBody> {
        let mut request = request(protocol, method, self.paths.0, body);
        if let Some(credential) = self.credential {
            let credential = HeaderValue::from_static(credential);
            request.headers_mut().insert("authorization", credential);
        }
        request
    }
}

const fn route(name: &'static str, keys: &'static str) -> Forwarding {
    Forwarding {
        name,
        keys,
        paths: ("/a/b?c=d", "/a/b?c=d"),
        credential: None,
    }
}

const fn rewriting(name: &'static str, keys: &'static str, seen: &'static str) -> Forwarding {
    Forwarding {
        name,
        keys,
        paths: ("/a/b?c=d", seen),
        credential: None,
    }
}

/// A route that knows the caller by the token of [`KNOWN`].
const fn knowing(name: &'static str, keys: &'static str, seen: &'static str) -> Forwarding {
    Forwarding {
        name,
        keys,
        paths: (KNOWN, seen),
        credential: None,
    }
}

/// A route that knows the caller by Authorization.
const fn showing(name: &'static str, keys: &'static str, credential: &'static str) -> Forwarding {
    Forwarding {
        name,
        keys,
        paths: ("/a/b?c=d", "/a/b?c=d"),
        credential: Some(credential),
    }
}

/// With a token of the issuer `any`, signed with its secret and good for ever:
/// `{"exp":253402300799,"roles":"reader","sub":"alice"}`.
const KNOWN: &str = "/a/b?c=d&token=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjI1MzQwMjMwMDc5OSwicm9sZXMiOiJyZWFkZXIiLCJzdWIiOiJhbGljZSJ9.YIDIuep2UMgNX_jrjncn7OZnt43KMXuVYkfThNc4-MU";

/// The key of `contract/api-keys.toml`.
const KEY: &str = "ApiKey tgk_yWmK0aSIPn1aY0gBIAglICjVVjIKh5YpG3sEBEKEvxJ3n6VCI";
/// The user of `contract/users.htpasswd`: `alice:secret`.
const USER: &str = "Basic YWxpY2U6c2VjcmV0";
/// What only a service can judge.
const OPAQUE: &str = "Bearer opaque";

const FORWARDING: &[Forwarding] = &[
    route("plain", "upstream = 'ORIGIN'"),
    route("body_limit", "upstream = 'ORIGIN'\nmax_body = '1MiB'"),
    route(
        "no_body_limit",
        "upstream = 'ORIGIN'\nmax_body = 'unlimited'",
    ),
    route(
        "no_timeouts",
        "upstream = 'ORIGIN'\ntimeouts = { response = 'off', idle = 'off', total = 'off' }",
    ),
    route(
        "total_timeout",
        "upstream = 'ORIGIN'\ntimeouts = { total = '1h' }",
    ),
    route("cache", "upstream = 'ORIGIN'\ncache = {}"),
    route(
        "cache_shown",
        "upstream = 'one'\ncache = { show_key = true, query = 'sorted', wait = 'off' }",
    ),
    route("split", "split = { 'ORIGIN' = 1, one = 1 }"),
    route("guarded_upstream", "upstream = 'one'"),
    route(
        "addresses",
        "upstream = 'ORIGIN'\nip = { allow = ['127.0.0.0/8', '::1'], deny = ['192.0.2.0/24'] }",
    ),
    route(
        "origins",
        "upstream = 'ORIGIN'\norigins = ['same-host', 'https://app.test']",
    ),
    route(
        "addresses_in_shadow",
        "upstream = 'ORIGIN'\nip = { deny = ['127.0.0.0/8'], enforce = false }",
    ),
    route("no_upgrades", "upstream = 'ORIGIN'\nupgrade = false"),
    route(
        "conditions",
        "upstream = 'ORIGIN'\nmatch_query = { c = 'd' }\npath = '/{x}/b'",
    ),
    route(
        "more_conditions",
        "upstream = 'ORIGIN'\nhosts = '*.test'\npath = '/A/**'\npath_case = 'insensitive'\n\
         methods = ['GET', 'HEAD', 'POST', 'DELETE', 'OPTIONS']\n\
         match_headers = { x-none = { present = false } }\npriority = 1\nencoded_slash = 'keep'",
    ),
    route(
        "odd_names_kept",
        "upstream = 'ORIGIN'\nodd_header_names = 'keep'",
    ),
    route(
        "overrides_kept",
        "upstream = 'ORIGIN'\noverride_headers = 'keep'",
    ),
    route(
        "grouped",
        "upstream = 'ORIGIN'\ngroup = 'all'\n[groups.all]\nencoded_slash = 'keep'",
    ),
    route(
        "dear",
        "upstream = 'ORIGIN'\nrate_limits = 'many'\ncost = 10\n\
         [rate_limits.many]\nkey = 'client_ip'\nquota = '1000000/1h'",
    ),
    route(
        "limited",
        "upstream = 'ORIGIN'\nrate_limits = ['many', 'callers', 'slots']\n\
         [rate_limits.many]\nkey = 'client_ip'\nquota = ['10000/1s', '1000000/1h']\n\
         [rate_limits.callers]\nkey = 'caller'\nquota = '10000/1s'\ncost_header = 'x-cost'\n\
         [rate_limits.slots]\nkey = 'client_ip'\nquota = 1000\nalgorithm = 'concurrency'",
    ),
    route(
        "authenticated",
        "upstream = 'ORIGIN'\nauth = ['jwt.any', 'anonymous']\n\
         [auth.jwt.any]\nsecret = 'a secret of thirty-two characters'",
    ),
    knowing(
        "known",
        "upstream = 'ORIGIN'\nauth = 'jwt.any'\n\
         [auth.jwt.any]\nsecret = 'a secret of thirty-two characters'\nfrom = 'query:token'",
        KNOWN,
    ),
    knowing(
        "known_and_stripped",
        "upstream = 'ORIGIN'\nauth = 'jwt.any'\nforward_credentials = false\n\
         [auth.jwt.any]\nsecret = 'a secret of thirty-two characters'\nfrom = 'query:token'",
        "/a/b?c=d",
    ),
    knowing(
        "rbac",
        "upstream = 'ORIGIN'\nauth = 'jwt.any'\nroles = ['reader']\n\
         permissions = 'orders:read'\nclaims = { sub = 'alice' }\n\
         rbac = { enforce = true }\nclose_on_token_expiry = true\n\
         [auth.jwt.any]\nsecret = 'a secret of thirty-two characters'\n\
         from = 'query:token'\nroles_claim = 'roles'\n\
         [roles.reader]\npermissions = 'orders:read'",
        KNOWN,
    ),
    showing(
        "api_key",
        "upstream = 'ORIGIN'\nauth = 'api_keys.any'\nroles = ['reader']\n\
         [auth.api_keys.any]\nkeys_file = 'FILES/api-keys.toml'\nfrom = 'header:authorization'",
        KEY,
    ),
    showing(
        "api_key_stripped",
        "upstream = 'ORIGIN'\nauth = ['api_keys.any', 'anonymous']\nforward_credentials = false\n\
         [auth.api_keys.any]\nkeys_file = 'FILES/api-keys.toml'\nfrom = 'header:authorization'",
        KEY,
    ),
    showing(
        "password",
        "upstream = 'ORIGIN'\nauth = 'basic.any'\n\
         [auth.basic.any]\nusers_file = 'FILES/users.htpasswd'",
        USER,
    ),
    showing(
        "password_never_remembered",
        "upstream = 'ORIGIN'\nauth = 'basic.any'\nforward_credentials = false\n\
         [auth.basic.any]\nusers_file = 'FILES/users.htpasswd'\nremember = 'off'",
        USER,
    ),
    showing(
        "external",
        "upstream = 'ORIGIN'\nauth = 'external.any'\n\
         [auth.external.any]\nurl = 'SERVICE/auth'",
        OPAQUE,
    ),
    showing(
        "external_remembered_and_stripped",
        "upstream = 'ORIGIN'\nauth = 'external.any'\nforward_credentials = false\n\
         [auth.external.any]\nurl = 'SERVICE/auth'\nremember = '1h'\n\
         subject_header = 'x-user'\nforward_headers = 'x-user'",
        OPAQUE,
    ),
    route(
        "cors",
        "upstream = 'ORIGIN'\ncors = { origins = 'https://a.test', credentials = true }",
    ),
    route(
        "security_headers",
        "upstream = 'ORIGIN'\nsecurity_headers = 'strict'",
    ),
    route(
        "request_headers",
        "upstream = 'ORIGIN'\nrequest_headers = { remove = ['x-a'], set = { x-b = '${request_id}' } }",
    ),
    route(
        "response_headers",
        "upstream = 'ORIGIN'\nresponse_headers = { add = { x-c = '${route}' } }",
    ),
    route(
        "validation",
        "upstream = 'ORIGIN'\nvalidation = { headers = { x-none = { present = false } }, query = { c = 'd' } }",
    ),
    route(
        "validation_in_shadow",
        "upstream = 'ORIGIN'\nvalidation = { content_types = ['text/plain'], enforce = false }",
    ),
    rewriting(
        "strip",
        "upstream = 'ORIGIN'\nrewrite = { strip_prefix = '/a' }",
        "/b?c=d",
    ),
    rewriting(
        "add",
        "upstream = 'ORIGIN'\nrewrite = { add_prefix = '/x' }",
        "/x/a/b?c=d",
    ),
    rewriting(
        "template",
        "path = '/a/{last}'\nupstream = 'ORIGIN'\nrewrite = { path = '/t/${path.last}' }",
        "/t/b?c=d",
    ),
    rewriting(
        "everything",
        "path = '/a/**'\nupstream = 'one'\nmax_body = '1MiB'\n\
         rewrite = { strip_prefix = '/a', add_prefix = '/x', host = 'other.test' }\n\
         timeouts = { response = '1m', idle = '1m', total = '1m' }\n\
         cors = { origins = '*' }\nsecurity_headers = 'strict'\n\
         request_headers = { set = { x-b = '${request_id}' } }\n\
         response_headers = { remove = ['server'] }\nvalidation = { query = ['c'] }",
        "/x/b?c=d",
    ),
];

/// Routes that answer by themselves, and the status of their answers.
const ANSWERING: &[(&str, &str, u16)] = &[
    ("respond", "respond = { body = 'here' }", 200),
    ("respond_empty", "respond = { status = 204 }", 204),
    (
        "respond_error",
        "respond = { status = 503, body = 'closed' }",
        503,
    ),
    (
        "limited_respond",
        "respond = { body = 'here' }\nrate_limits = ['address', 'slots']\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '1000000/1h'\n\
         [rate_limits.slots]\nkey = 'client_ip'\nquota = 1000\nalgorithm = 'concurrency'",
        200,
    ),
    ("redirect", "redirect = '/elsewhere${query}'", 308),
    (
        "respond_with_fields",
        "respond = { body = 'here' }\ncors = { origins = '*' }\nsecurity_headers = 'strict'\n\
         response_headers = { set = { x-c = '${route}' } }",
        200,
    ),
    (
        "redirect_found",
        "redirect = { to = 'https://a.test/', status = 302 }",
        302,
    ),
];

/// Where the files are that routes name.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/forwarding/contract");

/// Both protocols that a client may speak.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// What stands behind a gateway.
struct Behind {
    origin: Server,
    /// Lets everything pass, as alice.
    service: Server,
}

impl Behind {
    async fn with(origin: Server) -> Self {
        let service = Server::http1(|_| async { answer(200, &[("x-user", "alice")], "") });
        Self {
            origin,
            service: service.await,
        }
    }
}

fn start(name: &str, keys: &str, origin: &str) -> Gateway {
    let keys = keys.replace("ORIGIN", origin).replace("FILES", FILES);
    let named = match keys.contains("one") {
        true => format!("[upstreams.one]\nservers = ['{origin}']\nmax_in_flight = 10\n"),
        false => String::new(),
    };
    Gateway::start(&format!("[routes.{name}]\n{keys}\n{named}"))
}

/// Says everything back, frame by frame, and where it was asked for.
async fn echo(request: Request<Incoming>) -> Response<BoxBody> {
    let target = request.uri().path_and_query().expect("a path").to_string();
    let (head, body) = request.into_parts();
    let mut response = Response::new(body.map_err(std::io::Error::other).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert("x-target", target.parse().expect("a field value"));
    for name in ["trailer", "content-length"] {
        if let Some(value) = head.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    response
}

async fn send(
    gateway: &Gateway,
    protocol: Protocol,
    request: Request<BoxBody>,
) -> Response<Incoming> {
    let answer = match protocol {
        Protocol::Http1 => {
            let mut connection = http1(gateway.address()).await;
            let answer = within(connection.send_request(request)).await;
            // Dropped, it would end the connection behind the answer.
            tokio::spawn(async move {
                let _ = connection.ready().await;
            });
            answer
        }
        Protocol::Http2 => within(http2(gateway.address()).await.send_request(request)).await,
    };
    answer.expect("an answer")
}

fn request(protocol: Protocol, method: &str, path: &str, body: BoxBody) -> Request<BoxBody> {
    let builder = match protocol {
        Protocol::Http1 => Request::builder().uri(path).header("host", "gateway.test"),
        Protocol::Http2 => Request::builder().uri(format!("http://gateway.test{path}")),
    };
    let builder = builder.method(method).header("te", "trailers");
    builder.body(body).expect("a request")
}

async fn ask(gateway: &Gateway, protocol: Protocol, request: Request<BoxBody>) -> Sent {
    read(send(gateway, protocol, request).await).await
}

/// The one line and the one count that a request makes.
async fn accounted_for(gateway: &Gateway, route: &str, count: usize, status: u16) -> Value {
    let lines = gateway.log_lines(count).await;
    let line = lines.last().expect("a line").clone();
    assert_eq!(
        (&line["route"], &line["status"]),
        (&route.into(), &status.into()),
        "{line:#}"
    );
    let labels = [format!("route=\"{route}\""), format!("status=\"{status}\"")];
    let labels = labels.each_ref().map(String::as_str);
    let metric = |name| gateway.metric(name, &labels[..1]);
    assert_eq!(
        gateway.metric("tollgate_requests_total", &labels),
        count as f64
    );
    assert_eq!(
        metric("tollgate_request_duration_seconds_count"),
        count as f64
    );
    assert_eq!(metric("tollgate_requests_in_flight"), 0.0);
    line
}

/// Every kind of client with every kind of upstream, for each forwarding route.
async fn for_each_forwarding<F, Fut>(check: F)
where
    F: Fn(Gateway, &'static Forwarding, Protocol) -> Fut,
    Fut: Future<Output = ()>,
{
    for origin in [Server::http1(echo).await, Server::h2c(echo).await] {
        let behind = Behind::with(origin).await;
        for case in FORWARDING {
            for protocol in PROTOCOLS {
                eprintln!("{protocol:?} to {} over {}", case.name, behind.origin.url());
                check(case.gateway(&behind), case, protocol).await;
            }
        }
    }
}

#[test]
fn every_key_of_a_route_is_held_against_the_contract() {
    let text = tollgate::config::reference();
    let (_, table) = text.split_once("### `[routes.NAME]`\n").expect("a table");
    let (table, _) = table.split_once("\n### ").expect("more tables");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let known: Vec<_> = rows.filter_map(|row| row.split('`').next()).collect();
    assert!(known.contains(&"upstream"), "{table}");
    let forwarding = FORWARDING.iter().map(|case| case.keys);
    let cases = forwarding.chain(ANSWERING.iter().map(|(_, keys, _)| *keys));
    // The route's own keys stand in front of other tables.
    let lines = cases.flat_map(|keys| keys.lines().take_while(|line| !line.starts_with('[')));
    let tried: Vec<_> = lines
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .collect();
    let untried = known.iter().filter(|key| !tried.contains(*key));
    let untried: Vec<_> = untried.collect();
    assert!(untried.is_empty(), "no case has {untried:?}");
}

#[tokio::test]
async fn bodies_pass_untouched_both_ways() {
    let bytes: Bytes = (0..300_000_u32).map(|index| (index % 251) as u8).collect();
    for_each_forwarding(async |gateway: Gateway, case: &Forwarding, protocol| {
        let request = case.request(protocol, "POST", body(bytes.clone()));
        let sent = ask(&gateway, protocol, request).await;
        assert_eq!(sent.status(), 200);
        assert_eq!(sent.header("x-target"), Some(case.paths.1));
        assert_eq!(sent.header("content-length"), Some("300000"));
        assert!(sent.body == bytes, "another body came back");
        let line = accounted_for(&gateway, case.name, 1, 200).await;
        assert_eq!(
            (&line["bytes_in"], &line["bytes_out"]),
            (&300_000.into(), &300_000.into())
        );
        let labels = [&*format!("route=\"{}\"", case.name)];
        let counted = |name| gateway.metric(name, &labels);
        assert_eq!(counted("tollgate_request_body_bytes_total"), 300_000.0);
        assert_eq!(counted("tollgate_response_body_bytes_total"), 300_000.0);
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    for_each_forwarding(async |gateway: Gateway, case: &Forwarding, protocol| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("17"));
        let frames = [
            Frame::data(Bytes::from_static(b"data")),
            Frame::trailers(trailers.clone()),
        ];
        let frames = futures_util::stream::iter(frames.map(Ok));
        let body = StreamBody::new(frames).boxed_unsync();
        let mut request = case.request(protocol, "POST", body);
        request
            .headers_mut()
            .insert("trailer", HeaderValue::from_static("x-sum"));
        let sent = ask(&gateway, protocol, request).await;
        assert_eq!(sent.body, "data");
        assert_eq!(sent.trailers, Some(trailers));
        accounted_for(&gateway, case.name, 1, 200).await;
    })
    .await;
}

#[tokio::test]
async fn streams_pass_frame_by_frame_both_ways() {
    for_each_forwarding(async |gateway: Gateway, case: &Forwarding, protocol| {
        let (feed, streamed) = chunks();
        let push = async |text: &'static str| {
            let frame = Frame::data(Bytes::from_static(text.as_bytes()));
            within(feed.send(Ok(frame))).await.expect("it is taken");
        };
        push("first").await;
        let request = case.request(protocol, "POST", streamed);
        let answer = send(&gateway, protocol, request);
        let mut answer = answer.await;
        let mut next = async || {
            let frame = within(answer.body_mut().frame()).await.expect("a frame");
            frame.expect("no error").into_data().expect("data")
        };
        assert_eq!(next().await, "first");
        // What comes back has come before the rest was sent: nothing waits for a whole body.
        push("second").await;
        assert_eq!(next().await, "second");
        push("third").await;
        assert_eq!(next().await, "third");
        assert_eq!(gateway.log().len(), 0, "it has not ended");
        let in_flight = gateway.metric("tollgate_requests_in_flight", &[case.name]);
        assert_eq!(in_flight, 1.0);
        drop(feed);
        assert_eq!(read(answer).await.body, "", "nothing is left");
        accounted_for(&gateway, case.name, 1, 200).await;
    })
    .await;
}

#[tokio::test]
async fn requests_without_bodies_pass_and_each_makes_its_own_line() {
    for_each_forwarding(async |gateway: Gateway, case: &Forwarding, protocol| {
        for (count, method) in ["GET", "HEAD", "DELETE", "OPTIONS"].into_iter().enumerate() {
            let request = case.request(protocol, method, empty());
            let sent = ask(&gateway, protocol, request).await;
            assert_eq!((sent.status(), &*sent.body), (200, &b""[..]), "{method}");
            assert_eq!(sent.header("x-target"), Some(case.paths.1));
            let line = accounted_for(&gateway, case.name, count + 1, 200).await;
            assert_eq!(line["method"], method);
            assert!(line["complete"].is_null(), "{line:#}");
            assert_eq!(
                line["request_id"],
                sent.header("x-request-id").expect("an id")
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_is_one_line_and_the_server_learns_of_it() {
    let (left, mut seen) = tokio::sync::mpsc::unbounded_channel::<()>();
    // Dropped with the server's future or body, when the gateway gives up.
    let held = move |_: Request<Incoming>| {
        let left = left.clone();
        async move {
            let frames = futures_util::stream::poll_fn(move |_| {
                let _held = &left;
                std::task::Poll::Pending::<Option<std::io::Result<Frame<Bytes>>>>
            });
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
    };
    let behind = Behind::with(Server::http1(held).await).await;
    let cases = FORWARDING
        .iter()
        .flat_map(|case| PROTOCOLS.map(|protocol| (case, protocol)));
    // Each waits for a while until the gateway has noticed: several at once, as many as descriptors
    // suffice for.
    futures_util::stream::iter(cases)
        .for_each_concurrent(16, |(case, protocol)| leave(case, protocol, &behind))
        .await;
    drop(behind);
    assert_eq!(within(seen.recv()).await, None, "every stream was dropped");
}

/// A client that has the head of an answer which never ends leaves.
async fn leave(case: &Forwarding, protocol: Protocol, behind: &Behind) {
    let gateway = case.gateway(behind);
    let request = case.request(protocol, "GET", empty());
    let answer = match protocol {
        Protocol::Http1 => {
            let mut connection = http1(gateway.address()).await;
            within(connection.send_request(request)).await
        }
        Protocol::Http2 => within(http2(gateway.address()).await.send_request(request)).await,
    };
    drop(answer.expect("a head"));
    let line = accounted_for(&gateway, case.name, 1, 200).await;
    assert_eq!(
        line["reason"], "client.gone",
        "{} {protocol:?} {line:#}",
        case.name
    );
    assert_eq!(line["complete"], false);
    let open = || gateway.metric("tollgate_upstream_connections_open", &[]);
    eventually(|| open() == 0.0).await;
}

#[tokio::test]
async fn answers_of_the_gateway_make_one_line_and_read_no_body() {
    for (name, keys, status) in ANSWERING {
        for protocol in PROTOCOLS {
            let gateway = start(name, keys, "");
            let mut count = 0;
            for (method, sending) in [("GET", empty()), ("HEAD", empty()), ("POST", full("small"))]
            {
                let sent = ask(
                    &gateway,
                    protocol,
                    request(protocol, method, "/a?b", sending),
                )
                .await;
                count += 1;
                assert_eq!(sent.status(), *status, "{name} {method} {protocol:?}");
                if method == "HEAD" {
                    assert_eq!(sent.body, "");
                }
                let line = accounted_for(&gateway, name, count, *status).await;
                assert_eq!(line["method"], method);
                assert_eq!(line["bytes_out"], sent.body.len());
                assert!(
                    line["complete"].is_null() && line["reason"].is_null(),
                    "{line:#}"
                );
            }
        }
    }
}

/// RFC 9110 9.3.2: a client of HTTP/2 takes a body behind its HEAD for a broken stream.
#[tokio::test]
async fn head_gets_no_body_of_the_gateway_whichever_answer_it_is() {
    let gateway = start("respond", "path = '/here'\nrespond = { body = 'here' }", "");
    for protocol in PROTOCOLS {
        for (path, status, length) in [("/here", 200, Some("4")), ("/nowhere", 404, None)] {
            let sent = ask(&gateway, protocol, request(protocol, "HEAD", path, empty())).await;
            assert_eq!(
                (sent.status(), &*sent.body),
                (status, &b""[..]),
                "{protocol:?}"
            );
            let told = sent
                .header("content-length")
                .expect("that of the answer to GET");
            assert_eq!(told, length.unwrap_or(told));
        }
    }
}

#[tokio::test]
async fn a_refusal_of_a_middleware_is_one_line_with_its_reason() {
    let behind = Behind::with(Server::http1(echo).await).await;
    let limited = FORWARDING
        .iter()
        .filter(|case| case.keys.contains("max_body = '1MiB'"));
    for case in limited {
        for protocol in PROTOCOLS {
            let gateway = case.gateway(&behind);
            let large = case.request(protocol, "POST", body(vec![0; (1 << 20) + 1]));
            let sent = ask(&gateway, protocol, large).await;
            assert_eq!(
                (sent.status(), &*sent.reason()),
                (413, "request.body_too_large")
            );
            let line = accounted_for(&gateway, case.name, 1, 413).await;
            assert_eq!(line["reason"], "request.body_too_large");
            let labels = ["request.body_too_large", case.name];
            assert_eq!(gateway.metric("tollgate_rejections_total", &labels), 1.0);
        }
    }
}

#[tokio::test]
async fn a_request_over_a_limit_is_one_line_with_its_reason() {
    let keys = "respond = {}\nrate_limits = ['few']\n\
         [rate_limits.few]\nkey = 'client_ip'\nquota = '1/1h'";
    for protocol in PROTOCOLS {
        let gateway = start("few", keys, "");
        let get = || request(protocol, "GET", "/", empty());
        assert_eq!(ask(&gateway, protocol, get()).await.status(), 200);
        let sent = ask(&gateway, protocol, get()).await;
        assert_eq!((sent.status(), &*sent.reason()), (429, "limit.exceeded"));
        let line = gateway.log_lines(2).await.remove(1);
        assert_eq!(
            (&line["reason"], &line["limit"]),
            (&"limit.exceeded".into(), &"few".into())
        );
        let labels = ["limit.exceeded", "few"];
        assert_eq!(gateway.metric("tollgate_rejections_total", &labels), 1.0);
    }
}
