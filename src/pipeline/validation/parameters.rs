//! Header fields and query parameters that must be there.

use std::borrow::Cow;

use http::HeaderName;
use regex::Regex;
use serde_json::{Value, json};

use crate::{
    config::{Validation, ValueMatch},
    exchange::{Request, query},
};

/// What must be there.
pub(super) struct Parameters {
    headers: Box<[(HeaderName, Condition)]>,
    query: Box<[(Box<str>, Condition)]>,
}

enum Condition {
    Absent,
    Present,
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Regex),
}

impl Parameters {
    pub(super) fn from_config(config: &Validation) -> Self {
        let (headers, query) = (config.headers.iter(), config.query.iter());
        Self {
            headers: headers
                .map(|(name, value)| (name.clone(), Condition::new(value)))
                .collect(),
            query: query
                .map(|(name, value)| (name.clone(), Condition::new(value)))
                .collect(),
        }
    }

    /// Every fault, as the answer tells it. Values are not repeated.
    pub(super) fn check(&self, request: &Request) -> Result<(), Vec<Value>> {
        let mut faults = Vec::new();
        for (name, condition) in &self.headers {
            let values = request.headers().get_all(name).iter();
            let values = values.map(|value| Cow::Borrowed(value.as_bytes()));
            if let Err(what) = condition.check(values) {
                faults.push(json!({ "in": "header", "name": name.as_str(), "message": what }));
            }
        }
        for (name, condition) in &self.query {
            let values = query::parameters(request.uri().query(), name);
            if let Err(what) = condition.check(values) {
                faults.push(json!({ "in": "query", "name": name, "message": what }));
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(faults),
        }
    }
}

impl Condition {
    fn new(value: &ValueMatch) -> Self {
        match value {
            ValueMatch::Present(false) => Self::Absent,
            // The configuration refuses media types here.
            ValueMatch::Present(true) | ValueMatch::MediaType(_) => Self::Present,
            ValueMatch::Exact(text) => Self::Exact(text.clone()),
            ValueMatch::Prefix(text) => Self::Prefix(text.clone()),
            ValueMatch::Regex(regex) => Self::Regex(regex.clone()),
        }
    }

    /// Every value must fit: which one the upstream reads is not known.
    fn check<'v>(&self, values: impl Iterator<Item = Cow<'v, [u8]>>) -> Result<(), &'static str> {
        let mut values = values.peekable();
        match (self, values.peek().is_some()) {
            (Self::Absent, true) => return Err("must not be there"),
            (Self::Absent, false) => return Ok(()),
            (_, false) => return Err("is missing"),
            (_, true) => {}
        }
        match values.all(|value| self.fits(&value)) {
            true => Ok(()),
            false => Err("is not valid"),
        }
    }

    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Absent => false,
            Self::Present => true,
            Self::Exact(text) => *value == *text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| {
                // The length is looked at too: a flag inside may have untied the ends.
                let found = regex.find(value);
                found.is_some_and(|found| found.len() == value.len())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(condition: &Condition, values: &[&'static str]) -> Result<(), &'static str> {
        condition.check(values.iter().map(|value| Cow::Borrowed(value.as_bytes())))
    }

    #[test]
    fn every_value_of_a_repeated_parameter_must_fit() {
        let digits = Condition::Regex(Regex::new("^(?:[0-9]+)$").unwrap());
        assert_eq!(check(&digits, &["1", "22"]), Ok(()));
        assert_eq!(check(&digits, &["1", "x"]), Err("is not valid"));
        assert_eq!(check(&digits, &["1\n"]), Err("is not valid"));
        assert_eq!(check(&digits, &[]), Err("is missing"));
        assert_eq!(check(&Condition::Absent, &["1"]), Err("must not be there"));
        assert_eq!(check(&Condition::Absent, &[]), Ok(()));
        assert_eq!(check(&Condition::Present, &[""]), Ok(()));
    }
}
