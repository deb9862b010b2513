//! The response cache over real sockets: what is served again, to whom, and what never is;
//! and what several gateways share.

mod callers;
mod coalescing;
mod crowds;
mod hits;
mod origin;
mod poisoning;
mod purges;
mod second_tier;
mod site;
mod stale;
mod storing;
mod whose;

#[path = "../support/mod.rs"]
mod support;
