//! Purges that reach all gateways, over Redis.
//!
//! A purge is done here first and then told, in order, until Redis has taken it: what stands in Redis
//! is purged as [`purge_log`](super::purge_log) says, and a message lets the others purge what they
//! have in memory. A gateway that was cut off does not know what it has missed, so it forgets
//! everything when it is back.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
    time::{Duration, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    policy::Moment,
    purge::Aim,
    purge_log::{PurgeLog, Unsaid, guard_key, soft_purge, url_tags},
    shared::Cache,
};
use crate::store::{Away, Heard, Redis};

/// The way out for purges; ends what runs for it when it is dropped.
pub(super) struct PurgesShared {
    pub(super) log: Arc<PurgeLog>,
    queue: mpsc::Sender<Telling>,
    /// Whether a purge found no room in the queue.
    lost: Arc<AtomicBool>,
    _running: DropGuard,
}

/// A purge on its way out.
struct Telling {
    aim: Aim,
    soft: bool,
    /// Whether somebody has asked for it, and not a client's request has brought it about.
    asked: bool,
    at: Moment,
    unsaid: Unsaid,
}

/// What tells and what listens.
struct Ends {
    redis: Arc<Redis>,
    cache: Weak<Cache>,
    log: Arc<PurgeLog>,
    /// Whether answers are stored in Redis, so that the log is to be followed.
    follows: bool,
    behind: Notify,
}

impl PurgesShared {
    /// Listens and tells on the control runtime. Where answers are stored in Redis, the log of purges
    /// is followed, too.
    pub(super) fn start(
        redis: &Arc<Redis>,
        control: &Handle,
        cache: Weak<Cache>,
        follows: bool,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let stop = CancellationToken::new();
        let lost = Arc::<AtomicBool>::default();
        let ends = Arc::new(Ends {
            redis: Arc::clone(redis),
            cache,
            log: Arc::new(PurgeLog::new()),
            follows,
            behind: Notify::new(),
        });
        let log = Arc::clone(&ends.log);
        let run = |task| drop(control.spawn(stop.clone().run_until_cancelled_owned(task)));
        let telling = Arc::clone(&ends).tell(waiting, Arc::clone(&lost));
        run(Box::pin(telling) as BoxFuture);
        if follows {
            run(Box::pin(Arc::clone(&ends).follow()));
        }
        run(Box::pin(ends.listen()));
        Self {
            log,
            queue,
            lost,
            _running: stop.drop_guard(),
        }
    }

    /// Tells the other gateways, beside whoever asks.
    pub(super) fn tell(&self, unsaid: Unsaid, at: Moment, aim: &Aim, soft: bool, asked: bool) {
        let telling = Telling {
            aim: aim.clone(),
            soft,
            asked,
            at,
            unsaid,
        };
        if self.queue.try_send(telling).is_err() {
            // The next that finds room becomes one of everything, and is behind this one.
            self.lost.store(true, Relaxed);
            self.log.said(unsaid);
        }
    }
}

impl Ends {
    async fn tell(self: Arc<Self>, mut waiting: mpsc::Receiver<Telling>, lost: Arc<AtomicBool>) {
        while let Some(mut telling) = waiting.recv().await {
            if lost.swap(false, Relaxed) {
                (telling.aim, telling.soft) = (Aim::Everything, false);
            }
            let mut heard = false;
            while self.store(&telling).await.is_err() {
                // A full Redis may still pass on messages.
                heard = heard || self.publish(&telling, false).await.is_ok();
                sleep(AGAIN).await;
            }
            self.log.said(telling.unsaid);
            while !heard && self.publish(&telling, true).await.is_err() {
                sleep(AGAIN).await;
            }
        }
    }

    async fn publish(&self, telling: &Telling, logged: bool) -> Result<(), Away> {
        let message = encode(self.log.us, telling, logged);
        self.redis.publish(CHANNEL, message.as_bytes()).await
    }

    /// Purges what stands in Redis.
    async fn store(&self, telling: &Telling) -> Result<(), Away> {
        let Aim::Url { host, target } = &telling.aim else {
            let entry = encode(self.log.us, telling, true);
            let head = self.redis.append(entry.as_bytes()).await?;
            self.log.numbered(head, telling.unsaid.at);
            self.behind.notify_one();
            return Ok(());
        };
        for tag in url_tags(host, target) {
            let soft = telling.soft.then(|| soft_purge(telling.at.millis()));
            let guard = guard_key(self.redis.prefix(), &tag);
            self.redis.forget(&guard, soft).await?;
        }
        Ok(())
    }

    async fn listen(self: Arc<Self>) {
        let redis = Arc::clone(&self.redis);
        redis.listen(CHANNEL, |heard| self.take(heard)).await;
    }

    fn take(&self, heard: Heard<'_>) {
        let Some(cache) = self.cache.upgrade() else {
            return;
        };
        match heard {
            Heard::Joined => {
                let at = cache.stamp();
                cache.count_purge();
                cache.forget_at(&Aim::Everything, false, at);
                self.log.join(at);
            }
            Heard::Message(message) => {
                let us = self.log.us;
                let Some(message) = read_message(message).filter(|message| message.from != us)
                else {
                    return;
                };
                // What is in the log is purged when that is followed, and not twice.
                let is_url = matches!(message.aim, Aim::Url { .. });
                if is_url || !message.logged || !self.follows {
                    cache.forget(&message.aim, message.soft);
                    if message.asked {
                        cache.count_purge();
                    }
                }
            }
        }
        self.behind.notify_one();
    }

    /// Follows the log of purges whenever there may be something new in it.
    async fn follow(self: Arc<Self>) {
        loop {
            self.behind.notified().await;
            let Some(cache) = self.cache.upgrade() else {
                return;
            };
            let redis = (&self.redis, usize::MAX);
            while self.log.follow(&cache, redis, None).await.is_err() {
                sleep(AGAIN).await;
            }
        }
    }
}

fn encode(us: u64, telling: &Telling, logged: bool) -> String {
    let (kind, host, text) = match &telling.aim {
        Aim::Url { host, target } => ("url", Some(host), Some(target)),
        Aim::Prefix { host, path } => ("prefix", host.as_ref(), Some(path)),
        Aim::Host(host) => ("host", Some(host), None),
        Aim::Route(route) => ("route", None, Some(route)),
        Aim::Tag(tag) => ("tag", None, Some(tag)),
        Aim::Everything => ("everything", None, None),
    };
    let message = json!({
        "version": VERSION, "from": us, "soft": telling.soft, "asked": telling.asked,
        "logged": logged, "kind": kind, "host": host, "text": text,
    });
    message.to_string()
}

/// What a gateway has purged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) from: u64,
    pub(super) aim: Aim,
    pub(super) soft: bool,
    pub(super) asked: bool,
    /// Whether the log of purges has it, if it is of the kind that stands there.
    logged: bool,
}

/// Reads what a gateway has told; `None` for what is no purge. A purge that is not understood, of a
/// later version, is one of everything.
pub(super) fn read_message(message: &[u8]) -> Option<Message> {
    let message: Value = serde_json::from_slice(message).ok()?;
    let version = message.get("version")?.as_u64()?;
    let from = message.get("from")?.as_u64()?;
    let aim = match version {
        VERSION => aim(&message),
        _ => None,
    };
    let flag = |key: &str| message.get(key).and_then(Value::as_bool);
    let soft = flag("soft").unwrap_or(false) && aim.is_some();
    Some(Message {
        from,
        aim: aim.unwrap_or(Aim::Everything),
        soft,
        asked: flag("asked").unwrap_or(true),
        logged: flag("logged").unwrap_or(false),
    })
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

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(us: u64, aim: &Aim, soft: bool, asked: bool) -> Message {
        let telling = Telling {
            aim: aim.clone(),
            soft,
            asked,
            at: Moment::from_millis(0),
            unsaid: PurgeLog::new().announce(1),
        };
        read_message(encode(us, &telling, true).as_bytes()).unwrap()
    }

    #[test]
    fn every_purge_is_understood() {
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
            for (soft, asked) in [(false, true), (true, false)] {
                let message = Message {
                    from: u64::MAX,
                    aim: aim.clone(),
                    soft,
                    asked,
                    logged: true,
                };
                assert_eq!(told(u64::MAX, &aim, soft, asked), message);
            }
        }
    }

    #[test]
    fn a_purge_of_a_later_version_is_one_of_everything() {
        let later = br#"{"version": 2, "from": 1, "soft": true, "kind": "moon"}"#;
        let message = read_message(later).unwrap();
        assert_eq!((message.aim, message.soft), (Aim::Everything, false));
        for foreign in ["", "x", "{}", "[1]", r#"{"version": "1"}"#] {
            assert_eq!(read_message(foreign.as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_message(&message);
        }
    }
}
