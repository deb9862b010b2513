//! Reading how a limit's keys stand, some in a call.

use std::{sync::Arc, time::Instant};

use super::{super::SharedLimit, LONGEST};
use crate::store::{
    Decision, KeyHash, Standing,
    redis::{
        Away, Lane, Redis, Sending,
        quota::{
            ANSWER, Operation, Questions, SharedAsk, SharedTaken, bytes_of, each_window,
            joint::{FAILED, MOST, work_of},
            parse,
        },
    },
};

/// What one server has told of its keys.
#[derive(Default)]
pub(super) struct Reading {
    /// Each key in turn, as far as it came; `None` for one that another program has taken.
    pub(super) told: Vec<Option<Vec<Standing>>>,
    /// Why it has ended early.
    pub(super) away: Option<Away>,
}

impl Redis {
    /// How each window of a server's keys stands. It ends where that takes too long, and with the first call
    /// that fails: the next ones would fail as well, and hold up the server's requests.
    pub(super) async fn read_keys(
        self: &Arc<Self>,
        worker: usize,
        limit: SharedLimit<'_>,
        keys: &[KeyHash],
    ) -> Reading {
        let asks: Vec<_> = keys.iter().map(|&key| limit.look(key)).collect();
        let work = asks.iter().map(work_of).max().unwrap_or(1).max(1);
        let together = (MOST / work).max(1);
        let (began, mut rest) = (Instant::now(), &asks[..]);
        let mut reading = Reading::default();
        while !rest.is_empty() && began.elapsed() < LONGEST {
            // One call reaches the keys of one slot.
            let size = match self.has_slots() {
                true => 1,
                false => together.min(rest.len()),
            };
            let (group, others) = rest.split_at(size);
            match self.look_at(worker, group).await {
                Ok(standings) => {
                    reading.told.extend(standings);
                    rest = others;
                }
                // That was found out just now.
                Err(_) if size > 1 && self.has_slots() => {}
                Err(away) => {
                    reading.away = Some(away);
                    break;
                }
            }
        }
        reading
    }

    async fn look_at(
        self: &Arc<Self>,
        worker: usize,
        asks: &[SharedAsk<'_>],
    ) -> Result<Vec<Option<Vec<Standing>>>, Away> {
        let mut questions = Questions::new(Operation::Look);
        for ask in asks {
            questions.add(self.prefix(), &each_window(ask));
        }
        // Asked by itself, a key of another kind would be an error of the call: beside another question, even
        // one about nothing, it is not.
        if asks.len() == 1 {
            questions.add(self.prefix(), &[]);
        }
        let sending = Sending {
            // An operator waits for it: the breaker is not to open for that.
            requests: 0,
            again: true,
        };
        let value = self.ask_script(worker, &questions, sending).await?;
        let standings = bytes_of(&value).and_then(|bytes| standings(bytes, asks));
        standings.ok_or_else(|| self.garbage_on(Lane::Counts, sending.requests))
    }
}

/// Reads what a call has said of keys; `None` when it is no such answer.
fn standings(bytes: &[u8], asks: &[SharedAsk<'_>]) -> Option<Vec<Option<Vec<Standing>>>> {
    let mut rest = bytes;
    let mut all = Vec::with_capacity(asks.len());
    for ask in asks {
        let (own, behind) = rest.split_at_checked(ask.limit.windows.len() * ANSWER)?;
        rest = behind;
        all.push(match own.first() {
            // It is of another kind.
            Some(&FAILED) => None,
            _ => Some(standings_of_one(own, ask)?),
        });
    }
    rest.is_empty().then_some(all)
}

fn standings_of_one(bytes: &[u8], ask: &SharedAsk<'_>) -> Option<Vec<Standing>> {
    let standing = |taken: SharedTaken| match taken.decision {
        Decision::Granted { standing, .. } => Some(standing),
        // Nothing had to be there.
        Decision::Refused { .. } => None,
    };
    let taken = parse(bytes, &each_window(ask))?;
    taken.into_iter().map(standing).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{Window, redis::quota::SharedAlgorithm};

    #[test]
    fn a_key_of_another_kind_hides_no_other() {
        let windows = [Window::new(5, Duration::from_secs(1), None)];
        let limit = SharedLimit {
            name: "one",
            algorithm: SharedAlgorithm::TokenBucket,
            windows: &windows,
            largest: 5,
        };
        let key = KeyHash::parse("00112233445566778899aabbccddeeff").unwrap();
        let asks = [limit.look(key), limit.look(key)];
        let mut answer = [0; ANSWER];
        answer[0] = 1;
        answer[5] = 3;
        let of_both = [answer, [FAILED; ANSWER]].concat();
        let standing = Standing {
            remaining: 3,
            reset: Some(0),
        };
        let told = standings(&of_both, &asks);
        assert_eq!(told, Some(vec![Some(vec![standing]), None]));
        for wrong in [
            &of_both[1..],
            &of_both[..ANSWER],
            &[of_both.clone(), answer.to_vec()].concat()[..],
        ] {
            assert_eq!(standings(wrong, &asks), None);
        }
        // Nobody is refused who takes nothing.
        assert_eq!(standings(&[[0_u8; ANSWER]; 2].concat(), &asks), None);
    }
}
