//! The `tollgate` command: one file per subcommand.
//!
//! What a person reads goes to standard output, what went wrong to standard error. The exit status
//! tells a script which of four things happened: 0 done, 1 failed at run time, 2 bad usage, 78
//! (`EX_CONFIG` of sysexits.h) bad configuration.

mod check;
mod demo;
mod health;
mod key;
mod output;
mod purge;
mod reference;
mod roles;
mod routes;
mod run;
mod signals;
mod token;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

pub use demo::Backend as DemoBackend;

/// A reverse-proxy gateway: one binary, one file, in front of any HTTP service.
///
/// Without a command, `tollgate` does what `tollgate run` does.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, after_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Options),
    /// Read a configuration and tell everything that is wrong with it.
    ///
    /// Exit status 0 when it can be used, 78 when it can't.
    Check(ConfigFile),
    /// Print the routes in the order in which they are tried, the most specific first.
    Routes(ConfigFile),
    /// Ask who may do what, by the configuration alone.
    #[command(subcommand)]
    Roles(roles::Command),
    /// Print every table and key of the configuration, with default and example.
    Reference,
    /// Try Tollgate: start a backend to play with and the gateway in front of it.
    ///
    /// Reads the configuration, or the one that Tollgate ships when there is no such file, and
    /// points every upstream of it to the backend. No other program is needed.
    Demo(ConfigFile),
    Health(health::Options),
    Key(key::Options),
    Token(token::Options),
    Purge(purge::Options),
}

/// Which file to read.
#[derive(Args, Debug)]
struct ConfigFile {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

/// Runs the command that the arguments name, and returns its exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    let outcome = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(options) => run::run(&options),
        Command::Check(file) => check::run(&file.config),
        Command::Routes(file) => routes::run(&file.config),
        Command::Roles(command) => roles::run(&command),
        Command::Reference => reference::run(),
        Command::Demo(file) => demo::run(&file.config),
        Command::Health(options) => health::run(&options),
        Command::Key(options) => key::run(&options),
        Command::Token(options) => token::run(&options),
        Command::Purge(options) => purge::run(&options),
    };
    output::exit(outcome)
}

/// What is read when nothing else is said.
const DEFAULT_FILE: &str = "gateway.toml";

const AFTER_HELP: &str = "\
Begin with:
  tollgate demo                                try it: a backend and a gateway in one process
  tollgate run --to http://127.0.0.1:3000      put it in front of a service, without a file
  tollgate check                               read ./gateway.toml and tell all that is wrong

Signals: TERM and INT drain and end, a second one ends at once; HUP reloads the file;
USR1 reopens log files.
Exit status: 0 done, 1 failed at run time, 2 bad usage, 78 bad configuration.";
