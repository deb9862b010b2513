//! `tollgate key`: makes, lists, revokes and rotates API keys.
//!
//! A running gateway reads the file again when it changes: nothing has to be reloaded.

mod list;
mod store;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};

use super::{
    DEFAULT_FILE,
    output::{self, Failure, Outcome},
};
use crate::{
    config::{Config, KeyHash, StoredKey, moment_of, network_of, quota_of},
    exchange::api_key,
};
use store::{Grants, Store};

/// Make, list, revoke and rotate API keys.
///
/// The file holds hashes only; a key is printed when it is made and never again. A running gateway
/// reads the file again when it changes.
#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key, print it once, and append its hash to the file.
    New(New),
    /// List the keys of the file and how they stand.
    List(KeysAt),
    /// Revoke a key: it is refused from now on, and so are those that it has replaced.
    Revoke(Revoke),
    /// Replace a key by a new one with the same rights; the old one stays good for a while.
    Rotate(Rotate),
}

/// Which file of keys.
#[derive(Args, Debug)]
struct KeysAt {
    /// The file of keys [default: the one that the configuration names].
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The configuration that names the file [default: gateway.toml].
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Which [auth.api_keys.NAME] of the configuration, where there are several.
    #[arg(short, long, value_name = "NAME", conflicts_with = "file")]
    auth: Option<String>,
}

#[derive(Args, Debug)]
struct New {
    /// The name of the key's owner, such as partner-7; the log and limits know the caller by it.
    #[arg(long, value_parser = id)]
    id: String,
    /// Roles of whoever shows the key.
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    roles: Vec<String>,
    /// Permissions beside those of the roles.
    #[arg(long, value_delimiter = ',', value_name = "PERMISSIONS")]
    permissions: Vec<String>,
    /// Until when it is good: 90d from now, or a date.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires: Option<SystemTime>,
    /// From when it is good: 1h from now, or a date.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    not_before: Option<SystemTime>,
    /// The routes that it is good for [default: all that accept such keys].
    #[arg(long, value_delimiter = ',', value_name = "ROUTES")]
    routes: Vec<String>,
    /// The networks that it is good from, such as 192.0.2.0/24 [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NETWORKS", value_parser = network)]
    cidrs: Vec<String>,
    /// Its own quota in place of a limit's, such as 50000/1h.
    #[arg(long, value_delimiter = ',', value_name = "QUOTA", value_parser = quota)]
    quota: Vec<String>,
    #[command(flatten)]
    at: KeysAt,
}

#[derive(Args, Debug)]
struct Revoke {
    /// Whose key.
    #[arg(long)]
    id: String,
    #[command(flatten)]
    at: KeysAt,
}

#[derive(Args, Debug)]
struct Rotate {
    /// Whose key.
    #[arg(long)]
    id: String,
    /// How long the old key stays good.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = period)]
    overlap: Duration,
    /// Until when the new key is good [default: as the old one].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires: Option<SystemTime>,
    #[command(flatten)]
    at: KeysAt,
}

pub(super) fn run(options: &Options) -> Outcome {
    match &options.command {
        Command::New(new) => make(new),
        Command::List(at) => list::run(&at.path()?),
        Command::Revoke(revoke) => revoke.run(),
        Command::Rotate(rotate) => rotate.run(),
    }
}

fn make(new: &New) -> Outcome {
    let now = SystemTime::now();
    not_past(new.expires, now)?;
    let mut store = Store::open(&new.at.path()?, true)?;
    if let Some(old) = store.key(&new.id) {
        let id = &new.id;
        refuse_revoked(&store, id, old)?;
        return Err(Failure::Run(format!(
            "there is a key `{id}` already: `tollgate key rotate --id {id}` replaces it"
        )));
    }
    let (key, hash) = fresh()?;
    let grants = Grants {
        hash,
        created: now,
        roles: &new.roles,
        permissions: &new.permissions,
        not_before: new.not_before,
        expires: new.expires,
        routes: &new.routes,
        cidrs: &new.cidrs,
        quota: &new.quota,
    };
    store.add(&new.id, &grants);
    let path = store.save()?;
    // The key is lost if anything happens before somebody has it, and the configuration may be long.
    hand_out(&key, &format!("`{}` was added to {path}", new.id))?;
    new.warn(Path::new(&path));
    Ok(())
}

impl New {
    /// What the routes make of the key is for the configuration to say, where there is one. Whatever
    /// else is wrong with that does not concern the key: `check` tells of it.
    fn warn(&self, file: &Path) {
        let config = self.at.config();
        if !config.exists() {
            return;
        }
        let warnings = Config::warnings_of_key(config, file, &self.id).unwrap_or_default();
        if !warnings.is_empty() {
            output::complain(&warnings.render(output::colour()));
        }
    }
}

impl Revoke {
    fn run(&self) -> Outcome {
        let mut store = Store::open(&self.at.path()?, false)?;
        let key = known(&store, &self.id)?;
        if key.revoked.is_some() {
            return output::say(&format!("`{}` was revoked before", self.id));
        }
        store.revoke(&self.id, SystemTime::now());
        let path = store.save()?;
        output::say(&format!("`{}` is revoked in {path}", self.id))
    }
}

impl Rotate {
    fn run(&self) -> Outcome {
        let now = SystemTime::now();
        not_past(self.expires, now)?;
        let mut store = Store::open(&self.at.path()?, false)?;
        let old = known(&store, &self.id)?.clone();
        let id = &self.id;
        refuse_revoked(&store, id, &old)?;
        let expired = old.expires.is_some_and(|expires| expires <= now);
        if expired && self.expires.is_none() {
            return Err(Failure::Run(format!(
                "`{id}` has expired: say with --expires until when the new key is good"
            )));
        }
        let (key, hash) = fresh()?;
        let until = self.old_until(&old, now);
        store.rotate(id, hash, now, until, self.expires);
        let path = store.save()?;
        hand_out(&key, &format!("`{id}` has a new key in {path}"))
    }

    /// A longer life of the new key is none of the old one's.
    fn old_until(&self, old: &StoredKey, now: SystemTime) -> SystemTime {
        let overlap = now.checked_add(self.overlap).unwrap_or(now);
        old.expires.map_or(overlap, |expires| expires.min(overlap))
    }
}

/// A revoked key comes back by no command: whoever has it would be let in again by a slip.
fn refuse_revoked(store: &Store, id: &str, key: &StoredKey) -> Outcome {
    if key.revoked.is_none() {
        return Ok(());
    }
    let path = store.path().display();
    Err(Failure::Run(format!(
        "`{id}` is revoked: choose another id, or first take `[keys.{id}]` out of {path}"
    )))
}

fn known<'a>(store: &'a Store, id: &str) -> Result<&'a StoredKey, Failure> {
    store.key(id).ok_or_else(|| {
        let path = store.path().display();
        Failure::Run(format!("there is no key `{id}` in {path}"))
    })
}

/// A key and its hash.
pub(super) fn fresh() -> Result<(String, KeyHash), Failure> {
    let key = api_key::generate().map_err(|error| Failure::run("no randomness", &error))?;
    // What was just generated has the form of a key.
    let hash = api_key::hash(key.as_bytes()).expect("a generated key is well formed");
    Ok((key, KeyHash(hash.bytes())))
}

/// The key alone goes to standard output, so that a script can take it from there.
fn hand_out(key: &str, done: &str) -> Outcome {
    output::complain(&format!(
        "{done}.\nThis is the key. It is shown this once only:"
    ));
    output::say(key)
}

fn not_past(expires: Option<SystemTime>, now: SystemTime) -> Outcome {
    match expires {
        Some(expires) if expires <= now => {
            let message = "--expires: this is in the past".to_owned();
            Err(Failure::Usage(message))
        }
        _ => Ok(()),
    }
}

impl KeysAt {
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let config = self.config();
        if !config.exists() {
            let config = config.display();
            return Err(Failure::Config(format!(
                "there is no {config}: name the keys' own file with --file"
            )));
        }
        let files = Config::keys_files(config).map_err(|findings| output::bad_config(&findings))?;
        self.choose(files)
    }

    /// The configuration, which need not be there.
    fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }

    fn choose(&self, files: Vec<(Arc<str>, PathBuf)>) -> Result<PathBuf, Failure> {
        let wanted = |name: &str| {
            let short = name.strip_prefix("api_keys.").unwrap_or(name);
            let auth = self.auth.as_deref();
            auth.is_none_or(|auth| auth == name || auth == short)
        };
        let mut files = files.into_iter().filter(|(name, _)| wanted(name));
        match (files.next(), files.next()) {
            (Some((_, file)), None) => Ok(file),
            (None, _) => Err(Failure::Usage(
                "the configuration has no such [auth.api_keys.NAME]: name the keys' own file with --file"
                    .to_owned(),
            )),
            (Some((one, _)), Some((other, _))) => Err(Failure::Usage(format!(
                "there are several, `{one}` and `{other}`: say with --auth which is meant"
            ))),
        }
    }
}

fn id(text: &str) -> Result<String, String> {
    let sane = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    match text.len() {
        1..=LONGEST_ID if text.chars().all(sane) => Ok(text.to_owned()),
        _ => Err(format!(
            "expected letters, digits and ._@+- (up to {LONGEST_ID})"
        )),
    }
}

fn moment(text: &str) -> Result<SystemTime, String> {
    moment_of(text, SystemTime::now())
}

fn period(text: &str) -> Result<Duration, String> {
    let now = SystemTime::UNIX_EPOCH;
    let later = moment_of(text, now).ok();
    let period = later.and_then(|later| later.duration_since(now).ok());
    period
        .filter(|_| !text.contains('-'))
        .ok_or_else(|| "expected a time such as 7d".to_owned())
}

/// Checked here, written as it came.
fn network(text: &str) -> Result<String, String> {
    network_of(text).map(|_| text.to_owned())
}

fn quota(text: &str) -> Result<String, String> {
    quota_of(text).map(|_| text.to_owned())
}

const LONGEST_ID: usize = 100;
