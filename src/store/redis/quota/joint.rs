//! Decisions that are asked in one call.
//!
//! What requests ask while their worker goes through what it has to do is gathered, and goes to Redis
//! behind that: then the driver, the kernel and Redis itself do for many what they would do for each.
//! Nobody waits for it longer than it would have waited for its worker.

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use redis::Value;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{ANSWER, Operation, Questions, SharedAsk, SharedTaken, parse};
use crate::store::redis::{Away, Lane, Redis};

/// What is gathered of a worker.
pub(in crate::store::redis) struct Joint {
    questions: Questions,
    callers: Vec<Caller>,
}

/// Who asks one of the questions.
struct Caller {
    limits: usize,
    answer: oneshot::Sender<Said>,
}

/// The bytes of one's own answer.
type Said = Result<SmallVec<[u8; 2 * ANSWER]>, Away>;

impl Default for Joint {
    fn default() -> Self {
        Self {
            questions: Questions::new(Operation::Take),
            callers: Vec::new(),
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
        // Nobody answers where the worker ends, and then nobody hears of it.
        let said = self.join(worker, asks).await;
        let bytes = said.unwrap_or(Err(Away::Unreachable))?;
        if bytes.first() == Some(&FAILED) {
            // Nothing was taken; by itself it is told why.
            return self.decide(worker, Operation::Take, asks).await;
        }
        parse(&bytes, asks).ok_or_else(|| self.garbage_on(Lane::Counts))
    }

    fn join(self: &Arc<Self>, worker: usize, asks: &[SharedAsk<'_>]) -> oneshot::Receiver<Said> {
        let (answer, said) = oneshot::channel();
        let limits = asks.len();
        let joint = self.joint(worker);
        let mut joint = joint.lock().unwrap_or_else(PoisonError::into_inner);
        joint.questions.add(self.prefix(), asks);
        joint.callers.push(Caller { limits, answer });
        match joint.callers.len() {
            // It runs when all that could run before has had its turn.
            1 => drop(tokio::spawn(Arc::clone(self).ask_gathered(worker))),
            MOST => {
                let full = mem::take(&mut *joint);
                tokio::spawn(Arc::clone(self).ask_joint(worker, full));
            }
            _ => {}
        }
        said
    }

    /// Asks what has been gathered, unless there was so much that it was asked already.
    async fn ask_gathered(self: Arc<Self>, worker: usize) {
        let joint = self.joint(worker);
        let gathered = mem::take(&mut *joint.lock().unwrap_or_else(PoisonError::into_inner));
        if !gathered.callers.is_empty() {
            self.ask_joint(worker, gathered).await;
        }
    }

    async fn ask_joint(self: Arc<Self>, worker: usize, joint: Joint) {
        let said = self.ask_script(worker, &joint.questions, true).await;
        self.tell(joint.callers, said);
    }

    /// Gives everybody its part of an answer.
    fn tell(self: &Arc<Self>, callers: Vec<Caller>, said: Result<Value, Away>) {
        let limits: usize = callers.iter().map(|caller| caller.limits).sum();
        let bytes = match said {
            Ok(Value::BulkString(bytes)) if bytes.len() == limits * ANSWER => Ok(bytes),
            Ok(_) => Err(self.garbage_on(Lane::Counts)),
            Err(away) => Err(away),
        };
        let mut begin = 0;
        for Caller { limits, answer } in callers {
            let end = begin + limits * ANSWER;
            let own = bytes.as_ref().map(|bytes| &bytes[begin..end]);
            // Who has left hears nothing.
            let _ = answer.send(own.map(SmallVec::from_slice).map_err(|&away| away));
            begin = end;
        }
    }
}

/// What an answer begins with where a question has come to an error, beside others.
const FAILED: u8 = 2;
/// Questions of a call: Redis does nothing else meanwhile.
const MOST: usize = 32;

#[cfg(test)]
mod tests;
