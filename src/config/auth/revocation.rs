//! `[auth.jwt.NAME.revocation]`: tokens that were taken back.

use std::{path::PathBuf, time::Duration};

use crate::config::{
    Redis,
    decode::{Format, Node, OptionOf, Reader, TableNode, Text, Time, table},
    diagnostic::Finding,
};

table! {
    /// `[auth.jwt.NAME.revocation]`: tokens that are refused before their time, by a list.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct RevocationKeys ["auth.jwt.NAME.revocation", check check_revocation] {
        /// `file`: a token's `jti` on each line, or `sub:` and a subject whose tokens are all
        /// refused. It is read again when it changes.
        file: Option<PathBuf> => OptionOf<ListFile> = None; "this or `redis_set`",
        /// `redis_set`: the name of a set in Redis whose members are what a file's lines are. It is
        /// read again every `refresh`.
        redis_set: Option<String> => OptionOf<Text> = None; "this or `file`",
        /// `refresh`: how long a token that was added to `redis_set` may still be taken.
        refresh: Duration => Time = Duration::from_secs(10),
        /// `max_stale`: how long the list serves while it can't be read; then all tokens are
        /// refused with 503.
        max_stale: Duration => Time = Duration::from_secs(3600),
    }
}

/// `[auth.jwt.NAME.revocation]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Where the list is.
    pub source: RevocationSource,
    /// `max_stale`: how long the list serves while it can't be read.
    pub max_stale: Duration,
}

/// Where a list of revoked tokens is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationSource {
    /// `file`.
    File(PathBuf),
    /// `redis_set`.
    RedisSet {
        /// The set's name.
        set: String,
        /// `refresh`: how often it is read.
        refresh: Duration,
        /// The Redis that it is in, so that another one is another list.
        redis: Option<Redis>,
    },
}

impl RevocationKeys {
    /// The checked table; `None` when it has been found wrong.
    pub(super) fn checked(self) -> Option<RevocationList> {
        let source = match (self.file, self.redis_set) {
            (Some(file), _) => RevocationSource::File(file),
            (None, set) => RevocationSource::RedisSet {
                set: set?,
                refresh: self.refresh,
                redis: None,
            },
        };
        Some(RevocationList {
            source,
            max_stale: self.max_stale,
        })
    }
}

fn check_revocation(_: &RevocationKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let (file, set) = (table.has("file"), table.has("redis_set"));
    if !file && !set {
        let message = "a list of revoked tokens needs a `file` or a `redis_set`";
        let finding =
            Finding::error(table.node.place, message).help("write `file = \"revoked.txt\"`");
        reader.report(finding);
    }
    if file && set {
        let place = table.value_place("redis_set", reader);
        let finding = Finding::error(place, "the list is in a `file` or in a `redis_set`");
        reader.report(finding.help("leave out one of them"));
    }
    if table.has("refresh") && !set {
        let place = table.value_place("refresh", reader);
        let finding = Finding::error(place, "a `file` is read again whenever it changes");
        reader.report(finding.help("leave `refresh` out"));
    }
}

struct ListFile;

impl Format for ListFile {
    type Value = PathBuf;

    fn expected() -> String {
        "the name of a file".to_owned()
    }

    fn example() -> String {
        "\"revoked.txt\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<PathBuf> {
        let name = Text::read(node, reader)?;
        let path = reader.sources.of(node.place).directory.join(name);
        // It may come later; but a slip of the pen should not first be seen by callers.
        if let Err(error) = std::fs::metadata(&path) {
            let message = format!("`{}`: the file can't be read: {error}", node.name);
            let finding = Finding::warning(node.place, message);
            reader.report(finding.help("until it is there all tokens are refused with 503"));
        }
        Some(path)
    }
}
