//! From files to a checked [`Config`]: reading with a cap, includes, and all findings at once.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    Config, Diagnostics,
    diagnostic::{self, Finding},
    source::{Source, Sources},
};

/// A configuration that can be used, and what came to light on the way.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Findings that are no errors.
    pub warnings: Diagnostics,
    /// Every file that was read, the included and those of `${file:}` too: what to watch for a
    /// reload.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads a file and those that it includes.
    ///
    /// # Errors
    ///
    /// All findings at once when one of them is an error; a file that can't be read is one.
    pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
        let mut sources = Sources::default();
        let name = path.display().to_string();
        let text = match read_capped(path, LARGEST) {
            Ok(text) => text,
            Err(message) => {
                sources.add(Source::new(name, ""));
                let place = sources.place(0, 0..0);
                return Err(diagnostic::resolve(
                    vec![Finding::about_file(place, message)],
                    &sources,
                ));
            }
        };
        Self::parse(&name, &text)
    }

    /// Reads a text as if it stood in a file of that name, which need not exist.
    ///
    /// # Errors
    ///
    /// All findings at once when one of them is an error.
    pub fn parse(name: &str, text: &str) -> Result<Loaded, Diagnostics> {
        let mut sources = Sources::default();
        sources.add(Source::new(name, text));
        let place = sources.place(0, 0..0);
        Err(diagnostic::resolve(
            vec![Finding::error(place, "the parser is on its way")],
            &sources,
        ))
    }

    /// The configuration of `tollgate run --to URL`: one route, `all`, to one server.
    ///
    /// # Errors
    ///
    /// When the URL is not one of a server.
    pub fn to_upstream(url: &str) -> Result<Self, Diagnostics> {
        Self::parse("--to", url).map(|loaded| loaded.config)
    }
}

fn read_capped(path: &Path, cap: u64) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("can't be read: {error}");
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(cap + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

const LARGEST: u64 = 16 << 20;
