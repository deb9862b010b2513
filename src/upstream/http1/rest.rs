//! What is left of a request whose answer has come already.

use std::{future::poll_fn, task::Poll, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use crate::{
    exchange::{LazyTimer, http1::Outgoing},
    telemetry::OpenConnection,
};

/// Sends the rest of a request whose answer has come already. It ends with the client's body, with
/// the connection, or when the server has taken nothing for too long.
pub(super) async fn send_rest(
    mut upload: Outgoing,
    mut stream: impl AsyncWrite + Unpin,
    stall: Duration,
    open: Option<OpenConnection>,
) {
    let mut timer = LazyTimer::default();
    let whole = poll_fn(|cx| {
        upload.moved = false;
        if let Poll::Ready(sent) = upload.poll(&mut stream, cx) {
            return Poll::Ready(sent.is_ok());
        }
        if upload.moved || !upload.blocked {
            timer.disarm();
        }
        if upload.blocked && !timer.is_armed() {
            timer.arm(Instant::now(), stall);
        }
        timer.poll_expired(cx).map(|()| false)
    })
    .await;
    if !whole {
        // The server sees that the request has broken off, while its answer may still be read.
        let _ = stream.shutdown().await;
    }
    drop(open);
}
