//! Tollgate: a reverse-proxy gateway in one binary and one file.
//!
//! The rooms, in the order in which a request walks through them:
//!
//! - [`config`]: text to checked values; imports no other room
//! - [`exchange`]: the vocabulary of one request and its response; imports no other room
pub mod cli;
pub mod config;
pub mod exchange;
