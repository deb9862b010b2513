//! An upload that goes on behind its answer.
//!
//! A server may answer before it has read the whole request (RFC 9112 9.3 lets it), and may read on.
//! For the client the exchange is over then, so none of its timers runs, and hyper waits for ever for
//! a full socket to take more: a server that answers and never reads the rest would keep a connection,
//! a descriptor and a piece of the upload for as long as it lives. So whoever gives up such a
//! connection leaves somebody behind who ends it when it does not move.

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
