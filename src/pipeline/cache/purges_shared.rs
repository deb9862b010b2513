//! Purges that reach all gateways, over Redis.
//!
//! A purge is done here first and then told until Redis has taken it: what stands in Redis is purged as
//! [`purge_log`](super::purge_log) says, and a message lets the others purge what they have in memory.
//! Many that wait are told together, in whatever order: what a purge reaches depends on no other. A
//! gateway that was cut off does not know what it has missed, so it forgets everything when it is back.
//!
//! There are two ways out. Purges that somebody has asked for are few. What clients' requests have
//! [changed](super::untold) can be a flood, so of that many URLs go in one command and one message, and
//! one such batch after the other: what was asked for does not wait for it, and Redis has one more
//! client, however many change something here.

use std::{
    mem, ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
    time::{Duration, Instant, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    lineage::Lineage,
    policy::Moment,
    purge::{Aim, Stamp},
    purge_log::{PurgeLog, guard_key, soft_purge, url_tags},
    purge_message::Message,
    shared::{Cache, Sharing},
    untold::{Change, Changes, Taken, Untold},
    urls::Held,
};
use crate::store::{Away, Heard, Redis};

/// What is made of it for a cache that may never serve: a reload can still be refused.
pub(super) struct Prepared {
    pub(super) redis: Arc<Redis>,
    pub(super) log: Arc<PurgeLog>,
    /// How many bytes of changes may wait, where answers are stored in Redis.
    pub(super) changes: Option<u64>,
    /// Whether answers were shared by no cache just before.
    anew: bool,
    control: Handle,
}

/// The way out for purges. When it is dropped, as by a reload, nobody listens any more, and what waits is
/// still told: for some minutes only, where no cache has the same Redis now or gets it again.
pub(super) struct PurgesShared {
    log: Arc<PurgeLog>,
    redis: Arc<Redis>,
    queue: mpsc::Sender<Telling>,
    lost: Arc<Lost>,
    changes: Arc<Changes>,
    /// Counts what has not been told, that of the caches of before included.
    untold: TaskTracker,
    given_up: Arc<AtomicBool>,
    /// Whether answers are shared, or ever were.
    answers: bool,
    users: Arc<Users>,
    _listening: DropGuard,
}

/// What the next cache that shares purges has to know of those which the caches of before may still have to
/// tell. It stays when a reload makes a cache that shares none.
#[derive(Clone)]
pub(super) struct Owed {
    /// Which Redis is told; as long as there is this, no other is in its place in memory.
    redis: Weak<Redis>,
    log: Arc<PurgeLog>,
    untold: TaskTracker,
    /// Whether telling any Redis was given up, be it that of a cache before the last, and none has been told
    /// since to purge everything.
    given_up: Arc<AtomicBool>,
    /// Whether any of those caches shared answers.
    answers: bool,
    users: Arc<Users>,
}

/// The caches that have one Redis.
#[derive(Default)]
struct Users(Mutex<Use>);

#[derive(Default)]
struct Use {
    caches: usize,
    /// When the last of them went.
    left: Option<Instant>,
    /// Whether it was given up then to tell this Redis of a purge, and none has come since that makes good
    /// for that.
    given_up: bool,
}

/// Purges on their way out: one, or of several URLs.
struct Telling {
    message: Message,
    /// When a soft purge made stale what it reaches.
    stale_since: Option<Moment>,
    untold: Vec<Untold>,
    /// Whether it has been done here, at the moment of the one that is untold.
    done: bool,
}

/// Purges that found no room in the queue: one of everything stands for all.
#[derive(Default)]
struct Lost {
    all: Mutex<Option<Untold>>,
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
    given_up: Arc<AtomicBool>,
    users: Arc<Users>,
}

impl Prepared {
    /// So many bytes of changes may wait, where answers are shared. `before` is what the caches of before
    /// may owe.
    pub(super) fn new(
        sharing: Sharing<'_>,
        changes: u64,
        control: &Handle,
        before: Option<&Owed>,
    ) -> Self {
        let same = before.filter(|before| before.is_to(sharing.redis));
        Self {
            redis: Arc::clone(sharing.redis),
            log: Arc::new(same.map_or_else(PurgeLog::new, |before| before.log.beside())),
            changes: sharing.answers.then_some(changes),
            anew: sharing.anew,
            control: control.clone(),
        }
    }

    /// Whether something may have been changed that no cache was to tell Redis of: where answers are shared
    /// behind a cache that kept them for itself, or again. A process that begins with it has changed nothing.
    pub(super) fn is_gap(&self, before: Option<&Owed>, lineage: &Lineage) -> bool {
        if self.changes.is_none() {
            // Of purges others are told, and not of what clients change.
            lineage.keeps_alone();
            return false;
        }
        let again = self.anew && before.is_some_and(|before| before.answers);
        lineage.was_alone() || again
    }
}

impl PurgesShared {
    /// Listens and tells on the control runtime. Where answers are stored in Redis, the log of purges
    /// is followed, too. `before` is what the caches of before may owe, as it was when this was prepared.
    pub(super) fn start(prepared: &Prepared, cache: Weak<Cache>, before: Option<&Owed>) -> Self {
        let Prepared { redis, control, .. } = prepared;
        let same = before.filter(|before| before.is_to(redis));
        let users = same.map_or_else(Arc::default, |before| Arc::clone(&before.users));
        users.come();
        let given_up = before.map_or_else(Arc::default, |before| Arc::clone(&before.given_up));
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let stop = CancellationToken::new();
        let lost = Arc::<Lost>::default();
        let ends = Arc::new(Ends {
            redis: Arc::clone(redis),
            cache,
            log: Arc::clone(&prepared.log),
            follows: prepared.changes.is_some(),
            behind: Notify::new(),
            given_up: Arc::clone(&given_up),
            users: Arc::clone(&users),
        });
        let log = Arc::clone(&ends.log);
        let follows = ends.follows;
        let changes = Arc::new(Changes::new(prepared.changes.unwrap_or_default()));
        let run = |task| drop(control.spawn(stop.clone().run_until_cancelled_owned(task)));
        // What tells ends by itself, when all has been told.
        control.spawn(Arc::clone(&ends).tell(waiting, Arc::clone(&lost)));
        if follows {
            control.spawn(Arc::clone(&ends).tell_changes(Arc::clone(&changes)));
            run(Box::pin(Arc::clone(&ends).follow()) as BoxFuture);
        }
        run(Box::pin(ends.listen()) as BoxFuture);
        Self {
            log,
            redis: Arc::clone(redis),
            queue,
            lost,
            changes,
            untold: before.map_or_else(TaskTracker::new, |before| before.untold.clone()),
            given_up,
            answers: follows || before.is_some_and(|before| before.answers),
            users,
            _listening: stop.drop_guard(),
        }
    }

    /// What it may still have to tell, for the cache that comes behind it.
    pub(super) fn owed(&self) -> Owed {
        Owed {
            redis: Arc::downgrade(&self.redis),
            log: Arc::clone(&self.log),
            untold: self.untold.clone(),
            given_up: Arc::clone(&self.given_up),
            answers: self.answers,
            users: Arc::clone(&self.users),
        }
    }

    /// Has a purge made that is to be told then; `purge` makes it and tells its moment.
    pub(super) fn announce(&self, held: Held, purge: impl FnOnce() -> Stamp) -> Untold {
        Untold::new(self.log.announce(purge), held, self.untold.token())
    }

    /// Tells the other gateways, beside whoever asks.
    pub(super) fn tell(&self, cache: &Cache, aim: &Aim, soft: bool, untold: Untold) {
        let message = Message {
            from: self.log.us,
            aims: vec![aim.clone()],
            soft,
            asked: true,
            logged: false,
        };
        let telling = Telling {
            message,
            stale_since: soft.then(|| cache.moment()),
            untold: vec![untold],
            done: true,
        };
        if let Err(full) = self.queue.try_send(telling) {
            self.lost.add(cache, &self.log, full.into_inner());
        }
    }

    /// The same for a URL that a client's request has changed.
    pub(super) fn tell_changed(&self, cache: &Cache, url: Aim, untold: Untold) {
        let change = Change { aim: url, untold };
        let purge = |aim: &Aim| cache.purges.purge(aim, false, cache.stamp());
        self.changes.add(change, &self.log, purge);
    }

    /// Bytes of changes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.changes.bytes()
    }
}

impl Drop for PurgesShared {
    fn drop(&mut self) {
        self.users.go();
        self.changes.close();
    }
}

impl Owed {
    /// Whether there are purges of which this Redis may never be told, for who has come to share it to make
    /// good for that. So it is asked once.
    pub(super) fn leaves_out(&self, sharing: &Prepared) -> bool {
        match self.is_to(&sharing.redis) {
            true => self.users.take_given_up(),
            // Another one is told, or was not. Those of the caches of before count too: this Redis may be
            // one of theirs, a copy, or the same by another name. What is not untold any more may have
            // been given up just now.
            false => !self.untold.is_empty() || self.given_up.load(SeqCst),
        }
    }

    /// Waits until Redis knows of all purges so far, but not for long: it may be away.
    pub(super) async fn drain(&self) {
        self.untold.close();
        let _ = timeout(LONGEST_DRAIN, self.untold.wait()).await;
    }

    fn is_to(&self, redis: &Arc<Redis>) -> bool {
        ptr::eq(self.redis.as_ptr(), Arc::as_ptr(redis))
    }
}

impl Users {
    fn come(&self) {
        let mut known = self.locked();
        known.caches += 1;
        known.left = None;
    }

    fn go(&self) {
        let mut known = self.locked();
        known.caches -= 1;
        known.left = (known.caches == 0).then(Instant::now);
    }

    /// Whether the last went so long ago that telling their Redis is given up, which is noted: who comes
    /// from here on knows of it.
    fn give_up(&self) -> bool {
        let mut known = self.locked();
        let gives_up = known.left.is_some_and(|left| left.elapsed() > LONGEST_DEBT);
        known.given_up |= gives_up;
        gives_up
    }

    fn take_given_up(&self) -> bool {
        mem::take(&mut self.locked().given_up)
    }

    fn locked(&self) -> MutexGuard<'_, Use> {
        // Whole after a panic elsewhere: nothing in it panics between two changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telling {
    /// What purges the same, in the place of others, but is still to be done here.
    fn instead(log: &PurgeLog, change: Change) -> Self {
        Self {
            message: changed(log, vec![change.aim]),
            stale_since: None,
            untold: vec![change.untold],
            done: false,
        }
    }

    /// Of URLs that have been purged here.
    fn together(log: &PurgeLog, urls: Vec<Change>) -> Self {
        let urls = urls.into_iter().map(|change| (change.aim, change.untold));
        let (aims, untold) = urls.unzip();
        Self {
            message: changed(log, aims),
            stale_since: None,
            untold,
            done: true,
        }
    }

    /// Notes that Redis knows of it.
    fn said(&self, log: &PurgeLog) {
        for untold in &self.untold {
            log.said(untold.unsaid);
        }
    }
}

/// What clients' requests have brought about.
fn changed(log: &PurgeLog, aims: Vec<Aim>) -> Message {
    Message {
        from: log.us,
        aims,
        soft: false,
        asked: false,
        logged: false,
    }
}

impl Lost {
    fn add(&self, cache: &Cache, log: &PurgeLog, telling: Telling) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for untold in telling.untold {
            match all.as_mut() {
                Some(all) => all.join(untold, log),
                None => {
                    // What those that follow hold of their URLs is let go of: until Redis knows of this
                    // one, nothing is taken from there.
                    cache.purges.purge(&Aim::Everything, false, cache.stamp());
                    *all = Some(untold);
                }
            }
        }
        drop(all);
        self.added.notify_one();
    }

    fn take(&self) -> Option<Untold> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.take()
    }
}

impl Ends {
    async fn tell(self: Arc<Self>, mut queue: mpsc::Receiver<Telling>, lost: Arc<Lost>) {
        let mut many = Vec::new();
        loop {
            let is_open = tokio::select! {
                count = queue.recv_many(&mut many, MOST_AT_ONCE) => count > 0,
                () = lost.added.notified() => true,
            };
            if let Some(untold) = lost.take() {
                tracing::warn!("more purges than Redis takes; everything is purged instead");
                // What waits was asked for before this is told, so it is a part of it.
                while many.len() < MOST_WAITING
                    && let Ok(telling) = queue.try_recv()
                {
                    many.push(telling);
                }
                let aim = Aim::Everything;
                let mut everything = Telling::instead(&self.log, Change { aim, untold });
                everything.message.asked = true;
                self.tell_one(everything).await;
                for telling in many.drain(..) {
                    telling.said(&self.log);
                }
                continue;
            }
            if !is_open {
                return;
            }
            // They share a connection, which carries them in one go.
            join_all(many.drain(..).map(|telling| self.tell_one(telling))).await;
        }
    }

    /// Tells what clients' requests have changed.
    async fn tell_changes(self: Arc<Self>, changes: Arc<Changes>) {
        while let Some(Taken { wide, urls }) = changes.next().await {
            for change in wide {
                warn_of(&change.aim);
                self.tell_one(Telling::instead(&self.log, change)).await;
            }
            if urls.is_empty() {
                continue;
            }
            let told = self.tell_one(Telling::together(&self.log, urls)).await;
            changes.told(told.aims.iter());
        }
    }

    /// Tells until Redis knows, and all who listen; what has been told.
    async fn tell_one(&self, mut telling: Telling) -> Message {
        let mut heard = false;
        while self.store(&mut telling).await.is_err() && !self.gives_up() {
            // A full Redis may still pass on messages.
            if !heard && self.publish(&mut telling, false).await.is_ok() {
                heard = true;
                // It is one purge, however often it is said.
                telling.message.asked = false;
            }
            sleep(AGAIN).await;
        }
        telling.said(&self.log);
        // Who has heard of it before it was stored may have taken from Redis what was still there.
        while self.publish(&mut telling, true).await.is_err() && !self.gives_up() {
            sleep(AGAIN).await;
        }
        telling.message
    }

    /// Whether a Redis that no cache has any more has been away for too long: what waits would wait, and
    /// take its room, for as long as the process runs. A cache that comes to share it again purges
    /// everything in its place.
    fn gives_up(&self) -> bool {
        let gives_up = self.users.give_up();
        if gives_up && !self.given_up.swap(true, SeqCst) {
            tracing::warn!("Redis, which no cache has any more, is not told of all purges");
        }
        gives_up
    }

    async fn publish(&self, telling: &mut Telling, logged: bool) -> Result<(), Away> {
        telling.message.set_logged(logged);
        let message = telling.message.encode();
        self.redis.publish(CHANNEL, message.as_bytes()).await
    }

    /// Purges what stands in Redis.
    async fn store(&self, telling: &mut Telling) -> Result<(), Away> {
        if !telling.message.is_of_urls() {
            return self.append(telling).await;
        }
        let urls = telling.message.aims.iter().filter_map(Aim::url);
        let tags = urls.flat_map(|(host, target)| url_tags(host, target));
        let guards: Vec<_> = tags
            .map(|tag| guard_key(self.redis.prefix(), &tag))
            .collect();
        let Some(since) = telling.stale_since else {
            return self.redis.forget(&guards).await;
        };
        for guard in &guards {
            let soft = soft_purge(since.millis());
            self.redis.soften(guard, soft).await?;
        }
        Ok(())
    }

    /// Adds a purge to the log.
    async fn append(&self, telling: &mut Telling) -> Result<(), Away> {
        telling.message.set_logged(true);
        let entry = telling.message.encode();
        let head = self.redis.append(entry.as_bytes()).await?;
        if telling.message.is_of_everything() {
            // Or each change of Redis from here on would purge all that gateways share.
            self.given_up.store(false, SeqCst);
        }
        // What has not been done here is done when the log is followed.
        if telling.done {
            for untold in &telling.untold {
                self.log.numbered(head, untold.unsaid.at);
            }
        }
        self.behind.notify_one();
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
                let Some(message) = Message::read(message).filter(|message| message.from != us)
                else {
                    return;
                };
                // What is in the log is purged when that is followed, and not twice.
                if message.is_of_urls() || !message.logged || !self.follows {
                    for aim in &message.aims {
                        cache.forget(aim, message.soft);
                    }
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
            while self.follow_once().await.is_err() {
                sleep(AGAIN).await;
            }
        }
    }

    /// While Redis is away the cache is let go of between two tries: a reload may have made another.
    async fn follow_once(&self) -> Result<(), Away> {
        let Some(cache) = self.cache.upgrade() else {
            return Ok(());
        };
        let redis = (&self.redis, usize::MAX);
        self.log.follow(&cache, redis, None).await?;
        Ok(())
    }
}

fn warn_of(instead: &Aim) {
    match instead {
        Aim::Host(host) => tracing::warn!(
            %host, "more changes than Redis takes; all of this host is purged instead"
        ),
        _ => tracing::warn!("more changes than Redis takes; everything is purged instead"),
    }
}

const CHANNEL: &str = "purges";
/// Purges that somebody has asked for and that wait for Redis; more become one of everything.
const MOST_WAITING: usize = 1_000;
/// Purges that are told together.
const MOST_AT_ONCE: usize = 64;
const AGAIN: Duration = Duration::from_millis(100);
/// How long the end of a process waits for its purges.
const LONGEST_DRAIN: Duration = Duration::from_secs(2);
/// How long a Redis is tried that was taken out of the configuration.
const LONGEST_DEBT: Duration = Duration::from_secs(300);

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[cfg(test)]
mod tests;
