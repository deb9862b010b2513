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
fn what_the_shipped_file_comments_out_is_the_default() {
    let text = shipped();
    let defaults = without_comments(&text, |heading| !is_example(heading));
    assert_eq!(
        format!("{:?}", super::valid(&defaults)),
        format!("{:?}", super::valid(&text))
    );
}

#[test]
fn the_examples_in_the_shipped_file_are_valid() {
    let text = without_comments(&shipped(), is_example);
    let text = text
        .replace("${env:JWT_SECRET}", "thirty-two characters, or some more")
        .replace("api-keys.toml", "/dev/null");
    let config = super::valid(&text);
    let private = config.routes.iter().find(|route| &*route.name == "private");
    let private = private.expect("the example of a guarded route");
    assert!(private.auth.is_some() && private.cors.is_some());
    assert_eq!(private.rate_limits.len(), 1);
}

fn shipped() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.toml");
    std::fs::read_to_string(path).unwrap()
}

/// Under these headings stands what one might write, elsewhere what holds anyway.
fn is_example(heading: &str) -> bool {
    heading.contains("who may call") || heading.contains("which pages")
}

/// The file with the comments under some of its headings taken for what they comment out.
fn without_comments(text: &str, under: impl Fn(&str) -> bool) -> String {
    let is_key = |line: &str| line.starts_with("# [") || line.contains(" = ");
    let mut heading = "";
    let lines = text.lines().map(|line| {
        if line.starts_with("# ──") {
            heading = line;
        }
        match line.strip_prefix("# ") {
            Some(key) if under(heading) && is_key(line) && !line.starts_with("# file = ") => key,
            _ => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
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
