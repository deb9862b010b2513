//! Scripts: several commands as one, which nothing else comes between.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::{Away, Lane, Redis, Reply, Sending};

/// A script, and the hash under which Redis knows it.
pub(super) struct Script {
    text: &'static str,
    known: redis::Script,
}

/// All of them.
pub(super) struct Scripts {
    pub(super) quota: Script,
    pub(super) answers: Script,
    pub(super) places: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |text| Script {
            text,
            known: redis::Script::new(text),
        };
        Self {
            quota: script(include_str!("quota.lua")),
            answers: script(include_str!("answers.lua")),
            places: script(include_str!("places.lua")),
        }
    }
}

impl Redis {
    /// Runs a script; `push` adds the number of its keys, the keys and its arguments, `sending` tells for how
    /// many requests it is, and whether it may run twice.
    pub(super) async fn call(
        self: &Arc<Self>,
        lane: Lane,
        worker: usize,
        script: &Script,
        sending: Sending,
        push: impl Fn(&mut Cmd),
    ) -> Result<Value, Away> {
        let mut command = Cmd::with_capacity(ARGUMENTS, BYTES);
        command.arg("EVALSHA").arg(script.known.get_hash());
        push(&mut command);
        if let Reply::Value(value) = self.send(lane, worker, &command, sending).await? {
            return Ok(self.heard(lane, value));
        }
        // Redis was started anew or has forgotten it. This runs it and makes it known, on the node
        // that the keys belong to.
        let mut command = redis::cmd("EVAL");
        command.arg(script.text);
        push(&mut command);
        let value = Box::pin(self.value(lane, worker, &command, sending)).await?;
        Ok(self.heard(lane, value))
    }

    /// Among stored answers there may be a strange one, and Redis is fine. What decides about limits is read
    /// first: there nothing is stored that could make it another.
    fn heard(&self, lane: Lane, value: Value) -> Value {
        if lane == Lane::Answers {
            self.succeeded(lane);
        }
        value
    }
}

/// Room for the command of a limit or two.
const ARGUMENTS: usize = 32;
const BYTES: usize = 512;
