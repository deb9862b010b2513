//! The file of API keys: `[keys.ID]` with a hash and what the key may do.
//!
//! It is written by `tollgate key` and read by the gateway, which reads it again when it changes.
//! The keys themselves are nowhere in it: a key is 256 random bits, so its plain SHA-256 tells
//! nothing.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use toml::de::DeValue;

use super::{
    Diagnostics,
    address::Cidr,
    decode::{
        Entry, Environment, Format, Keyed, Named, Node, OneOrList, OptionOf, Problem, Reader,
        Scope, Set, Style, Sub, Table, TableNode, Text, parse_tree, read_keys, table,
    },
    diagnostic::{self, Finding},
    loading::read_whole,
    moment::Moment,
    quota::TimedQuota,
    source::{Place, Source, Sources},
};

/// The keys of one file by their ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeysFile {
    /// The keys.
    pub keys: BTreeMap<Arc<str>, StoredKey>,
}

/// One key as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredKey {
    /// The hash of the key.
    pub hash: KeyHash,
    /// Hashes of keys that this one has replaced, each with the moment until which it is still good.
    pub previous: Vec<(KeyHash, SystemTime)>,
    /// Roles of whoever shows it.
    pub roles: Vec<String>,
    /// Permissions beside those of the roles.
    pub permissions: Vec<String>,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// From when it is good.
    pub not_before: Option<SystemTime>,
    /// Until when it is good.
    pub expires: Option<SystemTime>,
    /// When it was revoked; it is refused, whenever that was.
    pub revoked: Option<SystemTime>,
    /// The routes that it is good for; any when there are none.
    pub routes: Vec<String>,
    /// The networks that it is good from; any when there are none.
    pub cidrs: Vec<IpNet>,
    /// Quotas of its own: so many requests in such a time.
    pub quota: Vec<(u64, Duration)>,
}

/// The SHA-256 of a key. `Debug` shows its beginning, which is enough to tell keys apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 32]);

/// As the file has it: `sha256:` and 64 hexadecimal digits.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{PREFIX}{a:02x}{b:02x}{c:02x}{d:02x}...")
    }
}

impl FromStr for KeyHash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix(PREFIX).ok_or(())?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(());
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

fn digit(letter: u8) -> Result<u8, ()> {
    let digit = char::from(letter).to_digit(16).ok_or(())?;
    u8::try_from(digit).map_err(|_| ())
}

impl KeysFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// All findings at once; a file that can't be read is one.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let name = path.display().to_string();
        match read_whole(path, usize::try_from(Self::LARGEST).unwrap_or(usize::MAX)) {
            Ok(text) => Self::parse(&name, &text),
            Err(message) => {
                let mut sources = Sources::default();
                let file = sources.add(Source::new(name, ""));
                let place = sources.place(file, 0..0);
                let finding = Finding::about_file(place, message);
                Err(diagnostic::resolve(vec![finding], &sources))
            }
        }
    }

    /// Reads a text as if it stood in a file of that name.
    ///
    /// # Errors
    ///
    /// All findings at once.
    pub fn parse(name: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut sources = Sources::default();
        let file = sources.add(Source::new(name, text));
        let mut findings = Vec::new();
        let keys = read(&sources, file, &mut findings);
        match findings.iter().any(Finding::is_error) {
            true => Err(diagnostic::resolve(findings, &sources)),
            false => Ok(keys),
        }
    }

    /// The largest file that is read, in bytes: room for some 300,000 keys.
    pub const LARGEST: u64 = 64 << 20;
}

/// Reads a file that is among the sources; what can't be used is left out, and there are findings.
pub(super) fn read(sources: &Sources, file: usize, findings: &mut Vec<Finding>) -> KeysFile {
    let Some(tree) = parse_tree(sources, file, findings) else {
        return KeysFile::default();
    };
    let mut environment = Environment::of_process();
    let mut reader = Reader {
        sources,
        file,
        environment: &mut environment,
        findings: Vec::new(),
    };
    let scope = Scope {
        header: String::new(),
        place: reader.place(0..0),
        keys: Content::KEYS,
        style: Style::Root,
        parent: None,
    };
    let content: Content = read_keys(&tree, &scope, &mut reader);
    report_doubles(&content.keys, &mut reader);
    findings.append(&mut reader.findings);
    let keys = content.keys.into_iter();
    let keys = keys.filter_map(|(id, entry)| Some((id, entry.value.stored()?)));
    KeysFile {
        keys: keys.collect(),
    }
}

type Ids = BTreeMap<Arc<str>, Entry<KeyTable>>;

table! {
    /// The file of keys.
    #[derive(Clone, Debug)]
    struct Content [""] {
        /// `keys`: the keys by their ids.
        keys: Ids => Named<KeyTable> = Ids::new(); "none",
    }
}

table! {
    /// `[keys.ID]`: one key.
    #[derive(Clone, Debug)]
    struct KeyTable ["keys.ID", check check_key] {
        /// `hash`: of the key.
        hash: Option<Set<KeyHash>> => Keyed<HashText> = None; "needed",
        /// `previous`: keys that this one has replaced and that are still good.
        previous: Vec<Previous> => OneOrList<Sub<Previous>> = Vec::new(); "none",
        /// `roles`: of whoever shows it.
        roles: Vec<String> => OneOrList<Word> = Vec::new(); "none",
        /// `permissions`: beside those of the roles.
        permissions: Vec<String> => OneOrList<Word> = Vec::new(); "none",
        /// `created`: when it was made.
        created: Option<SystemTime> => OptionOf<Moment> = None; "unknown",
        /// `not_before`: from when it is good.
        not_before: Option<SystemTime> => OptionOf<Moment> = None; "at once",
        /// `expires`: until when it is good.
        expires: Option<SystemTime> => OptionOf<Moment> = None; "never",
        /// `revoked`: when it was revoked.
        revoked: Option<SystemTime> => OptionOf<Moment> = None; "not",
        /// `routes`: the names of the routes that it is good for.
        routes: Vec<String> => OneOrList<Word> = Vec::new(); "all",
        /// `cidrs`: the networks that it is good from.
        cidrs: Vec<IpNet> => OneOrList<Cidr> = Vec::new(); "all",
        /// `quota`: so many requests in such a time, in place of a limit's own.
        quota: Vec<(u64, Duration)> => OneOrList<TimedQuota> = Vec::new(); "none",
        /// `note`: what a person wants to know about it.
        note: Option<String> => OptionOf<Text> = None; "none",
    }
}

table! {
    /// `previous`: a key that was replaced.
    #[derive(Clone, Debug)]
    struct Previous ["keys.ID.previous", check check_previous] {
        /// `hash`: of the key.
        hash: Option<Set<KeyHash>> => Keyed<HashText> = None; "needed",
        /// `until`: until when it is good.
        until: Option<SystemTime> => OptionOf<Moment> = None; "needed",
    }
}

impl KeyTable {
    /// `None` when something needed is missing, which has been reported.
    fn stored(self) -> Option<StoredKey> {
        let previous = self.previous.into_iter();
        let previous = previous.map(|old| Some((old.hash?.value?, old.until?)));
        Some(StoredKey {
            hash: self.hash?.value?,
            previous: previous.collect::<Option<_>>()?,
            roles: self.roles,
            permissions: self.permissions,
            created: self.created,
            not_before: self.not_before,
            expires: self.expires,
            revoked: self.revoked,
            routes: self.routes,
            cidrs: self.cidrs,
            quota: self.quota,
        })
    }

    /// All hashes with their places.
    fn hashes(&self) -> impl Iterator<Item = (KeyHash, Place)> {
        let own = self.hash.iter();
        let old = self.previous.iter().filter_map(|old| old.hash.as_ref());
        own.chain(old)
            .filter_map(|set| Some((set.value?, set.place)))
    }
}

fn check_key(key: &KeyTable, table: TableNode<'_>, reader: &mut Reader<'_>) {
    need(key.hash.is_some(), "hash", table, reader);
    if let (Some(from), Some(until)) = (key.not_before, key.expires)
        && until <= from
    {
        let place = table.value_place("expires", reader);
        let finding = Finding::error(place, "`expires`: the key is never good");
        reader.report(finding.help("`expires` has to be later than `not_before`"));
    }
}

fn check_previous(key: &Previous, table: TableNode<'_>, reader: &mut Reader<'_>) {
    need(key.hash.is_some(), "hash", table, reader);
    need(table.has("until"), "until", table, reader);
}

fn need(there: bool, key: &str, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !there {
        let finding = Finding::error(table.node.key, format!("`{key}` is missing"));
        reader.report(finding.help("`tollgate key new` writes whole entries"));
    }
}

/// A key under two ids would make the callers one or the other by chance.
fn report_doubles(keys: &Ids, reader: &mut Reader<'_>) {
    let mut first: BTreeMap<KeyHash, Place> = BTreeMap::new();
    for (hash, place) in keys.values().flat_map(|entry| entry.value.hashes()) {
        if let Some(before) = first.insert(hash, place) {
            let finding = Finding::error(place, "the same key stands here twice")
                .label("again here")
                .related(before, "first here");
            reader.report(finding);
        }
    }
}

struct HashText;

impl Format for HashText {
    type Value = KeyHash;

    fn expected() -> String {
        "the hash of a key: `sha256:` and 64 hexadecimal digits".to_owned()
    }

    fn example() -> String {
        format!("\"{PREFIX}9f86d081...\"")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<KeyHash> {
        if let DeValue::String(text) = node.value
            && text.starts_with("tgk_")
        {
            let message = format!("`{}`: this is a key, not its hash", node.name);
            let help = "whoever reads this file can use it: revoke it, and make another with \
                        `tollgate key new`";
            reader.report(Finding::error(node.key, message).help(help));
            return None;
        }
        reader.parse(node, &Self::expected(), |text| {
            text.parse().map_err(|()| Problem::plain())
        })
    }
}

/// The name of a role, a permission or a route.
struct Word;

impl Format for Word {
    type Value = String;

    fn expected() -> String {
        "a name".to_owned()
    }

    fn example() -> String {
        "\"editor\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| {
            let sane = !text.is_empty() && !text.chars().any(char::is_control);
            sane.then(|| text.to_owned()).ok_or_else(Problem::plain)
        })
    }
}

const PREFIX: &str = "sha256:";
