//! A file of API keys.

use std::path::PathBuf;

use tempfile::TempDir;
use tollgate::{config::KeyHash, exchange::api_key};

/// A file of keys in a directory of its own.
pub struct KeysFile {
    directory: TempDir,
    text: String,
}

impl KeysFile {
    /// An empty file.
    pub fn new() -> Self {
        let file = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            text: String::new(),
        };
        file.replace("");
        file
    }

    /// Adds a key with these further lines, and returns it.
    pub fn add(&mut self, id: &str, lines: &str) -> String {
        let (key, hash) = new_key();
        self.text += &format!("[keys.{id}]\nhash = \"{hash}\"\n{lines}\n");
        self.replace(&self.text);
        key
    }

    /// Puts another file in the place of this one, as `tollgate key` does.
    pub fn replace(&self, text: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, text).expect("a file can be written");
        std::fs::rename(new, self.path()).expect("a file can be renamed");
    }

    /// Its text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("api-keys.toml")
    }
}

/// A key and its hash as the file has it.
pub fn new_key() -> (String, String) {
    let key = api_key::generate().expect("randomness");
    let hash = api_key::hash(key.as_bytes()).expect("the form of a key");
    (key, KeyHash(hash.bytes()).to_string())
}
