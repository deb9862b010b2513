//! Three nodes on loopback.

use super::{Counts, degraded, limited_by, storm};
use crate::support::{Gateway, RedisCluster};

#[tokio::test]
async fn a_cluster_counts_each_key_on_its_node() {
    let cluster = RedisCluster::start().await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
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
