//! The Redis that gateways share.
//!
//! One connection a worker carries all of its requests' commands, and lives on that worker's runtime.
//! Stored answers have another beside it: a large one must not hold up a limit's decision.
//! Every call has a deadline. After a few failures the breaker of their kind opens for the whole
//! process, and after one refused connection those of both kinds: requests then go on without Redis at
//! the cost of one load. A task of the control runtime looks every now and then whether Redis is back,
//! whether or not anybody asks for it: no request is the first to find out.
//!
//! Of a cluster each worker has one connection to each node.
//!
//! What is rare (a cluster, a new connection, a second try) is a future in a box of its own: else that of each
//! call would be as large, and it is copied to where it runs.
//!
//! Hazards: the driver's own connection manager would retry for seconds and reconnect on whichever
//! runtime met the error, so it is not used. What Redis answers is checked in every detail: anything
//! may listen at that address.

mod answers;
mod breaker;
mod channel;
mod cluster;
mod deadlines;
mod link;
mod log;
mod quota;
mod script;

pub use answers::{Begun, Guard, Keeping, SOFT, Turn};
pub use channel::Heard;
pub use log::{LogHead, LogPart};
pub use quota::{SharedAlgorithm, SharedAsk, SharedTaken};

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use crate::{config, telemetry::RedisMetrics};
use breaker::{Breaker, Weight, pause};
use cluster::Waiting;
use deadlines::Deadlines;
use link::{Link, Node, Target};
use quota::Joint;
use script::Scripts;

/// A Redis, or a cluster of them.
pub struct Redis {
    target: Target,
    timeout: Duration,
    prefix: Box<str>,
    /// One a worker, and one for the control runtime.
    deadlines: Box<[Arc<Deadlines>]>,
    /// As many: what each is about to ask.
    joints: Box<[Mutex<Joint>]>,
    counts: Way,
    answers: Way,
    metrics: RedisMetrics,
    scripts: Scripts,
    began: Instant,
    control: Handle,
    /// Whether a task looks for Redis to be back.
    recovers: AtomicBool,
    /// Whether it was found to be a cluster, though the configuration names one server.
    has_slots: AtomicBool,
    /// Whether the figures tell of it: another may be the one that is in use.
    in_effect: AtomicBool,
}

/// What all connections for one purpose share.
#[derive(Default)]
struct Way {
    breaker: Breaker,
    /// Counts up when the breaker opens: connections of before are not used again.
    generation: AtomicU64,
}

/// Why Redis has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// It was not asked: the breaker is open.
    Open,
    /// It took longer than the deadline.
    Timeout,
    /// There is no connection, or it broke.
    Unreachable,
    /// It answered with an error: it is full, loading, a replica, or takes no such password.
    Refused,
    /// It answered something else than what it was asked.
    Garbage,
}

impl Away {
    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Garbage => "garbage",
        }
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a command has not come to anything, and what the breaker makes of it.
#[derive(Clone, Copy)]
struct Failure {
    away: Away,
    weight: Weight,
    /// Of how many requests it is one.
    requests: u32,
}

impl Failure {
    fn new(away: Away, weight: Weight) -> Self {
        Self {
            away,
            weight,
            requests: 1,
        }
    }

    fn of(self, requests: u32) -> Self {
        Self { requests, ..self }
    }
}

/// Whose command is sent, and how.
#[derive(Clone, Copy)]
struct Sending {
    /// How many requests wait for it.
    requests: u32,
    /// A second time where the connection turns out to be broken: it may then have been done twice.
    again: bool,
}

impl Sending {
    /// For one request.
    const ALONE: Self = Self {
        requests: 1,
        again: true,
    };
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// What is short, and what requests wait for: limits, messages.
    Counts,
    /// Stored answers.
    Answers,
}

impl Lane {
    const BOTH: [Self; 2] = [Self::Counts, Self::Answers];
}

/// A command, and how it is sent.
#[derive(Clone, Copy)]
struct Ask<'c> {
    command: &'c Cmd,
    /// A second time where the connection turns out to be broken: it may then have been done twice.
    again: bool,
    /// About a key that is on its way to another node, to that one.
    asking: bool,
    /// How long it waits for a connection.
    patience: Duration,
}

/// What a command has come to.
enum Reply {
    Value(Value),
    /// The script is not there (any more).
    NoScript,
}

impl Redis {
    /// The Redis of `[redis]`; the first who asks connects. When it is away, a task of the control runtime
    /// looks for it.
    #[must_use]
    pub fn new(
        config: &config::Redis,
        workers: usize,
        metrics: RedisMetrics,
        control: &Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            target: Target::new(config, workers),
            timeout: config.timeout,
            prefix: config.prefix.as_str().into(),
            deadlines: (0..=workers).map(|_| Arc::default()).collect(),
            joints: (0..=workers).map(|_| Mutex::default()).collect(),
            counts: Way::default(),
            answers: Way::default(),
            metrics,
            scripts: Scripts::new(),
            began: Instant::now(),
            control: control.clone(),
            recovers: AtomicBool::new(false),
            has_slots: AtomicBool::new(false),
            in_effect: AtomicBool::new(false),
        })
    }

    /// Has the figures tell of it from now on. Before the first answer it is not known to be away.
    pub fn take_effect(&self) {
        self.in_effect.store(true, SeqCst);
        self.show();
    }

    /// What all keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How long a call takes at most.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What calls of a worker have come to that together may take so long, or a tick longer; `None` where
    /// they take longer. Each call has its own deadline besides, which comes earlier than one as long.
    pub async fn within<T>(
        &self,
        worker: usize,
        most: Duration,
        calls: impl Future<Output = T>,
    ) -> Option<T> {
        let (deadlines, began) = (self.deadlines(worker), Instant::now());
        deadlines.within((began, most), self.tick(), calls).await
    }

    /// Whether keys live on several servers, so that one command can reach those of one slot only.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.target.is_cluster()
    }

    /// Sends a command on a worker's connection.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline.
    pub async fn ask(self: &Arc<Self>, worker: usize, command: &Cmd) -> Result<Value, Away> {
        self.ask_on(Lane::Counts, worker, command).await
    }

    async fn ask_on(
        self: &Arc<Self>,
        lane: Lane,
        worker: usize,
        command: &Cmd,
    ) -> Result<Value, Away> {
        match self.send(lane, worker, command, Sending::ALONE).await? {
            Reply::Value(value) => Ok(value),
            Reply::NoScript => Err(self.failed(lane, Failure::new(Away::Refused, Weight::Counts))),
        }
    }

    /// Counts stored answers that are not what was asked for.
    pub fn garbage(self: &Arc<Self>) -> Away {
        self.garbage_on(Lane::Answers)
    }

    fn garbage_on(self: &Arc<Self>, lane: Lane) -> Away {
        self.failed(lane, Failure::new(Away::Garbage, Weight::Counts))
    }

    async fn send(
        self: &Arc<Self>,
        lane: Lane,
        worker: usize,
        command: &Cmd,
        Sending { requests, again }: Sending,
    ) -> Result<Reply, Away> {
        if self.way(lane).breaker.is_open() {
            return Err(Away::Open);
        }
        let began = Instant::now();
        let ask = Ask {
            command,
            again,
            asking: false,
            patience: self.timeout,
        };
        // Where it is, so that it need not be copied there.
        let exchange = pin!(self.exchange((lane, worker), ask));
        // At the last tick before the time is over.
        let most = self.timeout.saturating_sub(self.tick());
        let deadlines = self.deadlines(worker);
        let outcome = deadlines.within((began, most), self.tick(), exchange).await;
        match outcome.unwrap_or_else(|| Err(self.late())) {
            Ok(reply) => {
                let metric = match lane {
                    Lane::Counts => &self.metrics.duration,
                    Lane::Answers => &self.metrics.answers_duration,
                };
                metric.observe(began.elapsed().as_secs_f64());
                self.way(lane).breaker.succeeded();
                Ok(reply)
            }
            Err(failure) => Err(self.failed(lane, failure.of(requests))),
        }
    }

    async fn exchange(self: &Arc<Self>, at: (Lane, usize), ask: Ask<'_>) -> Result<Reply, Failure> {
        let answer = match &self.target {
            Target::Single(node) => self.ask_node(at, node, ask).await?,
            Target::Cluster(cluster) => Box::pin(self.ask_cluster(at, cluster, ask)).await?,
            Target::None => return Err(Failure::new(Away::Unreachable, Weight::Opens)),
        };
        match answer.map_err(|error| cause(&error)) {
            Ok(value) => Ok(Reply::Value(value)),
            Err(Cause::NoScript) => Ok(Reply::NoScript),
            Err(cause) => Err(self.failure(cause)),
        }
    }

    /// What a node answers.
    async fn ask_node(
        self: &Arc<Self>,
        at: (Lane, usize),
        node: &Arc<Node>,
        ask: Ask<'_>,
    ) -> Result<RedisResult<Value>, Failure> {
        let link = match self.current(at, node) {
            Some(link) => link,
            None => Box::pin(self.link(at, node, ask.patience)).await?,
        };
        let answer = self.send_over(&link, at, node, ask).await;
        // Redis, or what stands between, has closed it while it was idle: that is no failure yet.
        match ask.again && is_broken(&answer) {
            true => Box::pin(self.ask_again(at, node, ask)).await,
            false => Ok(answer),
        }
    }

    async fn ask_again(
        self: &Arc<Self>,
        at: (Lane, usize),
        node: &Arc<Node>,
        ask: Ask<'_>,
    ) -> Result<RedisResult<Value>, Failure> {
        let link = self.link(at, node, ask.patience).await?;
        let answer = self.send_over(&link, at, node, ask).await;
        if self.is_cluster() && is_broken(&answer) {
            // It closes new ones, too: else one would be made for each call.
            self.leave_alone(node, &[at.0], Away::Unreachable);
        }
        Ok(answer)
    }

    /// The same over a connection, which is dropped when it is of no use any more.
    async fn send_over(
        self: &Arc<Self>,
        link: &Arc<Link>,
        at: (Lane, usize),
        node: &Node,
        ask: Ask<'_>,
    ) -> RedisResult<Value> {
        let mut waiting = Waiting {
            redis: self,
            at,
            node,
            link,
            began: Instant::now(),
            is_over: false,
        };
        let answer = match ask.asking {
            true => Box::pin(link.send_asking(ask.command)).await,
            false => link.send(ask.command).await,
        };
        waiting.is_over = true;
        let is_useless = match answer.as_ref().err().map(cause) {
            Some(Cause::Connection(_)) => true,
            // Another server has taken over, and a new connection may lead to that one. What this one
            // refuses without writing it would go on to answer. The nodes of a cluster tell who it is.
            Some(Cause::Replica) => !self.is_cluster(),
            _ => false,
        };
        if is_useless {
            node.slot(at).forget(link);
        } else if node.is_left(at.0) && waiting.began.elapsed() < self.timeout {
            node.answered(at.0);
        }
        answer
    }

    /// What the breaker makes of an error of the driver.
    fn failure(&self, cause: Cause) -> Failure {
        match cause {
            Cause::Connection(Away::Unreachable) => {
                Failure::new(Away::Unreachable, self.unreachable())
            }
            Cause::Connection(away) => Failure::new(away, Weight::Counts),
            Cause::Replica if !self.is_cluster() => Failure::new(Away::Refused, Weight::Opens),
            Cause::Key => Failure::new(Away::Refused, Weight::Nothing),
            Cause::Slots => self.parted(),
            Cause::NoScript | Cause::Replica | Cause::Answer => {
                Failure::new(Away::Refused, Weight::Counts)
            }
        }
    }

    /// Who was taken for one server has slots as a cluster has. Decisions go by themselves from now on, each
    /// with the keys of one slot.
    fn parted(&self) -> Failure {
        let weight = match self.has_slots.swap(true, SeqCst) {
            true => Weight::Counts,
            false => Weight::Nothing,
        };
        if weight == Weight::Nothing {
            tracing::warn!(
                "Redis has slots as a cluster has, and `url` names one server: limits ask it for each request by itself"
            );
        }
        Failure::new(Away::Refused, weight)
    }

    /// What it says that there is no connection. Of a cluster it is one node's, whose keys others
    /// don't wait for: whoever reads the map notes that no node can be reached.
    fn unreachable(&self) -> Weight {
        match self.is_cluster() {
            true => Weight::Nothing,
            false => Weight::Opens,
        }
    }

    /// A call that has run into its deadline. Of a cluster what waits for a node is weighed by itself.
    fn late(&self) -> Failure {
        let weight = match self.is_cluster() {
            true => Weight::Nothing,
            false => Weight::Counts,
        };
        Failure::new(Away::Timeout, weight)
    }

    /// The worker's connection. Who comes first makes it; the others wait for it, each as long as its
    /// own deadline says, and it goes on when they have left. One that takes longer to make holds up
    /// nobody who comes later, and opens no breaker: the new connections of all workers would be
    /// dropped with it, and be made again, and again.
    async fn link(
        self: &Arc<Self>,
        at: (Lane, usize),
        node: &Arc<Node>,
        patience: Duration,
    ) -> Result<Arc<Link>, Failure> {
        if let Some(link) = self.current(at, node) {
            return Ok(link);
        }
        let slot = node.slot(at);
        let away = || Failure::new(slot.failure(), self.unreachable());
        let (made, now) = (slot.made(), self.now());
        if node.is_resting(at.0, now) {
            self.reread();
            return Err(away());
        }
        let connecting = Failure::new(Away::Timeout, Weight::Nothing);
        match slot.begin(now) {
            None => self.connect(at, node),
            Some(since) if Duration::from_millis(now.saturating_sub(since)) > patience => {
                self.reread();
                return Err(connecting);
            }
            Some(_) => {}
        }
        timeout(patience, made).await.map_err(|_| connecting)?;
        self.current(at, node).ok_or_else(away)
    }

    /// The same, where it is there.
    fn current(&self, at: (Lane, usize), node: &Node) -> Option<Arc<Link>> {
        node.slot(at)
            .current(self.way(at.0).generation.load(Relaxed))
    }

    fn connect(self: &Arc<Self>, at: (Lane, usize), node: &Arc<Node>) {
        let (redis, node) = (Arc::clone(self), Arc::clone(node));
        tokio::spawn(async move {
            let link = node.connect(&redis.way(at.0).generation).await;
            if let Err(away) = &link {
                if redis.is_cluster() {
                    redis.leave_alone(&node, &Lane::BOTH, *away);
                }
                redis.failed(at.0, Failure::new(*away, redis.unreachable()));
            }
            node.slot(at).finish(link);
        });
    }

    /// Has a task look for Redis, unless one does already.
    fn recover(self: &Arc<Self>) {
        if !self.recovers.swap(true, SeqCst) {
            self.control.spawn(recover(Arc::downgrade(self)));
        }
    }

    /// Tells the figures how it stands now, whoever was first: a failure may come while a look succeeds.
    fn show(&self) {
        if self.in_effect.load(SeqCst) {
            self.metrics.show(self.is_away());
        }
    }

    fn is_away(&self) -> bool {
        self.counts.breaker.is_open() || self.answers.breaker.is_open()
    }

    /// Looks whether Redis is back, by writing: a replica and a full server answer too. Whoever takes
    /// that takes all else.
    async fn probe(self: &Arc<Self>) {
        let probed = match &self.target {
            Target::Single(node) => Some((Arc::clone(node), format!("{}probe", self.prefix))),
            Target::Cluster(cluster) => self.probed(cluster).await,
            Target::None => None,
        };
        let Some((node, key)) = probed else { return };
        let Ok(link) = node.connect(&self.counts.generation).await else {
            return;
        };
        let mut command = redis::cmd("SET");
        command.arg(key).arg(1).arg("PX").arg(1_000);
        let answer = timeout(self.timeout, link.send(&command)).await;
        if matches!(answer, Ok(Ok(Value::Okay))) {
            node.answered(Lane::Counts);
            self.counts.breaker.close();
            self.answers.breaker.close();
            tracing::info!("Redis is back");
        }
    }

    fn failed(self: &Arc<Self>, lane: Lane, failure: Failure) -> Away {
        let away = failure.away;
        let errors = &self.metrics.errors;
        errors.with_label_values(&[away.as_str()]).inc();
        self.weigh(lane, failure);
        away
    }

    fn weigh(self: &Arc<Self>, lane: Lane, failure: Failure) {
        let Failure {
            away,
            weight,
            requests,
        } = failure;
        let opens = |lane| {
            let way = self.way(lane);
            let opened = way.breaker.failed(weight, requests);
            if opened {
                way.generation.fetch_add(1, Relaxed);
                // What still comes over them would be read on, however long it is.
                self.target.disconnect(lane);
            }
            opened
        };
        // Large answers may be too slow where what is short is not. Who can't be reached is reached by
        // neither.
        let opened = match weight {
            Weight::Opens => opens(Lane::Counts) | opens(Lane::Answers),
            _ => opens(lane),
        };
        if opened {
            self.show();
            tracing::warn!(
                cause = away.as_str(),
                "Redis is away; requests go on without it"
            );
            self.recover();
        }
    }

    fn way(&self, lane: Lane) -> &Way {
        match lane {
            Lane::Counts => &self.counts,
            Lane::Answers => &self.answers,
        }
    }

    fn deadlines(&self, worker: usize) -> &Arc<Deadlines> {
        // There is one at least.
        &self.deadlines[worker.min(self.deadlines.len() - 1)]
    }

    fn joint(&self, worker: usize) -> &Mutex<Joint> {
        &self.joints[worker.min(self.joints.len() - 1)]
    }

    /// The timers of the runtime know milliseconds.
    fn tick(&self) -> Duration {
        (self.timeout / TICKS).max(Duration::from_millis(1))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Looks for Redis until it is back, or nobody has it any more.
async fn recover(redis: Weak<Redis>) {
    for tries in 0.. {
        sleep(pause(tries)).await;
        let Some(redis) = redis.upgrade() else { return };
        redis.probe().await;
        if redis.is_away() {
            continue;
        }
        redis.recovers.store(false, SeqCst);
        redis.show();
        // Who has failed meanwhile has left it to this task.
        if !redis.is_away() || redis.recovers.swap(true, SeqCst) {
            return;
        }
    }
}

/// What an error of the driver says about the connection.
#[derive(Clone, Copy)]
enum Cause {
    NoScript,
    /// It is of no use any more.
    Connection(Away),
    /// It leads to a server that takes no writes, not yet or not any more.
    Replica,
    /// It is fine, and so are other keys: another program has taken this one, or a cluster is moving its
    /// slot. Whoever asks for it again and again takes nobody else out of Redis.
    Key,
    /// It is fine, and not for keys of several slots.
    Slots,
    /// It is fine.
    Answer,
}

fn is_broken(answer: &RedisResult<Value>) -> bool {
    let broken = |error| matches!(cause(error), Cause::Connection(Away::Unreachable));
    answer.as_ref().is_err_and(broken)
}

fn cause(error: &RedisError) -> Cause {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => Cause::NoScript,
        ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown,
        ) => Cause::Replica,
        ErrorKind::Server(ServerErrorKind::TryAgain) => Cause::Key,
        ErrorKind::Server(ServerErrorKind::CrossSlot) => Cause::Slots,
        ErrorKind::Extension if error.code() == Some("WRONGTYPE") => Cause::Key,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Cause::Connection(Away::Garbage),
        _ if error.is_io_error() || error.is_unrecoverable_error() => {
            Cause::Connection(Away::Unreachable)
        }
        _ => Cause::Answer,
    }
}

/// How many times a deadline is looked at until it is there.
const TICKS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn what_is_too_slow_for_large_answers_takes_no_limit_out_of_redis() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let (config, metrics) = (config::Redis::default(), Metrics::new().redis());
        let redis = Redis::new(&config, 1, metrics, runtime.handle());
        let open = || [Lane::Counts, Lane::Answers].map(|lane| redis.way(lane).breaker.is_open());
        for _ in 0..10 {
            redis.failed(Lane::Answers, Failure::new(Away::Timeout, Weight::Counts));
        }
        assert_eq!(open(), [false, true]);
        redis.failed(
            Lane::Answers,
            Failure::new(Away::Unreachable, Weight::Opens),
        );
        assert_eq!(open(), [true, true]);
    }
}
