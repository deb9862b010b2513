//! Answers that several gateways share in Redis, with a real `redis-server` of each test's own.

mod away;
mod callers;
mod cluster;
mod config;
mod fleet;
mod hits;
mod purges;
mod stampede;
mod values;
