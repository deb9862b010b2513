//! What clients' requests have changed, until the other gateways are told of it.
//!
//! Any client may change URLs (RFC 9111 4.4), any number of them, as fast as it gets answers. So they wait
//! apart from the purges that somebody has asked for, which must not be held up: a URL waits once,
//! however often it changes meanwhile, and all that wait are told in few, long messages, the first first. There
//! is a bound, and beyond it more is purged, never less: all of the host of which most URLs wait; where that
//! would come to many hosts, everything. What is being told is half of it at most, or a flood at one host
//! would leave no room but for the few of others, and they would be the busiest.
//!
//! None is left out, also where no route here could have stored an answer of it: what stands in Redis may be
//! that of a gateway with other routes, or be served again when a reload brings the route back.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{purge::Aim, purge_log::PurgeLog, unsaid::Unsaid, urls::Held};

/// A purge that Redis does not know of yet.
pub(super) struct Untold {
    pub(super) unsaid: Unsaid,
    /// Lets what is read out of Redis be compared with it.
    _held: Held,
    _counted: TaskTrackerToken,
}

/// One of them, and what it purges.
pub(super) struct Change {
    pub(super) aim: Aim,
    pub(super) untold: Untold,
}

/// All that waits.
pub(super) struct Changes {
    state: Mutex<State>,
    added: Notify,
    /// Bytes that it may take.
    most: u64,
}

#[derive(Default)]
struct State {
    urls: HashMap<Arc<Aim>, Untold>,
    /// The same, in the order in which they came.
    order: VecDeque<Arc<Aim>>,
    /// What stands for URLs for which there was no room; a few at most.
    wide: Vec<Change>,
    /// What the URLs take, those included that are being told.
    bytes: u64,
    /// Whether nothing more will be added.
    closed: bool,
}

/// What is to be told next.
pub(super) struct Taken {
    pub(super) wide: Vec<Change>,
    /// So many URLs as are told in one go.
    pub(super) urls: Vec<Change>,
}

impl Untold {
    /// `counted` is there until it has been told.
    pub(super) fn new(unsaid: Unsaid, held: Held, counted: TaskTrackerToken) -> Self {
        Self {
            unsaid,
            _held: held,
            _counted: counted,
        }
    }

    /// Stands for another one, too.
    pub(super) fn join(&mut self, mut other: Self, log: &PurgeLog) {
        if other.unsaid.at < self.unsaid.at {
            mem::swap(&mut self.unsaid, &mut other.unsaid);
        }
        // Until Redis knows of the first, the other one counts with it.
        log.said(other.unsaid);
    }
}

impl Changes {
    /// With room for so many bytes.
    pub(super) fn new(most: u64) -> Self {
        Self {
            state: Mutex::default(),
            added: Notify::new(),
            most,
        }
    }

    /// Adds the change of a URL. `purge` is to purge in this process what is told in the place of URLs.
    pub(super) fn add(&self, change: Change, log: &PurgeLog, purge: impl Fn(&Aim)) {
        self.locked().add(change, self.most, log, purge);
        self.added.notify_one();
    }

    /// What is to be told next, as soon as something waits; `None` when nothing will any more.
    pub(super) async fn next(&self) -> Option<Taken> {
        loop {
            let (taken, closed) = self.locked().take(self.most);
            if !taken.wide.is_empty() || !taken.urls.is_empty() {
                return Some(taken);
            }
            if closed {
                return None;
            }
            self.added.notified().await;
        }
    }

    /// Notes that nothing more will be added.
    pub(super) fn close(&self) {
        self.locked().closed = true;
        self.added.notify_one();
    }

    /// Gives back the room of what has been told.
    pub(super) fn told<'a>(&self, urls: impl Iterator<Item = &'a Aim>) {
        let freed: u64 = urls.map(weight).sum();
        self.locked().bytes -= freed;
    }

    /// Bytes that are taken.
    pub(super) fn bytes(&self) -> u64 {
        self.locked().bytes
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Whole after a panic elsewhere: nothing in it panics between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, change: Change, most: u64, log: &PurgeLog, purge: impl Fn(&Aim)) {
        let Change { aim, untold } = change;
        if let Some(known) = self.wide.iter_mut().find(|known| covers(&known.aim, &aim)) {
            return known.untold.join(untold, log);
        }
        let bytes = weight(&aim);
        match self.urls.entry(Arc::new(aim)) {
            Entry::Occupied(mut known) => return known.get_mut().join(untold, log),
            Entry::Vacant(place) => {
                self.order.push_back(Arc::clone(place.key()));
                place.insert(untold);
            }
        }
        self.bytes += bytes;
        if self.bytes > most {
            self.widen(log, purge);
        }
    }

    /// What stands for many, and so many URLs as are told in one go; whether nothing more will be added.
    fn take(&mut self, most: u64) -> (Taken, bool) {
        let (mut urls, mut text, mut bytes) = (Vec::new(), 0, 0);
        while urls.len() < MOST_AT_ONCE
            && text < MOST_TEXT
            && bytes < most / 2
            && let Some(url) = self.order.pop_front()
        {
            text += length(&url);
            bytes += weight(&url);
            if let Some(untold) = self.urls.remove(&url) {
                let aim = Arc::unwrap_or_clone(url);
                urls.push(Change { aim, untold });
            }
        }
        if self.order.is_empty() {
            // No flood has its room for good.
            self.order = VecDeque::new();
            self.urls = HashMap::new();
        }
        let wide = mem::take(&mut self.wide);
        (Taken { wide, urls }, self.closed)
    }

    /// Puts one purge in the place of those of many URLs.
    fn widen(&mut self, log: &PurgeLog, purge: impl Fn(&Aim)) {
        let host = self.busiest().filter(|_| self.wide.len() < MOST_HOSTS);
        let aim = host.map_or(Aim::Everything, Aim::Host);
        // Before what is held of the URLs is let go of: until Redis knows of this one, nothing that it
        // reaches is taken from there.
        purge(&aim);
        let mut freed = 0;
        self.order.retain(|url| !covers(&aim, url));
        let urls = self.urls.extract_if(|url, _| covers(&aim, url));
        let urls = urls.map(|(url, untold)| {
            freed += weight(&url);
            untold
        });
        let wide = self.wide.extract_if(.., |known| covers(&aim, &known.aim));
        let all = urls.chain(wide.map(|known| known.untold));
        let all = all.reduce(|mut one, other| {
            one.join(other, log);
            one
        });
        self.bytes -= freed;
        self.wide.extend(all.map(|untold| Change { aim, untold }));
    }

    /// The host of which most URLs wait.
    fn busiest(&self) -> Option<Box<str>> {
        let mut counts = HashMap::<&str, usize>::new();
        for (host, _) in self.urls.keys().filter_map(|url| url.url()) {
            *counts.entry(host).or_default() += 1;
        }
        let busiest = counts.into_iter().max_by_key(|(_, count)| *count);
        busiest.map(|(host, _)| host.into())
    }
}

/// Whether one purge is part of another.
fn covers(wide: &Aim, aim: &Aim) -> bool {
    match (wide, aim) {
        (Aim::Everything, _) => true,
        (Aim::Host(host), Aim::Url { host: known, .. }) => host == known,
        _ => false,
    }
}

/// In how many bytes changes may wait, of so many of the cache.
pub(super) fn room(memory: u64) -> u64 {
    (memory / SHARE).min(MOST_BYTES)
}

/// What a URL takes that waits.
fn weight(url: &Aim) -> u64 {
    BESIDE + length(url) as u64
}

fn length(url: &Aim) -> usize {
    url.url()
        .map_or(0, |(host, target)| host.len() + target.len())
}

/// The part of the memory in which changes wait, as a divisor, and the most that it comes to.
const SHARE: u64 = 16;
const MOST_BYTES: u64 = 8 << 20;
/// What a URL takes beside its text: its places here and in the order of what Redis does not know of, and
/// its two marks.
const BESIDE: u64 = 600;
/// What is told in one go, and about how long that may be.
const MOST_AT_ONCE: usize = 256;
const MOST_TEXT: usize = 64 << 10;
/// Hosts that are purged as a whole; where it would be more, everything is.
const MOST_HOSTS: usize = 64;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio_util::task::TaskTracker;

    use super::*;

    /// Changes with room for so many URLs, and what was purged because there were more.
    struct Site {
        changes: Changes,
        log: PurgeLog,
        tracker: TaskTracker,
        purged: RefCell<Vec<Aim>>,
    }

    impl Site {
        fn new(urls: u64) -> Self {
            Self {
                changes: Changes::new(urls * weight(&url("a.test", 100))),
                log: PurgeLog::new(),
                tracker: TaskTracker::new(),
                purged: RefCell::default(),
            }
        }

        fn add(&self, host: &str, number: usize, at: u64) {
            let unsaid = self.log.announce(|| at);
            let change = Change {
                aim: url(host, number),
                untold: Untold::new(unsaid, Held::nothing(), self.tracker.token()),
            };
            let purge = |aim: &Aim| self.purged.borrow_mut().push(aim.clone());
            self.changes.add(change, &self.log, purge);
        }

        async fn next(&self) -> Taken {
            self.changes.next().await.unwrap()
        }
    }

    fn url(host: &str, number: usize) -> Aim {
        Aim::Url {
            host: host.into(),
            target: format!("/{number}").into(),
        }
    }

    #[tokio::test]
    async fn a_url_waits_once_and_counts_from_its_first_change() {
        let site = Site::new(10);
        for at in [30, 10, 20] {
            site.add("a.test", 100, at);
        }
        assert_eq!((site.log.unsaid_since(), site.tracker.len()), (10, 1));
        let some = site.next().await.urls;
        assert_eq!(some.len(), 1);
        // Being told, it takes no other's place: Redis may know of it already.
        site.add("a.test", 100, 40);
        let again = site.next().await;
        assert_eq!(again.urls.len(), 1);
        site.log.said(some[0].untold.unsaid);
        assert_eq!(site.log.unsaid_since(), 40);
    }

    #[tokio::test]
    async fn where_there_is_no_room_the_busiest_host_is_purged_as_a_whole() {
        let site = Site::new(10);
        for number in 100..103 {
            site.add("b.test", number, 50);
        }
        for number in 100..200 {
            site.add("a.test", number, number as u64);
        }
        assert_eq!(*site.purged.borrow(), [Aim::Host("a.test".into())]);
        assert_eq!(site.log.unsaid_since(), 50);
        let taken = site.next().await;
        assert_eq!((taken.wide.len(), taken.urls.len()), (1, 3));
        assert_eq!(taken.wide[0].aim, Aim::Host("a.test".into()));
        assert_eq!(taken.wide[0].untold.unsaid.at, 100, "the first of them");
    }

    #[tokio::test]
    async fn where_that_would_be_many_hosts_everything_is_purged() {
        let site = Site::new(1);
        for number in 100..300 {
            site.add(&format!("{number}.test"), number, number as u64);
        }
        let taken = site.next().await;
        assert_eq!((taken.wide.len(), taken.urls.len()), (1, 0));
        assert_eq!(taken.wide[0].aim, Aim::Everything);
        assert_eq!(site.log.unsaid_since(), 100);
        site.log.said(taken.wide[0].untold.unsaid);
        assert_eq!(site.log.unsaid_since(), u64::MAX, "nothing else waits");
        assert_eq!(site.purged.borrow().len(), MOST_HOSTS + 1);
    }

    #[tokio::test]
    async fn what_is_being_told_takes_room_until_it_has_been() {
        let site = Site::new(1_000);
        for number in 100..700 {
            site.add("a.test", number, 1);
        }
        let before = site.changes.bytes();
        let some = site.next().await.urls;
        assert_eq!(site.changes.bytes(), before);
        assert_eq!(some.len(), MOST_AT_ONCE);
        site.changes.told(some.iter().map(|change| &change.aim));
        let left = before - before * MOST_AT_ONCE as u64 / 600;
        assert_eq!(site.changes.bytes(), left);
        for _ in 0..2 {
            let some = site.next().await.urls;
            site.changes.told(some.iter().map(|change| &change.aim));
        }
        assert_eq!(site.changes.bytes(), 0);
        assert_eq!(site.changes.locked().order.capacity(), 0);
    }

    #[tokio::test]
    async fn urls_are_told_in_the_order_in_which_they_changed() {
        let site = Site::new(20);
        for number in [105, 101, 108, 101, 103] {
            site.add("a.test", number, 1);
        }
        let taken = site.next().await.urls;
        let aims: Vec<_> = taken.into_iter().map(|change| change.aim).collect();
        assert_eq!(aims, [105, 101, 108, 103].map(|it| url("a.test", it)));
    }

    #[tokio::test]
    async fn a_flood_that_is_being_told_has_no_other_host_purged() {
        let site = Site::new(10);
        for number in 100..110 {
            site.add("a.test", number, 1);
        }
        let told = site.next().await.urls;
        assert_eq!(told.len(), 5, "half of the room");
        site.add("b.test", 100, 2);
        assert_eq!(*site.purged.borrow(), [Aim::Host("a.test".into())]);
        for number in 110..120 {
            site.add("a.test", number, 3);
        }
        site.changes.told(told.iter().map(|change| &change.aim));
        let taken = site.next().await;
        let wide: Vec<_> = taken.wide.into_iter().map(|change| change.aim).collect();
        let urls: Vec<_> = taken.urls.into_iter().map(|change| change.aim).collect();
        assert_eq!(wide, [Aim::Host("a.test".into())]);
        assert_eq!(urls, [url("b.test", 100)]);
        assert_eq!(site.purged.borrow().len(), 1);
    }

    #[tokio::test]
    async fn long_urls_are_told_a_few_at_once() {
        let site = Site::new(1_000);
        let host = "a".repeat(MOST_TEXT / 4);
        for number in 0..6 {
            site.add(&host, number, 1);
        }
        for wanted in [4, 2] {
            assert_eq!(site.next().await.urls.len(), wanted);
        }
    }

    #[tokio::test]
    async fn what_waits_is_told_when_nothing_more_will_come() {
        let site = Site::new(10);
        site.add("a.test", 100, 1);
        site.changes.close();
        assert_eq!(site.next().await.urls.len(), 1);
        assert!(site.changes.next().await.is_none());
    }
}
