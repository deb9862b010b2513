//! `tollgate purge`: tells a running gateway to forget stored answers.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::output::{self, Failure, Outcome};

/// Tell a running gateway to forget stored answers.
///
/// Several kinds and several of a kind can be given at once. The answer says how far the purge reaches:
/// that process alone, or all gateways that share a Redis.
/// The admin token, if there is one, is taken from TOLLGATE_ADMIN_TOKEN.
#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(super) struct Options {
    /// The answers of one URL, for example `https://api.example.com/items?page=2`.
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// All paths that begin so, at one host (`https://api.example.com/items/`) or at any (/items/).
    #[arg(long, value_name = "URL|PATH")]
    prefix: Vec<String>,
    /// All of one host at whatever port; with one (api.example.com:8080) at that alone.
    #[arg(long)]
    host: Vec<String>,
    /// All that one route has stored.
    #[arg(long)]
    route: Vec<String>,
    /// All answers to which the upstream gave this tag.
    #[arg(long)]
    tag: Vec<String>,
    /// Everything.
    #[arg(long)]
    everything: bool,
    /// Only make them stale: they are validated, and stand in while the upstream fails.
    #[arg(long)]
    soft: bool,
    /// The address of the admin listener.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
}

pub(super) fn run(options: &Options) -> Outcome {
    let body = body(options);
    let answer = ask(options, &body)
        .map_err(|error| Failure::run(&format!("no answer from {}", options.admin), &error))?;
    let text = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    output::say(text)?;
    match answer.starts_with("HTTP/1.1 2") {
        true => Ok(()),
        false => Err(Failure::Silent),
    }
}

fn body(options: &Options) -> String {
    let mut body = Map::new();
    let lists = [
        ("url", &options.url),
        ("prefix", &options.prefix),
        ("host", &options.host),
        ("route", &options.route),
        ("tag", &options.tag),
    ];
    for (kind, texts) in lists.into_iter().filter(|(_, texts)| !texts.is_empty()) {
        body.insert(kind.to_owned(), json!(texts));
    }
    for (key, set) in [("everything", options.everything), ("soft", options.soft)] {
        if set {
            body.insert(key.to_owned(), true.into());
        }
    }
    Value::Object(body).to_string()
}

fn ask(options: &Options, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&options.admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let authorization = match token()? {
        Some(token) => format!("Authorization: Bearer {token}\r\n"),
        None => String::new(),
    };
    write!(
        stream,
        "POST /api/cache/purges HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{authorization}\r\n{body}",
        options.admin,
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// An argument would be seen in the list of processes.
fn token() -> io::Result<Option<String>> {
    match std::env::var(TOKEN) {
        Ok(token) if token.contains(['\r', '\n']) => {
            Err(io::Error::other(format!("{TOKEN} has a line break")))
        }
        Ok(token) => Ok(Some(token)),
        Err(_) => Ok(None),
    }
}

const TOKEN: &str = "TOLLGATE_ADMIN_TOKEN";
/// For each step; the admin listener has a thread of its own and answers at once.
const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: u64 = 1 << 20;
