//! Cursor pages over named things: `?limit=`, `?cursor=` and the filter `?name=`.

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    LimitState, RouteState, UpstreamState,
    answer::{self, Answer, Refusal},
};

/// Something with a unique name, by which it is sorted, filtered and paged.
pub(super) trait Named: Serialize {
    /// The name.
    fn name(&self) -> &str;
}

impl Named for RouteState {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for LimitState {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for UpstreamState {
    fn name(&self) -> &str {
        &self.name
    }
}

/// One page of a list, or what is wrong with the query.
///
/// The cursor is the last name of the page before: a page stays right when a reload adds or removes
/// things in between.
pub(super) fn page<T: Named>(mut items: Vec<T>, query: Option<&str>) -> Result<Answer, Refusal> {
    let query = Query::parse(query.unwrap_or_default())?;
    items.retain(|item| item.name().contains(&query.name));
    items.sort_by(|one, other| one.name().cmp(other.name()));
    let total = items.len();
    let after = query.cursor.as_deref();
    let start = after.map_or(0, |after| {
        items.partition_point(|item| item.name() <= after)
    });
    let end = total.min(start + query.limit);
    let last = items[start..end].last().filter(|_| end < total);
    let meta = json!({ "total": total, "cursor": last.map(Named::name) });
    Ok(answer::page(&items[start..end], &meta))
}

/// Which page is asked for of a list in the order that it has.
///
/// The order changes while it is read; the cursor is how many were shown.
pub(super) struct Ranked {
    start: usize,
    limit: usize,
}

impl Ranked {
    /// The page that a query asks for, or what is wrong with it.
    pub(super) fn of(query: Option<&str>) -> Result<Self, Refusal> {
        let query = Query::parse(query.unwrap_or_default())?;
        if !query.name.is_empty() {
            return Err(Refusal::query("known are limit and cursor"));
        }
        let start = match query.cursor.as_deref() {
            Some(cursor) => cursor
                .parse::<usize>()
                .map_err(|_| Refusal::query("cursor is one of an answer"))?,
            None => 0,
        };
        let limit = query.limit;
        Ok(Self { start, limit })
    }

    /// That page; `meta` is told the cursor of the next one.
    pub(super) fn answer(
        &self,
        items: &[impl Serialize],
        meta: impl FnOnce(Option<String>) -> Value,
    ) -> Answer {
        let start = self.start.min(items.len());
        let end = items.len().min(start + self.limit);
        let more = (end < items.len()).then(|| end.to_string());
        answer::page(&items[start..end], &meta(more))
    }
}

struct Query {
    limit: usize,
    cursor: Option<String>,
    name: String,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut query = Self {
            limit: DEFAULT_LIMIT,
            cursor: None,
            name: String::new(),
        };
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = decode(value)?;
            match name {
                "limit" => query.limit = limit(&value)?,
                "cursor" => query.cursor = Some(value),
                "name" => query.name = value,
                _ => return Err(Refusal::query("known are limit, cursor and name")),
            }
        }
        Ok(query)
    }
}

fn limit(value: &str) -> Result<usize, Refusal> {
    let limit = value.parse().ok().filter(|limit| LIMITS.contains(limit));
    limit.ok_or_else(|| Refusal::query("limit is a number from 1 to 1000"))
}

fn decode(value: &str) -> Result<String, Refusal> {
    let spaced = value.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Refusal::query("a value is not UTF-8"))
}

const DEFAULT_LIMIT: usize = 100;
const LIMITS: std::ops::RangeInclusive<usize> = 1..=1_000;
