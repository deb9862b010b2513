//! Text to a tree, and what TOML itself refuses.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use crate::config::{
    diagnostic::Finding,
    source::{Place, Sources},
};

/// Parses a file into its tree. Where only keys are defined twice the rest can still be read; any
/// other error ends the reading of that file, because whatever follows would be guesswork.
pub(in crate::config) fn parse_tree<'s>(
    sources: &'s Sources,
    file: usize,
    findings: &mut Vec<Finding>,
) -> Option<DeTable<'s>> {
    let text = &sources.get(file).text;
    let (tree, errors) = DeTable::parse_recoverable(text);
    let first_broken = errors.iter().find(|error| !is_duplicate(error));
    if let Some(error) = first_broken {
        let place = sources.place(file, error.span().unwrap_or(0..0));
        findings.push(broken(error, place, sources));
        return None;
    }
    for error in errors.iter().take(MOST_DUPLICATES) {
        let span = error.span().unwrap_or(0..0);
        findings.push(duplicate(sources, file, span));
    }
    Some(tree.into_inner())
}

fn is_duplicate(error: &Error) -> bool {
    error.message().starts_with("duplicate key")
        || error.message().starts_with("cannot extend value")
}

fn broken(error: &Error, place: Place, sources: &Sources) -> Finding {
    let source = sources.of(place);
    let line = &source.text[source.line_range(place.start())];
    let help = bare_value(line).then(|| "a string stands in quotes: `key = \"value\"`".to_owned());
    Finding::error(place, format!("this is not TOML: {}", error.message())).maybe_help(help)
}

/// Whether a line looks like `key = value` with a value that lacks its quotes.
fn bare_value(line: &str) -> bool {
    let Some((_, value)) = line.split_once('=') else {
        return false;
    };
    let value = value.split('#').next().unwrap_or_default().trim();
    value.starts_with(|c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '/' | '*' | '.' | '$' | '\u{201c}' | '\u{2018}')
    }) && !value.contains(['"', '\''])
}

/// A key or a table that is defined twice, with both places.
fn duplicate(sources: &Sources, file: usize, span: Range<usize>) -> Finding {
    let place = sources.place(file, span);
    let name = sources.quote(place);
    let finding = Finding::error(place, format!("`{name}` is defined twice"))
        .label("again here")
        .help(format!(
            "TOML allows one definition of a key or table: say all of `{name}` in one place"
        ));
    match first_place(sources, place) {
        Some(first) => finding.related(first, "first defined here"),
        None => finding,
    }
}

/// Where the key at a place was defined first. The parser does not tell, so the text before it is
/// parsed once more, and its last table is the one that the key stands in.
fn first_place(sources: &Sources, place: Place) -> Option<Place> {
    let source = sources.of(place);
    let line = source.line_range(place.start());
    let text = &source.text[..line.start];
    let (before, _) = DeTable::parse_recoverable(text);
    let (own, _) = DeTable::parse_recoverable(&source.text[line.clone()]);
    let mut last = LastHeader {
        text,
        start: 0,
        path: Vec::new(),
    };
    if !source.text[line].trim_start().starts_with('[') {
        last.look(before.get_ref(), &mut Vec::new());
    }
    let mut path = last.path;
    first_key_path(own.get_ref(), &mut path);
    let first = sources.place(place.file(), find(before.get_ref(), &path)?);
    // In an inline table the path ends too early.
    (sources.quote(first) == sources.quote(place)).then_some(first)
}

/// The path of the table whose header stands last.
struct LastHeader<'s> {
    text: &'s str,
    start: usize,
    path: Vec<String>,
}

impl LastHeader<'_> {
    fn look(&mut self, table: &DeTable<'_>, at: &mut Vec<String>) {
        for (key, value) in table {
            at.push(key.get_ref().to_string());
            match value.get_ref() {
                DeValue::Table(inner) => self.visit(inner, value.span().start, at),
                DeValue::Array(list) => {
                    for member in list.iter() {
                        if let DeValue::Table(inner) = member.get_ref() {
                            self.visit(inner, member.span().start, at);
                        }
                    }
                }
                _ => {}
            }
            at.pop();
        }
    }

    fn visit(&mut self, table: &DeTable<'_>, start: usize, at: &mut Vec<String>) {
        let is_header = self.text.as_bytes().get(start) == Some(&b'[');
        if is_header && start >= self.start {
            self.start = start;
            self.path.clone_from(at);
        }
        self.look(table, at);
    }
}

/// The path of the only key in a line's tree.
fn first_key_path(table: &DeTable<'_>, path: &mut Vec<String>) {
    if let Some((key, value)) = table.iter().next() {
        path.push(key.get_ref().to_string());
        let implicit = value.span() == key.span();
        if let (DeValue::Table(inner), true) = (value.get_ref(), implicit) {
            first_key_path(inner, path);
        }
    }
}

fn find(table: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.get_key_value(first.as_str())?;
    if rest.is_empty() {
        return Some(key.span());
    }
    match Spanned::get_ref(value) {
        DeValue::Table(inner) => find(inner, rest),
        DeValue::Array(list) => match list.iter().next_back()?.get_ref() {
            DeValue::Table(inner) => find(inner, rest),
            _ => None,
        },
        _ => Some(key.span()),
    }
}

/// Each takes a second parse of the text before it.
const MOST_DUPLICATES: usize = 10;
