//! Which room may import which: the arrows of the design, walked over the sources.
//!
//! A new arrow is a decision, so it fails here first.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::root;

/// A room, and the rooms that it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("exchange", &[]),
    ("telemetry", &["config", "exchange"]),
    ("listener", &["config", "exchange", "telemetry"]),
    ("frame", &["config", "exchange", "telemetry", "router"]),
    ("router", &["config", "exchange", "telemetry"]),
    ("store", &["config", "exchange", "telemetry"]),
    ("pipeline", &["config", "exchange", "telemetry", "store"]),
    ("upstream", &["config", "exchange", "telemetry"]),
    ("admin", &["config", "exchange", "telemetry"]),
    (
        "gateway",
        &[
            "config",
            "exchange",
            "telemetry",
            "listener",
            "frame",
            "router",
            "store",
            "pipeline",
            "upstream",
            "admin",
        ],
    ),
    ("cli", &["config", "exchange", "telemetry", "gateway"]),
];

#[test]
fn rooms_import_only_what_the_design_allows() {
    let mut faults = Vec::new();
    for (room, file) in sources() {
        let Some(allowed) = allowed(&room) else {
            faults.push(format!("{room}: a room without a line in ARROWS"));
            continue;
        };
        for imported in named_after("crate::", &code(&file)) {
            let foreign = is_room_name(&imported) && imported != room;
            if foreign && !allowed.contains(&imported.as_str()) {
                faults.push(format!("{}: {room} imports {imported}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn middlewares_do_not_import_each_other() {
    let folder = root().join("src/pipeline");
    let files = rust_files(&folder);
    let names: Vec<String> = files.iter().map(|file| stem(file)).collect();
    for file in files.iter().filter(|file| file.parent() == Some(&folder)) {
        let code = code(file);
        let mut named = named_after("super::", &code);
        named.extend(named_after("crate::pipeline::", &code));
        named.retain(|name| names.contains(name) && *name != stem(file));
        assert!(named.is_empty(), "{} imports {named:?}", file.display());
    }
}

#[test]
fn every_form_of_a_path_is_seen() {
    let code = "use crate::{config::{self, Route}, exchange};\nlet x = crate::router::X::new();";
    assert_eq!(
        named_after("crate::", code),
        ["config", "exchange", "router"]
    );
    assert_eq!(named_after("super::", "use super::{a, b::C};"), ["a", "b"]);
}

fn allowed(room: &str) -> Option<&'static [&'static str]> {
    let line = ARROWS.iter().find(|(name, _)| *name == room);
    line.map(|(_, allowed)| *allowed)
}

fn is_room_name(name: &str) -> bool {
    allowed(name).is_some()
}

/// The first names that follow a prefix, those in braces included.
fn named_after(prefix: &str, code: &str) -> Vec<String> {
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)))
        .flat_map(|(at, _)| first_names(&code[at + prefix.len()..]))
        .collect()
}

fn first_names(path: &str) -> Vec<String> {
    let Some(list) = path.strip_prefix('{') else {
        return Vec::from([identifier(path)]);
    };
    let (mut depth, mut names, mut expected) = (0, Vec::new(), true);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            character if expected && !character.is_whitespace() => {
                names.push(identifier(&list[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    text[..end.unwrap_or(text.len())].to_owned()
}

/// The text without its comment lines: documentation may link anywhere.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every file below `src` with its room; `lib.rs` and `main.rs` belong to none.
fn sources() -> Vec<(String, PathBuf)> {
    let src = root().join("src");
    rust_files(&src)
        .into_iter()
        .map(|file| {
            let below = file.strip_prefix(&src).unwrap();
            let first = below.components().next().unwrap();
            (stem(Path::new(first.as_os_str())), file)
        })
        .filter(|(room, _)| !["lib", "main"].contains(&room.as_str()))
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => Vec::from([path]),
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}
