//! The documentation says what the code does.

use std::path::Path;

use tollgate::config::reference;

/// Where the generated part of `docs/configuration.md` begins.
const MARK: &str = "<!-- What follows is made from the code: TOLLGATE_WRITE_DOCS=1 cargo test --test config reference -->\n";

#[test]
fn the_reference_in_the_documentation_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (written, generated) = text.split_once(MARK).expect("the mark stands in the file");
    let wanted = format!("\n{}", reference());
    if std::env::var_os("TOLLGATE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{written}{MARK}{wanted}")).unwrap();
        return;
    }
    assert!(
        generated == wanted,
        "run: TOLLGATE_WRITE_DOCS=1 cargo test --test config reference"
    );
}

#[test]
fn the_examples_in_the_documentation_are_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (written, _) = text.split_once(MARK).unwrap();
    let blocks: Vec<_> = written
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() > 2);
    for block in blocks {
        let block = block
            .replace("conf.d/", "tests/")
            .replace(".toml\"", ".none\"");
        super::valid(&block);
    }
}

#[test]
fn the_shipped_file_is_valid_with_its_comments_too() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let shipped = super::valid(&text);
    let is_key = |line: &str| line.starts_with("# [") || line.contains(" = ");
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if is_key(line) && !line.contains("file = ") => key,
        _ => line,
    });
    let uncommented = super::valid(&lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(format!("{uncommented:?}"), format!("{shipped:?}"));
}

#[test]
fn every_default_in_the_reference_is_read_as_the_default() {
    let mut text = String::new();
    let tables = reference();
    for table in tables.split("### `[").skip(1) {
        let (header, rows) = table.split_once("]`").unwrap();
        let defaults: Vec<_> = rows.lines().filter_map(default_of).collect();
        let fixed = [
            "server",
            "server.limits",
            "server.http2",
            "server.drain",
            "admin",
            "log",
            "log.access",
        ];
        if fixed.contains(&header) {
            text.push_str(&format!("[{header}]\n{}\n", defaults.join("\n")));
        }
    }
    assert!(text.contains("header_bytes = \"64KiB\""), "{text}");
    let config = super::valid(&format!("{text}{}", super::ROUTE));
    assert_eq!(
        format!("{config:?}"),
        format!("{:?}", super::valid(super::ROUTE))
    );
}

/// `key = default` of a row whose default is TOML.
fn default_of(row: &str) -> Option<String> {
    let mut cells = row.strip_prefix("| `")?.split(" | ");
    let key = cells.next()?.trim_end_matches('`');
    let default = cells.nth(1)?;
    let toml = default.strip_prefix('`')?.strip_suffix('`')?;
    Some(format!("{key} = {toml}"))
}
