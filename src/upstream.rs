//! The far side: servers, their health, their connections, and the exchange with one of them.
//!
//! ```text
//! Forward > balance > in-flight limit > pool > connect > send > answer
//! ```
//!
//! Connections are hyper's own `client::conn`, spawned on the worker whose request opened them.
//! Idle ones wait in a list per server and worker, so a request never crosses threads; the pools
//! outlive a reload.

mod attempt;
mod balance;
mod body;
mod connect;
mod failure;
mod forward;
mod head;
mod health;
mod meter;
mod name;
mod pool;
mod registry;
mod server;
mod tunnel;
mod upload;

pub use forward::{Forward, ForwardOptions, Via};
pub use health::watch;
pub use registry::{Registry, UpstreamGroup};
pub use server::{Health, Server};
