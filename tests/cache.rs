//! The response cache over real sockets: what is served again, to whom, and what never is.

#[path = "cache/callers.rs"]
mod callers;
#[path = "cache/coalescing.rs"]
mod coalescing;
#[path = "cache/hits.rs"]
mod hits;
#[path = "cache/poisoning.rs"]
mod poisoning;
#[path = "cache/purges.rs"]
mod purges;
#[path = "cache/site.rs"]
mod site;
#[path = "cache/stale.rs"]
mod stale;
#[path = "cache/storing.rs"]
mod storing;
#[path = "support/whose.rs"]
mod whose;

mod support;
