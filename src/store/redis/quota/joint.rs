//! Decisions that are asked in one call.
//!
//! What requests ask while their worker goes through what it has to do is gathered, and goes to Redis
//! behind that: then the driver, the kernel and Redis itself do for many what they would do for each.
//! Nobody waits for it longer than it would have waited for its worker.

use std::{
    mem,
    sync::{Arc, MutexGuard, PoisonError},
};

use redis::Value;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{ANSWER, Operation, Questions, SharedAlgorithm, SharedAsk, SharedTaken, parse};
use crate::store::redis::{Away, Lane, Redis, Sending};

/// What is gathered of a worker.
pub(in crate::store::redis) struct Joint {
    questions: Questions,
    callers: Vec<Caller>,
    /// What Redis has to do for them.
    work: usize,
}

/// Who asks one of the questions.
struct Caller {
    limits: usize,
    answer: oneshot::Sender<Said>,
}

/// The bytes of one's own answer.
type Said = Result<Bytes, Away>;
type Bytes = SmallVec<[u8; 2 * ANSWER]>;

/// The task that asks what is gathered, unless there was so much that it was asked already. Where it ends
/// with its runtime before it has run, nobody is left to wait for it, and the next caller makes another.
struct Gathering {
    redis: Arc<Redis>,
    worker: usize,
    has_run: bool,
}

impl Gathering {
    fn new(redis: &Arc<Redis>, worker: usize) -> Self {
        Self {
            redis: Arc::clone(redis),
            worker,
            has_run: false,
        }
    }

    async fn ask(mut self) {
        self.has_run = true;
        if let Some(joint) = self.take() {
            Arc::clone(&self.redis).ask_joint(self.worker, joint).await;
        }
    }

    fn take(&self) -> Option<Joint> {
        let mut joint = self.redis.lock_joint(self.worker);
        (!joint.callers.is_empty()).then(|| mem::take(&mut *joint))
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        if !self.has_run {
            self.take();
        }
    }
}

impl Default for Joint {
    fn default() -> Self {
        Self {
            questions: Questions::new(Operation::Take),
            callers: Vec::new(),
            work: 0,
        }
    }
}

impl Redis {
    /// Takes as part of a call.
    pub(super) async fn take_jointly(
        self: &Arc<Self>,
        worker: usize,
        asks: &[SharedAsk<'_>],
    ) -> Result<SmallVec<[SharedTaken; 2]>, Away> {
        if self.way(Lane::Counts).breaker.is_open() {
            return Err(Away::Open);
        }
        let said = self.join(worker, asks).await;
        let said = said.unwrap_or(Err(Away::Unreachable));
        // In both cases nothing was taken.
        let is_to_ask_alone = match &said {
            // A key of another kind: it refuses when it is read.
            Ok(bytes) => bytes.first() == Some(&FAILED),
            // Keys of several slots: that was found out just now.
            Err(away) => *away == Away::Refused && self.has_slots(),
        };
        if is_to_ask_alone {
            return Box::pin(self.decide(worker, Operation::Take, asks)).await;
        }
        let taken = parse(&said?, asks).ok_or_else(|| self.garbage_on(Lane::Counts, 1))?;
        self.succeeded(Lane::Counts);
        Ok(taken)
    }

    fn join(self: &Arc<Self>, worker: usize, asks: &[SharedAsk<'_>]) -> oneshot::Receiver<Said> {
        let (answer, said) = oneshot::channel();
        let (full, is_first) = {
            let mut joint = self.lock_joint(worker);
            joint.questions.add(self.prefix(), asks);
            let limits = asks.len();
            joint.callers.push(Caller { limits, answer });
            joint.work += asks.iter().map(work_of).sum::<usize>();
            let is_full = joint.work >= MOST;
            let full = is_full.then(|| mem::take(&mut *joint));
            (full, joint.callers.len() == 1)
        };
        if let Some(full) = full {
            tokio::spawn(Arc::clone(self).ask_joint(worker, full));
        } else if is_first {
            // It runs when all that could run before has had its turn.
            tokio::spawn(Gathering::new(self, worker).ask());
        }
        said
    }

    fn lock_joint(&self, worker: usize) -> MutexGuard<'_, Joint> {
        let joint = self.joint(worker);
        joint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_joint(self: Arc<Self>, worker: usize, joint: Joint) {
        let sending = Sending {
            requests: u32::try_from(joint.callers.len()).unwrap_or(u32::MAX),
            again: true,
        };
        let said = self.ask_script(worker, &joint.questions, sending).await;
        self.tell(joint.callers, said);
    }

    /// Gives everybody its part of an answer.
    fn tell(self: &Arc<Self>, callers: Vec<Caller>, said: Result<Value, Away>) {
        let (limits, requests) = callers.iter().fold((0, 0), |(limits, requests), caller| {
            (limits + caller.limits, requests + 1)
        });
        let bytes = match said {
            Ok(Value::BulkString(bytes)) if bytes.len() == limits * ANSWER => Ok(bytes),
            Ok(_) => Err(self.garbage_on(Lane::Counts, requests)),
            Err(away) => Err(away),
        };
        let mut begin = 0;
        for Caller { limits, answer } in callers {
            let end = begin + limits * ANSWER;
            let own = bytes.as_ref().map(|bytes| &bytes[begin..end]);
            // Who has left hears nothing.
            let _ = answer.send(own.map(Bytes::from_slice).map_err(|&away| away));
            begin = end;
        }
    }
}

/// What an answer begins with where a question has come to an error, beside others.
pub(super) const FAILED: u8 = 2;
/// Work of a call, in windows: Redis does nothing else meanwhile, some 20 us each.
pub(super) const MOST: usize = 32;
/// A log, beside what is written into it: one of thousands of requests may have to be gone through.
const LOG: usize = 8;

/// The work of asking a limit, in windows.
pub(super) fn work_of(ask: &SharedAsk<'_>) -> usize {
    let windows = ask.limit.windows.len();
    match ask.limit.algorithm {
        SharedAlgorithm::SlidingLog => windows + LOG + ask.want as usize,
        _ => windows,
    }
}

#[cfg(test)]
mod tests;
