//! A cluster: which of its nodes has which keys.
//!
//! Each node has connections of its own, so that one that hangs holds up nobody who asks another. The
//! map of all slots is read anew by one task for the whole process, whenever a node says that a slot
//! has moved or that nobody has it, can't be reached or does not answer: another may have taken over.
//! Besides it is read every few seconds while there are calls: no node tells that another has joined.
//!
//! Hazards: the driver's own cluster connection is not used. While it connects to one node it sends
//! nothing to the others, it does so again for each key of a node that hangs, and it does not read the
//! map anew where calls are not answered.

mod slots;
mod told;

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
            Ordering::Release,
        },
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::try_join_all;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    Away, Failure, Lane, Redis,
    breaker::Weight,
    exchange::{Ask, Cause, cause},
    link::{Link, Node, Target},
};
use slots::{SLOTS, key_of, slot_of};
use told::{NAMELESS, Place, Span, spans};

/// A cluster.
pub(super) struct Cluster {
    /// Those that the configuration names.
    seeds: Box<[Arc<Node>]>,
    map: ArcSwap<Map>,
    /// Where a key was last said to be on its way to: in no map before it has all of a slot.
    guest: ArcSwapOption<Node>,
    /// Since when the map is being read, in milliseconds; 0 is not.
    reading: AtomicU64,
    /// When that last began, in milliseconds.
    looked: AtomicU64,
    /// Whether somebody waits for one that has not begun.
    again: AtomicBool,
    read: Notify,
}

/// Which node has which slot.
struct Map {
    nodes: Vec<Arc<Node>>,
    /// Those that may take over; nobody is sent there before one of the others says so.
    replicas: Vec<Arc<Node>>,
    /// Of each slot the number of its node.
    slots: Box<[u16]>,
    /// When it was told, in milliseconds; 0 is never.
    told: u64,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Arc<Node>>) -> Self {
        Self {
            seeds: seeds.into(),
            map: ArcSwap::from_pointee(Map::empty()),
            guest: ArcSwapOption::empty(),
            reading: AtomicU64::new(0),
            looked: AtomicU64::new(0),
            again: AtomicBool::new(false),
            read: Notify::new(),
        }
    }

    /// The node that has a slot; without one, for messages, any that is not left alone, if there is one.
    fn node(&self, slot: Option<u16>, now: u64) -> Option<Arc<Node>> {
        let map = self.map.load();
        match slot {
            Some(slot) => map.node(slot).cloned(),
            None => {
                let is_awake = |node: &&Arc<Node>| !node.is_resting(Lane::Counts, now);
                let awake = map.nodes.iter().find(is_awake);
                awake.or_else(|| map.nodes.first()).cloned()
            }
        }
    }

    /// All who may know the map: those that it has, in any order, before those that the configuration
    /// names, which may have left, or be of another cluster.
    pub(super) fn tellers(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.map.load().nodes.clone();
        fastrand::shuffle(&mut nodes);
        for seed in self.seeds.iter() {
            if find(&nodes, seed.place()).is_none() {
                nodes.push(Arc::clone(seed));
            }
        }
        nodes
    }

    /// Whether no node of the map has been of any use of late.
    fn is_away(&self) -> bool {
        let map = self.map.load();
        !map.nodes.is_empty() && map.nodes.iter().all(|node| node.is_away())
    }

    /// Takes over what a node has told; whether it was a map.
    fn learn(&self, told: &Value, teller: &Node, now: u64) -> bool {
        let Some(spans) = spans(told, teller.place().0) else {
            return false;
        };
        let mut map = Map::empty();
        let mut replicas: Vec<Place<'_>> = Vec::new();
        for span in &spans {
            let Some(node) = self.at(&map.nodes, span.place) else {
                return false;
            };
            // They stand behind each of its spans.
            if map.add(span, &node) {
                let room = MOST_NODES - replicas.len();
                replicas.extend(span.replicas.iter().copied().take(room));
            }
            if map.nodes.len() > MOST_NODES {
                return false;
            }
        }
        map.replicas = self.all_at(&map.nodes, &replicas);
        let is_one = !map.nodes.is_empty();
        if is_one {
            map.told = now.max(1);
            let before = self.map.swap(Arc::new(map));
            self.compare(&before);
        }
        is_one
    }

    /// Says so where another cluster seems to be asked now: what the one before has counted is there.
    fn compare(&self, before: &Map) {
        let now = self.map.load();
        if before.shares_none_with(&now) {
            tracing::warn!("no node of the Redis cluster is one that it had before");
        }
    }

    /// The node at a place: one that is known already, with its connections, or a new one.
    fn at(&self, nodes: &[Arc<Node>], place: (&str, u16)) -> Option<Arc<Node>> {
        let known = find(nodes, place)
            .or_else(|| self.known(place))
            .or_else(|| self.guest.load_full().filter(|node| node.place() == place));
        known.or_else(|| self.seeds.first()?.other(place).ok().map(Arc::new))
    }

    /// The nodes at these places, each once, without the `others`.
    fn all_at(&self, others: &[Arc<Node>], places: &[Place<'_>]) -> Vec<Arc<Node>> {
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for &place in places {
            if find(others, place).is_none() && find(&nodes, place).is_none() {
                nodes.extend(self.at(&[], place));
            }
        }
        nodes
    }

    /// A node of the map, replicas included, or one that the configuration names.
    fn known(&self, place: (&str, u16)) -> Option<Arc<Node>> {
        let of_map = self.map.load().find(place);
        of_map.or_else(|| find(&self.seeds, place))
    }

    /// Drops all connections for one purpose.
    pub(super) fn disconnect(&self, lane: Lane) {
        let nodes = self.tellers();
        nodes.iter().for_each(|node| node.disconnect(lane));
        let map = self.map.load();
        map.replicas.iter().for_each(|node| node.disconnect(lane));
        self.guest.store(None);
    }

    /// Whom a node names instead of itself: for good one that is known already, since the map tells
    /// more; for a key that is on its way, anybody.
    fn redirected(&self, from: &Node, error: &RedisError, asking: bool) -> Option<Arc<Node>> {
        let (address, _) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = match host.trim_start_matches('[').trim_end_matches(']') {
            // It is where the one is that says so.
            "" => from.place().0,
            NAMELESS => return None,
            host => host,
        };
        let place = (host, port.parse().ok()?);
        if !asking {
            return self.known(place);
        }
        let node = self.at(&[], place)?;
        self.guest.store(Some(Arc::clone(&node)));
        Some(node)
    }
}

impl Map {
    fn empty() -> Self {
        Self {
            nodes: Vec::new(),
            replicas: Vec::new(),
            slots: vec![NOBODY; usize::from(SLOTS)].into(),
            told: 0,
        }
    }

    fn node(&self, slot: u16) -> Option<&Arc<Node>> {
        let number = *self.slots.get(usize::from(slot))?;
        self.nodes.get(usize::from(number))
    }

    /// The node at a place, also where it is a replica.
    fn find(&self, place: (&str, u16)) -> Option<Arc<Node>> {
        find(&self.nodes, place).or_else(|| find(&self.replicas, place))
    }

    /// Whether it is no older than that.
    fn is_of_late(&self, most: u64, now: u64) -> bool {
        self.told != 0 && now.saturating_sub(self.told) <= most
    }

    /// Whether both have nodes, and none of them in common.
    fn shares_none_with(&self, other: &Self) -> bool {
        let is_shared = |node: &Arc<Node>| other.find(node.place()).is_some();
        let both = !self.nodes.is_empty() && !other.nodes.is_empty();
        both && !self.nodes.iter().any(is_shared)
    }

    /// Whether the node is one that it did not have.
    fn add(&mut self, span: &Span<'_>, node: &Arc<Node>) -> bool {
        let number = self.nodes.iter().position(|known| Arc::ptr_eq(known, node));
        let is_new = number.is_none();
        let number = number.unwrap_or(self.nodes.len());
        if is_new {
            self.nodes.push(Arc::clone(node));
        }
        let number = u16::try_from(number).unwrap_or(NOBODY);
        self.slots[usize::from(span.first)..=usize::from(span.last)].fill(number);
        is_new
    }
}

fn find(nodes: &[Arc<Node>], place: (&str, u16)) -> Option<Arc<Node>> {
    nodes.iter().find(|node| node.place() == place).cloned()
}

impl Redis {
    /// What the cluster answers. While a slot moves there may be no node that has all keys of a command: it
    /// has done nothing then, and is sent again a moment later if there is time for that.
    pub(super) async fn ask_cluster(
        self: &Arc<Self>,
        at: (Lane, usize),
        cluster: &Cluster,
        ask: Ask<'_>,
    ) -> Result<RedisResult<Value>, Failure> {
        let began = Instant::now();
        let left = || ask.patience.saturating_sub(began.elapsed());
        let mut answer = self.follow_redirects(at, cluster, ask).await?;
        for pause in MOMENTS {
            if !is_scattered(&answer) || left() <= pause {
                break;
            }
            sleep(pause).await;
            let patience = left();
            answer = self
                .follow_redirects(at, cluster, Ask { patience, ..ask })
                .await?;
        }
        Ok(answer)
    }

    /// The same now, over as many nodes as it takes.
    async fn follow_redirects(
        self: &Arc<Self>,
        at: (Lane, usize),
        cluster: &Cluster,
        mut ask: Ask<'_>,
    ) -> Result<RedisResult<Value>, Failure> {
        let began = Instant::now();
        let mut node = self.node_for(cluster, ask.command).await?;
        for _ in 0..REDIRECTS {
            let answer = self.ask_node(at, &node, ask).await?;
            let Err(error) = &answer else {
                return Ok(answer);
            };
            ask.asking = matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Ask));
            if !ask.asking && is_outdated(error) {
                self.reread();
            }
            if error.redirect_node().is_none() {
                return Ok(answer);
            }
            node = match cluster.redirected(&node, error, ask.asking) {
                Some(next) => next,
                None if ask.asking => return Err(Failure::new(Away::Refused, Weight::Nothing)),
                None => {
                    let left = ask.patience.saturating_sub(began.elapsed());
                    self.moved_from(cluster, &node, ask.command, left).await?
                }
            };
        }
        self.ask_node(at, &node, ask).await
    }

    /// The node that a new map has for a command's key, where the one of before names another that
    /// nobody knows.
    async fn moved_from(
        self: &Arc<Self>,
        cluster: &Cluster,
        before: &Arc<Node>,
        command: &Cmd,
        left: Duration,
    ) -> Result<Arc<Node>, Failure> {
        let read = cluster.read.notified();
        self.reread_at_once(cluster);
        // One that is late may have come all the same.
        let _ = timeout(left, read).await;
        let next = cluster.node(key_of(command).map(slot_of), self.now());
        next.filter(|next| !Arc::ptr_eq(next, before))
            .ok_or_else(|| Failure::new(Away::Refused, Weight::Nothing))
    }

    /// The node that has a command's key. The first who asks reads the map; the others wait for that,
    /// as [`link`](Self::link) says.
    async fn node_for(
        self: &Arc<Self>,
        cluster: &Cluster,
        command: &Cmd,
    ) -> Result<Arc<Node>, Failure> {
        let slot = key_of(command).map(slot_of);
        let known = || cluster.node(slot, self.now());
        if let Some(node) = known() {
            self.refresh(cluster);
            return Ok(node);
        }
        let read = cluster.read.notified();
        let since = self.reread();
        if !cluster.map.load().nodes.is_empty() {
            // It has been read just now, or nobody has that slot.
            return known().ok_or_else(|| Failure::new(Away::Refused, Weight::Nothing));
        }
        let reading = Failure::new(Away::Timeout, Weight::Nothing);
        let passed = since.map_or(0, |since| self.now().saturating_sub(since));
        if Duration::from_millis(passed) > self.timeout {
            return Err(reading);
        }
        timeout(self.timeout, read).await.map_err(|_| reading)?;
        known().ok_or_else(|| Failure::new(Away::Unreachable, Weight::Nothing))
    }

    /// Has a task read the map anew, unless one does already, or has a moment ago: since when.
    pub(super) fn reread(self: &Arc<Self>) -> Option<u64> {
        let Target::Cluster(cluster) = &self.target else {
            return None;
        };
        let now = self.now().max(1);
        let begun = cluster.reading.compare_exchange(0, now, AcqRel, Acquire);
        if begun.is_ok() {
            cluster.looked.store(now, Relaxed);
            let redis = Arc::clone(self);
            self.control
                .spawn(async move { redis.keep_reading().await });
        }
        begun.err()
    }

    /// The same for who waits for that: where it has been read a moment ago, it is as soon as may be.
    fn reread_at_once(self: &Arc<Self>, cluster: &Cluster) {
        if self.reread().is_some() {
            cluster.again.swap(true, AcqRel);
            // The pause may have ended meanwhile, and nobody have seen that.
            self.reread();
        }
    }

    /// The same by whoever comes when nobody has looked for a while.
    fn refresh(self: &Arc<Self>, cluster: &Cluster) {
        if self.now().saturating_sub(cluster.looked.load(Relaxed)) >= REFRESH {
            self.reread();
        }
    }

    /// Reads the map where it is older than a moment: what is said where nobody listens any more is
    /// lost. Many may do so at once, and all wait for one reading. For the control runtime.
    pub(super) async fn look_anew(self: &Arc<Self>) {
        let Target::Cluster(cluster) = &self.target else {
            return;
        };
        let is_fresh = cluster.map.load().is_of_late(FRESH, self.now());
        if is_fresh {
            return;
        }
        // An old one is better than none.
        if self.way(Lane::Counts).breaker.is_open() {
            // Only who listens comes here then. That none can be read is known, and nothing is to be
            // counted again.
            let _ = timeout(LOOKING, self.read_map(cluster)).await;
        } else {
            let read = cluster.read.notified();
            self.reread_at_once(cluster);
            let _ = timeout(LOOKING, read).await;
        }
    }

    /// The servers that have keys, each some of them. For the control runtime.
    pub(super) async fn mains(self: &Arc<Self>) -> Vec<Arc<Node>> {
        match &self.target {
            Target::Single(node) => vec![Arc::clone(node)],
            Target::Cluster(cluster) => {
                self.look_anew().await;
                cluster.map.load().nodes.clone()
            }
            Target::None => Vec::new(),
        }
    }

    /// Whether a node is none of the cluster's, nor a replica, by a map of late. That is kept so by whoever asks.
    pub(super) fn is_outside(self: &Arc<Self>, node: &Node) -> bool {
        let Target::Cluster(cluster) = &self.target else {
            return false;
        };
        self.refresh(cluster);
        let map = cluster.map.load();
        map.is_of_late(REFRESH + REFRESH / 2, self.now()) && map.find(node.place()).is_none()
    }

    async fn keep_reading(self: &Arc<Self>) {
        let Target::Cluster(cluster) = &self.target else {
            return;
        };
        let read = self.read_map(cluster).await;
        // Who tells the map may be somebody else than those that it names.
        let gone = Failure::new(Away::Unreachable, Weight::Opens);
        let failure = read.err().or_else(|| cluster.is_away().then_some(gone));
        if let Some(failure) = failure {
            self.failed(Lane::Counts, failure);
        }
        cluster.read.notify_waiters();
        sleep(PAUSE).await;
        cluster.reading.store(0, Release);
        // One of both sees the other: who waits marks this before looking whether it is being read.
        if cluster.again.swap(false, AcqRel) {
            self.reread();
        }
    }

    /// Reads the map from the first node that tells it.
    async fn read_map(self: &Arc<Self>, cluster: &Cluster) -> Result<(), Failure> {
        let mut failure = Failure::new(Away::Unreachable, Weight::Opens);
        for node in cluster.tellers() {
            match self.read_from(cluster, &node).await {
                Ok(()) => return Ok(()),
                // There may be somebody yet.
                Err(Away::Timeout) => failure = Failure::new(Away::Timeout, Weight::Counts),
                Err(away) if failure.weight == Weight::Opens => failure.away = away,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    async fn read_from(self: &Arc<Self>, cluster: &Cluster, node: &Arc<Node>) -> Result<(), Away> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let told = self.ask_beside(node, &command, PATIENCE).await?;
        match cluster.learn(&told, node, self.now()) {
            true => Ok(()),
            false => Err(Away::Garbage),
        }
    }

    /// Asks about stored answers by a command that takes any number of keys: once for each slot, all at
    /// once. What that has come to, with the numbers of the keys it was asked for.
    pub(super) async fn ask_slots(
        self: &Arc<Self>,
        worker: usize,
        name: &str,
        keys: &[&str],
    ) -> Result<Vec<(Vec<usize>, Value)>, Away> {
        let mut slots: Vec<(u16, Vec<usize>)> = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let slot = slot_of(key.as_bytes());
            match slots.iter_mut().find(|(known, _)| *known == slot) {
                Some((_, numbers)) => numbers.push(number),
                None => slots.push((slot, vec![number])),
            }
        }
        let mut asks = Vec::with_capacity(slots.len());
        for (_, numbers) in slots {
            asks.push(self.ask_slot(worker, name, keys, numbers));
        }
        try_join_all(asks).await
    }

    async fn ask_slot(
        self: &Arc<Self>,
        worker: usize,
        name: &str,
        keys: &[&str],
        numbers: Vec<usize>,
    ) -> Result<(Vec<usize>, Value), Away> {
        let mut command = redis::cmd(name);
        for &number in &numbers {
            command.arg(keys[number]);
        }
        let value = self.ask_on(Lane::Answers, worker, &command).await?;
        Ok((numbers, value))
    }

    /// A node to look at whether the cluster is back, and a key that it has: another one each time, since
    /// one may be dead while the others are fine.
    pub(super) async fn probed(self: &Arc<Self>, cluster: &Cluster) -> Option<(Arc<Node>, String)> {
        for node in cluster.tellers() {
            node.wake();
        }
        self.read_map(cluster).await.ok()?;
        let key = format!("{}probe:{}", self.prefix(), fastrand::u16(..));
        let node = cluster.node(Some(slot_of(key.as_bytes())), self.now())?;
        Some((node, key))
    }

    /// Has nobody wait for a node for a while, for those purposes, and says so where it is of no use any
    /// more. Another may have taken over.
    pub(super) fn leave_alone(self: &Arc<Self>, node: &Node, lanes: &[Lane], away: Away) {
        let now = self.now();
        for &lane in lanes {
            match away {
                Away::Timeout => node.rest_longer(lane, now),
                _ => node.rest(lane, now),
            }
        }
        if self.is_known(node) && node.is_to_be_named(now) {
            let (host, port) = node.place();
            let cause = away.as_str();
            tracing::warn!(host, port, cause, "a node of the Redis cluster is away");
        }
        self.reread();
    }

    /// Whether it is a node of the map, or the configuration names it: others come and go.
    fn is_known(&self, node: &Node) -> bool {
        let Target::Cluster(cluster) = &self.target else {
            return false;
        };
        cluster.known(node.place()).is_some()
    }

    /// Notes that a node has not answered a call. Of a connection the breaker hears once: it is one
    /// node's, and many may wait for that. After a few in a row another connection is tried a while
    /// later, and other nodes are asked whether they have taken over. Without a cluster the breaker
    /// hears of each call by itself; where it does not open, because other connections are fine, this
    /// one is given up too.
    fn unanswered(self: &Arc<Self>, at: (Lane, usize), node: &Node, link: &Arc<Link>) {
        let number = link.unanswered();
        if !self.is_cluster() {
            if number == SILENT_ALONE {
                node.slot(at).forget(link);
            }
            return;
        }
        match number {
            1 => self.weigh(at.0, Failure::new(Away::Timeout, Weight::Counts)),
            SILENT => {
                node.slot(at).forget(link);
                self.leave_alone(node, &[at.0], Away::Timeout);
            }
            _ => {}
        }
    }
}

/// Whether another node may have what was asked for.
fn is_outdated(error: &RedisError) -> bool {
    let moved = matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::ClusterDown)
    );
    moved || matches!(cause(error), Cause::Connection(_) | Cause::Replica)
}

/// Whether no node has all keys of a command, while their slot moves.
fn is_scattered(answer: &RedisResult<Value>) -> bool {
    let scattered =
        |error: &RedisError| matches!(error.kind(), ErrorKind::Server(ServerErrorKind::TryAgain));
    answer.as_ref().is_err_and(scattered)
}

/// A call that is under way. One that is dropped late has waited in vain.
pub(super) struct Waiting<'c> {
    pub(super) redis: &'c Arc<Redis>,
    pub(super) at: (Lane, usize),
    pub(super) node: &'c Node,
    pub(super) link: &'c Arc<Link>,
    pub(super) began: Instant,
    pub(super) is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Else its client has left, or there was little time left when it was sent.
        if !self.is_over && self.began.elapsed() >= self.redis.timeout / 2 {
            self.redis.unanswered(self.at, self.node, self.link);
        }
    }
}

/// More nodes are no cluster.
const MOST_NODES: usize = 1_024;
/// No number of a node.
const NOBODY: u16 = u16::MAX;
/// How often a command may be sent elsewhere, all within its deadline.
const REDIRECTS: u32 = 3;
/// After which pauses a command is sent again whose keys are on two nodes: keys of one slot move one behind
/// the other, and nobody is to wait for a slot that takes long.
const MOMENTS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(15)];
/// Calls in a row without an answer after which a connection is given up.
const SILENT: u32 = 3;
/// The same without a cluster: more than it takes to open the breaker.
const SILENT_ALONE: u32 = 6;
/// Between two readings of the map.
const PAUSE: Duration = Duration::from_millis(250);
/// The same, in milliseconds, where nothing says that it has changed.
const REFRESH: u64 = 10_000;
/// How old, in milliseconds, a map may be by which something is said.
const FRESH: u64 = 1_000;
/// How long it may take to read that one.
const LOOKING: Duration = Duration::from_millis(500);
/// How long one node may take to tell the map.
const PATIENCE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::{
        told::tests::{text, told, told_with},
        *,
    };
    use crate::config::Config;

    fn cluster(urls: &str) -> Box<Cluster> {
        let text = format!("[redis]\nurl = {urls}\n[routes.all]\nrespond = {{}}");
        let config = Config::parse("test.toml", &text).unwrap().config;
        match Target::new(&config.redis.unwrap(), 1) {
            Target::Cluster(cluster) => cluster,
            _ => panic!("it is one"),
        }
    }

    #[test]
    fn the_nodes_that_a_cluster_has_are_asked_before_those_that_the_configuration_names() {
        let cluster = cluster("['redis://10.0.0.1:1', 'redis://10.0.0.1:2']");
        let places = || -> Vec<_> {
            let tellers = cluster.tellers();
            tellers.iter().map(|node| node.place().1).collect()
        };
        let learn = |port| {
            let map = Value::Array(vec![told(0, 16_383, text("10.0.0.1"), port)]);
            assert!(cluster.learn(&map, &cluster.seeds[0], 1));
            cluster.map.load_full()
        };
        assert_eq!(places(), [1, 2]);
        let (one, other) = (learn(3), learn(4));
        assert_eq!(places(), [4, 1, 2]);
        assert!(one.shares_none_with(&other));
        assert!(!one.shares_none_with(&one));
        assert!(!Map::empty().shares_none_with(&one), "it is the first");
    }

    /// One whose cluster nobody has asked yet.
    fn unasked() -> Arc<Redis> {
        let tables = "[redis]\nurl = ['redis://10.0.0.1:1', 'redis://10.0.0.1:2']\n\
                      [routes.all]\nrespond = {}";
        let config = Config::parse("test.toml", tables).unwrap().config;
        let control = tokio::runtime::Handle::current();
        let metrics = crate::telemetry::Metrics::new().redis();
        Redis::new(&config.redis.unwrap(), 1, metrics, &control)
    }

    #[tokio::test]
    async fn who_is_sent_to_a_node_that_nobody_knows_waits_for_the_map() {
        let redis = unasked();
        let Target::Cluster(cluster) = &redis.target else {
            panic!("it is one");
        };
        let before = Arc::clone(&cluster.seeds[0]);
        // Another one reads.
        cluster.reading.store(1, Release);
        let reads = async {
            let map = Value::Array(vec![told(0, 16_383, text("10.0.0.1"), 3)]);
            assert!(cluster.learn(&map, &before, 1));
            cluster.read.notify_waiters();
        };
        let mut command = redis::cmd("GET");
        command.arg("key");
        let waits = redis.moved_from(cluster, &before, &command, Duration::from_secs(30));
        let (next, ()) = tokio::join!(waits, reads);
        let next = next.ok().unwrap();
        assert_eq!(next.place(), ("10.0.0.1", 3));
        assert!(cluster.again.load(Relaxed), "that may have been a pause");
        let waits = redis.moved_from(cluster, &next, &command, Duration::ZERO);
        assert!(waits.await.is_err(), "it is the one that has said so");
    }

    #[tokio::test]
    async fn a_node_that_the_map_does_not_have_any_more_is_left_by_who_listens_there() {
        let redis = unasked();
        let Target::Cluster(cluster) = &redis.target else {
            panic!("it is one");
        };
        let node = Arc::clone(&cluster.seeds[0]);
        let learn = |port, replica| {
            let main = (text("10.0.0.1"), port);
            let map = Value::Array(vec![told_with(0, 16_383, main, replica)]);
            assert!(cluster.learn(&map, &node, redis.now()));
        };
        assert!(!redis.is_outside(&node), "nobody knows");
        learn(1, 8);
        assert!(!redis.is_outside(&node));
        let replica = Arc::clone(&cluster.map.load().replicas[0]);
        assert!(!redis.is_outside(&replica), "it may take over");
        learn(2, 9);
        assert!(redis.is_outside(&node) && redis.is_outside(&replica));
    }

    #[test]
    fn a_replica_that_takes_over_is_followed_before_the_map_says_so() {
        let cluster = cluster("['redis://10.0.0.1:1', 'redis://10.0.0.1:2']");
        let from = Arc::clone(&cluster.seeds[0]);
        let map = |main: (&str, i64)| {
            let first = told(0, 99, text(main.0), main.1);
            Value::Array(vec![first, told(100, 16_383, text("10.0.0.1"), 2)])
        };
        assert!(cluster.learn(&map(("10.0.0.1", 1)), &from, 1));
        let moved = || {
            let kind = ErrorKind::Server(ServerErrorKind::Moved);
            let told = RedisError::from((kind, "told", "7 10.0.0.9:1".to_owned()));
            cluster.redirected(&from, &told, false)
        };
        let replica = moved().unwrap();
        assert_eq!(cluster.map.load().replicas.len(), 1, "both have the same");
        assert!(find(&cluster.tellers(), replica.place()).is_none());
        // It is a main node then, and none of its own.
        assert!(cluster.learn(&map(("10.0.0.9", 1)), &from, 2));
        let main = cluster.node(Some(7), 2).unwrap();
        assert!(Arc::ptr_eq(&main, &replica), "its connections are kept");
        assert!(cluster.map.load().replicas.is_empty());
    }

    #[test]
    fn a_node_that_no_map_has_is_asked_for_keys_on_their_way_alone() {
        let cluster = cluster("['redis://10.0.0.1:1', 'redis://10.0.0.1:2']");
        let from = Arc::clone(&cluster.seeds[0]);
        let redirected = |kind, to: &str| {
            let told = RedisError::from((ErrorKind::Server(kind), "told", format!("7 {to}")));
            let asking = kind == ServerErrorKind::Ask;
            cluster.redirected(&from, &told, asking)
        };
        let (moved, ask) = (ServerErrorKind::Moved, ServerErrorKind::Ask);
        assert!(redirected(moved, "10.0.0.1:2").is_some());
        assert!(redirected(moved, ":2").is_some(), "where that one is");
        assert!(redirected(moved, "10.0.0.1:3").is_none());
        let new = redirected(ask, "10.0.0.1:3").unwrap();
        let again = redirected(ask, "10.0.0.1:3").unwrap();
        assert!(Arc::ptr_eq(&new, &again), "its connections are kept");
        assert_eq!(cluster.tellers().len(), 2);
        for kind in [moved, ask] {
            assert!(redirected(kind, "?:2").is_none());
        }
    }

    #[test]
    fn a_node_that_does_not_serve_a_slot_says_that_the_map_has_changed() {
        let outdated = |kind| is_outdated(&RedisError::from((ErrorKind::Server(kind), "told")));
        assert!(outdated(ServerErrorKind::ClusterDown));
        assert!(outdated(ServerErrorKind::Moved));
        assert!(outdated(ServerErrorKind::MasterDown));
        assert!(!outdated(ServerErrorKind::TryAgain));
        assert!(!outdated(ServerErrorKind::Ask));
    }
}
