//! `[auth.api_keys.NAME]`: keys of partners and programs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{HeaderName, header::AUTHORIZATION};

use super::{CredentialPlace, place::From};
use crate::config::{
    KeysFile,
    decode::{Choice, Flag, Format, Keyed, Node, OneOrList, Reader, Set, TableNode, Word, table},
    diagnostic::Finding,
    keys_file,
    role::help_with_unknown,
    source::{Place, Source, Sources},
};

/// `[auth.api_keys.NAME]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeys {
    /// The full name: `api_keys.partners`.
    pub name: Arc<str>,
    /// `from`: where keys are looked for.
    pub from: Vec<CredentialPlace>,
    /// `scheme`: what stands before a key in Authorization.
    pub scheme: KeyScheme,
    /// `keys_file`: the file of hashes, as a path from where the process runs.
    pub keys_file: PathBuf,
    /// `forward_credentials`: whether the upstream gets the key.
    pub forward_credentials: bool,
}

/// What stands before a key in Authorization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyScheme {
    /// `ApiKey`, which nobody else uses.
    #[default]
    ApiKey,
    /// `Bearer`, as tokens have it.
    Bearer,
}

impl KeyScheme {
    /// The scheme as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "ApiKey",
            Self::Bearer => "Bearer",
        }
    }
}

impl Word for KeyScheme {
    const WORDS: &'static [(&'static str, Self)] =
        &[("ApiKey", Self::ApiKey), ("Bearer", Self::Bearer)];
}

table! {
    /// `[auth.api_keys.NAME]`: keys that `tollgate key new` hands out. The file has their hashes only;
    /// it is read again when it changes.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct ApiKeysTable ["auth.api_keys.NAME", check check_api_keys] {
        /// `from`: where keys are looked for. In more than one of the places at once is 400.
        from: Vec<CredentialPlace> => OneOrList<From> = vec![CredentialPlace::Header(X_API_KEY)],
        /// `scheme`: what stands before the key in the Authorization header.
        scheme: KeyScheme => Choice<KeyScheme> = KeyScheme::ApiKey,
        /// `keys_file`: the file of hashes, relative to this file.
        keys_file: Option<Set<PathBuf>> => Keyed<FileName> = None; "needed",
        /// `forward_credentials`: whether the upstream gets the key too. A route may say otherwise.
        forward_credentials: bool => Flag = true,
    }
}

fn check_api_keys(keys: &ApiKeysTable, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if keys.keys_file.is_none() {
        let message = format!("`[auth.api_keys.{}]` has no keys", table.node.name);
        let finding = Finding::error(table.node.key, message)
            .help("write `keys_file = \"api-keys.toml\"`; `tollgate key new` makes the file");
        reader.report(finding);
    }
    if keys.from.is_empty() && table.has("from") {
        let place = table.value_place("from", reader);
        let finding = Finding::error(place, "`from`: a key must stand somewhere");
        reader.report(finding.help("leave it out for the X-Api-Key header"));
    }
    let authorization = CredentialPlace::Header(AUTHORIZATION);
    if table.has("scheme") && !keys.from.contains(&authorization) {
        let place = table.value_place("scheme", reader);
        let finding = Finding::warning(place, "`scheme` has no effect").help(
            "it is about keys in the Authorization header: `from = \"header:authorization\"`",
        );
        reader.report(finding);
    }
}

impl ApiKeysTable {
    /// `None` when something needed is missing, which has been reported.
    pub(in crate::config) fn named(self, name: Arc<str>) -> Option<ApiKeys> {
        Some(ApiKeys {
            name,
            from: self.from,
            scheme: self.scheme,
            keys_file: self.keys_file?.value?,
            forward_credentials: self.forward_credentials,
        })
    }

    /// The keys' file, and where it is named.
    pub(in crate::config) fn file(&self) -> Option<(&PathBuf, Place)> {
        let set = self.keys_file.as_ref()?;
        Some((set.value.as_ref()?, set.place))
    }
}

/// The keys of one method, as its file has them now.
#[derive(Debug)]
pub(in crate::config) struct KeysOf {
    /// The method's full name.
    pub(in crate::config) method: Arc<str>,
    /// Where the file is named.
    pub(in crate::config) place: Place,
    /// The keys that could be read.
    pub(in crate::config) keys: KeysFile,
}

/// One key of a file, where no other is of interest.
#[derive(Debug)]
pub(in crate::config) struct OneKey {
    file: PathBuf,
    id: Box<str>,
}

impl OneKey {
    pub(in crate::config) fn new(file: &Path, id: &str) -> Self {
        Self {
            file: true_name(file),
            id: id.into(),
        }
    }

    /// Whether a file is the key's.
    pub(super) fn is_in(&self, file: &Path) -> bool {
        true_name(file) == self.file
    }

    /// Leaves the key alone in what was read of its file.
    pub(super) fn pick(&self, file: &mut KeysFile) {
        file.keys.retain(|id, _| **id == *self.id);
    }
}

/// One file may have several names.
fn true_name(file: &Path) -> PathBuf {
    fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())
}

/// Reads and checks a file of keys; what is wrong with its content is said where it stands.
pub(super) fn check_file(
    path: &Path,
    place: Place,
    sources: &mut Sources,
    findings: &mut Vec<Finding>,
) -> KeysFile {
    let most = usize::try_from(KeysFile::LARGEST).unwrap_or(usize::MAX);
    match crate::config::loading::read_whole(path, most) {
        Ok(text) => {
            let file = sources.add(Source::new(path.display().to_string(), text));
            keys_file::read(sources, file, findings)
        }
        Err(message) => {
            let message = format!("`keys_file`: {message}");
            let help = "`tollgate key new --id NAME` makes the file with a first key in it";
            findings.push(Finding::error(place, message).help(help));
            KeysFile::default()
        }
    }
}

/// Warns of roles of keys that nothing in the configuration knows, each once.
pub(super) fn warn_of_unknown_roles(
    keys: &KeysFile,
    known: &BTreeSet<Arc<str>>,
    place: Place,
    findings: &mut Vec<Finding>,
) {
    let mut told = BTreeSet::new();
    for (id, key) in keys.keys.iter().filter(|(_, key)| key.revoked.is_none()) {
        for role in &key.roles {
            if known.contains(role.as_str()) || !told.insert(role.as_str()) {
                continue;
            }
            let message = format!(
                "`keys_file`: the key `{id}` has the role `{role}`, which grants nothing: there is no such role"
            );
            let help = help_with_unknown(role, "", known.iter().map(|name| &**name));
            findings.push(Finding::warning(place, message).help(help));
        }
    }
}

/// The name of a file, relative to the one that names it.
pub(super) struct FileName;

impl Format for FileName {
    type Value = PathBuf;

    fn expected() -> String {
        "the name of a file".to_owned()
    }

    fn example() -> String {
        "\"api-keys.toml\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<PathBuf> {
        let directory = reader.sources.get(reader.file).directory.clone();
        reader.parse(node, &Self::expected(), |text| {
            let sane = !text.is_empty() && !text.contains('\0');
            sane.then(|| directory.join(text))
                .ok_or_else(crate::config::decode::Problem::plain)
        })
    }
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
