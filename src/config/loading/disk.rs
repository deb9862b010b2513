//! Files: which ones a pattern names, and what they hold.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// Why a file can't be read.
pub(super) struct Unreadable {
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) help: Option<String>,
    /// What of it is text.
    pub(super) text: String,
    /// Where it is no text.
    pub(super) at: Option<usize>,
}

impl Unreadable {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            text: String::new(),
            at: None,
        }
    }
}

/// Reads a file of so many bytes at most.
pub(super) fn read_capped(path: &Path, cap: usize) -> Result<String, Unreadable> {
    let unreadable =
        |error: std::io::Error| Unreadable::new(format!("the file can't be read: {error}"));
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(cap as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > cap {
        return Err(Unreadable::new(too_large()));
    }
    String::from_utf8(bytes).map_err(|error| not_text(&error))
}

fn not_text(error: &std::string::FromUtf8Error) -> Unreadable {
    let at = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    if bytes.contains(&0) {
        return Unreadable::new("this is a binary file, not a configuration");
    }
    Unreadable {
        help: Some("save the file as UTF-8".to_owned()),
        text: String::from_utf8_lossy(bytes).into_owned(),
        at: Some(at),
        ..Unreadable::new(format!(
            "this is not UTF-8: the byte 0x{:02x} can't stand here",
            bytes[at]
        ))
    }
}

/// What is said about more than [`LARGEST`] bytes.
pub(super) fn too_large() -> String {
    "the configuration has more than 16 MiB".to_owned()
}

/// The files that a pattern stands for, in the order of their names.
pub(super) fn expand(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = directory.join(pattern);
    let Some(name) = path.file_name().and_then(OsStr::to_str) else {
        return Err("`files`: the name of a file is missing".to_owned());
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    if parent.to_str().is_none_or(|parent| parent.contains('*')) {
        return Err("`files`: `*` can stand in the file name only, not in a directory".to_owned());
    }
    if !name.contains('*') {
        return match path.is_file() {
            true => Ok(vec![path]),
            false => Err(format!("`files`: there is no file `{}`", path.display())),
        };
    }
    let listed = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let entries = fs::read_dir(listed).map_err(|error| {
        format!(
            "`files`: the directory `{}` can't be read: {error}",
            listed.display()
        )
    })?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|found| matches(name, found)).collect();
    names.sort();
    let files = names.into_iter().map(|name| parent.join(name));
    Ok(files.filter(|file| file.is_file()).collect())
}

/// Whether a name fits a pattern in which `*` stands for any characters. Hidden files must be asked
/// for.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// All files of a configuration together, in bytes.
pub(super) const LARGEST: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_of_a_file_name() {
        assert!(matches("*.toml", "a.toml"));
        assert!(matches("a*b*.toml", "axxbyy.toml"));
        assert!(matches("a.toml", "a.toml"));
        assert!(!matches("*.toml", "a.toml.bak"));
        assert!(!matches("*.toml", ".hidden.toml"));
        assert!(!matches("a*a", "a"));
    }
}
