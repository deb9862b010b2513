//! The documents say what the program does: their configuration is parsed, their tables compared.
//!
//! Blocks of ```` ```toml ```` are whole files. Blocks of ```` ```toml fragment ```` are parts of
//! one: an upstream `app` and a route are put beside them, where they bring none themselves. Blocks
//! of ```` ```toml invalid ```` show a mistake.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

#[path = "demo.rs"]
mod demo;
#[path = "requests.rs"]
mod requests;
#[path = "transcripts.rs"]
mod transcripts;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use tempfile::TempDir;
use tollgate::{config::Config, exchange::Reason};

use super::root;

#[test]
fn configuration_in_the_documents_can_be_used() {
    let mut faults = Vec::new();
    // The page of the configuration has a test of its own, beside those of the configuration.
    let documents = documents().into_iter();
    let others = documents.filter(|(name, _)| name != "docs/configuration.md");
    let blocks: Vec<Block> = others.flat_map(|document| blocks_of(&document)).collect();
    let folder = folder();
    for block in &blocks {
        let place = folder.path().join(block.place.replace('/', "-"));
        let findings = match Config::parse(&place.display().to_string(), &block.file()) {
            Ok(loaded) => loaded.warnings,
            Err(findings) => findings,
        };
        if findings.has_errors() != block.is("invalid") {
            faults.push(format!("{}: {findings}", block.place));
        }
    }
    assert!(blocks.len() > 5, "the blocks were not found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_table_of_reasons_is_the_list_in_the_source() {
    let rows = Reason::ALL.iter().map(|reason| {
        let (word, code) = (reason.as_str(), reason.code().as_str());
        let (status, message) = (reason.status().as_u16(), reason.message());
        format!("| `{word}` | {status} | {code} | {message} |\n")
    });
    let expected: String = rows.collect();
    assert!(
        read("README.md").contains(&format!("|---|---|---|---|\n{expected}\n")),
        "README.md should have these rows under its reasons:\n{expected}"
    );
}

#[test]
fn the_table_of_metrics_names_every_metric() {
    let files = ["families", "singles"].map(|file| read(&format!("src/telemetry/{file}.rs")));
    let source = words(&files.concat(), '"');
    let document = words(&read("docs/operations.md"), '`');
    assert!(source.len() > 20, "the names were not found");
    assert_eq!(source, document);
}

#[test]
fn the_table_of_log_fields_names_every_field() {
    let source = read("src/frame/access_log.rs");
    let keys = source.split("key!(\"").skip(1);
    let written: BTreeSet<_> = keys.filter_map(|rest| rest.split('"').next()).collect();
    let page = read("docs/operations.md");
    let (_, section) = page.split_once("\n## The access log\n").unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let named = rows.filter_map(|row| row.split('|').next());
    let documented: BTreeSet<_> = named
        .flat_map(|names| names.split(", "))
        .map(|name| name.trim().trim_matches('`'))
        .collect();
    assert!(written.len() > 20, "the fields were not found");
    assert_eq!(written, documented);
}

#[test]
fn purges_in_the_documents_are_understood_by_the_command() {
    let documents = documents();
    let lines = documents.iter().flat_map(|(_, text)| text.lines());
    let purges: Vec<&str> = lines
        .filter(|line| line.starts_with("tollgate purge "))
        .collect();
    assert!(purges.len() > 5, "the purges were not found");
    for purge in purges {
        // Nothing listens there: what is understood fails for that (1), and else as bad usage (2).
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let arguments = arguments(purge).chain(["--admin", "127.0.0.1:1"]);
        let output = command.args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{purge}: {said}");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut faults = Vec::new();
    for (name, text) in documents() {
        let folder = Path::new(&name).parent().unwrap();
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            let target = root().join(folder).join(file);
            if !file.is_empty() && !target.exists() {
                faults.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where the files are that blocks name.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in ["api-keys.toml", "users.htpasswd"] {
        fs::write(folder.path().join(file), "").unwrap();
    }
    fs::create_dir(folder.path().join("schemas")).unwrap();
    let schema = Path::new("schemas/order.json");
    fs::copy(root().join("docs").join(schema), folder.path().join(schema)).unwrap();
    folder
}

/// A fenced block of TOML.
struct Block {
    place: String,
    /// What follows `toml` on the fence.
    kind: String,
    text: String,
}

impl Block {
    fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// The block as a whole file.
    fn file(&self) -> String {
        let mut text = self.text.clone();
        if self.is("fragment") && !text.contains("[upstreams.app]") {
            text.push_str("\n[upstreams.app]\nservers = [\"http://127.0.0.1:3000\"]\n");
        }
        if self.is("fragment") && !text.contains("[routes.") {
            text.push_str("\n[routes.everything]\nupstream = \"app\"\n");
        }
        text
    }
}

fn blocks_of((name, text): &(String, String)) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, line.strip_prefix("```toml")) {
            (None, Some(kind)) => {
                open = Some(Block {
                    place: format!("{name}:{number}"),
                    kind: kind.trim().to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), _) if line == "```" => blocks.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

/// The words behind the command's name in a line for a shell, without its comment.
fn arguments(line: &str) -> impl Iterator<Item = &str> {
    let line = line.split(" #").next().unwrap_or_default();
    let words = line.split_whitespace().skip(1);
    words.map(|word| word.trim_matches('\''))
}

/// Targets of Markdown links that are not elsewhere on the web.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://"))
        .collect()
}

/// Every name of a metric that stands between two quotes of a kind.
fn words(text: &str, quote: char) -> BTreeSet<String> {
    text.split(quote)
        .filter(|word| word.starts_with("tollgate_"))
        .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .map(str::to_owned)
        .collect()
}

/// The documents by their names.
fn documents() -> Vec<(String, String)> {
    let files = fs::read_dir(root().join("docs")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .chain(["README.md".to_owned(), "CHANGELOG.md".to_owned()])
        .map(|name| (name.clone(), read(&name)))
        .collect()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}
