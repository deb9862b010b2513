//! Findings: what is wrong with a configuration, where, and what to write instead.
//!
//! A finding is complete in itself: it holds the lines that it points at, with secrets masked, and
//! outlives the files.

use std::{fmt, ops::Range, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{
    mask,
    source::{Place, Sources, floor_boundary},
};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// It can, but it hardly does what was meant.
    Warning,
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1; 0 when the finding is about the file as a whole.
    pub line: usize,
    /// The column in characters, from 1; 0 when the finding is about the file as a whole.
    pub column: usize,
    /// What is wrong: what was expected and what was found.
    pub message: String,
    /// What stands at the caret.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that belong to the finding.
    pub related: Vec<Related>,
    excerpt: Option<Excerpt>,
}

/// Another place that a finding is about.
#[derive(Clone, Debug)]
pub struct Related {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What stands there.
    pub label: String,
    excerpt: Excerpt,
}

/// A line of a file as it may be shown.
#[derive(Clone, Debug)]
struct Excerpt {
    text: String,
    caret: Range<usize>,
}

/// All findings about one configuration, ordered by file and position.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    findings: Vec<Diagnostic>,
    /// Findings that were left out because there were too many.
    left_out: usize,
}

impl Diagnostics {
    /// The findings in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.findings.iter()
    }

    /// How many findings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.findings.len()
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether one of the findings is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.iter().any(|one| one.severity == Severity::Error)
    }

    /// All findings as text for a person, each with its line and a caret; with terminal colours if
    /// `colour`.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        for finding in self {
            text.push_str(&finding.render(&renderer));
            text.push_str("\n\n");
        }
        if self.left_out > 0 {
            text.push_str(&format!("... and {} findings more\n", self.left_out));
        }
        text
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic {
    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        group = match &self.excerpt {
            Some(excerpt) => excerpt.append(group, self.position(), &self.label, true),
            None => group.element(Origin::path(&*self.file)),
        };
        for other in &self.related {
            let position = (&*other.file, other.line, other.column);
            group = other.excerpt.append(group, position, &other.label, false);
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    fn position(&self) -> (&str, usize, usize) {
        (&self.file, self.line, self.column)
    }
}

impl Excerpt {
    /// The first line of a place. A line that is too long for a terminal is cut around the place.
    fn of(sources: &Sources, place: Place) -> Self {
        let source = sources.of(place);
        let line = source.line_range(place.start());
        let caret = source.pointed_at(&place.range());
        let nearby = |at: usize| floor_boundary(&source.text, at);
        let start = nearby(caret.start.saturating_sub(LONGEST_EXCERPT)).max(line.start);
        let middle = nearby(caret.start + LONGEST_EXCERPT).min(caret.end);
        let end = nearby(caret.end + LONGEST_EXCERPT).min(line.end);
        let (before, at, after) = (
            source.shown(start..caret.start),
            source.shown(caret.start..middle),
            source.shown(caret.end..end),
        );
        let before = last_chars(&before, LONGEST_SIDE);
        let at = first_chars(&at, LONGEST_SIDE);
        let after = first_chars(&after, LONGEST_SIDE);
        Self {
            caret: before.len()..before.len() + at.len(),
            text: [before, at, after].concat(),
        }
    }

    fn append<'a>(
        &'a self,
        group: Group<'a>,
        (file, line, column): (&'a str, usize, usize),
        label: &'a str,
        primary: bool,
    ) -> Group<'a> {
        let kind = match primary {
            true => AnnotationKind::Primary,
            false => AnnotationKind::Context,
        };
        let mut annotation = kind.span(self.caret.clone());
        if !label.is_empty() {
            annotation = annotation.label(label);
        }
        let snippet = Snippet::source(self.text.as_str())
            .line_start(line)
            .annotation(annotation);
        // The renderer counts columns in the shown line; a mask or a cut before the place moves it.
        if self.text[..self.caret.start].chars().count() + 1 == column {
            return group.element(snippet.path(file));
        }
        group
            .element(Origin::path(file).line(line).char_column(column))
            .element(snippet)
    }
}

/// A finding that still refers to the files by [`Place`].
#[derive(Debug)]
pub(super) struct Finding {
    severity: Severity,
    place: Place,
    whole_file: bool,
    message: String,
    label: String,
    help: Option<String>,
    related: Vec<(Place, String)>,
}

impl Finding {
    /// Something that makes the configuration unusable.
    pub(super) fn error(place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place,
            whole_file: false,
            message: message.into(),
            label: String::new(),
            help: None,
            related: Vec::new(),
        }
    }

    /// Something that is hardly meant.
    pub(super) fn warning(place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(place, message)
        }
    }

    /// Something about a file as a whole: no line is shown.
    pub(super) fn about_file(place: Place, message: impl Into<String>) -> Self {
        Self {
            whole_file: true,
            ..Self::error(place, message)
        }
    }

    /// What stands at the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What to write instead.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What to write instead, if anything can be said.
    pub(super) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Another place.
    pub(super) fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push((place, label.into()));
        self
    }

    /// Whether it is an error.
    pub(super) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    fn resolve(self, sources: &Sources) -> Diagnostic {
        let source = sources.of(self.place);
        let at = source.pointed_at(&self.place.range()).start;
        let (line, column) = match self.whole_file {
            true => (0, 0),
            false => (source.line(at), source.column(at)),
        };
        Diagnostic {
            severity: self.severity,
            file: source.name.as_str().into(),
            line,
            column,
            message: mask::sentence(&self.message),
            label: mask::sentence(&self.label),
            help: self.help.as_deref().map(mask::sentence),
            related: self
                .related
                .into_iter()
                .map(|(place, label)| resolve_related(sources, place, &label))
                .collect(),
            excerpt: (!self.whole_file).then(|| Excerpt::of(sources, self.place)),
        }
    }
}

fn resolve_related(sources: &Sources, place: Place, label: &str) -> Related {
    let source = sources.of(place);
    let at = source.pointed_at(&place.range()).start;
    Related {
        file: source.name.as_str().into(),
        line: source.line(at),
        column: source.column(at),
        label: mask::sentence(label),
        excerpt: Excerpt::of(sources, place),
    }
}

/// Puts findings in order and makes them independent of the files.
pub(super) fn resolve(mut findings: Vec<Finding>, sources: &Sources) -> Diagnostics {
    // What a group says is found wrong by each of its routes.
    findings.sort_by(|one, other| (one.place, &one.message).cmp(&(other.place, &other.message)));
    findings.dedup_by(|one, other| one.place == other.place && one.message == other.message);
    let left_out = findings.len().saturating_sub(MOST_FINDINGS);
    findings.sort_by_key(|finding| (finding.severity, finding.place));
    findings.truncate(MOST_FINDINGS);
    findings.sort_by_key(|finding| (finding.place, finding.severity));
    Diagnostics {
        left_out,
        findings: findings
            .into_iter()
            .map(|finding| finding.resolve(sources))
            .collect(),
    }
}

fn first_chars(text: &str, most: usize) -> &str {
    let end = text
        .char_indices()
        .nth(most)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn last_chars(text: &str, most: usize) -> &str {
    let count = text.chars().count();
    let start = text.char_indices().nth(count.saturating_sub(most));
    &text[start.map_or(text.len(), |(at, _)| at)..]
}

/// Nobody reads more, and a generated file must not cost gigabytes of text.
const MOST_FINDINGS: usize = 1000;
/// In characters, on either side of a caret.
const LONGEST_SIDE: usize = 200;
/// In bytes: what is looked at for that.
const LONGEST_EXCERPT: usize = 4 * LONGEST_SIDE;
