//! `/api/limits`: the rate limits and who uses them.
//!
//! ```text
//! GET     /api/limits                  the limits
//! GET     /api/limits/NAME/keys        the busiest keys, as hashes unless the limit shows them
//! GET     /api/limits/NAME/keys/KEY    one key, by its hash or its value
//! DELETE  /api/limits/NAME/keys/KEY    forgets what it has used
//! ```

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;

use super::{
    Gateway,
    answer::{self, Answer, Refusal},
    page::Ranked,
};

/// One rate limit.
#[derive(Clone, Debug, Serialize)]
pub struct LimitState {
    /// Its name.
    pub name: String,
    /// How it counts.
    pub algorithm: &'static str,
    /// By what, as written.
    pub key: Vec<String>,
    /// Its quotas, as written.
    pub quota: Vec<String>,
    /// Whether it refuses.
    pub enforce: bool,
    /// Where it is counted: `"memory"` of this gateway, or `"redis"`.
    pub store: &'static str,
    /// How many it takes of Redis at a time; none for one in memory.
    pub lease: Option<u32>,
    /// Keys that it holds; none for one over Redis, of which this gateway knows a part at most.
    pub keys: Option<usize>,
    /// Keys that it may hold in this gateway's memory.
    pub max_keys: usize,
    /// Bytes that it holds there.
    pub bytes: usize,
}

/// The busiest keys of a limit.
#[derive(Clone, Debug)]
pub struct LimitKeys {
    /// Where they are counted.
    pub store: &'static str,
    /// How many there are, or were found.
    pub total: usize,
    /// Whether Redis may have others, which were not looked at.
    pub sample: bool,
    /// The busiest first.
    pub keys: Vec<LimitKey>,
}

/// What has become of listing a limit's keys.
#[derive(Clone, Debug)]
pub enum LimitListing {
    /// These are the busiest.
    Keys(LimitKeys),
    /// There is no such limit.
    Unknown,
    /// They are counted in Redis, which does not tell, or has to tell others first.
    Away,
}

/// One key of a limit.
#[derive(Clone, Debug, Serialize)]
pub struct LimitKey {
    /// The hash under which it is held.
    pub hash: String,
    /// The key itself, where the limit shows keys.
    pub key: Option<String>,
    /// Where that is counted: `"memory"` of this gateway, or `"redis"`.
    pub store: &'static str,
    /// How each window of the limit stands for it.
    pub windows: Vec<LimitWindow>,
}

/// One window of a key.
#[derive(Clone, Debug, Serialize)]
pub struct LimitWindow {
    /// How many.
    pub quota: u32,
    /// In how many seconds; none for a limit of concurrency.
    pub seconds: Option<f64>,
    /// How many are left.
    pub remaining: u32,
    /// Seconds until there will be more; none where time alone brings none.
    pub reset_seconds: Option<f64>,
}

/// What has become of forgetting a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReset {
    /// It is forgotten.
    Done,
    /// It was not known.
    Unknown,
    /// It is counted in Redis, which is away.
    Away,
    /// The limit is one of concurrency: what is in flight gives itself back.
    Held,
}

/// What stands below `/api/limits/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Below<'p> {
    /// `NAME/keys`.
    Keys(&'p str),
    /// `NAME/keys/KEY`.
    Key(&'p str, &'p str),
}

impl<'p> Below<'p> {
    /// Reads a path; its parts are still percent-encoded.
    pub(super) fn at(path: &'p str) -> Option<Self> {
        let mut parts = path.strip_prefix("/api/limits/")?.split('/');
        let (name, keys) = (parts.next()?, parts.next()?);
        match (keys, parts.next(), parts.next()) {
            ("keys", None, None) => Some(Self::Keys(name)),
            ("keys", Some(key), None) if !key.is_empty() => Some(Self::Key(name, key)),
            _ => None,
        }
    }
}

/// One page of a limit's busiest keys.
pub(super) async fn keys(
    gateway: &dyn Gateway,
    name: &str,
    query: Option<&str>,
) -> Result<Answer, Refusal> {
    let page = Ranked::of(query)?;
    match gateway.limit_keys(&decoded(name)?, MOST_LISTED).await {
        LimitListing::Keys(keys) => Ok(page.answer(&keys.keys, |cursor| {
            json!({
                "total": keys.total,
                "cursor": cursor,
                "store": keys.store,
                "sample": keys.sample,
            })
        })),
        LimitListing::Unknown => Err(Refusal::not_found()),
        LimitListing::Away => Err(Refusal::store_away()),
    }
}

/// One key.
pub(super) async fn key(gateway: &dyn Gateway, name: &str, key: &str) -> Result<Answer, Refusal> {
    let found = gateway.limit_key(&decoded(name)?, &decoded(key)?).await;
    found
        .map(|key| answer::data(&key))
        .ok_or_else(Refusal::not_found)
}

/// Forgets what a key has used.
pub(super) async fn reset(gateway: &dyn Gateway, name: &str, key: &str) -> Result<Answer, Refusal> {
    match gateway
        .reset_limit_key(&decoded(name)?, &decoded(key)?)
        .await
    {
        LimitReset::Done => Ok(answer::nothing()),
        LimitReset::Unknown => Err(Refusal::not_found()),
        LimitReset::Away => Err(Refusal::store_away()),
        LimitReset::Held => Err(Refusal::held()),
    }
}

fn decoded(part: &str) -> Result<Cow<'_, str>, Refusal> {
    percent_decode_str(part)
        .decode_utf8()
        .map_err(|_| Refusal::not_found())
}

/// How far down the list of a limit's keys goes.
const MOST_LISTED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_part_by_part() {
        assert_eq!(Below::at("/api/limits/a/keys"), Some(Below::Keys("a")));
        let key = Some(Below::Key("a", "b%2Fc"));
        assert_eq!(Below::at("/api/limits/a/keys/b%2Fc"), key);
        for other in [
            "/api/limits/a",
            "/api/limits/a/keys/",
            "/api/limits/a/x",
            "/api/limits/a/keys/b/c",
        ] {
            assert_eq!(Below::at(other), None, "{other}");
        }
    }
}
