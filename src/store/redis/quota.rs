//! Decisions about limits: one script a decision, for all limits and windows at once.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value};
use smallvec::SmallVec;

use super::{Away, Lane, Redis};
use crate::store::{Decision, KeyHash, Refused, Standing, Window};

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
}

impl SharedAlgorithm {
    fn letter(self) -> u8 {
        match self {
            Self::TokenBucket => b't',
            Self::FixedWindow => b'f',
            Self::SlidingWindow => b's',
            Self::SlidingLog => b'e',
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
    /// Its letter, and the number behind that.
    fn arguments(self) -> (u8, u64) {
        match self {
            Self::Take => (b't', fastrand::u64(..)),
            Self::Look => (b'l', 0),
            Self::Give(ago) => {
                let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
                (b'g', ago)
            }
            Self::Charge => (b'c', fastrand::u64(..)),
        }
    }
}

/// What one limit is asked.
#[derive(Clone, Copy, Debug)]
pub struct SharedAsk<'a> {
    /// The limit's name.
    pub limit: &'a str,
    /// The key. Limits that count the same caller have the same, and live on the same node.
    pub key: KeyHash,
    /// How it counts.
    pub algorithm: SharedAlgorithm,
    /// Its windows. A key is always asked about windows of the same times.
    pub windows: &'a [Window],
    /// The largest quota of all who may be counted under the key: of so many requests, twice, every
    /// single one is kept where that is how it counts.
    pub largest: u32,
    /// What has to be there.
    pub cost: u32,
    /// What is taken if there is so much; at least the cost.
    pub want: u32,
    /// Whether it can refuse: one in shadow mode holds up no other.
    pub enforced: bool,
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
        self.decide(worker, Operation::Take, asks).await
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
        self.decide(worker, Operation::Look, asks).await
    }

    /// Gives back what was taken so long ago, as far as it still counts. What Redis does not hear of
    /// stays charged.
    pub async fn give_back(self: &Arc<Self>, worker: usize, ask: SharedAsk<'_>, ago: Duration) {
        // The failure is counted; there is nobody who could do anything about it.
        let _ = self.run(worker, Operation::Give(ago), &[ask]).await;
    }

    /// Charges afterwards, into debt if need be.
    pub async fn charge(self: &Arc<Self>, worker: usize, ask: SharedAsk<'_>) {
        // As above.
        let _ = self.run(worker, Operation::Charge, &[ask]).await;
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
            _ => return Err(self.garbage_on(Lane::Counts)),
        }
        // Taking nothing looks only; each window is asked by itself, under the same key.
        let (cost, want) = (0, 0);
        let windows = ask.windows.chunks(1);
        let asks: Vec<_> = windows
            .map(|windows| SharedAsk {
                windows,
                cost,
                want,
                ..ask
            })
            .collect();
        let standings = self.take(worker, &asks).await?.into_iter().map(|taken| {
            let Decision::Granted { standing, .. } = taken.decision else {
                return Err(self.garbage_on(Lane::Counts));
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
        match self.ask(worker, &delete).await? {
            Value::Int(gone @ 0..=1) => Ok(gone == 1),
            _ => Err(self.garbage_on(Lane::Counts)),
        }
    }

    async fn decide(
        self: &Arc<Self>,
        worker: usize,
        operation: Operation,
        asks: &[SharedAsk<'_>],
    ) -> Result<SmallVec<[SharedTaken; 2]>, Away> {
        let value = self.run(worker, operation, asks).await?;
        parse(&value, asks).ok_or_else(|| self.garbage_on(Lane::Counts))
    }

    async fn run(
        self: &Arc<Self>,
        worker: usize,
        operation: Operation,
        asks: &[SharedAsk<'_>],
    ) -> Result<Value, Away> {
        let script = &self.scripts.quota;
        let push = |command: &mut Cmd| self.push(command, operation, asks);
        // Given back twice it would be more than was taken.
        let again = !matches!(operation, Operation::Give(_));
        self.call(Lane::Counts, worker, script, again, push).await
    }

    /// The key's name in Redis. What is in braces alone decides on the node.
    fn key(&self, ask: &SharedAsk<'_>) -> Bytes {
        // By hand: it is made for every question, and formatting would be a tenth of its cost.
        let mut key = Bytes::from_slice(self.prefix().as_bytes());
        key.extend_from_slice(b"limit:{");
        key.extend_from_slice(&ask.key.digits());
        key.extend_from_slice(&[b'}', b':', ask.algorithm.letter(), b':']);
        key.extend_from_slice(ask.limit.as_bytes());
        key
    }

    fn push(&self, command: &mut Cmd, operation: Operation, asks: &[SharedAsk<'_>]) {
        command.arg(asks.len());
        for ask in asks {
            command.arg(&self.key(ask)[..]);
        }
        command.arg(&packed(operation, asks)[..]);
    }
}

/// What is short enough for the stack.
type Bytes = SmallVec<[u8; 128]>;

/// All that the script has to know, as one argument: each by itself costs the driver as much as all of it.
fn packed(operation: Operation, asks: &[SharedAsk<'_>]) -> Bytes {
    let (letter, number) = operation.arguments();
    let mut bytes = Bytes::new();
    bytes.push(letter);
    bytes.extend_from_slice(&number.to_be_bytes());
    for ask in asks {
        // The configuration and what credentials bring have fewer.
        let windows = u8::try_from(ask.windows.len()).unwrap_or(u8::MAX);
        let mut limit = [0_u8; 15];
        limit[..3].copy_from_slice(&[ask.algorithm.letter(), ask.enforced.into(), windows]);
        limit[3..7].copy_from_slice(&ask.cost.to_be_bytes());
        limit[7..11].copy_from_slice(&ask.want.max(ask.cost).to_be_bytes());
        limit[11..].copy_from_slice(&ask.largest.to_be_bytes());
        bytes.extend_from_slice(&limit);
        for window in ask.windows.iter().take(windows.into()) {
            let mut quota = [0; 16];
            quota[..4].copy_from_slice(&window.quota.to_be_bytes());
            quota[4..8].copy_from_slice(&window.bucket.to_be_bytes());
            quota[8..].copy_from_slice(&micros(window.per).to_be_bytes());
            bytes.extend_from_slice(&quota);
        }
    }
    bytes
}

/// Rounded up: never more than the quota.
fn micros(nanos: u64) -> u64 {
    nanos.div_ceil(1_000)
}

/// Reads the answer; `None` when it is not one.
fn parse(value: &Value, asks: &[SharedAsk<'_>]) -> Option<SmallVec<[SharedTaken; 2]>> {
    let Value::BulkString(bytes) = value else {
        return None;
    };
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
    let sane = window < ask.windows.len() && got <= ask.want.max(ask.cost);
    let micros = u64::from_be_bytes(*wait.first_chunk()?);
    let wait = Some(micros.checked_mul(1_000)?);
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

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
