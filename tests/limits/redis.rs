//! What gateways share over Redis, with a real `redis-server` of each test's own.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod away;
mod cluster;
mod config;
mod failover;
mod limits;
mod listing;
mod places;
mod purges;
mod revocation;
mod tls;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::support::{Answer, Gateway, Raw, within};

/// A gateway that answers itself, under one limit.
fn limited(url: &str, limit: &str) -> Gateway {
    limited_by(
        url,
        &format!("[rate_limits.one]\nkey = 'client_ip'\nstore = 'redis'\n{limit}"),
        "['one']",
    )
}

fn limited_by(url: &str, tables: &str, limits: &str) -> Gateway {
    Gateway::start(&format!(
        "[redis]\nurl = {url}\n[routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = {limits}\n{tables}",
        url = match url.starts_with(['[', '\'']) {
            true => url.to_owned(),
            false => format!("'{url}'"),
        },
    ))
}

async fn get(gateway: &Gateway) -> Answer {
    Raw::ask(gateway.address(), GET).await
}

/// Asks as whom a header field names.
async fn get_as(gateway: &Gateway, who: &str) -> Answer {
    let request =
        format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX-Who: {who}\r\n\r\n");
    Raw::ask(gateway.address(), request).await
}

/// How many requests came to which status.
type Counts = BTreeMap<u16, u32>;

/// Sends requests over so many connections to each address at once; every one is answered.
async fn storm(places: &[SocketAddr], connections: usize, each: usize) -> Counts {
    let mut clients = JoinSet::new();
    for &place in places {
        for _ in 0..connections {
            clients.spawn(async move {
                let mut client = Raw::connect(place).await;
                let mut statuses = Vec::new();
                for _ in 0..each {
                    client.send(GET).await;
                    statuses.push(client.answer().await.status);
                }
                statuses
            });
        }
    }
    let statuses = clients.join_all().await;
    let mut counts = Counts::new();
    for status in statuses.into_iter().flatten() {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// A load that goes on in the background until it is told to stop.
struct Storm {
    stop: Arc<AtomicBool>,
    client: tokio::task::JoinHandle<(Counts, Duration)>,
}

impl Storm {
    fn over(place: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let client = tokio::spawn(async move {
            let mut client = Raw::connect(place).await;
            let (mut counts, mut slowest) = (Counts::new(), Duration::ZERO);
            while !stopped.load(Relaxed) {
                let began = Instant::now();
                client.send(GET).await;
                let status = client.answer().await.status;
                slowest = slowest.max(began.elapsed());
                *counts.entry(status).or_default() += 1;
            }
            (counts, slowest)
        });
        Self { stop, client }
    }

    /// What came of it, and how long the slowest took.
    async fn end(self) -> (Counts, Duration) {
        self.stop.store(true, Relaxed);
        within(self.client).await.expect("no request fails")
    }
}

fn degraded(gateway: &Gateway) -> f64 {
    gateway.metric("tollgate_rate_limit_decisions_total", &["degraded"])
}

fn is_open(gateway: &Gateway) -> bool {
    gateway.metric("tollgate_redis_breaker_open", &[]) > 0.0
}

/// Asks until Redis decides again; how long that took.
async fn recovery(gateway: &Gateway) -> Duration {
    let began = Instant::now();
    within(async {
        loop {
            let before = degraded(gateway);
            get(gateway).await;
            if degraded(gateway) == before && !is_open(gateway) {
                return began.elapsed();
            }
        }
    })
    .await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
