//! What surrounds every request: its names, its caller, its log line, its refusals.

mod client;
mod ids;
mod log;
mod panics;
mod refusals;

use crate::support::{Gateway, Origin};

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
