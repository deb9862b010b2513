//! The decoder: walks the tree that [`toml`] made of a text and collects every finding.
//!
//! A table is declared once, by [`table!`](macro@table): its keys, their formats, defaults and meanings. From that
//! declaration come the struct, its decoding, the check for unknown keys and the reference. A
//! value is read by its [`Format`], which reports what is wrong and lets the walk go on, so that
//! one run finds everything. serde is not used here: its errors end the walk, and they quote the
//! value, which may be a secret out of `${env:X}`; ours quote the masked text of the file.

mod expand;
mod syntax;
mod table;
mod units;
mod unknown;
mod values;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::{
    diagnostic::Finding,
    source::{Place, Sources},
};

pub(super) use expand::Environment;
pub(super) use syntax::parse_tree;
pub(super) use table::{Entry, KeyDoc, Named, Sub, Table, TableDoc, TableNode, read_keys, table};
pub(super) use units::{Count, Size, Time, TimeOrZero, duration};
pub(super) use unknown::nearest;
pub(super) use values::{
    Choice, Flag, Int, Keyed, Off, OneOrList, OptionOf, OrWord, Set, Share, Text, Unlimited, Word,
};

/// How a value stands in the file, and what becomes of it.
pub(super) trait Format {
    /// What it is read into.
    type Value;
    /// What is expected, as the reference and the findings name it: "a duration".
    fn expected() -> String;
    /// How one is written, in TOML.
    fn example() -> String;
    /// Reads a value. What is wrong has been reported when it returns `None`.
    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value>;
}

/// A format whose values can be written back, for the defaults in the reference.
pub(super) trait Show: Format {
    /// The value as TOML.
    fn show(value: &Self::Value) -> String;
}

/// A value in its place.
#[derive(Clone, Copy)]
pub(super) struct Node<'t> {
    /// Its key; for a member of a list the list's.
    pub(super) name: &'t str,
    /// Where the key stands.
    pub(super) key: Place,
    /// Where the value stands: a table's header, if it has one.
    pub(super) place: Place,
    /// The value.
    pub(super) value: &'t DeValue<'t>,
    /// The table that it stands in.
    pub(super) scope: &'t Scope<'t>,
}

/// A table on the way from the root to a value.
pub(super) struct Scope<'t> {
    /// `routes.orders`; empty for the root.
    pub(super) header: String,
    /// Where the table's header or its key stands.
    pub(super) place: Place,
    /// The keys that it may hold; none for a table of names.
    pub(super) keys: &'static [&'static str],
    /// How it is written.
    pub(super) style: Style,
    /// The table around it.
    pub(super) parent: Option<&'t Scope<'t>>,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// The file itself.
    Root,
    /// `[a.b]`.
    Header,
    /// `{ ... }`.
    Inline,
    /// By a dotted key: `a.b = 1`, or the `a` of `[a.b]`.
    Implicit,
}

/// What is wrong with a text that a parser was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Problem {
    /// What is wrong, where "expected this, found that" does not say it. It must not quote.
    pub(super) what: Option<String>,
    /// What to write instead.
    pub(super) help: Option<String>,
}

impl Problem {
    /// Nothing to add to "expected this, found that".
    pub(super) fn plain() -> Self {
        Self::default()
    }

    /// Says what is wrong.
    pub(super) fn what(what: impl Into<String>) -> Self {
        Self {
            what: Some(what.into()),
            help: None,
        }
    }

    /// Says what to write instead.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What a walk through one file needs and collects.
pub(super) struct Reader<'a> {
    /// All files so far; the last one is being read.
    pub(super) sources: &'a Sources,
    /// The file that is being read.
    pub(super) file: usize,
    /// Where `${env:X}` and `${file:F}` come from.
    pub(super) environment: &'a mut Environment,
    /// What was found.
    pub(super) findings: Vec<Finding>,
}

impl Reader<'_> {
    /// Adds a finding.
    pub(super) fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Changes what stands at the caret of the last finding: a format within another knows less.
    fn relabel(&mut self, label: String) {
        if let Some(last) = self.findings.pop() {
            self.findings.push(last.label(label));
        }
    }

    /// A place in the file that is being read.
    pub(super) fn place(&self, range: std::ops::Range<usize>) -> Place {
        self.sources.place(self.file, range)
    }

    /// Reports a value of the wrong kind.
    pub(super) fn wrong<T>(
        &mut self,
        node: Node<'_>,
        expected: &str,
        help: Option<String>,
    ) -> Option<T> {
        let found = self.found(node);
        let finding = Finding::error(
            node.place,
            format!("`{}`: expected {expected}, found {found}", node.name),
        )
        .label(format!("expected {expected}"))
        .maybe_help(help);
        self.report(finding);
        None
    }

    /// Reports what is wrong with a value.
    pub(super) fn refuse<T>(
        &mut self,
        node: Node<'_>,
        expected: &str,
        problem: Problem,
    ) -> Option<T> {
        let Some(what) = problem.what else {
            return self.wrong(node, expected, problem.help);
        };
        let finding = Finding::error(node.place, format!("`{}`: {what}", node.name))
            .label(format!("expected {expected}"))
            .maybe_help(problem.help);
        self.report(finding);
        None
    }

    /// Reads a string, with `${env:X}` and `${file:F}` filled in, through a parser.
    pub(super) fn parse<T>(
        &mut self,
        node: Node<'_>,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        let DeValue::String(_) = node.value else {
            return self.wrong(node, expected, None);
        };
        let text = self.expand(node)?;
        match parse(&text.value) {
            Ok(value) => Some(value),
            // What the parser says may repeat parts of a value that must not be seen.
            Err(_) if text.filled_in => {
                let help = "the value that was filled in is not shown".to_owned();
                self.wrong(node, expected, Some(help))
            }
            Err(problem) => self.refuse(node, expected, problem),
        }
    }

    /// What stands at a node, for a sentence.
    pub(super) fn found(&self, node: Node<'_>) -> String {
        let kind = match node.value {
            DeValue::String(text) if text.is_empty() => return "an empty string".to_owned(),
            DeValue::String(_) => "the string",
            DeValue::Integer(_) => "the integer",
            DeValue::Float(_) => "the number",
            DeValue::Boolean(_) => "the boolean",
            DeValue::Datetime(_) => "the date",
            DeValue::Array(_) => return "a list".to_owned(),
            DeValue::Table(_) => return "a table".to_owned(),
        };
        format!("{kind} `{}`", self.sources.quote(node.place))
    }
}

impl<'t> Node<'t> {
    /// A key and its value in a table.
    pub(super) fn child(
        (key, value): (&'t Spanned<DeString<'_>>, &'t Spanned<DeValue<'_>>),
        scope: &'t Scope<'t>,
        reader: &Reader<'_>,
    ) -> Self {
        Self {
            name: key.get_ref(),
            key: reader.place(key.span()),
            place: reader.place(value.span()),
            value: value.get_ref(),
            scope,
        }
    }

    /// A member of the list that this node is.
    pub(super) fn member(self, value: &'t Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Self {
        Self {
            place: reader.place(value.span()),
            value: value.get_ref(),
            ..self
        }
    }

    /// How the table that this node is was written.
    pub(super) fn style(self, reader: &Reader<'_>) -> Style {
        // The parser gives a table that only a dotted key made the place of that key.
        if self.place == self.key {
            return Style::Implicit;
        }
        match reader
            .sources
            .of(self.place)
            .text
            .as_bytes()
            .get(self.place.start())
        {
            Some(b'{') => Style::Inline,
            _ => Style::Header,
        }
    }

    /// The scope of what stands in the table that this node is.
    pub(super) fn inner(self, keys: &'static [&'static str], reader: &Reader<'_>) -> Scope<'t> {
        let quoted = quoted_key(self.name);
        Scope {
            header: match self.scope.header.as_str() {
                "" => quoted,
                header => format!("{header}.{quoted}"),
            },
            place: self.place,
            keys,
            style: self.style(reader),
            parent: Some(self.scope),
        }
    }
}

/// A key as it has to be written in TOML.
pub(super) fn quoted_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        return key.to_owned();
    }
    quoted(key)
}

/// A string as it can be written in TOML.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
