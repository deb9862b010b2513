//! `tollgate roles`: who may do what, by the configuration alone.

mod answer;
mod keys;

use http::{HeaderMap, HeaderName, HeaderValue, Method, uri::PathAndQuery};

use clap::{Args, Subcommand};

use super::{
    ConfigFile,
    output::{self, Failure, Outcome},
};
use crate::{
    config::Config,
    exchange::{Asked, Reason},
    gateway::{self, Inquiry},
};

/// The commands of `tollgate roles`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Tell which callers may send a request, such as `DELETE /api/v1/orders/1`.
    ///
    /// Exit status 0 when somebody may, 1 when nobody may.
    WhoCan(WhoCan),
}

/// A request, as `tollgate roles who-can` is asked about it.
#[derive(Args, Debug)]
pub(super) struct WhoCan {
    /// The method.
    #[arg(value_parser = method)]
    method: Method,
    /// The path, perhaps with a query.
    path: PathAndQuery,
    /// The host, for routes that depend on it.
    #[arg(long, value_name = "HOST", default_value = ANY_HOST)]
    host: String,
    /// A header field, for routes that depend on it; may be repeated.
    #[arg(long, value_name = "NAME: VALUE", value_parser = field)]
    header: Vec<(HeaderName, HeaderValue)>,
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(command: &Command) -> Outcome {
    let Command::WhoCan(request) = command;
    if !request.path.as_str().starts_with('/') {
        return Err(Failure::Usage(
            "tollgate: a path begins with `/`".to_owned(),
        ));
    }
    let loaded = output::load(&request.file.config)?;
    let answer = answer(&loaded.config, request);
    output::say(&answer.text)?;
    match answer.somebody {
        true => Ok(()),
        false => Err(Failure::Silent),
    }
}

fn answer(config: &Config, request: &WhoCan) -> answer::Answer {
    let headers: HeaderMap = request.header.iter().cloned().collect();
    let inquiry = Inquiry {
        method: &request.method,
        host: &request.host,
        target: &request.path,
        headers: &headers,
    };
    let (method, path) = (&request.method, &request.path);
    match gateway::route_of(config, &inquiry) {
        gateway::Outcome::Route { route, path } => {
            let asked = Asked {
                method,
                path: &path,
                headers: &headers,
            };
            answer::of_route(config, route, &asked)
        }
        gateway::Outcome::Refused(reason) => {
            let status = reason.status().as_u16();
            let word = reason.as_str();
            let mut text = format!("{method} {path}\n  nobody: {status} {word}");
            let depends = config.routes.iter().any(|route| !route.hosts.is_empty());
            if reason == Reason::RouteNotFound && depends && request.host == ANY_HOST {
                text.push_str("\n  some routes are for certain hosts: name one with --host");
            }
            answer::Answer {
                text,
                somebody: false,
            }
        }
    }
}

/// `get` is a method too, but one that no client sends and no rule names.
fn method(text: &str) -> Result<Method, String> {
    let method = text.parse().map_err(|_| "this is no method")?;
    match text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        true => Err(format!("write `{}`", text.to_ascii_uppercase())),
        false => Ok(method),
    }
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write `name: value`")?;
    let name = name.trim().parse().map_err(|_| "this is no header name")?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| "this is no header value")?;
    Ok((name, value))
}

/// A host that no route is likely to be for.
const ANY_HOST: &str = "localhost";
