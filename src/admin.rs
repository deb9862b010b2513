//! Health, readiness, metrics, state and reload, on a listener of its own.
//!
//! It runs on the control runtime and so answers while the workers are saturated. It is small on
//! purpose: HTTP/1.1, a match on method and path, whole answers.
//!
//! Hazards: whoever reaches this listener can read the gateway's insides and reload it. Beyond
//! loopback a token is needed (the configuration sees to it); on loopback without a token a web
//! page in the operator's browser is kept out.

mod answer;
mod endpoint;
mod guard;
mod keys;
mod limits;
mod page;
mod purge;
mod readiness;
mod server;
mod state;

pub use limits::{LimitKey, LimitKeys, LimitListing, LimitReset, LimitState, LimitWindow};
pub use purge::{
    CacheResult, CacheRouteState, CacheState, Purge, PurgeAim, Reach, SecondTierState,
};
pub use readiness::{Check, CheckStatus, Readiness, ReadinessStatus, ServerStatus};
pub use server::serve;
pub use state::{Build, ListenerState, RouteState, ServerState, State, UpstreamState, WorkerState};

use crate::exchange::{BoxFuture, KeyState};

/// What the admin listener asks of the gateway; the composition root answers.
pub trait Gateway: Send + Sync + 'static {
    /// Whether the gateway should get requests, and why not.
    fn ready(&self) -> Readiness;

    /// Everything that can be told about the running gateway.
    fn state(&self) -> State;

    /// The API keys of all methods, and when each was used last.
    fn keys(&self) -> Vec<KeyState>;

    /// The metrics in the text format of Prometheus.
    fn metrics(&self) -> String;

    /// The rate limits.
    fn limits(&self) -> Vec<LimitState>;

    /// The busiest keys of a limit, some more than `most` at most.
    fn limit_keys(&self, limit: &str, most: usize) -> BoxFuture<LimitListing>;

    /// How a key of a limit stands; `None` when it is not known.
    fn limit_key(&self, limit: &str, key: &str) -> BoxFuture<Option<LimitKey>>;

    /// Forgets what a key of a limit has used.
    fn reset_limit_key(&self, limit: &str, key: &str) -> BoxFuture<LimitReset>;

    /// What the cache holds; `None` when no route has one.
    fn cache(&self) -> Option<CacheState>;

    /// Purges, and says how far that reaches; `None` when no route has a cache.
    fn purge(&self, purge: &Purge) -> Option<Reach>;

    /// Reloads the configuration; on failure the diagnostics, and the old one stays.
    ///
    /// The future is run to its end even if the client that asked leaves.
    fn reload(&self) -> BoxFuture<Result<(), String>>;
}

#[cfg(test)]
mod tests;
