//! Decisions about limits: one script a decision, for all limits and windows at once.

use std::sync::Arc;

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
        let value = self.run(worker, "take", asks).await?;
        parse(&value, asks).ok_or_else(|| self.garbage())
    }

    /// Gives back what was taken. What Redis does not hear of stays charged.
    pub async fn give_back(self: &Arc<Self>, worker: usize, ask: SharedAsk<'_>) {
        // The failure is counted; there is nobody who could do anything about it.
        let _ = self.run(worker, "give", &[ask]).await;
    }

    /// Charges afterwards, into debt if need be.
    pub async fn charge(self: &Arc<Self>, worker: usize, ask: SharedAsk<'_>) {
        // As above.
        let _ = self.run(worker, "charge", &[ask]).await;
    }

    async fn run(
        self: &Arc<Self>,
        worker: usize,
        operation: &str,
        asks: &[SharedAsk<'_>],
    ) -> Result<Value, Away> {
        let script = &self.scripts.quota;
        let push = |command: &mut Cmd| self.push(command, operation, asks);
        self.call(Lane::Counts, worker, script, push).await
    }

    fn push(&self, command: &mut Cmd, operation: &str, asks: &[SharedAsk<'_>]) {
        command.arg(asks.len());
        for ask in asks {
            let (prefix, letter) = (self.prefix(), ask.algorithm.letter());
            // What is in braces alone decides on the node.
            command.arg(format!(
                "{prefix}limit:{{{}}}:{letter}:{}",
                ask.key, ask.limit
            ));
        }
        command.arg(operation).arg(fastrand::u64(..));
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
    let Value::Array(values) = value else {
        return None;
    };
    let mut numbers = SmallVec::<[u64; 10]>::new();
    for value in values.iter().take(asks.len() * FIGURES + 1) {
        match value {
            Value::Int(number) => numbers.push(u64::try_from(*number).ok()?),
            _ => return None,
        }
    }
    if numbers.len() != asks.len() * FIGURES {
        return None;
    }
    let answers = numbers.chunks_exact(FIGURES).zip(asks);
    answers.map(|(numbers, ask)| taken(numbers, ask)).collect()
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::KeyHasher;

    fn with_ask<T>(run: impl FnOnce(&[SharedAsk<'_>]) -> T) -> T {
        let windows = [Window::new(5, std::time::Duration::from_secs(1), None)];
        run(&[SharedAsk {
            limit: "one",
            key: KeyHasher::default().hash(b"key"),
            algorithm: SharedAlgorithm::TokenBucket,
            windows: &windows,
            cost: 1,
            want: 3,
            enforced: true,
        }])
    }

    fn parsed(numbers: &[i64]) -> Option<SharedTaken> {
        let values = numbers.iter().map(|number| Value::Int(*number)).collect();
        with_ask(|asks| parse(&Value::Array(values), asks)).map(|taken| taken[0])
    }

    #[test]
    fn an_answer_is_five_numbers_in_range() {
        let standing = Standing {
            remaining: 2,
            reset: Some(7_000),
        };
        let granted = Decision::Granted {
            window: 0,
            standing,
        };
        let taken = parsed(&[1, 0, 2, 7, 3]).unwrap();
        assert_eq!((taken.decision, taken.got), (granted, 3));
        let refusal = Refused { wait: Some(9_000) };
        let refused = Decision::Refused { window: 0, refusal };
        assert_eq!(parsed(&[0, 0, 0, 9, 0]).unwrap().decision, refused);
        for wrong in [
            &[1, 0, 2, 7][..],
            &[1, 0, 2, 7, 3, 1],
            &[1, 1, 2, 7, 3],
            &[1, 0, 2, 7, 4],
            &[2, 0, 2, 7, 0],
            &[0, 0, 0, 9, 1],
            &[1, 0, -1, 7, 3],
            &[1, 0, 1 << 40, 7, 3],
            &[1, 0, 2, i64::MAX, 3],
        ] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn anything_else_is_garbage() {
        for value in [
            Value::Nil,
            Value::Okay,
            Value::Int(1),
            Value::BulkString(b"1".to_vec()),
            Value::Array(vec![Value::Nil; 5]),
        ] {
            assert_eq!(with_ask(|asks| parse(&value, asks)), None);
        }
    }

    proptest! {
        #[test]
        fn no_numbers_make_it_panic(numbers in prop::collection::vec(any::<i64>(), 0..12)) {
            let _ = parsed(&numbers);
        }
    }
}
