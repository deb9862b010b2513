//! The configuration as a user writes it: what it means, and what is said when it is wrong.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod access;
mod auth;
mod bad_input;
mod cache;
mod callers;
mod edges;
mod files;
mod keys_file;
mod limits;
mod matching;
mod meaning;
mod missing_keys;
mod odd_names;
mod reference;
mod secrets;
mod subrequests;
mod tables;
mod traps;

use tollgate::config::{Config, Diagnostic, Diagnostics, Loaded, Severity};

/// A route, so that a text about something else is complete.
const ROUTE: &str = "\n[routes.all]\nupstream = \"http://127.0.0.1:3000\"\n";

fn parse(text: &str) -> Result<Loaded, Diagnostics> {
    Config::parse("gateway.toml", text)
}

/// The configuration of a text without any finding.
fn valid(text: &str) -> Config {
    match parse(text) {
        Ok(loaded) if loaded.warnings.is_empty() => loaded.config,
        Ok(loaded) => panic!("{}", loaded.warnings),
        Err(findings) => panic!("{findings}"),
    }
}

/// All findings of a text.
fn findings(text: &str) -> Diagnostics {
    match parse(text) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    }
}

/// The only finding of a text.
fn only(text: &str) -> Diagnostic {
    let findings = findings(text);
    assert_eq!(findings.len(), 1, "{findings}");
    findings.iter().next().unwrap().clone()
}

/// The only error of a text: `line:column message`, and the help.
fn error(text: &str) -> (String, String) {
    let finding = only(text);
    assert_eq!(finding.severity, Severity::Error);
    said(&finding)
}

/// The only warning of a text: `line:column message`, and the help.
fn warning(text: &str) -> (String, String) {
    assert!(parse(text).is_ok());
    said(&only(text))
}

fn said(finding: &Diagnostic) -> (String, String) {
    let Diagnostic {
        line,
        column,
        message,
        help,
        ..
    } = finding;
    (
        format!("{line}:{column} {message}"),
        help.clone().unwrap_or_default(),
    )
}

/// The error of a line in a table of an otherwise complete file; the line is the second.
fn error_in(table: &str, line: &str) -> (String, String) {
    error(&format!("[{table}]\n{line}\n{ROUTE}"))
}

/// The error of a line in an otherwise complete route; the line is the third.
fn error_in_route(line: &str) -> (String, String) {
    error(&format!("[routes.a]\nupstream = \"http://a\"\n{line}\n"))
}
