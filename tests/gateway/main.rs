//! The gateway as a process: its command line, its admin listener, reloads, signals and the end.

mod admin;
mod cli;
mod drain;
mod process;
mod reload;

#[path = "../support/mod.rs"]
mod support;
