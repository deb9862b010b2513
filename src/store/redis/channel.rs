//! Messages between the gateways that share a Redis.
//!
//! Redis keeps none: who is cut off misses what is said, and is told so when it is back.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use redis::{
    Value,
    aio::{PubSubSink, PubSubStream},
};
use tokio::time::{Instant, interval_at, sleep, timeout};

use super::{Away, Lane, Redis};

/// What a listener is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// From now on messages are heard. What was said before may have been missed.
    Joined,
    /// Somebody has said this, perhaps the listener's own process.
    Message(&'a [u8]),
}

impl Redis {
    /// Says something to all who listen; for the control runtime.
    ///
    /// # Errors
    ///
    /// When Redis has not taken it within the deadline.
    pub async fn publish(self: &Arc<Self>, channel: &str, message: &[u8]) -> Result<(), Away> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.channel(channel)).arg(message);
        match self.ask(usize::MAX, &command).await? {
            Value::Int(_) => Ok(()),
            _ => Err(self.garbage_on(Lane::Counts)),
        }
    }

    /// Listens until the future is dropped, on a connection of its own; for the control runtime.
    pub async fn listen(&self, channel: &str, mut heard: impl FnMut(Heard<'_>)) {
        let channel = self.channel(channel);
        loop {
            if let Some(subscription) = self.target.subscribe(&channel).await {
                heard(Heard::Joined);
                hear(subscription, &mut heard).await;
            }
            sleep(Duration::from_millis(fastrand::u64(AGAIN..2 * AGAIN))).await;
        }
    }

    fn channel(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Passes messages on until the connection is lost, or seems to be.
async fn hear(
    (mut sink, mut stream): (PubSubSink, PubSubStream),
    heard: &mut impl FnMut(Heard<'_>),
) {
    let mut look = interval_at(Instant::now() + LOOK, LOOK);
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(message) => heard(Heard::Message(message.get_payload_bytes())),
                None => return,
            },
            _ = look.tick() => {
                // A connection may be gone without anybody having said so.
                let alive = timeout(ALIVE, sink.ping::<Value>()).await;
                if !matches!(alive, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// Milliseconds until the next try to join.
const AGAIN: u64 = 250;
const LOOK: Duration = Duration::from_secs(2);
const ALIVE: Duration = Duration::from_secs(2);
