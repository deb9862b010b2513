//! Three nodes, on which a URL's keys and the log of purges live apart.

use super::fleet::{Fleet, numbered};
use crate::support::{RedisCluster, within};

#[tokio::test]
async fn in_a_cluster_answers_are_shared_and_purged() {
    let cluster = RedisCluster::start().await;
    let text = "[routes.site]\nupstream = 'ORIGIN'\n[routes.site.cache]\nstore = 'redis'\n";
    let fields = [
        ("cache-control", "max-age=600"),
        ("vary", "accept"),
        ("x-cache-tags", "one"),
    ];
    let fleet = Fleet::at(cluster.urls(), 2, text, move |count, _| {
        numbered(count, &fields)
    })
    .await;
    // Their keys are on all nodes.
    let paths: Vec<_> = (0..12).map(|path| format!("/{path}")).collect();
    let mut bodies = Vec::new();
    for path in &paths {
        bodies.push(fleet.fill(0, path).await);
    }
    for (path, body) in paths.iter().zip(&bodies) {
        assert_eq!(fleet.body(1, path).await, *body);
    }
    assert_eq!(fleet.count(), 12);
    fleet.purge(0, r#"{"url": "http://a.test/3"}"#).await;
    within(async { while fleet.body(1, "/3").await == bodies[3] {} }).await;
    assert_eq!(fleet.body(1, "/4").await, bodies[4]);
    fleet.purge(1, r#"{"tag": "one"}"#).await;
    for (path, body) in paths.iter().zip(&bodies) {
        within(async { while fleet.body(0, path).await == *body {} }).await;
    }
    for gateway in &fleet.gateways {
        assert_eq!(gateway.metric("tollgate_redis_errors_total", &[]), 0.0);
    }
}
