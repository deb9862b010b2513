//! Stored answers in Redis: bytes under keys, and whose turn it is to fetch.
//!
//! A URL has a *guard*, a key that says who it is by eight bytes. What is stored for the URL was
//! stored under one guard and is worth nothing under another, or without one: to forget a URL is to
//! delete its guard, whatever is stored for it and whoever is just fetching it; to forget many is one
//! command. Should Redis lose a guard by itself, answers are lost with it and none comes back.
//!
//! All keys of one call of the script share what stands in braces, so that one node of a cluster has
//! them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Cmd, ToRedisArgs, Value};

use super::{Away, Lane, Redis, Sending};

/// The first eight bytes of a guard, and what it tells of the last soft purge.
pub type Guard = [u8; GUARD];

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Another's.
    Others,
    /// The caller's.
    Ours,
    /// Everybody's: it has turned out that no answer is for all.
    Everybodys,
}

/// What beginning a fetch has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The guard of the URL now.
    pub guard: Guard,
    /// Whose turn it is.
    pub turn: Turn,
}

/// An answer that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Keeping<'a> {
    /// The guard's key.
    pub guard: &'a str,
    /// Who the guard was when the fetch began.
    pub who: &'a [u8],
    /// The lease's key.
    pub lease: &'a str,
    /// The token of the lease; nothing where there is none.
    pub token: &'a str,
    /// The answer's key.
    pub key: &'a str,
    /// The answer.
    pub value: &'a [u8],
    /// What leads to the answer: its key, and the text.
    pub rule: Option<(&'a str, &'a [u8])>,
    /// How long it is of use.
    pub span: Duration,
}

impl Redis {
    /// What stands under keys, in their order.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline.
    pub async fn read(
        self: &Arc<Self>,
        worker: usize,
        keys: &[&str],
    ) -> Result<Vec<Option<Bytes>>, Away> {
        if self.is_cluster() {
            return self.read_each(worker, keys).await;
        }
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        let value = self.ask_on(Lane::Answers, worker, &command).await?;
        texts(value, keys.len()).ok_or_else(|| self.garbage())
    }

    /// The same, from wherever they are.
    async fn read_each(
        self: &Arc<Self>,
        worker: usize,
        keys: &[&str],
    ) -> Result<Vec<Option<Bytes>>, Away> {
        let mut read = vec![None; keys.len()];
        for (numbers, value) in self.ask_slots(worker, "MGET", keys).await? {
            let texts = texts(value, numbers.len()).ok_or_else(|| self.garbage())?;
            for (number, text) in numbers.into_iter().zip(texts) {
                read[number] = text;
            }
        }
        Ok(read)
    }

    /// Begins a fetch: a URL without a guard gets this one. A `token` asks for a turn, of a length.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline.
    pub async fn begin(
        self: &Arc<Self>,
        worker: usize,
        (guard, fresh, span): (&str, &Guard, Duration),
        (lease, token, length): (&str, &str, Duration),
    ) -> Result<Begun, Away> {
        let push = |command: &mut Cmd| {
            command.arg(2).arg(guard).arg(lease).arg("begin");
            command.arg(&fresh[..]).arg(millis(span));
            command.arg(token).arg(millis(length));
        };
        let value = self.answers(worker, push).await?;
        begun(value).ok_or_else(|| self.garbage())
    }

    /// Stores an answer and ends the turn; `false` when its URL has been forgotten since the fetch
    /// began.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline. It may have been stored all the same.
    pub async fn keep(self: &Arc<Self>, worker: usize, keep: &Keeping<'_>) -> Result<bool, Away> {
        let push = |command: &mut Cmd| {
            let keys = 3 + usize::from(keep.rule.is_some());
            command.arg(keys).arg(keep.guard).arg(keep.lease);
            command.arg(keep.key);
            if let Some((key, _)) = keep.rule {
                command.arg(key);
            }
            command.arg("keep").arg(keep.who).arg(millis(keep.span));
            command.arg(keep.value).arg(keep.token);
            command.arg(keep.rule.map_or(&[][..], |(_, rule)| rule));
        };
        match self.answers(worker, push).await? {
            Value::Int(kept) => Ok(kept == 1),
            _ => Err(self.garbage()),
        }
    }

    /// Ends a turn that has brought nothing to store. For a while nobody waits for another, then.
    pub async fn release(
        self: &Arc<Self>,
        worker: usize,
        (lease, token): (&str, &str),
        pass: Duration,
    ) {
        let push = |command: &mut Cmd| {
            command.arg(1).arg(lease).arg("release");
            command.arg(token).arg(millis(pass));
        };
        // The failure is counted, and the turn ends by itself.
        let _ = self.answers(worker, push).await;
    }

    /// Forgets what is stored for URLs, whose guards these are: in one go, in a cluster in one for each
    /// slot.
    ///
    /// # Errors
    ///
    /// When Redis has not taken it within the deadline. A part of them may have been forgotten.
    pub async fn forget(self: &Arc<Self>, guards: &[String]) -> Result<(), Away> {
        if self.is_cluster() {
            return self.forget_each(guards).await;
        }
        let mut command = redis::cmd("DEL");
        command.arg(guards);
        match self.ask_on(Lane::Answers, usize::MAX, &command).await? {
            Value::Int(_) => Ok(()),
            _ => Err(self.garbage()),
        }
    }

    async fn forget_each(self: &Arc<Self>, guards: &[String]) -> Result<(), Away> {
        let keys: Vec<_> = guards.iter().map(String::as_str).collect();
        for (_, value) in self.ask_slots(usize::MAX, "DEL", &keys).await? {
            if !matches!(value, Value::Int(_)) {
                return Err(self.garbage());
            }
        }
        Ok(())
    }

    /// Makes stale what is stored for a URL.
    ///
    /// # Errors
    ///
    /// When Redis has not taken it within the deadline.
    pub async fn soften(self: &Arc<Self>, guard: &str, soft: [u8; SOFT]) -> Result<(), Away> {
        let push = |command: &mut Cmd| {
            command.arg(1).arg(guard).arg("soften").arg(&soft[..]);
        };
        match self.answers(usize::MAX, push).await? {
            Value::Int(_) => Ok(()),
            _ => Err(self.garbage()),
        }
    }

    pub(super) async fn answers(
        self: &Arc<Self>,
        worker: usize,
        push: impl Fn(&mut Cmd),
    ) -> Result<Value, Away> {
        let script = &self.scripts.answers;
        self.call(Lane::Answers, worker, script, Sending::ALONE, push)
            .await
    }
}

fn millis(span: Duration) -> impl ToRedisArgs {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// So many texts; what is no text is none.
fn texts(value: Value, count: usize) -> Option<Vec<Option<Bytes>>> {
    let Value::Array(values) = value else {
        return None;
    };
    if values.len() != count {
        return None;
    }
    let text = |value| match value {
        Value::BulkString(text) => Some(Some(Bytes::from(text))),
        Value::Nil => Some(None),
        _ => None,
    };
    values.into_iter().map(text).collect()
}

fn begun(value: Value) -> Option<Begun> {
    let Value::Array(values) = value else {
        return None;
    };
    let [Value::BulkString(guard), Value::Int(turn)] = values.as_slice() else {
        return None;
    };
    Some(Begun {
        guard: guard.as_slice().try_into().ok()?,
        turn: match turn {
            0 => Turn::Others,
            1 => Turn::Ours,
            2 => Turn::Everybodys,
            _ => return None,
        },
    })
}

/// Bytes that a soft purge is told by.
pub const SOFT: usize = 16;
/// Bytes of a guard.
const GUARD: usize = 8 + SOFT;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &[u8]) -> Value {
        Value::BulkString(text.to_vec())
    }

    #[test]
    fn as_many_texts_come_as_were_asked_for() {
        let values = || Value::Array(vec![text(b"a"), Value::Nil]);
        let read = texts(values(), 2).unwrap();
        assert_eq!(read, [Some(Bytes::from_static(b"a")), None]);
        assert_eq!(texts(values(), 3), None);
        assert_eq!(texts(Value::Array(vec![Value::Int(1)]), 1), None);
        assert_eq!(texts(Value::Okay, 0), None);
    }

    #[test]
    fn a_guard_has_its_length_and_a_turn_is_one_of_three() {
        let answer = |guard: &[u8], turn| Value::Array(vec![text(guard), Value::Int(turn)]);
        let read = begun(answer(&[7; GUARD], 1)).unwrap();
        assert_eq!((read.guard, read.turn), ([7; GUARD], Turn::Ours));
        for (guard, turn) in [(&[7; GUARD - 1][..], 1), (&[7; GUARD], 3), (&[], 0)] {
            assert_eq!(begun(answer(guard, turn)), None);
        }
        assert_eq!(begun(Value::Array(vec![])), None);
    }
}
