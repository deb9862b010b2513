//! Conditions on header fields and query parameters.
//!
//! A field or parameter that occurs several times meets a condition when one of its values does.
//! Which of `?v=1&v=2` counts is for the server to say, and servers differ.

use std::borrow::Cow;

use http::HeaderName;
use regex::Regex;

use super::{Lookup, media_type::MediaType};
use crate::{
    config::{Route, ValueMatch},
    exchange::query::parameters,
};

/// How well a request meets a condition, in thousandths: the client's weight of a media type,
/// [`FULL`] for all else.
pub(super) type Quality = u16;

/// Met without reserve.
pub(super) const FULL: Quality = 1000;

/// All conditions of a route.
#[derive(Debug)]
pub(super) struct Conditions {
    headers: Box<[(HeaderName, Condition)]>,
    query: Box<[(Box<str>, Condition)]>,
}

#[derive(Debug)]
enum Condition {
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Regex),
    Present(bool),
    MediaType(MediaType),
}

impl Conditions {
    pub(super) fn new(route: &Route) -> Self {
        let headers = route.match_headers.iter();
        let query = route.match_query.iter();
        Self {
            headers: headers
                .map(|(name, value)| (name.clone(), Condition::new(value)))
                .collect(),
            query: query
                .map(|(name, value)| (name.clone(), Condition::new(value)))
                .collect(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.headers.len() + self.query.len()
    }

    pub(super) fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.iter().map(|(name, _)| name)
    }

    /// How well all conditions are met, the weakest counting; `None` when one is not.
    pub(super) fn hold(&self, lookup: &Lookup<'_>) -> Option<Quality> {
        let headers = self.headers.iter();
        let headers = headers.filter(|_| lookup.preflight.is_none());
        let headers = headers.map(|(name, condition)| {
            let values = lookup.headers.get_all(name).iter();
            condition.quality(values.map(|value| Cow::Borrowed(value.as_bytes())))
        });
        let query = self.query.iter();
        let query =
            query.map(|(name, condition)| condition.quality(parameters(lookup.query, name)));
        headers
            .chain(query)
            .try_fold(FULL, |least, quality| Some(least.min(quality?)))
    }
}

impl Condition {
    fn new(value: &ValueMatch) -> Self {
        match value {
            ValueMatch::Exact(text) => Self::Exact(text.clone()),
            ValueMatch::Prefix(text) => Self::Prefix(text.clone()),
            ValueMatch::Regex(regex) => Self::Regex(anchored(regex)),
            ValueMatch::Present(wanted) => Self::Present(*wanted),
            ValueMatch::MediaType(text) => Self::MediaType(MediaType::new(text)),
        }
    }

    fn quality<'v>(&self, mut values: impl Iterator<Item = Cow<'v, [u8]>>) -> Option<Quality> {
        let met = match self {
            Self::Exact(text) => values.any(|value| *value == *text.as_bytes()),
            Self::Prefix(text) => values.any(|value| value.starts_with(text.as_bytes())),
            Self::Regex(regex) => values.any(|value| matches_whole(regex, &value)),
            Self::Present(wanted) => values.next().is_some() == *wanted,
            Self::MediaType(wanted) => {
                return values.filter_map(|value| wanted.quality_in(&value)).max();
            }
        };
        met.then_some(FULL)
    }
}

/// The expression with both ends tied, so that an alternative that matches the whole value is looked
/// for where another one matches only its beginning.
fn anchored(regex: &Regex) -> Regex {
    Regex::new(&format!(r"\A(?:{regex})\z")).unwrap_or_else(|_| regex.clone())
}

/// Whether the expression matches all of a value; a value that is not UTF-8 it never matches.
fn matches_whole(regex: &Regex, value: &[u8]) -> bool {
    let value = std::str::from_utf8(value).ok();
    value.is_some_and(|value| {
        // The length is looked at too: an expression may be one that could not be anchored.
        let found = regex.find(value);
        found.is_some_and(|found| found.len() == value.len())
    })
}
