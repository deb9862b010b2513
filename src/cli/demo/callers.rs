//! Who calls in the demo: a secret, a token and a key that are good for this run only.
//!
//! The shipped file has no secret, so that nobody runs one that the whole world knows. What is made
//! here is printed and never stored: the gateway reads the hash of the key, as everywhere, from a
//! file, and that file has no name.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

use crate::{
    cli::{
        key,
        output::{self, Failure},
        token,
    },
    config::{Config, KeyHash},
    exchange::api_key,
};

/// What a newcomer pastes, and what it is checked against.
pub(super) struct Callers {
    /// Of a viewer.
    pub(super) token: String,
    /// Of an editor.
    pub(super) key: String,
    /// Read again and again by its number: it is gone when this is dropped.
    _keys: File,
}

impl Callers {
    /// Reads a configuration with [`TABLES`] beside it.
    pub(super) fn beside(name: &str, text: &str) -> Result<(Config, Self), Failure> {
        let (key, hash) = key::fresh()?;
        let keys = keys_file(&hash).map_err(|error| Failure::run("demo keys", &error))?;
        let tables = TABLES
            .replace("SECRET_OF_THIS_RUN", &secret()?)
            .replace("KEYS_OF_THIS_RUN", &path_of(&keys));
        let loaded = Config::parse(name, &format!("{text}\n{tables}"))
            .map_err(|findings| output::bad_config(&findings))?;
        let token = token::of(&loaded.config, "alice", &["viewer"])?;
        let callers = Self {
            token,
            key,
            _keys: keys,
        };
        Ok((loaded.config, callers))
    }
}

fn secret() -> Result<String, Failure> {
    // A generated key is 256 random bits in letters and digits: as good as a secret.
    api_key::generate().map_err(|error| Failure::run("no randomness", &error))
}

/// A file without a name: nothing is left behind, however the demo ends.
fn keys_file(hash: &KeyHash) -> io::Result<File> {
    let name = format!(
        "tollgate-demo-{}-{:016x}",
        std::process::id(),
        fastrand::u64(..)
    );
    let path = env::temp_dir().join(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = options.open(&path)?;
    fs::remove_file(&path)?;
    writeln!(
        file,
        "[keys.partner-7]\nhash = \"{hash}\"\nroles = [\"editor\"]"
    )?;
    Ok(file)
}

/// What opens a file of this process that has no name.
fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The added tables.
const TABLES: &str = include_str!("callers.toml");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::KeysFile;

    #[test]
    fn each_run_has_a_secret_a_token_and_a_key_of_its_own() {
        let (_, one) = Callers::beside("gateway.toml", super::super::SHIPPED).unwrap();
        let (_, other) = Callers::beside("gateway.toml", super::super::SHIPPED).unwrap();
        assert_ne!(one.token, other.token);
        assert_ne!(one.key, other.key);
    }

    #[test]
    fn the_file_of_keys_has_no_name_and_can_be_read_again() {
        let (key, hash) = key::fresh().unwrap();
        let file = keys_file(&hash).unwrap();
        for _ in 0..2 {
            let keys = KeysFile::load(Path::new(&path_of(&file))).unwrap();
            assert_eq!(keys.keys["partner-7"].hash, hash);
        }
        assert!(!fs::read_to_string(path_of(&file)).unwrap().contains(&key));
        let left = fs::read_link(path_of(&file)).unwrap();
        assert!(
            left.display().to_string().ends_with("(deleted)"),
            "{left:?}"
        );
    }

    #[test]
    fn the_added_tables_have_no_findings() {
        let (_, hash) = key::fresh().unwrap();
        let file = keys_file(&hash).unwrap();
        let tables = TABLES.replace("KEYS_OF_THIS_RUN", &path_of(&file));
        let tables = tables.replace("SECRET_OF_THIS_RUN", &"s".repeat(32));
        let text = format!("{}\n{tables}", super::super::SHIPPED);
        let loaded = Config::parse("gateway.toml", &text).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}
