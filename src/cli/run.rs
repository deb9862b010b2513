//! `tollgate run`: the gateway.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    DEFAULT_FILE,
    output::{self, Failure, Outcome},
    signals::Signals,
};
use crate::{
    config::{Address, Config},
    gateway::Gateway,
    telemetry,
};

/// Run the gateway.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The configuration file [default: gateway.toml].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Forward everything to this server and read no file, for example http://127.0.0.1:3000.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    to: Option<String>,
    /// With --to: where to listen [default: 0.0.0.0:8080]; unix:/path is a unix socket.
    #[arg(long, value_name = "ADDRESS", requires = "to")]
    listen: Option<Address>,
    /// With --to: where health, metrics and state are told, on loopback [default: 127.0.0.1:9901].
    #[arg(long, value_name = "ADDRESS", requires = "to", value_parser = loopback)]
    admin: Option<SocketAddr>,
}

/// Elsewhere it needs a token, which only a file can say.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "it is no address with a port")?;
    match address.ip().to_canonical().is_loopback() {
        true => Ok(address),
        false => {
            Err("an address that others reach needs a token: write a file with [admin]".into())
        }
    }
}

pub(super) fn run(options: &Options) -> Outcome {
    let (config, source) = configuration(options)?;
    // Before the gateway starts, so that a signal meant for it never kills it half-way.
    let mut signals = Signals::listen()?;
    // A clone is kept to the end: dropping the last writes what was logged last.
    let level = telemetry::init(&config.log);
    let gateway = Gateway::start(config, source, Some(level.clone()))
        .map_err(|error| Failure::run("start", &error))?;
    announce(&gateway);
    signals.obey(&gateway)
}

/// The configuration, and the file that a reload reads.
fn configuration(options: &Options) -> Result<(Config, Option<PathBuf>), Failure> {
    match &options.to {
        Some(url) => Ok((without_file(url, options)?, None)),
        None => {
            let default = Path::new(DEFAULT_FILE);
            let file = options.config.as_deref().unwrap_or(default);
            let loaded = output::load(file)?;
            Ok((loaded.config, Some(file.to_owned())))
        }
    }
}

fn without_file(url: &str, options: &Options) -> Result<Config, Failure> {
    let mut config = Config::to_upstream(url)
        .map_err(|findings| Failure::Usage(findings.render(output::colour())))?;
    if let Some(address) = &options.listen {
        config.server.listen = vec![address.clone()];
    }
    if let Some(address) = options.admin {
        config.admin.listen = Some(address);
    }
    Ok(config)
}

fn announce(gateway: &Gateway) {
    for address in gateway.addresses() {
        tracing::info!(%address, "listening");
    }
    if let Some(admin) = gateway.admin_address() {
        tracing::info!(%admin, "admin listening");
    }
}
