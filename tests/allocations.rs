//! How often a request allocates. The figures are today's: a change that costs more has to change
//! them here, on purpose.
//!
//! One test in a file of its own, because the counter is the process's. The client and the server
//! around the gateway allocate nothing while it counts.

use std::{
    alloc::System,
    hint::black_box,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use futures_util::FutureExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tollgate::{
    config::{Address, Config, KeysFrom},
    exchange::{
        Body, BoxFuture, Clock, Connection, Context, ContextParts, Handle, Peer, Protocol, Request,
        RequestHead, RequestId, Response, RouteService, TraceContext,
    },
    gateway::Gateway,
    pipeline::auth::{
        jwt::{JwtMethod, keys::Fixed},
        method::{Method, Verdict},
    },
    telemetry::Metrics,
};
use tower::Layer;

/// An allocator is a static.
#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_request_allocates_no_more_than_it_did() {
    a_layer_costs_one_allocation();
    a_foreign_layer_costs_two();
    a_remembered_token_costs_none();
    a_proxied_request();
    middlewares_that_a_route_does_not_use_cost_nothing();
    a_request_that_the_gateway_answers();
    a_hit();
}

/// The end of a stack.
struct Leaf;

impl Handle for Leaf {
    fn handle(&self, _: Request, _: &Arc<Context>) -> BoxFuture<Response> {
        Box::pin(async { Response::new(Body::empty()) })
    }
}

/// A layer that has something to do before and after.
struct Around;

struct Inside(RouteService);

impl Layer<RouteService> for Around {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(Inside(inner))
    }
}

impl Handle for Inside {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let (inner, context) = (self.0.clone(), Arc::clone(context));
        Box::pin(async move { black_box(inner.handle(black_box(request), &context).await) })
    }
}

fn a_layer_costs_one_allocation() {
    for layers in [0, 3, 5, 8] {
        let mut service = RouteService::new(Leaf);
        for _ in 0..layers {
            service = service.layer(&Around);
        }
        assert_eq!(
            allocations_of(&service),
            layers + 1,
            "{layers} layers and the end"
        );
    }
}

/// One for the erased future, one for tower's call of the boxed service inside; the outermost also
/// puts the context into the request's extensions, which takes three.
fn a_foreign_layer_costs_two() {
    let mut service = RouteService::new(Leaf);
    for layers in 0..=3 {
        assert_eq!(
            allocations_of(&service),
            2 * layers + 1 + if layers > 0 { 3 } else { 0 },
            "{layers} foreign layers"
        );
        let layer = tower::util::MapResponseLayer::new(black_box::<Response>);
        service = RouteService::foreign(layer.layer(service));
    }
}

fn allocations_of(service: &RouteService) -> usize {
    let request = Request::new(Body::empty());
    let context = context();
    let region = Region::new(COUNTED);
    let answer = service.handle(request, &context).now_or_never();
    let made = made(&region);
    assert!(answer.is_some(), "nothing here waits");
    made
}

/// A token that was verified before: the caller is known by a look-up.
fn a_remembered_token_costs_none() {
    let secret = "a secret of thirty-two characters";
    let text = format!(
        "[routes.all]\nrespond = {{}}\nauth = 'jwt.a'\n[auth.jwt.a]\nsecret = '{secret}'\n"
    );
    let config = Config::parse("test.toml", &text)
        .expect("it is valid")
        .config;
    let config = &config.auth.jwt["jwt.a"];
    let KeysFrom::Fixed(keys) = config.keys.clone() else {
        panic!("the key stands in the configuration");
    };
    let method = JwtMethod::with(config, Arc::new(Fixed(keys)), None, &Metrics::new());
    let claims = serde_json::json!({ "sub": "alice", "exp": 9_999_999_999_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    let request = http::Request::get("/")
        .header(
            "authorization",
            format!("Bearer {}", token.expect("a token")),
        )
        .body(Body::empty())
        .expect("a request");
    let context = context();
    let check = || method.check(&request, &context);
    assert!(matches!(check(), Verdict::Granted(_)));
    let region = Region::new(COUNTED);
    let verdict = black_box(check());
    assert_eq!(made(&region), 0);
    assert!(matches!(verdict, Verdict::Granted(_)));
}

fn context() -> Arc<Context> {
    let peer = Peer::Unix;
    let connection = Connection::new(0, "test".into(), peer, false, Protocol::Http1);
    Arc::new(Context::new(ContextParts {
        connection: Arc::new(connection),
        id: RequestId::generate(std::time::SystemTime::now()),
        trace: TraceContext::generate(),
        client: peer.ip(),
        forwarded_for: None,
        scheme: "http",
        forwarded_host: None,
        head: RequestHead::default(),
        clock: Clock::system(),
        started_at: std::time::SystemTime::now(),
    }))
}

fn made(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.allocations + change.reallocations
}

/// GET over keep-alive HTTP/1.1 to a server's keep-alive connection, 1 KiB back, access log on.
fn a_proxied_request() {
    let origin = origin();
    let route = format!("[routes.all]\nupstream = \"http://{origin}\"\n");
    let measured = per_request(&route);
    eprintln!("a proxied request: {measured}");
    assert!(
        measured <= PROXIED + SLACK,
        "{measured}, which was {PROXIED}"
    );
}

/// The same request, where another route uses what there is.
fn middlewares_that_a_route_does_not_use_cost_nothing() {
    let url = format!("http://{}", origin());
    let measured = per_request(&format!(
        "[routes.all]\nupstream = \"{url}\"\nauth = \"public\"\n\
         [routes.guarded]\npath = \"/guarded/**\"\nupstream = \"{url}\"\n{USED}"
    ));
    eprintln!("a proxied request beside a guarded route: {measured}");
    assert!(
        measured <= PROXIED + SLACK,
        "{measured}, which is {PROXIED} without the other route"
    );
}

fn a_request_that_the_gateway_answers() {
    let body = "x".repeat(BODY);
    let route = format!("[routes.all]\nrespond = {{ body = \"{body}\" }}\n");
    let measured = per_request(&route);
    eprintln!("an answer of the gateway: {measured}");
    assert!(
        measured <= ANSWERED + SLACK,
        "{measured}, which was {ANSWERED}"
    );
}

/// The same answer of 1 KiB out of the cache.
fn a_hit() {
    let origin = origin();
    let route = format!(
        "[routes.all]\nupstream = \"http://{origin}\"\ncache = {{ override_ttl = \"1h\" }}\n"
    );
    let measured = per_request(&route);
    eprintln!("a hit: {measured}");
    assert!(measured <= HIT + SLACK, "{measured}, which was {HIT}");
}

/// Allocations per request of a gateway with one worker, once everything is warm.
fn per_request(route: &str) -> f64 {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = directory.path().join("access.log");
    let text = format!(
        "[server]\nworkers = 1\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[log.access]\nfile = \"{}\"\n{route}",
        log.display()
    );
    let config = Config::parse("test.toml", &text).unwrap_or_else(|findings| panic!("{findings}"));
    let gateway = Gateway::start(config.config, None, None).expect("it starts");
    let Address::Tcp(address) = gateway.addresses()[0] else {
        panic!("it listens on TCP")
    };
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_nodelay(true).expect("a TCP socket");
    ask(&mut client, WARM);
    let region = Region::new(COUNTED);
    ask(&mut client, COUNT);
    made(&region) as f64 / COUNT as f64
}

/// Asks one after another.
fn ask(client: &mut TcpStream, times: usize) {
    let mut buffer = [0; 8 << 10];
    for _ in 0..times {
        client.write_all(REQUEST).expect("it is open");
        let mut length = 0;
        while !is_answer(&buffer[..length]) {
            let read = client.read(&mut buffer[length..]).expect("it is open");
            assert!(read > 0, "it closed");
            length += read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"));
    }
}

/// Whether an answer is whole: a head and [`BODY`] bytes.
fn is_answer(bytes: &[u8]) -> bool {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
    head.is_some_and(|end| bytes.len() == end + 4 + BODY)
}

/// A server for one connection, with 1 KiB for every head.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n";
        let answer = [&head[..], &[b'x'; BODY]].concat();
        let mut buffer = [0; 8 << 10];
        let mut length = 0;
        // A request has no body, so it ends where its head does.
        while let Ok(read @ 1..) = stream.read(&mut buffer[length..]) {
            length += read;
            if buffer[..length].ends_with(b"\r\n\r\n") {
                length = 0;
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        }
    });
    address
}

const REQUEST: &[u8] = b"GET /items/7?page=2 HTTP/1.1\r\nHost: gateway.test\r\n\
    User-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
/// The rest of a route that uses a middleware of each kind, and their tables.
const USED: &str = r#"
auth = "jwt.customers"
rate_limits = ["few"]
cache = "kept"
cors = "web"
security_headers = "strict"
request_headers = { set = { x-user = "${principal}" } }
validation = { content_types = ["application/json"] }
ip = { allow = ["127.0.0.0/8"] }
[auth.jwt.customers]
secret = "a secret of thirty-two characters"
[rate_limits.few]
key = "client_ip"
quota = "100/1m"
[cache_rules.kept]
scope = "principal"
default_ttl = "1m"
[cors.web]
origins = ["https://app.example.com"]
"#;
const BODY: usize = 1024;
/// Until buffers have their size and every metric its handle.
const WARM: usize = 200;
const COUNT: usize = 1_000;
/// Measured.
const PROXIED: f64 = 10.0;
const ANSWERED: f64 = 11.0;
const HIT: f64 = 12.0;
/// For the threads that do something now and then: the log's writer, the sweep of the pools.
const SLACK: f64 = 0.25;
