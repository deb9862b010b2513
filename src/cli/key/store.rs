//! Changes to a file of keys: comments and other entries stay, and it is replaced as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    time::SystemTime,
};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use crate::{
    cli::output::{self, Failure},
    config::{KeyHash, KeysFile, StoredKey, date_of},
};

/// A file of keys that is being changed. Nobody else changes it meanwhile.
pub(super) struct Store {
    path: PathBuf,
    keys: KeysFile,
    document: DocumentMut,
    /// Whether there was no file.
    is_new: bool,
    /// The lock of the directory: the file itself is replaced. It goes with the handle.
    _lock: File,
}

/// What a new key may do.
pub(super) struct Grants<'a> {
    pub(super) hash: KeyHash,
    pub(super) created: SystemTime,
    pub(super) roles: &'a [String],
    pub(super) permissions: &'a [String],
    pub(super) not_before: Option<SystemTime>,
    pub(super) expires: Option<SystemTime>,
    pub(super) routes: &'a [String],
    pub(super) cidrs: &'a [String],
    pub(super) quota: &'a [String],
}

impl Store {
    /// Waits for other writers and reads the file; one that is not there is empty if it may be
    /// `new`.
    pub(super) fn open(path: &Path, new: bool) -> Result<Self, Failure> {
        // A link leads to the file that is replaced; the link stays.
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound && new => path.to_owned(),
            Err(error) => return Err(failed(path, &error)),
        };
        let lock = File::open(folder(&path)).and_then(|folder| folder.lock().map(|()| folder));
        let lock = lock.map_err(|error| failed(folder(&path), &error))?;
        let is_new = !path.exists();
        let text = match is_new {
            true => String::new(),
            false => read(&path)?,
        };
        let name = path.display().to_string();
        let keys =
            KeysFile::parse(&name, &text).map_err(|findings| output::bad_config(&findings))?;
        let document = text.parse().map_err(|error| failed(&path, &error))?;
        Ok(Self {
            path,
            keys,
            document,
            is_new,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn key(&self, id: &str) -> Option<&StoredKey> {
        self.keys.keys.get(id)
    }

    /// Appends a key.
    pub(super) fn add(&mut self, id: &str, grants: &Grants<'_>) {
        let mut table = Table::new();
        table.insert("hash", grants.hash.to_string().into());
        table.insert("created", moment(grants.created));
        for (key, words) in [
            ("roles", grants.roles),
            ("permissions", grants.permissions),
            ("routes", grants.routes),
            ("cidrs", grants.cidrs),
            ("quota", grants.quota),
        ] {
            if !words.is_empty() {
                let words: Array = words.iter().collect();
                table.insert(key, words.into());
            }
        }
        for (key, date) in [
            ("not_before", grants.not_before),
            ("expires", grants.expires),
        ] {
            if let Some(date) = date {
                table.insert(key, moment(date));
            }
        }
        table.decor_mut().set_prefix("\n");
        let keys = self.document.entry("keys").or_insert_with(|| {
            let mut keys = Table::new();
            keys.set_implicit(true);
            keys.into()
        });
        if let Some(keys) = keys.as_table_like_mut() {
            keys.insert(id, table.into());
        }
    }

    /// Keys that it has replaced stay in the entry: they are refused as revoked, and not as unknown,
    /// which would count as a guess of whoever still has one.
    pub(super) fn revoke(&mut self, id: &str, now: SystemTime) {
        if let Some(entry) = self.entry(id) {
            entry.insert("revoked", moment(now));
        }
    }

    /// Gives an entry another key; the old one stays good until a moment.
    pub(super) fn rotate(
        &mut self,
        id: &str,
        hash: KeyHash,
        now: SystemTime,
        until: SystemTime,
        expires: Option<SystemTime>,
    ) {
        let Some(old) = self.key(id) else { return };
        let replaced = old.previous.iter().copied().chain([(old.hash, until)]);
        let living = replaced.filter(|(_, until)| *until > now);
        let previous: Array = living.map(|(hash, until)| previous(hash, until)).collect();
        let Some(entry) = self.entry(id) else { return };
        entry.insert("hash", hash.to_string().into());
        entry.insert("created", moment(now));
        match previous.is_empty() {
            true => entry.remove("previous"),
            false => entry.insert("previous", previous.into()),
        };
        if let Some(expires) = expires {
            entry.insert("expires", moment(expires));
        }
    }

    fn entry(&mut self, id: &str) -> Option<&mut dyn TableLike> {
        let keys = self.document.get_mut("keys")?.as_table_like_mut()?;
        keys.get_mut(id)?.as_table_like_mut()
    }

    /// Puts the changed file in the old one's place, and says where that is.
    pub(super) fn save(self) -> Result<String, Failure> {
        // Put before the tables here: parsed, a comment alone would go on standing at the end.
        let introduction = if self.is_new { INTRODUCTION } else { "" };
        let text = format!("{introduction}{}", self.document);
        let name = self.path.display().to_string();
        // What the gateway would refuse must not be written.
        KeysFile::parse(&name, &text).map_err(|findings| output::bad_config(&findings))?;
        replace(&self.path, &text).map_err(|error| failed(&self.path, &error))?;
        Ok(name)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::run(&path.display().to_string(), error)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn moment(moment: SystemTime) -> Item {
    date_of(moment).into()
}

fn previous(hash: KeyHash, until: SystemTime) -> Value {
    let mut table = InlineTable::new();
    table.insert("hash", hash.to_string().into());
    table.insert("until", date_of(until).into());
    table.into()
}

/// Readers see the old file or the new one, never a part; after a crash too.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder(path).join(format!(".{name}.{:08x}", fastrand::u32(..)));
    let written = write(&new, path, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(folder(path))?.sync_all()
}

/// For its owner only; where there is a file already, the new one belongs to whom the old one did.
fn write(new: &Path, old: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(new)?;
    if let Ok(old) = fs::metadata(old) {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        let mode = PRIVATE | old.mode() & GROUP_READS;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

const PRIVATE: u32 = 0o600;
/// What an operator may have granted besides.
const GROUP_READS: u32 = 0o040;

const INTRODUCTION: &str = "\
# API keys: hashes only. Written by `tollgate key`; a running gateway reads it again when it changes.
";
