//! Tollgate: a reverse-proxy gateway in one binary and one file.
//!
//! The rooms, in the order in which a request walks through them:
pub mod admin;
pub mod cli;
pub mod config;
pub mod exchange;
pub mod frame;
pub mod gateway;
pub mod listener;
pub mod pipeline;
pub mod router;
pub mod telemetry;
pub mod upstream;
