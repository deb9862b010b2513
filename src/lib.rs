//! Tollgate: a reverse-proxy gateway in one binary and one file.
//!
//! # The life of a request
//!
//! ```text
//! listener   accept > worker > protocol sniff > hyper, beside one guard a connection
//! frame      context and id > log and metrics guard > panic guard > request checks
//! router     host, path, method, headers, query -> a route
//! pipeline   CORS preflight > origin > IP > limits by address > auth > RBAC > limits by caller
//!            > body limit > validation > header edits > cache > rewrite > rescue
//! upstream   balance > in-flight limit > pool > connect > forward
//! ```
//!
//! and back the same way. A request stays on the worker (a thread with a runtime of its own) that
//! its connection was dealt to; so do the upstream connections that serve it. What must be global
//! (health, metrics, the snapshot of the configuration) is shared through atomics. Admin, health
//! checks and reloads run on a control thread, so they answer while the workers are busy.
//!
//! # The rooms, in the order of that walk
//!
//! - [`config`]: text to checked values; imports no other room
//! - [`exchange`]: the vocabulary of one request and its response; imports no other room
//! - [`telemetry`]: metrics, the access log's writer, the application log
//! - [`listener`]: sockets, workers, one connection, drain; hands requests to an
//!   [`exchange::Handler`]
//! - [`frame`]: what surrounds every request
//! - [`router`]: which route serves it
//! - [`store`]: what is counted by key, in bounded tables
//! - [`pipeline`]: per-route policy, one middleware a file
//! - [`upstream`]: servers, their health and connections, the exchange with one of them
//! - [`admin`]: health, readiness, metrics and state on a listener of its own
//! - [`gateway`]: the composition root, the only room that sees all others
//!
//! `tests/docs/arrows.rs` fails when a room imports one that it must not know.

pub mod admin;
pub mod cli;
pub mod config;
pub mod exchange;
pub mod frame;
pub mod gateway;
pub mod listener;
pub mod pipeline;
pub mod router;
pub mod store;
pub mod telemetry;
pub mod upstream;
