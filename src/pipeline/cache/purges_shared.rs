//! Purges that reach all gateways, over Redis.
//!
//! A purge is done here first and then told until Redis has taken it: what stands in Redis is purged as
//! [`purge_log`](super::purge_log) says, and a message lets the others purge what they have in memory.
//! Many that wait are told together, in whatever order: what a purge reaches depends on no other. A
//! gateway that was cut off does not know what it has missed, so it forgets everything when it is back.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
    time::{Duration, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    policy::Moment,
    purge::Aim,
    purge_log::{PurgeLog, Unsaid, guard_key, soft_purge, url_tags},
    shared::Cache,
    urls::Held,
};
use crate::store::{Away, Heard, Redis};

/// The way out for purges; ends what runs for it when it is dropped.
pub(super) struct PurgesShared {
    pub(super) log: Arc<PurgeLog>,
    queue: mpsc::Sender<Telling>,
    lost: Arc<Lost>,
    /// Counts what has not been told.
    untold: TaskTracker,
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
    /// Lets what is read out of Redis be compared with it.
    _held: Held,
    /// Whether it has been done here, at the moment of `unsaid`.
    done: bool,
    _untold: TaskTrackerToken,
}

/// Purges that found no room in the queue: the first of them, which has become one of everything and
/// stands for all.
#[derive(Default)]
struct Lost {
    first: Mutex<Option<Telling>>,
    added: Notify,
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
        let lost = Arc::<Lost>::default();
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
            untold: TaskTracker::new(),
            _running: stop.drop_guard(),
        }
    }

    /// Waits until Redis knows of all purges so far, but not for long: it may be away.
    pub(super) async fn drain(&self) {
        self.untold.close();
        let _ = timeout(LONGEST_DRAIN, self.untold.wait()).await;
    }

    /// Tells the other gateways, beside whoever asks.
    pub(super) fn tell(
        &self,
        cache: &Cache,
        (unsaid, held): (Unsaid, Held),
        aim: &Aim,
        soft: bool,
        asked: bool,
    ) {
        let telling = Telling {
            aim: aim.clone(),
            soft,
            asked,
            at: cache.moment(),
            unsaid,
            _held: held,
            done: true,
            _untold: self.untold.token(),
        };
        if let Err(full) = self.queue.try_send(telling) {
            self.lost.add(cache, &self.log, full.into_inner());
        }
    }
}

impl Lost {
    fn add(&self, cache: &Cache, log: &PurgeLog, mut telling: Telling) {
        (telling.aim, telling.soft, telling.done) = (Aim::Everything, false, false);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            // What those that follow hold of their URLs is let go of: until Redis knows of this one,
            // nothing is taken from there.
            cache.purges.purge(&Aim::Everything, false, cache.stamp());
        }
        if let Some(mut known) = first.take() {
            if telling.unsaid.at < known.unsaid.at {
                std::mem::swap(&mut telling, &mut known);
            }
            // Until Redis knows of the first, this one counts with it.
            log.said(telling.unsaid);
            telling = known;
        }
        *first = Some(telling);
        drop(first);
        self.added.notify_one();
    }

    fn take(&self) -> Option<Telling> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.take()
    }
}

impl Ends {
    async fn tell(self: Arc<Self>, mut queue: mpsc::Receiver<Telling>, lost: Arc<Lost>) {
        let mut many = Vec::new();
        loop {
            tokio::select! {
                count = queue.recv_many(&mut many, MOST_AT_ONCE) => if count == 0 {
                    return;
                },
                () = lost.added.notified() => {}
            }
            if let Some(everything) = lost.take() {
                tracing::warn!("more purges than Redis takes; everything is purged instead");
                // What waits was asked for before this is told, so it is a part of it.
                while many.len() < MOST_WAITING
                    && let Ok(telling) = queue.try_recv()
                {
                    many.push(telling);
                }
                self.tell_one(everything).await;
                for telling in many.drain(..) {
                    self.log.said(telling.unsaid);
                }
                continue;
            }
            self.leave_out_repeated(&mut many);
            // They share a connection, which carries them in one go.
            join_all(many.drain(..).map(|telling| self.tell_one(telling))).await;
        }
    }

    /// Of what clients' requests have brought about, each once is enough.
    fn leave_out_repeated(&self, many: &mut Vec<Telling>) {
        let mut seen = HashSet::new();
        many.retain(|telling| {
            let is_new = telling.asked || seen.insert(telling.aim.clone());
            if !is_new {
                // As long as Redis does not know of the other, that one counts, for the same URL.
                self.log.said(telling.unsaid);
            }
            is_new
        });
    }

    async fn tell_one(&self, mut telling: Telling) {
        let mut heard = false;
        while self.store(&telling).await.is_err() {
            // A full Redis may still pass on messages.
            if !heard && self.publish(&telling, false).await.is_ok() {
                heard = true;
                // It is one purge, however often it is said.
                telling.asked = false;
            }
            sleep(AGAIN).await;
        }
        self.log.said(telling.unsaid);
        // Who has heard of it before it was stored may have taken from Redis what was still there.
        while self.publish(&telling, true).await.is_err() {
            sleep(AGAIN).await;
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
            // What has not been done here is done when the log is followed.
            if telling.done {
                self.log.numbered(head, telling.unsaid.at);
            }
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
/// Purges that are told together.
const MOST_AT_ONCE: usize = 64;
const AGAIN: Duration = Duration::from_millis(100);
/// How long the end of a process waits for its purges.
const LONGEST_DRAIN: Duration = Duration::from_secs(2);

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
            _held: Held::nothing(),
            done: true,
            _untold: TaskTracker::new().token(),
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
