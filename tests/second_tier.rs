//! Answers that several gateways share in Redis, with a real `redis-server` of each test's own.

#[path = "second_tier/away.rs"]
mod away;
#[path = "second_tier/callers.rs"]
mod callers;
#[path = "second_tier/cluster.rs"]
mod cluster;
#[path = "second_tier/config.rs"]
mod config;
#[path = "second_tier/fleet.rs"]
mod fleet;
#[path = "second_tier/hits.rs"]
mod hits;
#[path = "second_tier/purges.rs"]
mod purges;
#[path = "second_tier/stampede.rs"]
mod stampede;
#[path = "second_tier/values.rs"]
mod values;
#[path = "support/whose.rs"]
mod whose;

mod support;
