//! Looking for a limit's keys, by their names among all others.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Cmd, Value};

use super::LONGEST;
use crate::store::{
    KeyHash,
    redis::{
        Away, Lane, Redis,
        link::Node,
        quota::{SharedAlgorithm, bytes_of, write_before, write_behind},
    },
};

/// Which keys a limit has.
pub(super) struct Found {
    /// Those of each server, in the order of the hashes. Each key is there once.
    pub(super) servers: Vec<Vec<KeyHash>>,
    /// Whether these are all: no bound was reached, and every server has answered.
    pub(super) is_whole: bool,
}

impl Redis {
    /// Looks for the keys of a limit.
    ///
    /// # Errors
    ///
    /// When no server was looked through and nothing was found.
    pub(super) async fn find_keys(
        self: &Arc<Self>,
        limit: &str,
        algorithm: SharedAlgorithm,
    ) -> Result<Found, Away> {
        if self.way(Lane::Counts).breaker.is_open() {
            return Err(Away::Open);
        }
        let nodes = self.mains().await;
        let share = Share::of(nodes.len());
        let mut search = Search::new(Names::new(self.prefix(), algorithm, limit));
        let mut ends = Vec::with_capacity(nodes.len());
        for (server, node) in nodes.iter().enumerate() {
            search.server = server;
            ends.push(self.search(node, &mut search, share).await);
        }
        if search.found.is_empty() && ends.iter().all(Result::is_err) {
            let away = ends.into_iter().find_map(Result::err);
            return Err(away.unwrap_or(Away::Unreachable));
        }
        let mut servers = vec![Vec::new(); nodes.len()];
        for (key, server) in search.found {
            servers[server].push(key);
        }
        Ok(Found {
            servers,
            is_whole: ends.iter().all(|end| matches!(end, Ok(true))),
        })
    }

    /// Looks through one server; whether to its end. What was found before it fails stays found.
    async fn search(
        self: &Arc<Self>,
        node: &Arc<Node>,
        search: &mut Search,
        share: Share,
    ) -> Result<bool, Away> {
        let (began, before) = (Instant::now(), search.found.len());
        let (mut cursor, mut slow) = (0, None);
        for _ in 0..share.calls {
            let is_full = search.found.len() - before >= share.keys;
            if is_full || began.elapsed() >= share.time {
                break;
            }
            let patience = self.timeout.min(share.time);
            match self.page(node, search, (cursor, patience)).await {
                Ok(0) => return Ok(true),
                Ok(next) => (cursor, slow) = (next, None),
                // Of many calls one may be slow. After a few in a row a node would be left alone.
                Err(Away::Timeout) if slow.is_none() => slow = Some(Away::Timeout),
                Err(away) => return Err(away),
            }
        }
        slow.map_or(Ok(false), Err)
    }

    /// Looks at some keys; where the next ones begin, 0 behind the last.
    async fn page(
        self: &Arc<Self>,
        node: &Arc<Node>,
        search: &mut Search,
        (cursor, patience): (u64, Duration),
    ) -> Result<u64, Away> {
        let command = search.command(cursor);
        let page = self.ask_beside(node, &command, patience).await?;
        search.keep(&page).ok_or(Away::Garbage)
    }
}

/// What looking through one server may cost.
#[derive(Clone, Copy)]
struct Share {
    calls: usize,
    keys: usize,
    time: Duration,
}

impl Share {
    /// Of so many servers.
    fn of(servers: usize) -> Self {
        let servers = servers.max(1);
        Self {
            calls: MOST_CALLS.div_ceil(servers),
            keys: MOST_KEYS.div_ceil(servers),
            time: LONGEST / u32::try_from(servers).unwrap_or(u32::MAX),
        }
    }
}

/// What is looked for, and what was found.
struct Search {
    names: Names,
    pattern: Vec<u8>,
    /// Each key, and which server has told it first: one may tell it twice, and so may two while its slot
    /// moves.
    found: BTreeMap<KeyHash, usize>,
    /// Which one is looked through.
    server: usize,
}

impl Search {
    fn new(names: Names) -> Self {
        Self {
            pattern: names.pattern(),
            names,
            found: BTreeMap::new(),
            server: 0,
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
        for hash in hashes {
            self.found.entry(hash).or_insert(self.server);
        }
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
/// Keys that Redis looks at in a call, of whatever kind: more than half a millisecond.
const LOOKED_AT: usize = 500;
/// Calls in all: 200,000 keys, and a quarter of a second of Redis's time.
const MOST_CALLS: usize = 400;
/// Keys of the limit, and some more: to read them costs as much again.
const MOST_KEYS: usize = 4_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::quota::{SharedLimit, write_key};

    const HASH: &str = "00112233445566778899aabbccddeeff";

    fn names(prefix: &str, limit: &str) -> Names {
        Names::new(prefix, SharedAlgorithm::TokenBucket, limit)
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_key_is_found_by_the_name_under_which_it_is_counted() {
        let mut key = Vec::new();
        let ask = SharedLimit {
            name: "one",
            algorithm: SharedAlgorithm::TokenBucket,
            windows: &[],
            largest: 5,
        }
        .take(KeyHash::parse(HASH).unwrap(), (1, 1));
        write_key(&mut key, "shop:", &ask);
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
        let alone = Share::of(1);
        assert_eq!((alone.calls, alone.keys), (MOST_CALLS, MOST_KEYS));
        let one_of_three = Share::of(3);
        assert_eq!((one_of_three.calls, one_of_three.keys), (134, 1_334));
        assert_eq!(one_of_three.time, Duration::from_secs(1));
        assert!(Share::of(1_024).keys > 0);
    }
}
