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
mod exchange;
mod link;
mod log;
mod places;
mod quota;
mod script;

pub use answers::{Begun, Guard, Keeping, SOFT, Turn};
pub use channel::Heard;
pub use log::{LogHead, LogPart};
pub use places::Place;
pub use quota::{SharedAlgorithm, SharedAsk, SharedKeys, SharedLimit, SharedTaken, Unlisted};

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use redis::{Cmd, Value};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{config, telemetry::RedisMetrics};
use breaker::{Breaker, Weight, pause};
use deadlines::Deadlines;
use exchange::Ask;
use link::Target;
use places::Places;
use quota::{Joint, Listing};
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
    /// As many: what the requests of each hold.
    places: Box<[Places]>,
    /// All places that have not been given back.
    unreturned: TaskTracker,
    /// Who lists keys: one at a time.
    listing: Listing,
    counts: Way,
    answers: Way,
    metrics: RedisMetrics,
    scripts: Scripts,
    began: Instant,
    control: Handle,
    /// Whether a task looks for Redis to be back.
    recovers: AtomicBool,
    /// Whether the configuration says so, or it was found to be a cluster, though one server is named.
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
            places: (0..=workers).map(|_| Places::default()).collect(),
            unreturned: TaskTracker::new(),
            listing: Listing::default(),
            counts: Way::default(),
            answers: Way::default(),
            metrics,
            scripts: Scripts::new(),
            began: Instant::now(),
            control: control.clone(),
            recovers: AtomicBool::new(false),
            has_slots: AtomicBool::new(config.one_key_per_call),
            in_effect: AtomicBool::new(false),
        })
    }

    /// The runtime for what no request waits for: its connection is that of no worker.
    #[must_use]
    pub fn beside(&self) -> &Handle {
        &self.control
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

    /// Whether keys have slots, as in a cluster: one command can reach those of one slot only.
    #[must_use]
    pub fn has_slots(&self) -> bool {
        self.is_cluster() || self.has_slots.load(SeqCst)
    }

    fn is_cluster(&self) -> bool {
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
        let value = self.value(lane, worker, command, Sending::ALONE).await?;
        self.succeeded(lane);
        Ok(value)
    }

    /// The same of which it is to be seen yet whether it is an answer.
    async fn value(
        self: &Arc<Self>,
        lane: Lane,
        worker: usize,
        command: &Cmd,
        sending: Sending,
    ) -> Result<Value, Away> {
        match self.send(lane, worker, command, sending).await? {
            Reply::Value(value) => Ok(value),
            Reply::NoScript => {
                let failure = Failure::new(Away::Refused, Weight::Counts);
                Err(self.failed(lane, failure.of(sending.requests)))
            }
        }
    }

    /// Counts stored answers that are not what was asked for.
    pub fn garbage(self: &Arc<Self>) -> Away {
        self.garbage_on(Lane::Answers, 1)
    }

    fn garbage_on(self: &Arc<Self>, lane: Lane, requests: u32) -> Away {
        let failure = Failure::new(Away::Garbage, Weight::Counts);
        self.failed(lane, failure.of(requests))
    }

    /// Notes that there was a usable answer.
    fn succeeded(&self, lane: Lane) {
        self.way(lane).breaker.succeeded();
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
                Ok(reply)
            }
            Err(failure) => Err(self.failed(lane, failure.of(requests))),
        }
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
            self.wake_keepers();
            tracing::info!("Redis is back");
        }
    }

    fn failed(self: &Arc<Self>, lane: Lane, failure: Failure) -> Away {
        let away = failure.away;
        // Where no request waits, many calls may serve one purpose: who makes them counts.
        if failure.requests > 0 {
            self.count_error(away);
        }
        self.weigh(lane, failure);
        away
    }

    fn count_error(&self, away: Away) {
        let errors = &self.metrics.errors;
        errors.with_label_values(&[away.as_str()]).inc();
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

/// How many times a deadline is looked at until it is there.
const TICKS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, telemetry::Metrics};

    /// A gateway's way to a server, which waits so long at most and is asked from the test alone.
    pub(super) fn way_to(url: &str, timeout: &str) -> Arc<Redis> {
        let text =
            format!("[redis]\nurl = '{url}'\ntimeout = '{timeout}'\n[routes.all]\nrespond = {{}}");
        let config = Config::parse("redis.toml", &text).unwrap().config;
        let metrics = Metrics::new().redis();
        Redis::new(&config.redis.unwrap(), 1, metrics, &Handle::current())
    }

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
