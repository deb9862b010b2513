//! A cluster of real Redis servers.

use std::process::{Command, Stdio};

use super::{RedisServer, eventually};

/// Three nodes of one cluster.
pub struct RedisCluster(pub Vec<RedisServer>);

impl RedisCluster {
    /// Starts it, and waits until it is whole.
    pub async fn start() -> Self {
        Self::with_replicas(0).await
    }

    /// The same with so many replicas of each node.
    pub async fn with_replicas(replicas: usize) -> Self {
        // A replica is not made to wait for others.
        let with = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let with = [&with[..], &["--repl-diskless-sync-delay", "0"]].concat();
        let nodes: Vec<_> = (0..3 * (1 + replicas))
            .map(|_| RedisServer::with(&with))
            .collect();
        let ports: Vec<_> = nodes.iter().map(RedisServer::port).collect();
        let replicas = replicas.to_string();
        Self::joined(nodes, &ports, &["--cluster-replicas", &replicas]).await
    }

    /// Makes these nodes one cluster, by the ports at which they know each other, and waits until it is whole.
    pub async fn joined(nodes: Vec<RedisServer>, ports: &[u16], how: &[&str]) -> Self {
        let places = ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(places)
            .args(how)
            .arg("--cluster-yes")
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("redis-cli is installed").success());
        let whole = |node: &RedisServer| node.run("CLUSTER INFO").contains("cluster_state:ok");
        eventually(|| nodes.iter().all(whole)).await;
        Self(nodes)
    }

    /// One more node, which knows the others and has no keys.
    pub async fn another(&self) -> RedisServer {
        let node = RedisServer::with(&["--cluster-enabled", "yes"]);
        let met = node.run(&format!("CLUSTER MEET 127.0.0.1 {}", self.0[0].port()));
        assert!(met.starts_with("+OK"), "{met}");
        let id = node.run("CLUSTER MYID");
        let id = id.lines().nth(1).expect("it has one").to_owned();
        let knows_us = |other: &RedisServer| other.run("CLUSTER NODES").contains(&id);
        let is_whole = || node.run("CLUSTER INFO").contains("cluster_state:ok");
        eventually(|| is_whole() && self.0.iter().all(knows_us)).await;
        node
    }

    /// Its URLs, as the configuration has them.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self
            .0
            .iter()
            .map(|node| format!("'{}'", node.url()))
            .collect();
        format!("[{}]", urls.join(", "))
    }
}
