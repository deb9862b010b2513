//! `${...}` in strings: `${env:X}` and `${file:F}` at load, the rest per request.

use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Node, Problem, Reader};
use crate::config::{Template, TemplatePart, diagnostic::Finding, source::Place};
use toml::de::DeValue;

/// Where values that are filled in at load come from.
pub(in crate::config) struct Environment {
    variables: Box<Variables>,
    /// The files that were read for `${file:F}`.
    pub(in crate::config) files: Vec<PathBuf>,
}

/// Looks a variable up.
type Variables = dyn Fn(&str) -> Option<String>;

impl Environment {
    /// The process's own.
    pub(in crate::config) fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// One that looks variables up in some other way.
    pub(in crate::config) fn new(variables: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self {
            variables: Box::new(variables),
            files: Vec::new(),
        }
    }

    fn variable(&self, reference: &str) -> Result<String, Problem> {
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Problem::what("`${env:}` needs the name of a variable"));
        }
        // Like a shell's `:-`, the default also stands in for an empty variable.
        let value = (self.variables)(name).filter(|value| default.is_none() || !value.is_empty());
        value.or(default.map(str::to_owned)).ok_or_else(|| {
            Problem::what(format!("the environment variable `{name}` is not set"))
                .help(format!("set it, or give a default: `${{env:{name}:-...}}`"))
        })
    }

    fn file(&mut self, directory: &Path, name: &str) -> Result<String, Problem> {
        let path = directory.join(name);
        let text = read_small(&path).map_err(|error| {
            Problem::what(format!(
                "the file `{}` can't be read: {error}",
                path.display()
            ))
        })?;
        self.files.push(path);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

fn read_small(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// A string with everything filled in.
#[derive(Debug)]
pub(in crate::config) struct Expanded {
    /// The text.
    pub(in crate::config) value: String,
    /// Whether something was filled in, which then must not be shown.
    pub(in crate::config) filled_in: bool,
}

/// A piece of a string.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    /// What stands between `${` and `}`.
    Reference(&'t str),
    /// `${` without its `}`.
    Unclosed,
}

/// Cuts a string into pieces; `$$` is a dollar, and so is a `$` before anything but `{`.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        push_text(&mut found, before);
        rest = if let Some(after) = dollar.strip_prefix("$$") {
            push_text(&mut found, "$");
            after
        } else if let Some(inner) = dollar.strip_prefix("${") {
            let Some((name, after)) = inner.split_once('}') else {
                found.push(Piece::Unclosed);
                return found;
            };
            found.push(Piece::Reference(name));
            after
        } else {
            push_text(&mut found, "$");
            &dollar[1..]
        };
    }
    push_text(&mut found, rest);
    found
}

fn push_text<'t>(pieces: &mut Vec<Piece<'t>>, text: &'t str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

impl Reader<'_> {
    /// Fills in what is known at load; any other name is reported.
    pub(in crate::config) fn expand(&mut self, node: Node<'_>) -> Option<Expanded> {
        let template = self.pieces(node, false)?;
        let mut value = String::new();
        for part in template.parts {
            if let TemplatePart::Literal(text) = part {
                value.push_str(&text);
            }
        }
        Some(Expanded {
            value,
            filled_in: template.filled_in,
        })
    }

    /// Reads a string whose other names are filled in per request.
    pub(in crate::config) fn template(&mut self, node: Node<'_>) -> Option<Template> {
        self.warn_of_bare_names(node);
        let parts = self.pieces(node, true)?.parts;
        Some(Template { parts })
    }

    /// nginx and shells fill in `$host`; here it is text, and hardly meant as such.
    fn warn_of_bare_names(&mut self, node: Node<'_>) {
        let DeValue::String(text) = node.value else {
            return;
        };
        for name in bare_names(text) {
            let message = format!("`{}`: `${name}` is text and is not filled in", node.name);
            let help = format!(
                "write {}, or `$${name}` if the text is meant",
                meant_by(name)
            );
            self.report(Finding::warning(node.place, message).help(help));
        }
    }

    fn pieces(&mut self, node: Node<'_>, per_request: bool) -> Option<Pieces> {
        let DeValue::String(text) = node.value else {
            return self.wrong(node, "a string", None);
        };
        let mut result = Pieces::default();
        let mut complete = true;
        for piece in pieces(text) {
            match self.piece(&piece, per_request) {
                Ok((part, filled_in)) => result.push(part, filled_in),
                Err(problem) => {
                    complete = false;
                    self.report_piece(node, &piece, problem);
                }
            }
        }
        complete.then_some(result)
    }

    fn piece(
        &mut self,
        piece: &Piece<'_>,
        per_request: bool,
    ) -> Result<(TemplatePart, bool), Problem> {
        let literal = |text: &str| TemplatePart::Literal(text.into());
        let name = match piece {
            Piece::Text(text) => return Ok((literal(text), false)),
            Piece::Unclosed => {
                return Err(Problem::what("`${` without its `}`").help("write `$$` for a dollar"));
            }
            Piece::Reference(name) => *name,
        };
        if let Some(variable) = name.strip_prefix("env:") {
            return Ok((literal(&self.environment.variable(variable)?), true));
        }
        if let Some(file) = name.strip_prefix("file:") {
            let directory = &self.sources.get(self.file).directory;
            return Ok((literal(&self.environment.file(directory, file)?), true));
        }
        match per_request_part(name) {
            Some(part) if per_request => Ok((part, false)),
            other => Err(unknown_name(name, per_request, other.is_some())),
        }
    }

    /// The text of a file that a value names, relative to the file that is being read.
    pub(in crate::config) fn file(&mut self, node: Node<'_>, name: &str) -> Option<String> {
        let directory = &self.sources.get(self.file).directory;
        match self.environment.file(directory, name) {
            Ok(text) => Some(text),
            Err(problem) => {
                let what = problem.what.unwrap_or_default();
                self.report(Finding::error(
                    node.place,
                    format!("`{}`: {what}", node.name),
                ));
                None
            }
        }
    }

    fn report_piece(&mut self, node: Node<'_>, piece: &Piece<'_>, problem: Problem) {
        let place = self.piece_place(node, piece);
        let what = problem.what.unwrap_or_default();
        let finding =
            Finding::error(place, format!("`{}`: {what}", node.name)).maybe_help(problem.help);
        self.report(finding);
    }

    /// Where a piece stands. Escapes in the string move it; the whole string is right too.
    fn piece_place(&self, node: Node<'_>, piece: &Piece<'_>) -> Place {
        let written = match piece {
            Piece::Reference(name) => format!("${{{name}}}"),
            _ => "${".to_owned(),
        };
        let range = node.place.range();
        let text = &self.sources.of(node.place).text[range.clone()];
        let found = match piece {
            Piece::Unclosed => text.rfind(&written),
            _ => text.find(&written),
        };
        found.map_or(node.place, |at| {
            let start = range.start + at;
            self.place(start..start + written.len())
        })
    }
}

/// Names behind a `$` without braces. Behind `$$` there is none: that is a dollar on purpose.
fn bare_names(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, behind) = after.split_at(end.unwrap_or(after.len()));
        if !name.is_empty() {
            found.push(name);
        }
        rest = behind
            .strip_prefix('$')
            .filter(|_| name.is_empty())
            .unwrap_or(behind);
    }
    found
}

/// What is written here for a name that nginx fills in, or a shell.
fn meant_by(name: &str) -> String {
    if let Some((_, ours)) = OF_NGINX.iter().find(|(theirs, _)| *theirs == name) {
        return format!("`{ours}`");
    }
    if PER_REQUEST.iter().any(|(known, _)| *known == name) {
        return format!("`${{{name}}}`");
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return "`${path.NAME}` for what `{NAME}` in the path took".to_owned();
    }
    format!("`${{env:{name}}}` for an environment variable")
}

#[derive(Default)]
struct Pieces {
    parts: Vec<TemplatePart>,
    filled_in: bool,
}

impl Pieces {
    fn push(&mut self, part: TemplatePart, filled_in: bool) {
        self.filled_in |= filled_in;
        if let (Some(TemplatePart::Literal(last)), TemplatePart::Literal(text)) =
            (self.parts.last_mut(), &part)
        {
            *last = format!("{last}{text}").into();
            return;
        }
        self.parts.push(part);
    }
}

fn per_request_part(name: &str) -> Option<TemplatePart> {
    let simple = PER_REQUEST.iter().find(|(known, _)| *known == name);
    if let Some((_, part)) = simple {
        return Some(part.clone());
    }
    let (kind, rest) = name.split_once('.')?;
    let captured = matches!(kind, "host" | "path") && !rest.is_empty();
    captured.then(|| TemplatePart::Capture(Arc::from(name)))
}

fn unknown_name(name: &str, per_request: bool, known_elsewhere: bool) -> Problem {
    let mut known = vec!["env:X", "file:F"];
    if per_request {
        known.extend(PER_REQUEST.iter().map(|(name, _)| *name));
        known.extend(["host.NAME", "path.NAME"]);
    }
    let known: Vec<_> = known.iter().map(|name| format!("`${{{name}}}`")).collect();
    let what = match known_elsewhere {
        true => format!("`${{{name}}}` is known only per request, and this is read at load"),
        false => format!("unknown name `${{{name}}}`"),
    };
    Problem::what(what).help(match looks_like_variable(name) {
        true => format!("write `${{env:{name}}}` for the environment variable"),
        false => format!("known here: {}; `$$` is a dollar", known.join(", ")),
    })
}

/// As names in the environment are written; none of ours are.
fn looks_like_variable(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(letter)
}

const PER_REQUEST: [(&str, TemplatePart); 9] = [
    ("client_ip", TemplatePart::ClientIp),
    ("request_id", TemplatePart::RequestId),
    ("principal", TemplatePart::Principal),
    ("caller", TemplatePart::Caller),
    ("route", TemplatePart::Route),
    ("scheme", TemplatePart::Scheme),
    ("host", TemplatePart::Host),
    ("path", TemplatePart::Path),
    ("query", TemplatePart::Query),
];
/// Names of nginx, and what is written here.
const OF_NGINX: [(&str, &str); 6] = [
    ("remote_addr", "${client_ip}"),
    ("http_host", "${host}"),
    ("uri", "${path}"),
    ("request_uri", "${path}${query}"),
    ("args", "${query}"),
    ("query_string", "${query}"),
];
const LARGEST_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_doubled_and_names_stand_in_braces() {
        assert_eq!(
            pieces("a$$b${env:X}$c^$"),
            [
                Piece::Text("a"),
                Piece::Text("$"),
                Piece::Text("b"),
                Piece::Reference("env:X"),
                Piece::Text("$"),
                Piece::Text("c^"),
                Piece::Text("$"),
            ]
        );
        assert_eq!(pieces("a${b"), [Piece::Text("a"), Piece::Unclosed]);
    }

    #[test]
    fn a_name_without_braces_is_found_unless_its_dollar_is_doubled() {
        assert_eq!(
            bare_names("https://$host$request_uri"),
            ["host", "request_uri"]
        );
        assert_eq!(bare_names("/$1/$"), ["1"]);
        assert_eq!(bare_names("$a$$b"), ["a"]);
        assert_eq!(bare_names("$$host ${host} ^x$"), [""; 0]);
    }

    #[test]
    fn names_of_nginx_are_translated() {
        assert_eq!(meant_by("host"), "`${host}`");
        assert_eq!(meant_by("request_uri"), "`${path}${query}`");
        assert!(meant_by("1").contains("`${path.NAME}`"));
        assert_eq!(
            meant_by("HOME"),
            "`${env:HOME}` for an environment variable"
        );
    }

    #[test]
    fn a_default_stands_in_for_an_unset_or_empty_variable() {
        let environment = Environment::new(|name| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        });
        let read = |reference: &str| environment.variable(reference).ok();
        assert_eq!(read("SET").as_deref(), Some("value"));
        assert_eq!(read("SET:-other").as_deref(), Some("value"));
        assert_eq!(read("EMPTY").as_deref(), Some(""));
        assert_eq!(read("EMPTY:-other").as_deref(), Some("other"));
        assert_eq!(read("UNSET:-a:-b").as_deref(), Some("a:-b"));
        assert_eq!(read("UNSET"), None);
    }
}
