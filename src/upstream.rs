//! The far side: servers, their health, their connections, and the exchange with one of them.
//!
//! ```text
//! Forward > balance > in-flight limit > pool > connect > send > answer
//! ```
//!
//! A request drives its own HTTP/1.1 connection; those of HTTP/2, which many share, are hyper's and
//! spawned on the worker whose request opened them. Idle ones wait in a list per server and worker, so
//! a request never crosses threads; the pools outlive a reload.

mod attempt;
mod balance;
mod body;
mod connect;
mod counted;
mod failure;
mod forward;
mod head;
mod health;
pub mod http1;
mod meter;
mod name;
mod pool;
mod registry;
mod server;
mod tunnel;

pub use forward::{Forward, ForwardOptions, Via};
pub use health::watch;
pub use registry::{Registry, UpstreamGroup};
pub use server::{Health, Server};
