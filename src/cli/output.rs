//! How a command ends: what it prints, and its exit status.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use crate::{
    config::{Address, Config, Diagnostics, Loaded, Route},
    gateway::StartError,
};

/// What became of a command.
pub(super) type Outcome = Result<(), Failure>;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration is bad: the findings, or why there are none.
    Config(String),
    /// The arguments are bad.
    Usage(String),
    /// It failed while running.
    Run(String),
    /// It failed while running, and has said all there is to say.
    Silent,
}

impl Failure {
    /// A failure at run time with its cause.
    pub(super) fn run(what: &str, cause: &dyn std::fmt::Display) -> Self {
        Self::Run(format!("{what}: {cause}"))
    }

    fn status(&self) -> u8 {
        match self {
            Self::Config(_) => BAD_CONFIGURATION,
            Self::Usage(_) => BAD_USAGE,
            Self::Run(_) | Self::Silent => FAILED,
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Run(error.to_string())
    }
}

/// Prints what clap has to say: help to standard output, complaints to standard error.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the stream is closed.
    let _ = error.print();
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(BAD_USAGE),
    }
}

/// Says why a command failed, if it did.
pub(super) fn exit(outcome: Outcome) -> ExitCode {
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    match &failure {
        Failure::Config(text) | Failure::Usage(text) => complain(text),
        Failure::Run(text) => complain(&format!("tollgate: {text}")),
        Failure::Silent => {}
    }
    ExitCode::from(failure.status())
}

/// Reads a file; its warnings are printed at once.
pub(super) fn load(file: &Path) -> Result<Loaded, Failure> {
    if !file.exists() {
        return Err(Failure::Config(missing(file)));
    }
    let loaded = Config::load(file).map_err(|findings| bad_config(&findings))?;
    if !loaded.warnings.is_empty() {
        complain(&loaded.warnings.render(colour()));
    }
    Ok(loaded)
}

/// The failure that findings are.
pub(super) fn bad_config(findings: &Diagnostics) -> Failure {
    Failure::Config(findings.render(colour()))
}

/// Prints to standard output.
///
/// # Errors
///
/// When it is closed: a command whose answer nobody got has failed.
pub(super) fn say(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::run("standard output", &error))
}

/// `1 route`, `2 routes`.
pub(super) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// Columns as wide as their widest cell; the last is not padded.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths);
        let padded: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        padded.trim_end().to_owned()
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    lines.join("\n")
}

/// An address as one pastes it into a client: any address is reached at loopback.
pub(super) fn url(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Tcp(address) if !address.ip().is_unspecified() => format!("http://{address}"),
        Address::Tcp(address) if address.is_ipv4() => {
            format!("http://127.0.0.1:{}", address.port())
        }
        Address::Tcp(address) => format!("http://[::1]:{}", address.port()),
    }
}

/// What a route's `auth` asks for: `jwt.customers, or no credential at all`.
pub(super) fn auth(route: &Route) -> String {
    let Some(rule) = &route.auth else {
        return "none".to_owned();
    };
    let ways = rule.alternatives.iter().map(|all| all.join(" and "));
    let anonymous = rule.anonymous.then(|| "no credential at all".to_owned());
    let ways: Vec<String> = ways.chain(anonymous).collect();
    ways.join(", or ")
}

/// Prints to standard error.
pub(super) fn complain(text: &str) {
    // Nobody is left to tell when it is closed.
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

fn missing(file: &Path) -> String {
    format!(
        "tollgate: there is no file {}\n\
         Name another with --config FILE, run without one with `tollgate run --to URL`,\n\
         or see `tollgate demo`.",
        file.display()
    )
}

/// Whether findings are coloured: for people, and not if they said no (<https://no-color.org>).
pub(super) fn colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused
}

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;
