//! What an operator may see of a limit's keys, as far as looking for them may cost.
//!
//! Nothing in Redis tells which keys a limit has, and a list of them would cost every request something.
//! So its keys are looked for among all others, by names, in many calls that do little each: no request
//! waits for long behind one. How much is done in all has bounds, and what is found by then is a sample.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use redis::{Cmd, Value};
use tokio::sync::SemaphorePermit;

use super::{
    ANSWER, Operation, Questions, SharedAlgorithm, SharedAsk, SharedTaken, bytes_of, each_window,
    joint::{FAILED, MOST, work_of},
    parse, write_before, write_behind,
};
use crate::store::{
    Decision, KeyHash, Standing,
    redis::{Away, Lane, Redis, Sending, link::Node},
};

/// What was found of a limit's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedKeys {
    /// Each key once, in the order of the hashes.
    pub keys: Vec<KeyHash>,
    /// Whether these are all: no bound was reached, and every server has answered.
    pub is_whole: bool,
}

impl Redis {
    /// Waits until nobody else lists keys: many at once would be too much for a call's bounds to help.
    pub async fn turn_to_list(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.listing.acquire().await.ok()
    }

    /// Looks for the keys of a limit, some more than `most` at most. For the control runtime.
    ///
    /// # Errors
    ///
    /// When no server has answered.
    pub async fn find_keys(
        self: &Arc<Self>,
        limit: &str,
        algorithm: SharedAlgorithm,
        most: usize,
    ) -> Result<SharedKeys, Away> {
        if self.way(Lane::Counts).breaker.is_open() {
            return Err(Away::Open);
        }
        let nodes = self.mains().await;
        let share = Share::of(nodes.len(), most);
        let mut search = Search::new(Names::new(self.prefix(), algorithm, limit));
        let mut ends = Vec::with_capacity(nodes.len());
        for node in &nodes {
            ends.push(self.search(node, &mut search, share).await);
        }
        if ends.iter().all(Result::is_err) {
            let away = ends.into_iter().find_map(Result::err);
            return Err(away.unwrap_or(Away::Unreachable));
        }
        // What stands before several servers may have answered for one of them.
        let is_one = self.is_cluster() || !self.has_slots();
        Ok(SharedKeys {
            keys: search.found.into_iter().collect(),
            is_whole: is_one && ends.iter().all(|end| matches!(end, Ok(true))),
        })
    }

    /// Looks through one server; whether to its end.
    async fn search(
        self: &Arc<Self>,
        node: &Arc<Node>,
        search: &mut Search,
        share: Share,
    ) -> Result<bool, Away> {
        let (began, before) = (Instant::now(), search.found.len());
        let mut cursor = 0;
        for _ in 0..share.calls {
            let is_full = search.found.len() - before >= share.keys;
            if is_full || began.elapsed() >= share.time {
                return Ok(false);
            }
            let command = search.command(cursor);
            let patience = self.timeout.min(share.time);
            let page = self.ask_beside(node, &command, patience).await?;
            cursor = search.keep(&page).ok_or(Away::Garbage)?;
            if cursor == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How each window of each key stands, in the order of the keys; `None` for one of which Redis does
    /// not tell. It ends early where it takes too long, or Redis is away.
    pub async fn all_standings(
        self: &Arc<Self>,
        worker: usize,
        asks: &[SharedAsk<'_>],
    ) -> Vec<Option<Vec<Standing>>> {
        let began = Instant::now();
        let work = asks.iter().map(work_of).max().unwrap_or(1).max(1);
        let mut told = Vec::with_capacity(asks.len());
        for group in asks.chunks((MOST / work).max(1)) {
            let standings = self.standings_of(worker, group).await;
            let is_away = standings.iter().all(Option::is_none);
            told.extend(standings);
            if is_away || began.elapsed() >= LONGEST {
                break;
            }
        }
        told
    }

    /// The same of some keys, by one call where that reaches all of them.
    async fn standings_of(
        self: &Arc<Self>,
        worker: usize,
        asks: &[SharedAsk<'_>],
    ) -> Vec<Option<Vec<Standing>>> {
        if !self.has_slots() {
            match self.look_at(worker, asks).await {
                Ok(standings) => return standings,
                // That was found out just now.
                Err(_) if self.has_slots() => {}
                Err(_) => return vec![None; asks.len()],
            }
        }
        let mut each = Vec::with_capacity(asks.len());
        for ask in asks {
            each.push(self.look_at(worker, std::slice::from_ref(ask)));
        }
        let each = join_all(each).await;
        let standings = each.into_iter().map(|told| told.ok()?.pop()?);
        standings.collect()
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
        let (own, behind) = rest.split_at_checked(ask.windows.len() * ANSWER)?;
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

/// What looking through one server may cost.
#[derive(Clone, Copy)]
struct Share {
    calls: usize,
    keys: usize,
    time: Duration,
}

impl Share {
    /// Of so many servers and so many keys.
    fn of(servers: usize, keys: usize) -> Self {
        let servers = servers.max(1);
        Self {
            calls: MOST_CALLS.div_ceil(servers),
            keys: keys.div_ceil(servers),
            time: LONGEST / u32::try_from(servers).unwrap_or(u32::MAX),
        }
    }
}

/// What is looked for, and what was found.
struct Search {
    names: Names,
    pattern: Vec<u8>,
    /// A server may tell a key twice, and so may two while its slot moves.
    found: BTreeSet<KeyHash>,
}

impl Search {
    fn new(names: Names) -> Self {
        Self {
            pattern: names.pattern(),
            names,
            found: BTreeSet::new(),
        }
    }

    fn command(&self, cursor: u64) -> Cmd {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(&self.pattern[..]);
        command.arg("COUNT").arg(LOOKED_AT);
        command
    }

    /// Keeps what a call has found; where the next one begins, 0 behind the last. `None` when it is no
    /// such answer.
    fn keep(&mut self, page: &Value) -> Option<u64> {
        let Value::Array(parts) = page else {
            return None;
        };
        let [Value::BulkString(cursor), Value::Array(names)] = &parts[..] else {
            return None;
        };
        let cursor = std::str::from_utf8(cursor).ok()?.parse::<u64>().ok()?;
        let names = names.iter().filter_map(bytes_of);
        let hashes = names.filter_map(|name| self.names.hash_in(name));
        self.found.extend(hashes);
        Some(cursor)
    }
}

/// How the keys of a limit are named.
struct Names {
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl Names {
    fn new(prefix: &str, algorithm: SharedAlgorithm, limit: &str) -> Self {
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        write_before(&mut before, prefix);
        write_behind(&mut behind, algorithm, limit);
        Self { before, behind }
    }

    /// The pattern that all of them match. One without a hash does too.
    fn pattern(&self) -> Vec<u8> {
        let mut pattern = Vec::new();
        escape(&mut pattern, &self.before);
        pattern.extend_from_slice(&[b'?'; DIGITS]);
        escape(&mut pattern, &self.behind);
        pattern
    }

    /// The hash in a name; `None` when it is another's.
    fn hash_in(&self, name: &[u8]) -> Option<KeyHash> {
        let behind = name.strip_prefix(&self.before[..])?;
        let digits = behind.strip_suffix(&self.behind[..])?;
        KeyHash::parse(std::str::from_utf8(digits).ok()?)
    }
}

/// Writes a text as a pattern that matches it alone.
fn escape(pattern: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
}

/// Digits of a hash.
const DIGITS: usize = 32;
/// Keys that Redis looks at in a call, of whatever kind: some 0.2 ms.
const LOOKED_AT: usize = 500;
/// Calls in all: half a million keys, and a fifth of a second of Redis's time.
const MOST_CALLS: usize = 1_000;
/// How long it may take to look for keys, and then to read them.
const LONGEST: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Window, redis::quota::write_key};

    const HASH: &str = "00112233445566778899aabbccddeeff";

    fn names(prefix: &str, limit: &str) -> Names {
        Names::new(prefix, SharedAlgorithm::TokenBucket, limit)
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn ask(windows: &[Window]) -> SharedAsk<'_> {
        SharedAsk {
            limit: "one",
            key: KeyHash::parse(HASH).unwrap(),
            algorithm: SharedAlgorithm::TokenBucket,
            windows,
            largest: 5,
            cost: 1,
            want: 1,
            enforced: true,
        }
    }

    #[test]
    fn a_key_is_found_by_the_name_under_which_it_is_counted() {
        let mut key = Vec::new();
        write_key(&mut key, "shop:", &ask(&[]));
        let found = names("shop:", "one").hash_in(&key);
        assert_eq!(found, KeyHash::parse(HASH));
        for (prefix, limit) in [
            ("shop:", "on"),
            ("shop:", "ones"),
            ("shop", "one"),
            ("", "one"),
        ] {
            let other = names(prefix, limit);
            assert_eq!(other.hash_in(&key), None, "{prefix} {limit}");
        }
        assert_eq!(names("shop:", "one").hash_in(b"shop:limit:{}:t:one"), None);
    }

    #[test]
    fn what_is_special_in_a_pattern_means_itself() {
        let pattern = names("a*[b]?", "c\\").pattern();
        let digits = "?".repeat(DIGITS);
        let expected = format!("a\\*\\[b\\]\\?limit:{{{digits}}}:t:c\\\\");
        assert_eq!(String::from_utf8(pattern).unwrap(), expected);
    }

    #[test]
    fn a_page_tells_keys_and_where_the_next_begins() {
        let mut search = Search::new(names("", "one"));
        let name = || text(&format!("limit:{{{HASH}}}:t:one"));
        let keys = vec![name(), text("limit:{}:t:one"), Value::Nil, name()];
        let page = Value::Array(vec![text("17"), Value::Array(keys)]);
        assert_eq!(search.keep(&page), Some(17));
        assert_eq!(search.found.len(), 1);
        for wrong in [
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Int(0), Value::Array(Vec::new())]),
            Value::Array(vec![text("-1"), Value::Array(Vec::new())]),
            Value::Array(vec![text("0"), text("0")]),
        ] {
            assert_eq!(search.keep(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_server_has_its_share_of_what_it_may_cost() {
        let alone = Share::of(1, 10_000);
        assert_eq!((alone.calls, alone.keys), (MOST_CALLS, 10_000));
        let one_of_three = Share::of(3, 10_000);
        assert_eq!((one_of_three.calls, one_of_three.keys), (334, 3_334));
        assert_eq!(one_of_three.time, Duration::from_secs(1));
        assert!(Share::of(1_024, 1).keys > 0);
    }

    #[test]
    fn a_key_of_another_kind_hides_no_other() {
        let windows = [Window::new(5, Duration::from_secs(1), None)];
        let asks = [ask(&windows), ask(&windows)];
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
