use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    config::{Admin, Secret},
    exchange::{BoxFuture, KeyState},
};

/// A gateway of which a test says how it is.
struct Scripted {
    ready: Mutex<Readiness>,
    routes: Vec<&'static str>,
    reload: Result<(), String>,
    reloads: AtomicUsize,
    /// A reload waits for this, when there is one.
    gate: Option<Arc<Notify>>,
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            ready: Mutex::new(Readiness::new(false, BTreeMap::new())),
            routes: vec!["orders", "items"],
            reload: Ok(()),
            reloads: AtomicUsize::new(0),
            gate: None,
        }
    }
}

/// What a spawned reload needs.
struct Reloading(Arc<Scripted>);

impl Gateway for Reloading {
    fn ready(&self) -> Readiness {
        self.0.ready.lock().unwrap().clone()
    }

    fn limits(&self) -> Vec<LimitState> {
        Vec::new()
    }

    fn limit_keys(&self, _: &str, _: usize) -> BoxFuture<LimitListing> {
        Box::pin(async { LimitListing::Unknown })
    }

    fn limit_key(&self, _: &str, _: &str) -> BoxFuture<Option<LimitKey>> {
        Box::pin(async { None })
    }

    fn reset_limit_key(&self, _: &str, _: &str) -> BoxFuture<LimitReset> {
        Box::pin(async { LimitReset::Unknown })
    }

    fn state(&self) -> State {
        let route = |name: &&str| RouteState {
            name: (*name).to_owned(),
            hosts: Vec::new(),
            paths: vec!["/**".to_owned()],
            methods: None,
            target: "upstream orders".to_owned(),
            group: None,
            sources: BTreeMap::new(),
            in_flight: 0,
        };
        State {
            build: Build::default(),
            generation: 3,
            uptime_seconds: 1.5,
            draining: false,
            connections: 0,
            listeners: Vec::new(),
            workers: Vec::new(),
            routes: self.0.routes.iter().map(route).collect(),
            upstreams: Vec::new(),
        }
    }

    fn keys(&self) -> Vec<KeyState> {
        let key = |id: &&str| KeyState {
            name: format!("api_keys.partners:{id}"),
            id: (*id).to_owned(),
            roles: Vec::new(),
            created: None,
            not_before: None,
            expires: None,
            revoked: false,
            last_used: None,
        };
        self.0.routes.iter().map(key).collect()
    }

    fn metrics(&self) -> String {
        assert!(!self.0.routes.is_empty(), "a bug");
        "tollgate_uptime_seconds 1\n".to_owned()
    }

    fn cache(&self) -> Option<CacheState> {
        None
    }

    fn purge(&self, _: &Purge) -> Option<Reach> {
        None
    }

    fn reload(&self) -> BoxFuture<Result<(), String>> {
        let scripted = Arc::clone(&self.0);
        Box::pin(async move {
            if let Some(gate) = &scripted.gate {
                gate.notified().await;
            }
            scripted.reloads.fetch_add(1, Ordering::SeqCst);
            scripted.reload.clone()
        })
    }
}

struct Running {
    address: SocketAddr,
    scripted: Arc<Scripted>,
    token: Option<&'static str>,
    shutdown: DropGuard,
}

fn start(scripted: Scripted, token: Option<&'static str>) -> Running {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Admin {
        listen: Some(address),
        token: token.map(Secret::new),
    };
    let scripted = Arc::new(scripted);
    let gateway = Arc::new(Reloading(Arc::clone(&scripted)));
    let stop = CancellationToken::new();
    let shutdown = stop.clone().drop_guard();
    tokio::spawn(async move { serve(listener, &config, gateway, stop).await.unwrap() });
    Running {
        address,
        scripted,
        token,
        shutdown,
    }
}

/// An answer, read from the socket.
#[derive(Debug)]
struct Raw {
    status: u16,
    head: String,
    body: String,
}

impl Raw {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn reason(&self) -> String {
        self.json()["error"]["reason"].as_str().unwrap().to_owned()
    }
}

impl Running {
    async fn send(&self, text: &str) -> Raw {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Raw {
            status: head[9..12].parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    async fn ask(&self, method: &str, path: &str, fields: &str) -> Raw {
        let authorization = match self.token {
            Some(token) if !fields.contains("anonymous") => {
                format!("authorization: Bearer {token}\r\n")
            }
            _ => String::new(),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        self.send(&format!("{head}{authorization}{fields}\r\n"))
            .await
    }

    async fn get(&self, path: &str) -> Raw {
        self.ask("GET", path, "").await
    }
}

const ANONYMOUS: &str = "x-anonymous: 1\r\n";

fn unready() -> Readiness {
    let servers = BTreeMap::from([("http://10.0.0.1".to_owned(), ServerStatus::Unhealthy)]);
    let check = Check::of_servers(true, servers);
    Readiness::new(
        false,
        BTreeMap::from([("upstream.orders".to_owned(), check)]),
    )
}

#[tokio::test]
async fn the_process_is_alive_whatever_its_upstreams_do() {
    let admin = start(Scripted::default(), None);
    *admin.scripted.ready.lock().unwrap() = unready();
    let answer = admin.get("/health").await;
    assert_eq!((answer.status, &*answer.body), (200, r#"{"status":"ok"}"#));
}

#[tokio::test]
async fn readiness_tells_which_check_fails() {
    let admin = start(Scripted::default(), None);
    assert_eq!(admin.get("/health/ready").await.status, 200);
    *admin.scripted.ready.lock().unwrap() = unready();
    let answer = admin.get("/health/ready").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["status"], "unavailable");
    let check = &answer.json()["checks"]["upstream.orders"];
    assert_eq!(check["status"], "unavailable");
    assert_eq!(check["servers"]["http://10.0.0.1"], "unhealthy");
}

#[tokio::test]
async fn a_draining_gateway_is_not_ready() {
    let admin = start(Scripted::default(), None);
    *admin.scripted.ready.lock().unwrap() = Readiness::new(true, BTreeMap::new());
    let answer = admin.get("/health/ready").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["status"], "draining");
}

#[tokio::test]
async fn metrics_are_plain_text() {
    let admin = start(Scripted::default(), None);
    let answer = admin.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
    assert_eq!(answer.body, "tollgate_uptime_seconds 1\n");
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let admin = start(Scripted::default(), None);
    let answer = admin.ask("HEAD", "/health", "").await;
    assert_eq!((answer.status, &*answer.body), (200, ""));
}

#[tokio::test]
async fn the_state_is_data_in_the_envelope() {
    let admin = start(Scripted::default(), None);
    let state = admin.get("/api/state").await.json();
    assert_eq!(state["success"], true);
    assert_eq!(state["data"]["generation"], 3);
    assert_eq!(state["data"]["routes"][0]["name"], "orders");
    assert_eq!(state["data"]["build"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn lists_are_walked_page_by_page() {
    let scripted = Scripted {
        routes: vec!["d", "a", "c", "e", "b"],
        ..Scripted::default()
    };
    let admin = start(scripted, None);
    let (mut names, mut path) = (Vec::new(), "/api/routes?limit=2".to_owned());
    loop {
        let page = admin.get(&path).await.json();
        assert_eq!(page["meta"]["total"], 5);
        let items = page["data"].as_array().unwrap().clone();
        names.extend(
            items
                .iter()
                .map(|item| item["name"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["meta"]["cursor"].as_str() else {
            break;
        };
        path = format!("/api/routes?limit=2&cursor={cursor}");
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn lists_are_filtered_by_a_part_of_the_name() {
    let admin = start(Scripted::default(), None);
    let page = admin.get("/api/routes?name=%6frd").await.json();
    assert_eq!(page["meta"]["total"], 1);
    assert_eq!(page["data"][0]["name"], "orders");
    assert_eq!(page["meta"]["cursor"], Value::Null);
}

#[tokio::test]
async fn keys_are_a_list_like_others() {
    let admin = start(Scripted::default(), None);
    let page = admin.get("/api/keys?limit=1").await.json();
    assert_eq!(page["meta"]["total"], 2);
    assert_eq!(page["meta"]["cursor"], "api_keys.partners:items");
    assert_eq!(page["data"][0]["id"], "items");
}

#[tokio::test]
async fn a_wrong_query_is_refused() {
    let admin = start(Scripted::default(), None);
    for query in ["limit=0", "limit=1001", "limit=x", "name=%ff", "colour=red"] {
        let answer = admin.get(&format!("/api/routes?{query}")).await;
        assert_eq!(
            (answer.status, &*answer.reason()),
            (400, "admin.query_invalid"),
            "{query}"
        );
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let admin = start(Scripted::default(), None);
    let answer = admin.get("/api/nothing").await;
    assert_eq!((answer.status, &*answer.reason()), (404, "admin.not_found"));
    let answer = admin.get("/api/reload").await;
    assert_eq!(
        (answer.status, &*answer.reason()),
        (405, "admin.method_not_allowed")
    );
    assert!(answer.head.contains("allow: post"));
    let answer = admin.ask("DELETE", "/health", "").await;
    assert!(answer.head.contains("allow: get, head"));
}

#[tokio::test]
async fn a_reload_that_works_says_so() {
    let admin = start(Scripted::default(), None);
    let answer = admin.ask("POST", "/api/reload", "").await;
    assert_eq!(
        (answer.status, &answer.json()["success"]),
        (200, &Value::Bool(true))
    );
    assert_eq!(admin.scripted.reloads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_reload_that_fails_returns_the_diagnostics() {
    let scripted = Scripted {
        reload: Err("gateway.toml:3:1: unknown key".to_owned()),
        ..Scripted::default()
    };
    let answer = start(scripted, None).ask("POST", "/api/reload", "").await;
    assert_eq!((answer.status, &*answer.reason()), (422, "config.invalid"));
    let details = &answer.json()["error"]["details"];
    assert_eq!(details["diagnostics"], "gateway.toml:3:1: unknown key");
}

#[tokio::test]
async fn a_reload_goes_on_when_its_client_leaves() {
    let gate = Arc::new(Notify::new());
    let scripted = Scripted {
        gate: Some(Arc::clone(&gate)),
        ..Scripted::default()
    };
    let admin = start(scripted, None);
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    let text = "POST /api/reload HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(text.as_bytes()).await.unwrap();
    // An answer on another connection: the reload's request has been read by then.
    admin.get("/health").await;
    drop(stream);
    admin.get("/health").await;
    gate.notify_one();
    while admin.scripted.reloads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn only_health_is_open_without_the_token() {
    let admin = start(Scripted::default(), Some("s3cret"));
    for path in ["/metrics", "/api/state", "/api/routes", "/nothing"] {
        let answer = admin.ask("GET", path, ANONYMOUS).await;
        assert_eq!(
            (answer.status, &*answer.reason()),
            (401, "admin.unauthorized"),
            "{path}"
        );
        assert!(answer.head.contains("www-authenticate: bearer"));
    }
    assert_eq!(
        admin.ask("POST", "/api/reload", ANONYMOUS).await.status,
        401
    );
    assert_eq!(admin.scripted.reloads.load(Ordering::SeqCst), 0);
    assert_eq!(admin.ask("GET", "/health", ANONYMOUS).await.status, 200);
    assert_eq!(admin.get("/metrics").await.status, 200);
    assert_eq!(admin.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn the_servers_are_shown_only_to_who_has_the_token() {
    let admin = start(Scripted::default(), Some("s3cret"));
    *admin.scripted.ready.lock().unwrap() = unready();
    let open = admin.ask("GET", "/health/ready", ANONYMOUS).await;
    assert_eq!(open.status, 503);
    assert!(!open.body.contains("10.0.0.1"), "{}", open.body);
    assert!(admin.get("/health/ready").await.body.contains("10.0.0.1"));
}

#[tokio::test]
async fn a_web_page_can_not_reach_a_listener_without_a_token() {
    let admin = start(Scripted::default(), None);
    let rebound = "GET /api/state HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    let answer = admin.send(rebound).await;
    assert_eq!(
        (answer.status, &*answer.reason()),
        (403, "admin.host_refused")
    );
    let origin = "origin: http://evil.example\r\n";
    let answer = admin.ask("POST", "/api/reload", origin).await;
    assert_eq!(
        (answer.status, &*answer.reason()),
        (403, "admin.origin_refused")
    );
    assert_eq!(admin.scripted.reloads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_large_body_is_refused_unread() {
    let admin = start(Scripted::default(), None);
    let answer = admin
        .ask("POST", "/api/reload", "content-length: 65537\r\n")
        .await;
    assert_eq!(
        (answer.status, &*answer.reason()),
        (413, "admin.body_too_large")
    );
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let scripted = Scripted {
        routes: Vec::new(),
        ..Scripted::default()
    };
    let admin = start(scripted, None);
    let answer = admin.get("/metrics").await;
    assert_eq!((answer.status, &*answer.reason()), (500, "admin.internal"));
    assert_eq!(admin.get("/health").await.status, 200);
}

#[tokio::test]
async fn refusals_have_the_envelope_and_an_id() {
    let admin = start(Scripted::default(), None);
    let refusal = admin.get("/nothing").await.json();
    assert_eq!(refusal["success"], false);
    assert_eq!(refusal["error"]["code"], "NOT_FOUND");
    assert_eq!(refusal["request_id"].as_str().unwrap().len(), 36);
}

#[tokio::test]
async fn a_shutdown_ends_idle_connections() {
    let admin = start(Scripted::default(), None);
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    let text = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    idle.write_all(text.as_bytes()).await.unwrap();
    let mut some = [0; 16];
    idle.read_exact(&mut some).await.unwrap();
    drop(admin.shutdown);
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    let refused = TcpStream::connect(admin.address).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_their_turn() {
    let admin = start(Scripted::default(), None);
    let mut holders = Vec::new();
    for _ in 0..server::MOST_CONNECTIONS {
        holders.push(TcpStream::connect(admin.address).await.unwrap());
    }
    let next = admin.get("/health");
    tokio::pin!(next);
    let early = tokio::time::timeout(Duration::from_millis(50), next.as_mut()).await;
    assert!(early.is_err(), "the cap did not hold");
    holders.clear();
    assert_eq!(next.await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_asks_nothing_is_closed() {
    let admin = start(Scripted::default(), None);
    let begun = tokio::time::Instant::now();
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
}
