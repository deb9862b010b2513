//! Three nodes on loopback.

use std::process::{Command, Stdio};

use super::{Counts, degraded, limited_by, storm};
use crate::support::{Gateway, RedisServer, eventually};

fn cluster() -> Vec<RedisServer> {
    let nodes: Vec<_> = (0..3)
        .map(|_| RedisServer::with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]))
        .collect();
    let places = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port()));
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(places)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("redis-cli is installed").success());
    nodes
}

#[tokio::test]
async fn a_cluster_counts_each_key_on_its_node() {
    let nodes = cluster();
    let whole = |node: &RedisServer| node.run("CLUSTER INFO").contains("cluster_state:ok");
    eventually(|| nodes.iter().all(whole)).await;
    let urls: Vec<_> = nodes
        .iter()
        .map(|node| format!("'{}'", node.url()))
        .collect();
    let urls = format!("[{}]\ntimeout = '2s'", urls.join(", "));
    let tables = "[rate_limits.all]\nkey = 'route'\nquota = '400/1d'\nstore = 'redis'\n\
                  [rate_limits.one]\nkey = 'client_ip'\nquota = '100/1d'\nstore = 'redis'\n\
                  [rate_limits.wide]\nkey = 'client_ip'\nquota = '500/1d'\nstore = 'redis'";
    let start = || limited_by(&urls, tables, "['all', 'one', 'wide']");
    let gateways = [start(), start()];
    let places: Vec<_> = gateways.iter().map(Gateway::address).collect();
    let counts = storm(&places, 5, 30).await;
    assert_eq!(counts, Counts::from([(200, 100), (429, 200)]));
    assert_eq!(gateways.iter().map(degraded).sum::<f64>(), 0.0);
}
