//! The texts that a configuration is made of, and places in them.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use super::mask;

/// A stretch of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    file: u32,
    start: u32,
    end: u32,
}

impl Place {
    /// The start and the end in bytes.
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Where it begins, for asking which of two places of a file comes first.
    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    /// The file, as an index into [`Sources`].
    pub(super) fn file(self) -> usize {
        self.file as usize
    }
}

/// One file's text.
#[derive(Debug)]
pub(super) struct Source {
    /// As shown in diagnostics.
    pub(super) name: String,
    /// The directory that relative names in the file start from.
    pub(super) directory: PathBuf,
    /// The text.
    pub(super) text: String,
    /// Where its lines begin.
    lines: Vec<usize>,
    /// Where it holds secrets.
    secrets: Vec<Range<usize>>,
}

impl Source {
    /// Takes a text in.
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let (name, text) = (name.into(), text.into());
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self {
            directory: Path::new(&name)
                .parent()
                .map_or_else(PathBuf::new, Path::to_path_buf),
            lines: std::iter::once(0).chain(breaks).collect(),
            secrets: mask::secrets(&text),
            name,
            text,
        }
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// The column of a byte in characters, from 1.
    pub(super) fn column(&self, at: usize) -> usize {
        let start = self.lines[self.line(at) - 1];
        let before = self.text.get(start..at).unwrap_or_default();
        before.chars().count() + 1
    }

    /// The line around a byte, without its line break.
    pub(super) fn line_range(&self, at: usize) -> Range<usize> {
        let line = self.line(at);
        let start = self.lines[line - 1];
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let text = self.text[start..end].trim_end_matches(['\n', '\r']);
        start..start + text.len()
    }

    /// What a caret on the first line of a stretch points at. A secret that the stretch cuts is
    /// pointed at as a whole: each of its pieces would be shown as a mask of its own.
    pub(super) fn pointed_at(&self, range: &Range<usize>) -> Range<usize> {
        let line = self.line_range(range.start);
        let first = self
            .secrets
            .partition_point(|secret| secret.end <= range.start);
        let cut = self.secrets[first..].iter();
        let cut = cut.take_while(|secret| secret.start < range.end);
        let (start, end) = cut.fold((range.start, range.end), |(start, end), secret| {
            (start.min(secret.start), end.max(secret.end))
        });
        start.clamp(line.start, line.end)..end.clamp(line.start, line.end)
    }

    /// A stretch of the text as it may be shown: secrets masked, control characters replaced.
    pub(super) fn shown(&self, range: Range<usize>) -> String {
        let mut shown = String::with_capacity(range.len());
        let mut at = range.start;
        let first = self.secrets.partition_point(|secret| secret.end <= at);
        for secret in &self.secrets[first..] {
            if secret.start >= range.end {
                break;
            }
            shown.push_str(&self.text[at.min(secret.start.max(at))..secret.start.max(at)]);
            shown.push_str(mask::MASK);
            at = secret.end.min(range.end);
        }
        shown.push_str(&self.text[at..range.end]);
        printable(&shown)
    }
}

/// All files of one configuration, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<Source>);

impl Sources {
    /// Adds a file and says where it stands.
    pub(super) fn add(&mut self, source: Source) -> usize {
        self.0.push(source);
        self.0.len() - 1
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file at an index that [`Sources::add`] gave.
    pub(super) fn get(&self, file: usize) -> &Source {
        &self.0[file]
    }

    /// The file of a place.
    pub(super) fn of(&self, place: Place) -> &Source {
        &self.0[place.file()]
    }

    /// A place in a file, moved to character boundaries and into the text: spans of a broken text
    /// may point anywhere.
    pub(super) fn place(&self, file: usize, range: Range<usize>) -> Place {
        let text = &self.0[file].text;
        let start = floor_boundary(text, range.start);
        let end = floor_boundary(text, range.end).max(start);
        // Files are capped far below 4 GiB when they are read.
        let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Place {
            file: short(file),
            start: short(start),
            end: short(end),
        }
    }

    /// `file:line` of a place, for naming it within a sentence.
    pub(super) fn name(&self, place: Place) -> String {
        let source = self.of(place);
        format!("{}:{}", source.name, source.line(place.start()))
    }

    /// The text of a place as it may be shown, on one line and not too long.
    pub(super) fn quote(&self, place: Place) -> String {
        let source = self.of(place);
        let range = place.range();
        let near = floor_boundary(&source.text, range.start + 4 * LONGEST_QUOTE);
        let text = source.shown(range.start..range.end.min(near));
        let line = text.lines().next().unwrap_or_default();
        let mut cut: String = line.chars().take(LONGEST_QUOTE).collect();
        if cut.len() < text.len() || near < range.end {
            cut.push('…');
        }
        cut
    }
}

/// The character boundary at or before a byte.
pub(super) fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A terminal must not be steered by a file that somebody else wrote.
pub(super) fn printable(text: &str) -> String {
    let harmless = |c: char| {
        let control = c.is_control() && c != '\n' && c != '\t';
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if control || turns { '\u{fffd}' } else { c }
    };
    text.chars().map(harmless).collect()
}

const LONGEST_QUOTE: usize = 60;
