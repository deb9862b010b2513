//! Gateways with caches of their own and one Redis, in front of an origin that counts.

// Test files are crates of their own: nothing in them is public.
#![allow(unreachable_pub)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use tokio::sync::Semaphore;
use tollgate::exchange::Clock;

pub use crate::support::{answer, numbered};
use crate::{
    origin::{Counting, Seen, purge},
    site::request,
    support::{
        BoxBody, Gateway, RedisServer, Sent, Server, empty, eventually, http1, read, within,
    },
};

/// Gateways whose clocks are one, which stands still but for what it is moved.
pub struct Fleet {
    pub gateways: Vec<Gateway>,
    pub clock: Clock,
    pub redis: RedisServer,
    /// The origin answers as long as there are permits; there are many unless a test takes them.
    pub gate: Arc<Semaphore>,
    text: String,
    /// Whether the Redis is another than `redis`.
    is_cluster: bool,
    seen: Arc<Mutex<Vec<Seen>>>,
    _origin: Server,
}

impl Fleet {
    /// So many gateways with a route that has these keys in its `cache` table; the closure answers,
    /// and gets the number of the request, from 1.
    pub async fn start<F>(gateways: usize, rule: &str, answer: F) -> Self
    where
        F: Fn(usize, Seen) -> Response<BoxBody> + Clone + Send + 'static,
    {
        let route = format!("[routes.site]\nupstream = 'ORIGIN'\n[routes.site.cache]\n{rule}\n");
        Self::over(RedisServer::start(), gateways, &route, answer).await
    }

    /// The same over a Redis, with all of the configuration; `ORIGIN` stands for the origin's URL.
    pub async fn over<F>(redis: RedisServer, gateways: usize, text: &str, answer: F) -> Self
    where
        F: Fn(usize, Seen) -> Response<BoxBody> + Clone + Send + 'static,
    {
        Self::made((redis, None), gateways, text, answer).await
    }

    /// The same over the Redis of these URLs.
    pub async fn at<F>(urls: String, gateways: usize, text: &str, answer: F) -> Self
    where
        F: Fn(usize, Seen) -> Response<BoxBody> + Clone + Send + 'static,
    {
        Self::made((RedisServer::start(), Some(urls)), gateways, text, answer).await
    }

    async fn made<F>(
        (redis, urls): (RedisServer, Option<String>),
        gateways: usize,
        text: &str,
        answer: F,
    ) -> Self
    where
        F: Fn(usize, Seen) -> Response<BoxBody> + Clone + Send + 'static,
    {
        let clock = Clock::movable();
        let Counting { server, gate, seen } = Counting::start(&clock, answer).await;
        let is_cluster = urls.is_some();
        let url = urls.unwrap_or_else(|| format!("'{}'", redis.url()));
        let text = format!(
            "[redis]\nurl = {url}\ntimeout = '5s'\n{}",
            text.replace("ORIGIN", &server.url())
        );
        let mut fleet = Self {
            gateways: Vec::new(),
            clock,
            redis,
            gate,
            text,
            is_cluster,
            seen,
            _origin: server,
        };
        for _ in 0..gateways {
            fleet.join();
        }
        // Others hear of no purge.
        if fleet.text.contains("store = ") {
            fleet.joined().await;
        }
        fleet
    }

    /// One gateway more.
    pub fn join(&mut self) {
        let gateway = Gateway::start_at(&self.text, self.clock.clone());
        self.gateways.push(gateway);
    }

    /// The configuration of each gateway.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Waits until all hear of purges, which joining is itself, and have read the log of those before.
    pub async fn joined(&self) {
        self.purged(1.0).await;
        if !self.is_cluster {
            eventually(|| self.redis.calls("lrange") >= self.gateways.len() as u64).await;
        }
    }

    /// Waits until all have heard of so many purges.
    pub async fn purged(&self, purges: f64) {
        for gateway in &self.gateways {
            eventually(|| gateway.metric("tollgate_cache_purges_total", &[]) >= purges).await;
        }
    }

    /// An origin whose answers all have these fields, and their number as the body.
    pub async fn with(
        gateways: usize,
        rule: &str,
        fields: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self::start(gateways, rule, move |count, _| numbered(count, fields)).await
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

    pub async fn get(&self, gateway: usize, path: &str) -> Sent {
        self.get_with(gateway, path, &[]).await
    }

    pub async fn get_with(&self, gateway: usize, path: &str, fields: &[(&str, &str)]) -> Sent {
        self.send(gateway, "GET", path, fields).await
    }

    pub async fn send(
        &self,
        gateway: usize,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Sent {
        let request = request(method, path, fields, empty());
        let mut connection = http1(self.gateways[gateway].address()).await;
        let answer = within(connection.send_request(request)).await;
        read(answer.expect("an answer")).await
    }

    pub async fn body(&self, gateway: usize, path: &str) -> String {
        text(&self.get(gateway, path).await)
    }

    /// Asks one gateway's admin listener to purge.
    pub async fn purge(&self, gateway: usize, body: &str) -> Sent {
        let sent = purge(&self.gateways[gateway], body).await;
        assert_eq!(sent.status(), 200, "{sent:?}");
        sent
    }

    /// What one gateway's admin listener tells.
    pub async fn admin(&self, gateway: usize, path: &str) -> serde_json::Value {
        let request = Request::get(path).header("host", "localhost").body(empty());
        let mut connection = http1(self.gateways[gateway].admin()).await;
        let answer = connection.send_request(request.expect("a request"));
        let sent = read(within(answer).await.expect("an answer")).await;
        serde_json::from_slice(&sent.body).expect("JSON")
    }

    /// Answers that a gateway has stored in Redis.
    pub fn stored(&self, gateway: usize) -> f64 {
        let name = "tollgate_cache_redis_stores_total";
        self.gateways[gateway].metric(name, &["\"stored\""])
    }

    /// Looks into Redis with a result.
    pub fn looked(&self, gateway: usize, result: &str) -> f64 {
        let name = "tollgate_cache_redis_lookups_total";
        let label = format!("\"{result}\"");
        self.gateways[gateway].metric(name, &[&label])
    }

    /// Has a gateway fetch an answer, and waits until Redis has it.
    pub async fn fill(&self, gateway: usize, path: &str) -> String {
        let before = self.stored(gateway);
        let body = self.body(gateway, path).await;
        eventually(|| self.stored(gateway) > before).await;
        body
    }

    /// The keys in Redis that match.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let answer = self.redis.run(&format!("KEYS {pattern}"));
        let lines = answer.lines().filter(|line| line.starts_with("tollgate:"));
        lines.map(str::to_owned).collect()
    }

    /// The keys of answers.
    pub fn answers(&self) -> Vec<String> {
        let mut keys = self.keys("tollgate:cache:*");
        keys.retain(|key| !key.ends_with(":guard") && !key.ends_with(":turn"));
        keys
    }

    /// The last line of a gateway's access log, once there are so many: what the cache did and why.
    pub async fn logged(&self, gateway: usize, lines: usize) -> (String, String) {
        self.gateways[gateway].cache_logged(lines).await
    }
}

pub fn text(sent: &Sent) -> String {
    String::from_utf8_lossy(&sent.body).into_owned()
}

pub const BOTH: &str = "store = ['memory', 'redis']";
pub const REDIS: &str = "store = 'redis'";
