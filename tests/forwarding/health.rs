//! Active health checks take a dying server out and bring it back.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU16, Ordering::SeqCst},
};

use http::{Request, StatusCode, header::HOST};
use hyper::body::Incoming;
use serde_json::Value;

use crate::support::{Gateway, Raw, Server, eventually, reply};

async fn named(name: &'static str) -> Server {
    Server::http1(move |_| async move { reply(name) }).await
}

fn checked(servers: &[&Server]) -> Gateway {
    checked_with(servers, "timeout = \"100ms\"")
}

fn checked_with(servers: &[&Server], settings: &str) -> Gateway {
    let urls: Vec<_> = servers.iter().map(|server| server.url()).collect();
    Gateway::start(&format!(
        "[upstreams.u]\nservers = {urls:?}\n[upstreams.u.health_check]\npath = \"/health\"\n\
         interval = \"100ms\"\nrise = 1\nfall = 1\n{settings}\n[routes.all]\nupstream = \"u\""
    ))
}

fn healthy(gateway: &Gateway) -> f64 {
    gateway.metric("tollgate_upstream_server_healthy", &["upstream=\"u\""])
}

async fn ready(gateway: &Gateway) -> (u16, Value) {
    let request = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = Raw::ask(gateway.admin(), request).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_dying_server_is_left_out_and_comes_back() {
    let (one, two) = (named("one").await, named("two").await);
    let gateway = checked(&[&one, &two]);
    let address = two.address();
    two.stop().await;
    eventually(|| healthy(&gateway) == 1.0).await;
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..10 {
        client.send(crate::GET).await;
        assert_eq!(client.answer().await.text(), "one");
    }
    // Half of them are well, so the gateway is ready, and tells.
    let (status, detail) = ready(&gateway).await;
    assert_eq!(status, 200, "{detail:#}");
    assert!(detail.to_string().contains("unhealthy"), "{detail:#}");
    let _two = Server::http1_at(address, |_| async { reply("two again") }).await;
    eventually(|| healthy(&gateway) == 2.0).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        client.send(crate::GET).await;
        seen.push(client.answer().await.text().to_owned());
    }
    seen.sort_unstable();
    assert_eq!(seen, ["one", "two again"]);
}

/// The only server goes, and another one comes where it was.
async fn goes_and_comes_back<Fut: Future<Output = Server>>(
    server: Server,
    another: impl FnOnce() -> Fut,
) {
    let gateway = checked(&[&server]);
    let ask = || Raw::ask(gateway.address(), crate::GET);
    assert_eq!(ask().await.text(), "one");
    server.stop().await;
    eventually(|| healthy(&gateway) == 0.0).await;
    let refusal = (503, "upstream.no_healthy_server".to_owned());
    assert_eq!(ask().await.refusal(), refusal);
    let _another = another().await;
    eventually(|| healthy(&gateway) == 1.0).await;
    assert_eq!(ask().await.text(), "another");
}

#[tokio::test]
async fn a_server_of_http_2_is_checked_in_its_own_protocol() {
    let server = Server::h2c(|_| async { reply("one") }).await;
    let address = server.address();
    let another = || Server::h2c_at(address, |_| async { reply("another") });
    goes_and_comes_back(server, another).await;
}

#[tokio::test]
async fn a_server_on_a_unix_socket_is_checked_there() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = Server::unix(folder.path(), |_| async { reply("one") });
    let another = || async {
        // The name of the socket stays when its server has gone.
        let left = std::fs::read_dir(folder.path()).expect("it is there");
        for entry in left {
            std::fs::remove_file(entry.expect("an entry").path()).expect("it is ours");
        }
        Server::unix(folder.path(), |_| async { reply("another") })
    };
    goes_and_comes_back(server, another).await;
}

#[tokio::test]
async fn an_upstream_without_a_healthy_server_is_unavailable_and_not_ready() {
    let only = Server::http1(|request| async move {
        let mut answer = reply("sick");
        if request.uri().path() == "/health" {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        answer
    })
    .await;
    let gateway = checked(&[&only]);
    eventually(|| healthy(&gateway) == 0.0).await;
    let answer = Raw::ask(gateway.address(), crate::GET).await;
    assert_eq!(
        answer.refusal(),
        (503, "upstream.no_healthy_server".to_owned())
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(ready(&gateway).await.0, 503);
}

/// Serves well, and never answers a check.
async fn hangs_at_its_check() -> Server {
    Server::http1(|request| async move {
        match request.uri().path() {
            "/health" => std::future::pending().await,
            _ => reply("ok"),
        }
    })
    .await
}

#[tokio::test]
async fn a_server_that_hangs_at_its_check_is_left_out() {
    let (one, hanging) = (named("one").await, hangs_at_its_check().await);
    let gateway = checked(&[&one, &hanging]);
    eventually(|| healthy(&gateway) == 1.0).await;
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..10 {
        client.send(crate::GET).await;
        assert_eq!(client.answer().await.text(), "one");
    }
}

/// The host that a request names: in its target over HTTP/2, in its `Host` over HTTP/1.1.
fn host(request: &Request<Incoming>) -> String {
    let authority = request.uri().authority().map(ToString::to_string);
    authority.unwrap_or_else(|| {
        let host = request.headers()[HOST].to_str();
        host.expect("text").to_owned()
    })
}

#[tokio::test]
async fn a_check_names_its_host_and_takes_a_redirect_for_well() {
    let status = Arc::new(AtomicU16::new(404));
    let hosts = Arc::new(Mutex::new(Vec::new()));
    let (answered, seen) = (Arc::clone(&status), Arc::clone(&hosts));
    let handler = move |request: Request<Incoming>| {
        seen.lock().expect("no panic").push(host(&request));
        let status = StatusCode::from_u16(answered.load(SeqCst)).expect("a status");
        async move {
            let mut answer = reply("");
            *answer.status_mut() = status;
            answer
        }
    };
    for server in [
        Server::http1(handler.clone()).await,
        Server::h2c(handler).await,
    ] {
        status.store(404, SeqCst);
        let gateway = checked_with(&[&server], "host = \"h.test\"");
        eventually(|| healthy(&gateway) == 0.0).await;
        status.store(302, SeqCst);
        eventually(|| healthy(&gateway) == 1.0).await;
        let hosts = std::mem::take(&mut *hosts.lock().expect("no panic"));
        let named_so = hosts.iter().all(|host| host == "h.test");
        assert!(named_so && !hosts.is_empty(), "{hosts:?}");
    }
}

#[tokio::test]
async fn a_server_is_used_before_its_first_check() {
    let only = hangs_at_its_check().await;
    let url = only.url();
    let gateway = Gateway::start(&format!(
        "[upstreams.u]\nservers = [\"{url}\"]\n[upstreams.u.health_check]\ntimeout = \"5s\"\n\
         path = \"/health\"\n[routes.all]\nupstream = \"u\""
    ));
    assert_eq!(Raw::ask(gateway.address(), crate::GET).await.text(), "ok");
}
