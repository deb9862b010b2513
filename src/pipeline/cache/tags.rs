//! Tags: names that an upstream gives its answers, to purge them together.
//!
//! They come in `x-cache-tags`, separated by commas, or in `Surrogate-Key`, separated by spaces. They
//! are between the upstream and the gateway: no client sees them. In trailers they come too late, and
//! are taken out with what else must not stand there.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::exchange::fields::{SURROGATE_KEY, X_CACHE_TAGS};

/// The tags of one answer.
#[derive(Debug, Default)]
pub(super) struct Tags(Vec<HeaderValue>, Vec<HeaderValue>);

impl Tags {
    /// Takes them out of an answer's fields.
    pub(super) fn take(headers: &mut HeaderMap) -> Self {
        Self(take(headers, &X_CACHE_TAGS), take(headers, &SURROGATE_KEY))
    }

    /// The tags. One that is no text is `None`: no purge could name it.
    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        split(&self.0, b',').chain(split(&self.1, b' '))
    }

    /// All of them, a line each.
    pub(super) fn lines(&self) -> Box<str> {
        let tags: Vec<_> = self.iter().flatten().collect();
        tags.join("\n").into()
    }

    /// Whether a purge by any of them would reach the answer.
    pub(super) fn can_be_kept(&self) -> bool {
        self.iter().all(|tag| tag.is_some()) && self.iter().count() <= MOST_TAGS
    }
}

/// The tags of an answer and those that came later, a line each.
pub(super) fn joined(old: &str, new: &str) -> Box<str> {
    let new = new
        .lines()
        .filter(|tag| !old.lines().any(|known| known == *tag));
    let all: Vec<_> = old.lines().chain(new).collect();
    all.join("\n").into()
}

fn take(headers: &mut HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    match headers.entry(name) {
        http::header::Entry::Occupied(entry) => entry.remove_entry_mult().1.collect(),
        http::header::Entry::Vacant(_) => Vec::new(),
    }
}

fn split(values: &[HeaderValue], by: u8) -> impl Iterator<Item = Option<&str>> {
    let members = values
        .iter()
        .flat_map(move |value| value.as_bytes().split(move |byte| *byte == by));
    members
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
        .map(|member| std::str::from_utf8(member).ok())
}

/// An answer with more is not stored: a purge by one that was dropped would miss it.
const MOST_TAGS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(lines: &[(&'static str, &'static str)]) -> (Vec<String>, bool, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let tags = Tags::take(&mut headers);
        let all = tags.iter().map(|tag| tag.unwrap_or("?").to_owned());
        (all.collect(), tags.can_be_kept(), headers)
    }

    #[test]
    fn tags_of_both_fields_are_taken_out() {
        let (all, kept, headers) = tags(&[
            ("x-cache-tags", "a, b c"),
            ("surrogate-key", "d  e,f"),
            ("x-cache-tags", ",g,"),
            ("x-other", "h"),
        ]);
        assert_eq!(all, ["a", "b c", "g", "d", "e,f"]);
        assert!(kept);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn later_tags_join_those_that_are_there() {
        assert_eq!(&*joined("a\nb c", "b c\nd"), "a\nb c\nd");
        assert_eq!(&*joined("", "a"), "a");
        assert_eq!(&*joined("a", ""), "a");
    }

    #[test]
    fn more_tags_than_can_be_kept_are_told() {
        let many = vec!["t"; MOST_TAGS + 1].join(" ").leak();
        assert!(!tags(&[("surrogate-key", many)]).1);
        assert!(tags(&[]).1);
    }
}
