//! Purges that reach the memory of all gateways, by messages over Redis.
//!
//! A purge is done here first and then told to the others, in order, until Redis has taken it. A
//! gateway that was cut off does not know what it has missed, so it forgets everything when it is
//! back.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Duration, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{purge::Aim, shared::Cache};
use crate::store::{Heard, Redis};

/// The way out for purges; ends what runs for it when it is dropped.
pub(super) struct PurgesShared {
    queue: mpsc::Sender<(Aim, bool)>,
    /// Whether a purge found no room in the queue.
    lost: Arc<AtomicBool>,
    _running: DropGuard,
}

impl PurgesShared {
    /// Listens and tells on the control runtime.
    pub(super) fn start(redis: &Arc<Redis>, control: &Handle, cache: Weak<Cache>) -> Self {
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let stop = CancellationToken::new();
        let us = fastrand::u64(..);
        let lost = Arc::<AtomicBool>::default();
        let telling = tell(Arc::clone(redis), us, waiting, Arc::clone(&lost));
        control.spawn(stop.clone().run_until_cancelled_owned(telling));
        let redis = Arc::clone(redis);
        let listening = async move { redis.listen(CHANNEL, |heard| take(&cache, us, heard)).await };
        control.spawn(stop.clone().run_until_cancelled_owned(listening));
        Self {
            queue,
            lost,
            _running: stop.drop_guard(),
        }
    }

    /// Tells the other gateways, beside whoever asks.
    pub(super) fn tell(&self, aim: &Aim, soft: bool) {
        if self.queue.try_send((aim.clone(), soft)).is_err() {
            self.lost.store(true, Relaxed);
        }
    }
}

async fn tell(
    redis: Arc<Redis>,
    us: u64,
    mut waiting: mpsc::Receiver<(Aim, bool)>,
    lost: Arc<AtomicBool>,
) {
    while let Some((aim, soft)) = waiting.recv().await {
        let message = match lost.swap(false, Relaxed) {
            true => encode(us, &Aim::Everything, false),
            false => encode(us, &aim, soft),
        };
        while redis.publish(CHANNEL, message.as_bytes()).await.is_err() {
            sleep(AGAIN).await;
        }
    }
}

fn take(cache: &Weak<Cache>, us: u64, heard: Heard<'_>) {
    let Some(cache) = cache.upgrade() else { return };
    match heard {
        Heard::Joined => cache.purge_here(&Aim::Everything, false),
        Heard::Message(message) => {
            if let Some((aim, soft)) = decode(us, message) {
                cache.purge_here(&aim, soft);
            }
        }
    }
}

fn encode(us: u64, aim: &Aim, soft: bool) -> String {
    let (kind, host, text) = match aim {
        Aim::Url { host, target } => ("url", Some(host), Some(target)),
        Aim::Prefix { host, path } => ("prefix", host.as_ref(), Some(path)),
        Aim::Host(host) => ("host", Some(host), None),
        Aim::Route(route) => ("route", None, Some(route)),
        Aim::Tag(tag) => ("tag", None, Some(tag)),
        Aim::Everything => ("everything", None, None),
    };
    let message = json!({
        "version": VERSION, "from": us, "soft": soft, "kind": kind, "host": host, "text": text,
    });
    message.to_string()
}

/// What another gateway has purged; `None` for our own words and for what is no purge. A purge that
/// is not understood, of a later version, is one of everything.
fn decode(us: u64, message: &[u8]) -> Option<(Aim, bool)> {
    let message: Value = serde_json::from_slice(message).ok()?;
    let version = message.get("version")?.as_u64()?;
    if message.get("from")?.as_u64()? == us {
        return None;
    }
    let aim = match version {
        VERSION => aim(&message),
        _ => None,
    };
    let soft = message
        .get("soft")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    Some(aim.map_or((Aim::Everything, false), |aim| (aim, soft)))
}

fn aim(message: &Value) -> Option<Aim> {
    let read = |key: &str| Some(message.get(key)?.as_str()?.into());
    Some(match message.get("kind")?.as_str()? {
        "url" => Aim::Url {
            host: read("host")?,
            target: read("text")?,
        },
        "prefix" => Aim::Prefix {
            host: read("host"),
            path: read("text")?,
        },
        "host" => Aim::Host(read("host")?),
        "route" => Aim::Route(read("text")?),
        "tag" => Aim::Tag(read("text")?),
        "everything" => Aim::Everything,
        _ => return None,
    })
}

const CHANNEL: &str = "purges";
const VERSION: u64 = 1;
/// Purges that wait for Redis; more become one of everything.
const MOST_WAITING: usize = 1_000;
const AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_purge_is_understood_by_another_and_ignored_by_ourselves() {
        let aims = [
            Aim::Url {
                host: "a:1".into(),
                target: "/x?\"y".into(),
            },
            Aim::Prefix {
                host: None,
                path: "/x".into(),
            },
            Aim::Prefix {
                host: Some("a".into()),
                path: "/".into(),
            },
            Aim::Host("a".into()),
            Aim::Route("r".into()),
            Aim::Tag("t".into()),
            Aim::Everything,
        ];
        for aim in aims {
            for soft in [false, true] {
                let message = encode(u64::MAX, &aim, soft);
                assert_eq!(decode(2, message.as_bytes()), Some((aim.clone(), soft)));
                assert_eq!(decode(u64::MAX, message.as_bytes()), None);
            }
        }
    }

    #[test]
    fn a_purge_of_a_later_version_is_one_of_everything() {
        let later = br#"{"version": 2, "from": 1, "soft": true, "kind": "moon"}"#;
        assert_eq!(decode(2, later), Some((Aim::Everything, false)));
        for foreign in ["", "x", "{}", "[1]", r#"{"version": "1"}"#] {
            assert_eq!(decode(2, foreign.as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(1, &message);
        }
    }
}
