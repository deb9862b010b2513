//! What the tests over real sockets share: a gateway in this process, origins that record what
//! reached them, and clients that send exactly what they are told.
//!
//! Everything binds port 0 of loopback and lives as long as its value. Nothing sleeps: a test waits
//! for the event itself, and [`within`] turns an event that does not come into a failure.

// Every area of tests compiles this module for itself and uses its own part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod ask;
mod authority;
mod client;
mod file_gateway;
mod gateway;
mod h2_frames;
mod keys;
mod load;
mod message;
mod origin;
mod process;
mod raw;
mod redis;
mod redis_cluster;
mod server;
mod streams;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub use ask::{PROTOCOLS, Protocol, ask};
pub use authority::Authority;
pub use client::{Sent, body, empty, http1, http2, read, request};
pub use file_gateway::{FileGateway, Logged};
pub use gateway::Gateway;
pub use h2_frames::{Frame, FrameClient, answering_frames, encode};
pub use keys::{KeysFile, new_key};
pub use load::Load;
pub use message::{Answer, Recorded};
pub use origin::{Origin, Peer};
pub use process::Process;
pub use raw::Raw;
pub use redis::{RedisServer, free_port};
pub use redis_cluster::RedisCluster;
pub use server::{BoxBody, Server, answer, chunks, full, numbered, reply};
pub use streams::{Events, Feed, Streams, WebSocket, release};

/// The longest that anything expected may take, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The future's value; a failure when it takes longer than [`PATIENCE`].
#[track_caller]
pub fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(value) => value,
            Err(_) => panic!("nothing happened within {PATIENCE:?}, waited for at {caller}"),
        }
    }
}

/// Waits until a condition holds, which is looked at every few milliseconds.
///
/// The last resort: for what happens elsewhere and tells nobody (a file, a counter of the gateway).
/// Where there is an event, wait for the event.
#[track_caller]
pub fn eventually(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !condition() {
            assert!(
                start.elapsed() < PATIENCE,
                "the condition at {caller} never held"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The first whole configuration on a page of the documentation.
#[track_caller]
pub fn example(page: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(file).expect("the page is there");
    let (_, block) = text.split_once("```toml\n").expect("it has an example");
    let (example, _) = block.split_once("```").expect("which ends");
    example.to_owned()
}
