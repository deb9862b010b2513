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
    fn letter(self) -> &'static str {
        match self {
            Self::TokenBucket => "t",
            Self::FixedWindow => "f",
            Self::SlidingWindow => "s",
            Self::SlidingLog => "e",
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
    /// Its word, and the number behind that.
    fn arguments(self) -> (&'static str, u64) {
        match self {
            Self::Take => ("take", fastrand::u64(..)),
            Self::Look => ("look", 0),
            Self::Give(ago) => {
                let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
                ("give", ago)
            }
            Self::Charge => ("charge", fastrand::u64(..)),
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
    /// Its windows.
    pub windows: &'a [Window],
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
        exists.arg(self.key(&ask));
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
        delete.arg(self.key(&ask));
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
    fn key(&self, ask: &SharedAsk<'_>) -> String {
        // By hand: it is made for every question, and formatting would be a tenth of its cost.
        let prefix = self.prefix();
        let mut key = String::with_capacity(prefix.len() + ask.limit.len() + 48);
        key.push_str(prefix);
        key.push_str("limit:{");
        ask.key.push_to(&mut key);
        key.push_str("}:");
        key.push_str(ask.algorithm.letter());
        key.push(':');
        key.push_str(ask.limit);
        key
    }

    fn push(&self, command: &mut Cmd, operation: Operation, asks: &[SharedAsk<'_>]) {
        command.arg(asks.len());
        for ask in asks {
            command.arg(self.key(ask));
        }
        let (word, number) = operation.arguments();
        command.arg(word).arg(number);
        for ask in asks {
            let enforced = u8::from(ask.enforced);
            command
                .arg(ask.algorithm.letter())
                .arg(enforced)
                .arg(ask.cost);
            command.arg(ask.want.max(ask.cost)).arg(ask.windows.len());
            for window in ask.windows {
                command
                    .arg(window.quota)
                    .arg(micros(window.per))
                    .arg(window.bucket);
            }
        }
    }
}

/// Rounded up: never more than the quota.
fn micros(nanos: u64) -> u64 {
    nanos.div_ceil(1_000)
}

/// Reads the answer; `None` when it is not one.
fn parse(value: &Value, asks: &[SharedAsk<'_>]) -> Option<SmallVec<[SharedTaken; 2]>> {
    let Value::BulkString(text) = value else {
        return None;
    };
    let mut numbers = SmallVec::<[u64; 10]>::new();
    for digits in text
        .split(|byte| *byte == b' ')
        .take(asks.len() * FIGURES + 1)
    {
        numbers.push(number(digits)?);
    }
    if numbers.len() != asks.len() * FIGURES {
        return None;
    }
    let answers = numbers.chunks_exact(FIGURES).zip(asks);
    answers.map(|(numbers, ask)| taken(numbers, ask)).collect()
}

/// Digits alone; a sign is none.
fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn taken(numbers: &[u64], ask: &SharedAsk<'_>) -> Option<SharedTaken> {
    let &[fits, window, left, wait, got] = numbers else {
        return None;
    };
    let window = usize::try_from(window).ok()?;
    let got = u32::try_from(got).ok()?;
    let sane = window < ask.windows.len() && got <= ask.want.max(ask.cost);
    let wait = Some(wait.checked_mul(1_000)?);
    let decision = match fits {
        _ if !sane => return None,
        1 => Decision::Granted {
            window,
            standing: Standing {
                remaining: u32::try_from(left).ok()?,
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

/// Numbers a limit in an answer.
const FIGURES: usize = 5;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
