//! The accept loop of one listening socket.
//!
//! No error ends it: a client that left before it was accepted is skipped, and a lack of
//! descriptors or memory pauses accepting until it has passed.

use std::{io, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{pin, select, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    bind::Bound,
    hub::{Hub, Serve},
};
/// Accepts until it is told to stop, then closes the socket.
pub(super) async fn run(
    bound: Bound,
    hub: Arc<Hub>,
    server: Arc<dyn Serve>,
    stop: CancellationToken,
) {
    let socket = match bound.listen() {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "can't watch a listening socket"),
    };
    let name = socket.name();
    let mut pause = Pause::default();
    let stopped = stop.cancelled();
    pin!(stopped);
    loop {
        let accepted = select! {
            biased;
            () = &mut stopped => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause.over(name);
                hub.take(&server, stream, peer, name);
            }
            Err(error) => select! {
                () = &mut stopped => break,
                () = pause.after(&error, name) => {}
            },
        }
    }
    // Whoever was let in by the kernel before the socket closes would get RST.
    while let Some(Ok((stream, peer))) = socket.accept().now_or_never() {
        hub.take(&server, stream, peer, name);
    }
}

/// How long to wait after errors. An episode is logged when it begins and when it ends.
#[derive(Debug, Default)]
struct Pause {
    current: Option<Duration>,
}

impl Pause {
    /// Waits as long as the error asks for; not at all when it is about one connection only.
    async fn after(&mut self, error: &io::Error, listener: &str) {
        if concerns_one_connection(error) {
            return;
        }
        sleep(self.longer(error, listener)).await;
    }

    fn longer(&mut self, error: &io::Error, listener: &str) -> Duration {
        let next = match self.current {
            None => {
                tracing::error!(listener, %error, "can't accept connections; trying again");
                SHORTEST
            }
            Some(current) => LONGEST.min(current * 2),
        };
        self.current = Some(next);
        next
    }

    fn over(&mut self, listener: &str) {
        if self.current.take().is_some() {
            tracing::info!(listener, "accepting connections again");
        }
    }
}

/// The errors that `accept(2)` passes on from the new connection. Everything else, `EMFILE` and
/// `ENFILE` before all, would only come again at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_start_over_after_a_success() {
        let full = io::Error::from(io::ErrorKind::OutOfMemory);
        let mut pause = Pause::default();
        assert_eq!(pause.longer(&full, "a"), SHORTEST);
        assert_eq!(pause.longer(&full, "a"), SHORTEST * 2);
        for _ in 0..10 {
            pause.longer(&full, "a");
        }
        assert_eq!(pause.longer(&full, "a"), LONGEST);
        pause.over("a");
        assert_eq!(pause.longer(&full, "a"), SHORTEST);
    }

    #[test]
    fn a_client_that_left_early_pauses_nothing() {
        assert!(concerns_one_connection(
            &io::ErrorKind::ConnectionAborted.into()
        ));
        // EMFILE
        assert!(!concerns_one_connection(&io::Error::from_raw_os_error(24)));
    }
}
