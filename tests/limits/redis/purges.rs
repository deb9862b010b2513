//! Purges that reach the memory of every gateway.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::support::{Gateway, Raw, RedisCluster, RedisServer, Server, eventually, reply, within};

/// Gateways with caches of their own in front of one origin, whose answers count its requests.
struct Caches {
    gateways: Vec<Gateway>,
    _origin: Server,
}

impl Caches {
    async fn start(redis: &str, gateways: usize) -> Self {
        Self::over(&format!("'{redis}'"), gateways).await
    }

    /// The same over one address or several, as the configuration has them.
    async fn over(urls: &str, gateways: usize) -> Self {
        let count = Arc::<AtomicUsize>::default();
        let origin = Server::http1(move |_| {
            let number = count.fetch_add(1, Relaxed);
            async move {
                let mut answer = reply(number.to_string());
                let headers = answer.headers_mut();
                headers.insert("cache-control", "max-age=600".parse().unwrap());
                headers.insert("x-cache-tags", "one".parse().unwrap());
                answer
            }
        })
        .await;
        let text = format!(
            "[redis]\nurl = {urls}\n[cache]\nshare_purges = true\n\
             [routes.all]\nupstream = '{}'\ncache = {{}}",
            origin.url()
        );
        let start = |_| Gateway::start(&text);
        let caches = Self {
            gateways: (0..gateways).map(start).collect(),
            _origin: origin,
        };
        caches.joined().await;
        caches
    }

    /// Waits until all listen: joining is a purge.
    async fn joined(&self) {
        for gateway in &self.gateways {
            eventually(|| gateway.metric("tollgate_cache_purges_total", &[]) >= 1.0).await;
        }
    }

    async fn bodies(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        for gateway in &self.gateways {
            bodies.push(body(gateway).await);
        }
        bodies
    }

    /// Waits until none of them serves what it has served before.
    async fn forgotten(&self, before: &[String]) {
        for (gateway, before) in self.gateways.iter().zip(before) {
            within(async { while body(gateway).await == *before {} }).await;
        }
        // What came since is served again: at once, or when a purge that waited for Redis has reached
        // those who had joined before it.
        let settled = async { while self.bodies().await != self.bodies().await {} };
        within(settled).await;
    }
}

async fn body(gateway: &Gateway) -> String {
    let request = "GET /a?b HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    Raw::ask(gateway.address(), request).await.text().to_owned()
}

async fn purge(gateway: &Gateway, purge: &str) {
    let request = format!(
        "POST /api/cache/purges HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{purge}",
        purge.len()
    );
    let answer = Raw::ask(gateway.admin(), request).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn a_purge_of_each_kind_reaches_all_gateways() {
    let redis = RedisServer::start();
    let caches = Caches::start(&redis.url(), 3).await;
    for (turn, kind) in [
        r#"{"url": "http://a.test/a?b"}"#,
        r#"{"prefix": "/a"}"#,
        r#"{"prefix": "http://a.test/"}"#,
        r#"{"host": "a.test"}"#,
        r#"{"route": "all"}"#,
        r#"{"tag": "one"}"#,
        r#"{"everything": true}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let before = caches.bodies().await;
        assert_eq!(before, caches.bodies().await, "each serves its own again");
        purge(&caches.gateways[turn % 3], kind).await;
        caches.forgotten(&before).await;
    }
    let before = caches.bodies().await;
    purge(&caches.gateways[0], r#"{"tag": "other"}"#).await;
    purge(&caches.gateways[0], r#"{"host": "b.test"}"#).await;
    eventually(|| caches.gateways[2].metric("tollgate_cache_purges_total", &[]) >= 10.0).await;
    assert_eq!(before, caches.bodies().await, "others are not reached");
}

#[tokio::test]
async fn a_gateway_that_was_cut_off_forgets_everything_when_it_is_back() {
    let mut redis = RedisServer::start();
    let caches = Caches::start(&redis.url(), 3).await;
    let mut before = caches.bodies().await;
    redis.kill();
    assert_eq!(before, caches.bodies().await, "without Redis each goes on");
    purge(&caches.gateways[0], r#"{"everything": true}"#).await;
    let first = body(&caches.gateways[0]).await;
    assert_ne!(first, before[0], "here it is done at once");
    assert_eq!(body(&caches.gateways[1]).await, before[1]);
    // It was cut off too: what it has fetched since goes when it is back.
    before[0] = first;
    redis.restart();
    caches.forgotten(&before).await;
}

#[tokio::test]
async fn foreign_messages_purge_nothing() {
    let redis = RedisServer::start();
    let caches = Caches::start(&redis.url(), 1).await;
    let before = caches.bodies().await;
    for message in ["x", "{}", "[]", "{\\\"version\\\":\\\"1\\\"}"] {
        assert_eq!(
            redis.run(&format!("PUBLISH tollgate:purges \"{message}\"")),
            ":1\r\n+OK\r\n"
        );
    }
    assert_eq!(before, caches.bodies().await);
}

#[tokio::test]
async fn purges_reach_all_when_the_nodes_that_the_configuration_names_have_left_the_cluster() {
    let cluster = RedisCluster::start().await;
    let mut named = [cluster.another().await, cluster.another().await];
    let urls = format!("['{}', '{}']", named[0].url(), named[1].url());
    let caches = Caches::over(&urls, 2).await;
    named.iter_mut().for_each(RedisServer::kill);
    for gateway in &caches.gateways {
        let before = caches.bodies().await;
        purge(gateway, r#"{"host": "a.test"}"#).await;
        caches.forgotten(&before).await;
    }
}
