//! An upload that goes on behind its answer.
//!
//! A server may answer before it has read the whole request, and may read on. The exchange is over
//! then, and hyper waits for ever for a full socket to take more. A client of HTTP/1.1 can't go on
//! without having sent the rest, so its guard ends both sides; one of HTTP/2 makes other requests
//! meanwhile. So a server that answers and never reads the rest would keep a connection, a descriptor
//! and a piece of the upload. Whoever gives up such a connection leaves somebody behind who ends it
//! when it does not move.
//!
//! What the kernel holds of it by then, it gives up by its own rules (`tcp_orphan_retries`).

use std::time::Duration;

use tokio::{runtime::Handle, task::JoinHandle, time::timeout};

use super::meter::HeadMeter;

/// Lets the connection go on for as long as the server takes some of it in each `patience`.
///
/// `task` drives the connection, `meter` counts its bytes. Away from a runtime, where nobody could
/// wait, the connection ends at once.
pub(super) fn leave_behind(task: JoinHandle<()>, meter: HeadMeter, patience: Duration) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(watch(task, meter, patience))),
        Err(_) => task.abort(),
    }
}

async fn watch(mut task: JoinHandle<()>, meter: HeadMeter, patience: Duration) {
    let mut before = meter.written();
    while timeout(patience, &mut task).await.is_err() {
        let now = meter.written();
        if now == before {
            return task.abort();
        }
        before = now;
    }
}
