//! `[auth.jwt.NAME.revocation]`: tokens that were taken back.

use std::{path::PathBuf, time::Duration};

use crate::config::{
    decode::{Format, Node, OptionOf, Reader, TableNode, Text, Time, table},
    diagnostic::Finding,
};

table! {
    /// `[auth.jwt.NAME.revocation]`: tokens that are refused before their time, by a list.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct RevocationKeys ["auth.jwt.NAME.revocation", check check_revocation] {
        /// `file`: a token's `jti` on each line, or `sub:` and a subject whose tokens are all
        /// refused. It is read again when it changes.
        file: Option<PathBuf> => OptionOf<ListFile> = None; "needed",
        /// `max_stale`: how long the list serves while its file can't be read; then all tokens are
        /// refused with 503.
        max_stale: Duration => Time = Duration::from_secs(3600),
    }
}

/// `[auth.jwt.NAME.revocation]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// `file`: the list.
    pub file: PathBuf,
    /// `max_stale`: how long the list serves while its file can't be read.
    pub max_stale: Duration,
}

impl RevocationKeys {
    /// The checked table; `None` when it has been found wrong.
    pub(super) fn checked(self) -> Option<RevocationList> {
        Some(RevocationList {
            file: self.file?,
            max_stale: self.max_stale,
        })
    }
}

fn check_revocation(_: &RevocationKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !table.has("file") {
        let finding = Finding::error(table.node.place, "a list of revoked tokens needs a `file`")
            .help("write `file = \"revoked.txt\"`");
        reader.report(finding);
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
