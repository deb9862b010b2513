//! `tollgate token`: signs a token to try things with, for a method that has a `secret`.
//!
//! Tokens of real users come from their issuer; a gateway that shares a secret with it can make
//! them too, and this is for development and tests.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use super::{
    DEFAULT_FILE,
    output::{self, Failure, Outcome},
};
use crate::config::{ClaimPath, Config, Jwt, KeysFrom, Secret, moment_of};

/// Sign a token to try things with, for an [auth.jwt.NAME] that has a `secret`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Which [auth.jwt.NAME], where there are several.
    #[arg(short, long, value_name = "NAME")]
    auth: Option<String>,
    /// Who the caller is.
    #[arg(long, value_name = "SUBJECT")]
    sub: String,
    /// The caller's roles, where `roles_claim` says.
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    roles: Vec<String>,
    /// The caller's permissions, where `permissions_claim` says.
    #[arg(long, value_delimiter = ',', value_name = "PERMISSIONS")]
    permissions: Vec<String>,
    /// Until when it is good: a time from now, or a date.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = moment)]
    expires: SystemTime,
    /// A further claim; what is JSON is taken as JSON, anything else as text.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
}

pub(super) fn run(options: &Options) -> Outcome {
    let loaded = output::load(&options.config)?;
    output::say(&options.sign(&loaded.config)?)
}

/// A token of the only [auth.jwt.NAME] of a configuration, good for a day.
pub(super) fn of(config: &Config, sub: &str, roles: &[&str]) -> Result<String, Failure> {
    let options = Options {
        config: PathBuf::new(),
        auth: None,
        sub: sub.to_owned(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        permissions: Vec::new(),
        expires: SystemTime::now() + DAY,
        claims: Vec::new(),
    };
    options.sign(config)
}

impl Options {
    fn sign(&self, config: &Config) -> Result<String, Failure> {
        let jwt = self.choose(config.auth.jwt.values())?;
        let (secret, algorithm) = signing(jwt)?;
        let claims = self.claims(jwt, SystemTime::now())?;
        let header = Header {
            typ: Some(jwt.types.first().map_or("JWT", |typ| typ).to_owned()),
            ..Header::new(algorithm)
        };
        let key = EncodingKey::from_secret(secret.expose().as_bytes());
        jsonwebtoken::encode(&header, &claims, &key)
            .map_err(|error| Failure::run("the token can't be signed", &error))
    }

    fn choose<'a>(&self, all: impl Iterator<Item = &'a Jwt>) -> Result<&'a Jwt, Failure> {
        let wanted = |jwt: &&Jwt| {
            let (full, auth) = (&*jwt.name, self.auth.as_deref());
            let short = full.strip_prefix("jwt.").unwrap_or(full);
            auth.is_none_or(|auth| auth == full || auth == short)
        };
        let mut all = all.filter(wanted);
        match (all.next(), all.next()) {
            (Some(jwt), None) => Ok(jwt),
            (None, _) => {
                let message = match &self.auth {
                    Some(_) => "the configuration has no such [auth.jwt.NAME]",
                    None => "the configuration has no [auth.jwt.NAME] to sign for",
                };
                Err(Failure::Usage(message.to_owned()))
            }
            (Some(one), Some(other)) => Err(Failure::Usage(format!(
                "there are several, `{}` and `{}`: say with --auth which is meant",
                one.name, other.name
            ))),
        }
    }

    fn claims(&self, jwt: &Jwt, now: SystemTime) -> Result<Map<String, Value>, Failure> {
        let mut claims = Map::new();
        let issuer = jwt.issuer.as_deref().map(Value::from);
        claims.extend(issuer.map(|issuer| ("iss".to_owned(), issuer)));
        let audience = jwt.audience.first().map(|one| Value::from(&**one));
        claims.extend(audience.map(|audience| ("aud".to_owned(), audience)));
        claims.insert("iat".to_owned(), seconds(now).into());
        claims.insert("exp".to_owned(), seconds(self.expires).into());
        put(&mut claims, &jwt.subject_claim, self.sub.as_str().into())?;
        self.put_names(&mut claims, jwt.roles_claim.as_ref(), &self.roles, "roles")?;
        let permissions = jwt.permissions_claim.as_ref();
        self.put_names(&mut claims, permissions, &self.permissions, "permissions")?;
        claims.extend(self.claims.iter().cloned());
        Ok(claims)
    }

    fn put_names(
        &self,
        claims: &mut Map<String, Value>,
        path: Option<&ClaimPath>,
        names: &[String],
        what: &str,
    ) -> Outcome {
        match path {
            _ if names.is_empty() => Ok(()),
            Some(path) => put(claims, path, names.into()),
            None => Err(Failure::Usage(format!(
                "--{what}: the configuration has no `{what}_claim`, so nobody would read them"
            ))),
        }
    }
}

/// The secret of a method, and what it signs with.
fn signing(jwt: &Jwt) -> Result<(Secret, Algorithm), Failure> {
    let secret = match &jwt.keys {
        KeysFrom::Fixed(keys) => keys.secret(),
        KeysFrom::JwksFile(_) | KeysFrom::JwksUrl(_) | KeysFrom::Discovery => None,
    };
    secret.zip(jwt.algorithms.first().copied()).ok_or_else(|| {
        Failure::Run(format!(
            "`[auth.{}]` has no `secret`: only its issuer can sign its tokens",
            jwt.name
        ))
    })
}

/// Puts a value where a path leads.
fn put(claims: &mut Map<String, Value>, path: &ClaimPath, value: Value) -> Outcome {
    let Some((last, outer)) = path.0.split_last() else {
        return Ok(());
    };
    let mut inner = claims;
    for name in outer {
        let next = inner.entry(&**name).or_insert_with(|| Map::new().into());
        inner = next.as_object_mut().ok_or_else(|| {
            Failure::Usage(format!("the claim `{name}` can't be a text and a table"))
        })?;
    }
    inner.insert(last.to_string(), value);
    Ok(())
}

fn seconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

fn moment(text: &str) -> Result<SystemTime, String> {
    moment_of(text, SystemTime::now())
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
