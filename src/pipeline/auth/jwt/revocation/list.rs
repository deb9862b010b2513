//! A list of what was taken back, as a text.

use std::{collections::HashSet, hash::BuildHasher};

use foldhash::quality::RandomState;

/// Ids of tokens, and subjects. They are kept as hashes: a list may be long, and the chance that a
/// token shares its hash with one of a million others is one in ten billion.
#[derive(Debug, Default)]
pub(super) struct List {
    hasher: RandomState,
    hashes: HashSet<u64, foldhash::fast::RandomState>,
}

/// What a line names.
#[derive(Clone, Copy, Hash)]
enum Kind {
    Id,
    Subject,
}

impl List {
    /// Reads a list: on each line the `jti` of a token, with or without `jti:` in front, or `sub:`
    /// and a subject. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    ///
    /// When a line could mean something else than it seems to: a list of which half is read would
    /// let in whom the other half names. The message does not quote.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut list = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (kind, name) = entry(line).map_err(|what| format!("line {number}: {what}"))?;
            list.hashes.insert(list.hasher.hash_one((kind, name)));
            if list.hashes.len() > MOST {
                return Err(format!("it has more than {MOST} lines"));
            }
        }
        Ok(list)
    }

    /// Whether a token is named, or its subject.
    pub(super) fn contains(&self, id: Option<&str>, subject: &str) -> bool {
        let has = |kind, name| self.hashes.contains(&self.hasher.hash_one((kind, name)));
        !self.hashes.is_empty()
            && (has(Kind::Subject, subject) || id.is_some_and(|id| has(Kind::Id, id)))
    }
}

fn entry(line: &str) -> Result<(Kind, &str), &'static str> {
    let (kind, name) = match line.split_once(':') {
        Some(("sub", subject)) => (Kind::Subject, subject.trim_start()),
        Some(("jti", id)) => (Kind::Id, id.trim_start()),
        _ if line.contains(char::is_whitespace) => {
            return Err("a space stands in it; a comment has a line of its own");
        }
        _ => (Kind::Id, line),
    };
    match name {
        "" => Err("nothing follows the colon"),
        name => Ok((kind, name)),
    }
}

/// Some 20 MB.
const MOST: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_subjects_are_told_apart() {
        let text = "# taken back\n\n a-1 \njti:sub:x\nsub: Alice Liddell\r\n";
        let list = List::parse(text).unwrap();
        assert!(list.contains(Some("a-1"), "bob"));
        assert!(list.contains(Some("sub:x"), "bob"));
        assert!(list.contains(None, "Alice Liddell"));
        assert!(!list.contains(Some("Alice Liddell"), "a-1"));
        assert!(!list.contains(None, "bob"));
        assert!(!List::parse("").unwrap().contains(Some(""), ""));
    }

    #[test]
    fn a_line_that_may_mean_something_else_spoils_the_list() {
        for text in ["a # why", "a b", "sub:", "jti: "] {
            let wrong = List::parse(&format!("ok\n{text}\n")).unwrap_err();
            assert!(wrong.starts_with("line 2: "), "{wrong}");
        }
    }
}
