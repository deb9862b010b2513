//! What surrounds every request: its names, its caller, its log line, its refusals.

#[path = "frame/client.rs"]
mod client;
#[path = "frame/ids.rs"]
mod ids;
#[path = "frame/log.rs"]
mod log;
#[path = "frame/panics.rs"]
mod panics;
#[path = "frame/refusals.rs"]
mod refusals;

mod support;

use support::{Gateway, Origin};

const TRUSTING: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

/// A gateway with these tables in front of an origin that says `ok`.
async fn site(tables: &str) -> (Origin, Gateway) {
    let origin = Origin::ok().await;
    let url = origin.url();
    let gateway = Gateway::start(&format!("{tables}\n[routes.all]\nupstream = \"{url}\"\n"));
    (origin, gateway)
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}
