//! The schedule of a drain.
//!
//! ```text
//! drain()  --delay-->                  --grace-->                   --until the deadline-->
//! answers close, sockets still accept  no accepting, GOAWAY (h2)    idle HTTP/1.1 closes     abort
//! ```
//!
//! The delay is for load balancers, so it is waited for even with nothing open; the grace is for
//! requests that are already on the wire when their connection looks idle.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Gates, hub::Hub, state::Stage};
use crate::config::Drain;

/// Runs the drain to its end; every connection has been told of it.
pub(super) async fn run(hub: Arc<Hub>, gates: Arc<Gates>, drain: Drain) {
    let start = Instant::now();
    let deadline = start + drain.deadline;
    let delayed = deadline.min(start + drain.delay);
    let grace_over = deadline.min(delayed + drain.grace);

    sleep_until(delayed).await;
    gates.closed().await;
    hub.advance(Stage::GoingAway);
    if timeout_at(grace_over, hub.idle()).await.is_err() {
        hub.advance(Stage::Closing);
    }
    if timeout_at(deadline, hub.idle()).await.is_err() {
        let connections = hub.connections();
        tracing::warn!(connections, "the drain's deadline has passed; aborting");
    }
    hub.abort();
}
