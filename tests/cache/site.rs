//! An origin that counts, and a gateway with a cache in front of it.

// Test files are crates of their own: nothing in them is public.
#![allow(unreachable_pub)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tollgate::exchange::Clock;

pub use crate::support::{answer, numbered};
use crate::{
    origin::{Counting, Seen, purge},
    support::{BoxBody, Gateway, Raw, Sent, Server, empty, eventually, http1, http2, read, within},
};

/// An origin and a gateway with a cache, whose clock stands still but for what it is moved.
pub struct Site {
    pub gateway: Gateway,
    pub clock: Clock,
    pub origin: Server,
    /// The origin answers as long as there are permits; there are many unless a test takes them.
    pub gate: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Site {
    /// A route with these keys in its `cache` table, to an origin that answers so. The closure gets
    /// the number of the request, from 1.
    pub async fn start<F>(rule: &str, answer: F) -> Self
    where
        F: Fn(usize, Seen) -> Response<BoxBody> + Clone + Send + 'static,
    {
        let route = format!("[routes.site]\nupstream = 'ORIGIN'\n[routes.site.cache]\n{rule}\n");
        Self::configured(&route, answer).await
    }

    /// The same with all of the configuration; `ORIGIN` stands for the origin's URL.
    pub async fn configured<F>(text: &str, answer: F) -> Self
    where
        F: Fn(usize, Seen) -> Response<BoxBody> + Clone + Send + 'static,
    {
        let clock = Clock::movable();
        let Counting { server, gate, seen } = Counting::start(&clock, answer).await;
        let gateway = Gateway::start_at(&text.replace("ORIGIN", &server.url()), clock.clone());
        Self {
            gateway,
            clock,
            origin: server,
            gate,
            seen,
        }
    }

    /// What these come to when all of them, so many, are under way before the origin answers any.
    pub async fn meeting<T>(&self, requests: usize, asking: impl Future<Output = T>) -> T {
        self.gate.forget_permits(1_000_000);
        let opening = async {
            let name = "tollgate_requests_in_flight";
            eventually(|| self.gateway.metric(name, &[]) == requests as f64).await;
            self.gate.add_permits(1_000_000);
        };
        let (answers, ()) = tokio::join!(asking, opening);
        answers
    }

    /// An origin whose answers all have these fields, and their number as the body.
    pub async fn with(rule: &str, fields: &'static [(&'static str, &'static str)]) -> Self {
        Self::start(rule, move |count, _| numbered(count, fields)).await
    }

    /// Requests that reached the origin.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    pub fn count(&self) -> usize {
        self.seen().len()
    }

    pub fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub async fn get(&self, path: &str) -> Sent {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Sent {
        self.send("GET", path, fields, empty()).await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: BoxBody,
    ) -> Sent {
        let request = request(method, path, fields, body);
        let mut connection = http1(self.gateway.address()).await;
        read(
            within(connection.send_request(request))
                .await
                .expect("an answer"),
        )
        .await
    }

    /// GET over HTTP/2.
    pub async fn get_http2(&self, path: &str) -> Sent {
        self.get_http2_with(path, &[]).await
    }

    /// The same with these fields.
    pub async fn get_http2_with(&self, path: &str, fields: &[(&str, &str)]) -> Sent {
        let mut request = Request::get(format!("http://a.test{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(empty());
        let mut connection = http2(self.gateway.address()).await;
        let answer = connection.send_request(request.expect("a request"));
        read(within(answer).await.expect("an answer")).await
    }

    /// The bodies of several requests for a path, one after another.
    pub async fn bodies(&self, path: &str, times: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..times {
            let sent = self.get(path).await;
            bodies.push(String::from_utf8_lossy(&sent.body).into_owned());
        }
        bodies
    }

    /// The last line of the access log, once there are so many: what the cache did and why.
    pub async fn logged(&self, lines: usize) -> (String, String) {
        self.gateway.cache_logged(lines).await
    }

    /// Asks the admin listener to purge.
    pub async fn purge(&self, body: &str) -> Sent {
        purge(&self.gateway, body).await
    }
}

/// Changes so many URLs below `/w` of another host, none twice, over four connections as fast as they go.
pub async fn change_elsewhere(gateway: &Gateway, urls: usize) {
    const CONNECTIONS: usize = 4;
    let clients = (0..CONNECTIONS).map(|turn| async move {
        let mut client = Raw::connect(gateway.address()).await;
        for number in (turn..urls).step_by(CONNECTIONS) {
            let request = format!("POST /w?{number} HTTP/1.1\r\nHost: other.test\r\n");
            client.send(request + "Content-Length: 0\r\n\r\n").await;
            assert_eq!(client.answer_to("POST").await.status, 204);
        }
    });
    join_all(clients).await;
}

pub fn request(
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: BoxBody,
) -> Request<BoxBody> {
    let mut request = Request::builder().method(method).uri(path);
    if !fields
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request = request.header("host", "a.test");
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body).expect("a request")
}
