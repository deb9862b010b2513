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

use super::{
    Away, Lane, Redis,
    link::{Node, Target},
};

/// What a listener is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// From now on messages are heard. What was said before may have been missed.
    Joined,
    /// Somebody has said this, perhaps the listener's own process.
    Message(&'a [u8]),
}

/// A connection that hears a channel.
struct Subscription {
    /// With whom it is.
    node: Arc<Node>,
    since: Instant,
    sink: PubSubSink,
    stream: PubSubStream,
}

impl Redis {
    /// Says something to all who listen; for the control runtime.
    ///
    /// # Errors
    ///
    /// When Redis has not taken it within the deadline.
    pub async fn publish(self: &Arc<Self>, channel: &str, message: &[u8]) -> Result<(), Away> {
        if !self.way(Lane::Counts).breaker.is_open() {
            self.look_anew().await;
        }
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.channel(channel)).arg(message);
        match self.ask(usize::MAX, &command).await? {
            Value::Int(_) => Ok(()),
            _ => Err(self.garbage_on(Lane::Counts, 1)),
        }
    }

    /// Listens until the future is dropped, on a connection of its own; for the control runtime.
    pub async fn listen(self: &Arc<Self>, channel: &str, mut heard: impl FnMut(Heard<'_>)) {
        let channel = self.channel(channel);
        loop {
            if let Some(subscription) = self.subscribe(&channel).await {
                heard(Heard::Joined);
                self.hear(subscription, &mut heard).await;
            }
            sleep(Duration::from_millis(fastrand::u64(AGAIN..2 * AGAIN))).await;
        }
    }

    /// A connection that hears a channel; of a cluster's nodes, any of which passes on to all, the
    /// first that lets us.
    async fn subscribe(self: &Arc<Self>, channel: &str) -> Option<Subscription> {
        let nodes = match &self.target {
            Target::Single(node) => vec![Arc::clone(node)],
            Target::Cluster(cluster) => {
                self.look_anew().await;
                cluster.tellers()
            }
            Target::None => Vec::new(),
        };
        for node in nodes {
            if let Some((sink, stream)) = node.subscribe(channel).await {
                return Some(Subscription {
                    node,
                    since: Instant::now(),
                    sink,
                    stream,
                });
            }
        }
        None
    }

    /// Passes messages on until the connection is lost, or seems to be, or its node has left the cluster.
    async fn hear(self: &Arc<Self>, subscription: Subscription, heard: &mut impl FnMut(Heard<'_>)) {
        let Subscription {
            node,
            since,
            mut sink,
            mut stream,
        } = subscription;
        let mut look = interval_at(since + LOOK, LOOK);
        loop {
            tokio::select! {
                message = stream.next() => match message {
                    Some(message) => heard(Heard::Message(message.get_payload_bytes())),
                    None => return,
                },
                _ = look.tick() => {
                    // A connection may be gone without anybody having said so.
                    let alive = timeout(ALIVE, sink.ping::<Value>()).await;
                    let is_outside = since.elapsed() >= SETTLED && self.is_outside(&node);
                    if is_outside || !matches!(alive, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }

    fn channel(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Milliseconds until the next try to join.
const AGAIN: u64 = 250;
const LOOK: Duration = Duration::from_secs(2);
const ALIVE: Duration = Duration::from_secs(2);
/// Where nobody of the map lets us, we don't go from one to the next all the time: each time all is
/// forgotten.
const SETTLED: Duration = Duration::from_secs(30);
