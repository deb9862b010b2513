//! Decisions about limits: one script for all limits and windows of a request at once, and for several
//! requests together.

mod joint;
mod listing;

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value};
use smallvec::SmallVec;

use super::{Away, Lane, Redis, Sending, places::LAPSE_MICROS};
use crate::store::{Decision, KeyHash, Refused, Standing, Window};
pub(super) use joint::Joint;
use listing::Forgetting;
pub(super) use listing::Listing;
pub use listing::{SharedKeys, Unlisted};

/// The algorithms that count in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedAlgorithm {
    /// A rate, and so many at once.
    TokenBucket,
    /// So many from tick to tick.
    FixedWindow,
    /// The earlier window weighted.
    SlidingWindow,
    /// Every request by itself.
    SlidingLog,
    /// Those in flight, each by itself, until it ends or nobody says any more that it goes on.
    InFlight,
}

impl SharedAlgorithm {
    fn letter(self) -> u8 {
        match self {
            Self::TokenBucket => b't',
            Self::FixedWindow => b'f',
            Self::SlidingWindow => b's',
            Self::SlidingLog => b'e',
            Self::InFlight => b'h',
        }
    }
}

/// What the script is to do.
#[derive(Clone, Copy)]
enum Operation {
    Take,
    /// What taking would say.
    Look,
    /// What was taken so long ago.
    Give(Duration),
    Charge,
}

impl Operation {
    fn letter(self) -> u8 {
        match self {
            Self::Take => b't',
            Self::Look => b'l',
            Self::Give(_) => b'g',
            Self::Charge => b'c',
        }
    }

    fn number(self, ask: &SharedAsk<'_>) -> u64 {
        match self {
            _ if ask.limit.algorithm == SharedAlgorithm::InFlight => ask.place,
            Self::Take | Self::Charge => fastrand::u64(..),
            Self::Look => 0,
            Self::Give(ago) => u64::try_from(ago.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// A limit as Redis knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLimit<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it counts.
    pub algorithm: SharedAlgorithm,
    /// The windows of a key. It is always asked about windows of the same times.
    pub windows: &'a [Window],
    /// The largest quota of all who may be counted under a key: of so many requests, twice, every
    /// single one is kept where that is how it counts.
    pub largest: u32,
}

impl<'a> SharedLimit<'a> {
    /// Asks how a key stands, and takes nothing.
    #[must_use]
    pub fn look(self, key: KeyHash) -> SharedAsk<'a> {
        SharedAsk {
            limit: self,
            key,
            cost: 0,
            want: 0,
            enforced: false,
            place: 0,
        }
    }

    /// Asks for what has to be there, and for so much in all if there is so much.
    #[must_use]
    pub fn take(self, key: KeyHash, (cost, want): (u32, u32)) -> SharedAsk<'a> {
        SharedAsk {
            cost,
            want,
            enforced: true,
            ..self.look(key)
        }
    }
}

/// What one limit is asked.
#[derive(Clone, Copy, Debug)]
pub struct SharedAsk<'a> {
    /// The limit.
    pub limit: SharedLimit<'a>,
    /// The key. Limits that count the same caller have the same, and live on the same node.
    pub key: KeyHash,
    /// What has to be there.
    pub cost: u32,
    /// What is taken if there is so much; at least the cost.
    pub want: u32,
    /// Whether it can refuse: one in shadow mode holds up no other.
    pub enforced: bool,
    /// What the place is called that is taken in flight; says nothing to other algorithms.
    pub place: u64,
}

/// What one limit has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedTaken {
    /// The decision.
    pub decision: Decision,
    /// What was taken: nothing when a limit beside it refused.
    pub got: u32,
}

impl Redis {
    /// Takes from all limits, or from none.
    ///
    /// In a cluster they must have the same key.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline. Whether anything was taken is not known.
    pub async fn take(
        self: &Arc<Self>,
        worker: usize,
        asks: &[SharedAsk<'_>],
    ) -> Result<SmallVec<[SharedTaken; 2]>, Away> {
        match self.has_slots() {
            true => Box::pin(self.decide(worker, Operation::Take, asks)).await,
            false => self.take_jointly(worker, asks).await,
        }
    }

    /// What [`take`](Self::take) would say, without taking.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline.
    pub async fn look(
        self: &Arc<Self>,
        worker: usize,
        asks: &[SharedAsk<'_>],
    ) -> Result<SmallVec<[SharedTaken; 2]>, Away> {
        Box::pin(self.decide(worker, Operation::Look, asks)).await
    }

    /// Gives back what was taken so long ago, as far as it still counts. What Redis does not hear of
    /// stays charged.
    pub async fn give_back(self: &Arc<Self>, worker: usize, ask: SharedAsk<'_>, ago: Duration) {
        self.change(worker, Operation::Give(ago), ask).await;
    }

    /// Charges afterwards, into debt if need be.
    pub async fn charge(self: &Arc<Self>, worker: usize, ask: SharedAsk<'_>) {
        self.change(worker, Operation::Charge, ask).await;
    }

    /// A failure is counted; there is nobody who could do anything about it.
    async fn change(self: &Arc<Self>, worker: usize, operation: Operation, ask: SharedAsk<'_>) {
        match self.run(worker, operation, &[ask]).await {
            Ok(Value::BulkString(bytes)) if bytes.is_empty() => self.succeeded(Lane::Counts),
            Ok(_) => drop(self.garbage_on(Lane::Counts, 1)),
            Err(_) => {}
        }
    }

    /// How each window of a key stands; `None` when Redis does not know the key.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub async fn standings(
        self: &Arc<Self>,
        worker: usize,
        ask: SharedAsk<'_>,
    ) -> Result<Option<Vec<Standing>>, Away> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(&self.key(&ask)[..]);
        match self.ask(worker, &exists).await? {
            Value::Int(0) => return Ok(None),
            Value::Int(1) => {}
            _ => return Err(self.garbage_on(Lane::Counts, 1)),
        }
        let asks = each_window(&ask);
        let standings = self.take(worker, &asks).await?.into_iter().map(|taken| {
            let Decision::Granted { standing, .. } = taken.decision else {
                return Err(self.garbage_on(Lane::Counts, 1));
            };
            Ok(standing)
        });
        standings.collect::<Result<_, _>>().map(Some)
    }

    /// Forgets what a key has used; whether Redis knew it.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline.
    pub async fn forget_key(
        self: &Arc<Self>,
        worker: usize,
        ask: SharedAsk<'_>,
    ) -> Result<bool, Away> {
        let mut delete = redis::cmd("DEL");
        delete.arg(&self.key(&ask)[..]);
        // Also where there is no answer, or nobody is left to wait for one: it may be gone.
        let _forgetting = Forgetting(&self.listing);
        match self.ask(worker, &delete).await? {
            Value::Int(gone @ 0..=1) => Ok(gone == 1),
            _ => Err(self.garbage_on(Lane::Counts, 1)),
        }
    }

    async fn decide(
        self: &Arc<Self>,
        worker: usize,
        operation: Operation,
        asks: &[SharedAsk<'_>],
    ) -> Result<SmallVec<[SharedTaken; 2]>, Away> {
        let value = self.run(worker, operation, asks).await?;
        let taken = bytes_of(&value).and_then(|bytes| parse(bytes, asks));
        let taken = taken.ok_or_else(|| self.garbage_on(Lane::Counts, 1))?;
        self.succeeded(Lane::Counts);
        Ok(taken)
    }

    async fn run(
        self: &Arc<Self>,
        worker: usize,
        operation: Operation,
        asks: &[SharedAsk<'_>],
    ) -> Result<Value, Away> {
        let mut questions = Questions::new(operation);
        questions.add(self.prefix(), asks);
        let sending = Sending {
            // Given back twice it would be more than was taken, and charged twice more than it cost: with
            // nobody there who waits for it.
            again: !matches!(operation, Operation::Give(_) | Operation::Charge),
            ..Sending::ALONE
        };
        self.ask_script(worker, &questions, sending).await
    }

    async fn ask_script(
        self: &Arc<Self>,
        worker: usize,
        questions: &Questions,
        sending: Sending,
    ) -> Result<Value, Away> {
        let script = &self.scripts.quota;
        let push = |command: &mut Cmd| questions.push(command);
        self.call(Lane::Counts, worker, script, sending, push).await
    }

    fn key(&self, ask: &SharedAsk<'_>) -> Vec<u8> {
        let mut key = Vec::new();
        write_key(&mut key, self.prefix(), ask);
        key
    }
}

/// What one call asks the script, as that reads it.
struct Questions {
    operation: Operation,
    /// The keys, one behind the other, and where each ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
    /// All else, as one argument: each by itself costs the driver as much as all of it.
    packed: Vec<u8>,
}

impl Questions {
    fn new(operation: Operation) -> Self {
        Self {
            operation,
            keys: Vec::with_capacity(KEYS),
            ends: Vec::new(),
            packed: Vec::with_capacity(PACKED),
        }
    }

    /// One question more, of limits whose keys begin so.
    fn add(&mut self, prefix: &str, asks: &[SharedAsk<'_>]) {
        if self.packed.is_empty() {
            self.packed.push(self.operation.letter());
        }
        // The configuration has fewer limits, and of them and credentials fewer windows.
        let limits = u16::try_from(asks.len()).unwrap_or(u16::MAX);
        self.packed.extend_from_slice(&limits.to_be_bytes());
        for ask in asks.iter().take(limits.into()) {
            write_key(&mut self.keys, prefix, ask);
            self.ends.push(self.keys.len());
            self.pack(ask);
        }
    }

    fn pack(&mut self, ask: &SharedAsk<'_>) {
        let windows = u8::try_from(ask.limit.windows.len()).unwrap_or(u8::MAX);
        let mut limit = [0; 23];
        limit[..8].copy_from_slice(&self.operation.number(ask).to_be_bytes());
        limit[8..11].copy_from_slice(&[ask.limit.algorithm.letter(), ask.enforced.into(), windows]);
        limit[11..15].copy_from_slice(&ask.cost.to_be_bytes());
        limit[15..19].copy_from_slice(&ask.want.max(ask.cost).to_be_bytes());
        limit[19..].copy_from_slice(&ask.limit.largest.to_be_bytes());
        self.packed.extend_from_slice(&limit);
        for window in ask.limit.windows.iter().take(windows.into()) {
            let mut quota = [0; 16];
            quota[..4].copy_from_slice(&window.quota.to_be_bytes());
            quota[4..8].copy_from_slice(&window.bucket.to_be_bytes());
            quota[8..].copy_from_slice(&time_of(ask.limit.algorithm, window).to_be_bytes());
            self.packed.extend_from_slice(&quota);
        }
    }

    fn push(&self, command: &mut Cmd) {
        command.arg(self.ends.len());
        let mut begin = 0;
        for &end in &self.ends {
            command.arg(&self.keys[begin..end]);
            begin = end;
        }
        command.arg(&self.packed[..]);
    }
}

/// The key of what a limit is asked about.
fn write_key(key: &mut Vec<u8>, prefix: &str, ask: &SharedAsk<'_>) {
    write_name(key, prefix, (ask.limit.name, ask.key, ask.limit.algorithm));
}

/// A key's name in Redis. What is in braces alone decides on the node.
pub(super) fn write_name(
    key: &mut Vec<u8>,
    prefix: &str,
    (limit, hash, algorithm): (&str, KeyHash, SharedAlgorithm),
) {
    // By hand: it is made for every question, and formatting would be a tenth of its cost.
    write_before(key, prefix);
    key.extend_from_slice(&hash.digits());
    write_behind(key, algorithm, limit);
}

/// What stands before the hash in the names of all keys.
fn write_before(key: &mut Vec<u8>, prefix: &str) {
    key.extend_from_slice(prefix.as_bytes());
    key.extend_from_slice(b"limit:{");
}

/// What stands behind it in those of a limit's.
fn write_behind(key: &mut Vec<u8>, algorithm: SharedAlgorithm, limit: &str) {
    key.extend_from_slice(&[b'}', b':', algorithm.letter(), b':']);
    key.extend_from_slice(limit.as_bytes());
}

/// Asks how each window of a key stands by itself. Taking nothing looks only.
fn each_window<'a>(ask: &SharedAsk<'a>) -> Vec<SharedAsk<'a>> {
    let limit = ask.limit;
    let windows = limit.windows.chunks(1);
    windows
        .map(|windows| SharedLimit { windows, ..limit }.look(ask.key))
        .collect()
}

/// The microseconds of a window. A place in flight counts for so long unless it is told of again.
fn time_of(algorithm: SharedAlgorithm, window: &Window) -> u64 {
    match algorithm {
        SharedAlgorithm::InFlight => LAPSE_MICROS,
        _ => micros(window.per),
    }
}

/// Rounded up: never more than the quota.
fn micros(nanos: u64) -> u64 {
    nanos.div_ceil(1_000)
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

/// Reads the answer to a question; `None` when it is not one.
fn parse(bytes: &[u8], asks: &[SharedAsk<'_>]) -> Option<SmallVec<[SharedTaken; 2]>> {
    let (answers, rest) = bytes.as_chunks::<ANSWER>();
    if answers.len() != asks.len() || !rest.is_empty() {
        return None;
    }
    let answers = answers.iter().zip(asks);
    answers.map(|(answer, ask)| taken(answer, ask)).collect()
}

fn taken(answer: &[u8; ANSWER], ask: &SharedAsk<'_>) -> Option<SharedTaken> {
    let (&[fits, window], numbers) = answer.split_first_chunk()?;
    let (left, numbers) = numbers.split_first_chunk()?;
    let (got, wait) = numbers.split_first_chunk()?;
    let (left, got) = (u32::from_be_bytes(*left), u32::from_be_bytes(*got));
    let window = usize::from(window);
    let sane = window < ask.limit.windows.len() && got <= ask.want.max(ask.cost);
    let micros = u64::from_be_bytes(*wait.first_chunk()?);
    let nanos = micros.checked_mul(1_000)?;
    // Nobody knows when what is in flight ends.
    let wait = (ask.limit.algorithm != SharedAlgorithm::InFlight).then_some(nanos);
    let decision = match fits {
        _ if !sane => return None,
        1 => Decision::Granted {
            window,
            standing: Standing {
                remaining: left,
                reset: wait,
            },
        },
        0 if got == 0 => Decision::Refused {
            window,
            refusal: Refused { wait },
        },
        _ => return None,
    };
    Some(SharedTaken { decision, got })
}

/// Bytes a limit in an answer.
const ANSWER: usize = 18;
/// Room for the questions of a few requests.
const KEYS: usize = 256;
const PACKED: usize = 128;

#[cfg(test)]
mod model;
#[cfg(test)]
#[allow(dead_code, unreachable_pub)] // Tests of whole gateways use the rest.
#[path = "../../../tests/support/redis.rs"]
pub(super) mod server;
/// How long a test waits for its server.
#[cfg(test)]
const PATIENCE: Duration = Duration::from_secs(10);
#[cfg(test)]
mod tests;
