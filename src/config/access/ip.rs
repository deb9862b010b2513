//! `ip` of a route and `[ip_sets.*]`: which client addresses.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use toml::de::DeValue;

use super::super::{
    address::{Cidr, network},
    decode::{Entry, Flag, Format, Node, OneOrList, OptionOf, Problem, Reader, TableNode, table},
    diagnostic::Finding,
    source::Place,
};

/// `[ip_sets.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpSet {
    /// `cidrs`.
    pub cidrs: Vec<IpNet>,
    /// `file`: more of them, one a line.
    pub file: Option<PathBuf>,
}

table! {
    /// `[ip_sets.NAME]`: networks under one name, for `ip` of routes as `"@NAME"`.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct IpSetKeys ["ip_sets.NAME", check check_set] {
        /// `cidrs`: networks and addresses.
        pub(in crate::config) cidrs: Vec<IpNet> => OneOrList<Cidr> = Vec::new(); "none",
        /// `file`: networks and addresses, one a line, `#` begins a comment; relative to this file.
        /// Re-read when it changes.
        pub(in crate::config) file: Option<SetFile> => OptionOf<NetworkFile> = None; "none",
    }
}

/// The sets as the gateway runs them.
pub(in crate::config) fn ip_sets(
    written: &BTreeMap<Arc<str>, Entry<IpSetKeys>>,
) -> BTreeMap<Arc<str>, IpSet> {
    let set = |keys: &IpSetKeys| IpSet {
        cidrs: keys.cidrs.clone(),
        file: keys.file.as_ref().map(|file| file.path.clone()),
    };
    let sets = written.iter();
    sets.map(|(name, entry)| (Arc::clone(name), set(&entry.value)))
        .collect()
}

fn check_set(set: &IpSetKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if table.is_empty() || (table.has("cidrs") && set.cidrs.is_empty() && !table.has("file")) {
        let message = format!("the set `{}` holds nobody", table.node.name);
        let finding = Finding::warning(table.node.key, message);
        reader
            .report(finding.help("write `cidrs = [\"192.0.2.0/24\"]` or `file = \"office.txt\"`"));
    }
}

/// The file of a set, as it was when the configuration was read.
#[derive(Clone, Debug)]
pub(in crate::config) struct SetFile {
    /// Where it is.
    pub(in crate::config) path: PathBuf,
    /// What it held.
    pub(in crate::config) networks: Vec<IpNet>,
}

/// The format of a [`SetFile`]: it must be there and hold networks only.
pub(in crate::config) struct NetworkFile;

impl Format for NetworkFile {
    type Value = SetFile;

    fn expected() -> String {
        "the path of a file with one network a line".to_owned()
    }

    fn example() -> String {
        "\"office.txt\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<SetFile> {
        let directory = reader.sources.get(reader.file).directory.clone();
        reader.parse(node, &Self::expected(), |name| {
            if name.is_empty() || name.contains('\0') {
                return Err(Problem::plain());
            }
            let path = directory.join(name);
            let networks = read_networks(&path).map_err(|error| {
                Problem::what(format!("the file `{}`: {error}", path.display()))
            })?;
            Ok(SetFile { path, networks })
        })
    }
}

fn read_networks(path: &Path) -> Result<Vec<IpNet>, String> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(LARGEST_NETWORKS + 1).read_to_string(&mut text))
        .map_err(|error| format!("it can't be read: {error}"))?;
    if text.len() as u64 > LARGEST_NETWORKS {
        return Err("it is larger than 16 MiB".to_owned());
    }
    parse_networks(&text)
}

/// The networks of a file's text: one a line, `#` begins a comment.
///
/// # Errors
///
/// What is wrong, with the line: one bad line makes the whole file bad, since a list that is only
/// half there would let in, or keep out, whoever stands in the other half.
pub fn parse_networks(text: &str) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |problem: Problem| {
            let what = problem.what.unwrap_or_else(|| "no network".to_owned());
            format!("line {number}: {what}")
        };
        networks.push(network(line).map_err(wrong)?);
    }
    Ok(networks)
}

table! {
    /// `ip`: which client addresses may use a route. The address is that of the client behind
    /// trusted proxies.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct IpKeys ["routes.NAME.ip", check check_ip] {
        /// `allow`: only these networks, addresses and `"@sets"`.
        pub(in crate::config) allow: Option<IpListKey> => OptionOf<IpMembers> = None; "everybody",
        /// `deny`: not these; it stands above `allow`.
        pub(in crate::config) deny: IpListKey => IpMembers = IpListKey::default(); "nobody",
        /// `enforce`: with `false` a denied request passes; the log and the metrics tell that it
        /// would have been refused.
        pub(in crate::config) enforce: bool => Flag = true,
    }
}

fn check_ip(_: &IpKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !table.has("allow") && !table.has("deny") {
        let finding = Finding::error(table.node.place, "`ip` needs `allow` or `deny`");
        reader.report(finding.help("write for example `ip = { allow = [\"192.0.2.0/24\"] }`"));
    }
}

/// Networks and names of sets as written.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct IpListKey {
    /// Networks with their places.
    pub(in crate::config) networks: Vec<(IpNet, Place)>,
    /// Names of sets with their places.
    pub(in crate::config) sets: Vec<(Arc<str>, Place)>,
}

/// The format of an [`IpListKey`].
pub(in crate::config) struct IpMembers;

impl Format for IpMembers {
    type Value = IpListKey;

    fn expected() -> String {
        OneOrList::<IpMember>::expected()
    }

    fn example() -> String {
        "[\"@office\", \"192.0.2.0/24\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<IpListKey> {
        let members = OneOrList::<IpMember>::read(node, reader)?;
        if members.is_empty() && node.name == "allow" {
            let problem = Problem::what("an empty list denies everybody");
            return reader.refuse(node, &Self::expected(), problem);
        }
        let mut list = IpListKey::default();
        for (member, place) in members {
            match member {
                Member::Network(network) => list.networks.push((network, place)),
                Member::Set(name) => list.sets.push((name, place)),
            }
        }
        Some(list)
    }
}

enum Member {
    Network(IpNet),
    Set(Arc<str>),
}

struct IpMember;

impl Format for IpMember {
    type Value = (Member, Place);

    fn expected() -> String {
        "a network such as \"192.0.2.0/24\", an address, or \"@NAME\" of a set".to_owned()
    }

    fn example() -> String {
        "\"@office\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let named = matches!(node.value, DeValue::String(text) if text.starts_with('@'));
        let member = match named {
            true => Member::Set(reader.parse(node, &Self::expected(), |text| {
                Ok(text.trim_start_matches('@').into())
            })?),
            false => Member::Network(reader.parse(node, &Self::expected(), member)?),
        };
        Some((member, node.place))
    }
}

/// A name without `@` is what people write first.
fn member(text: &str) -> Result<IpNet, Problem> {
    let letters = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    network(text).map_err(|problem| match text {
        text if letters(text) && !text.contains(['.', ':', '/']) => {
            Problem::plain().help(format!("a set is named with `@`: write `\"@{text}\"`"))
        }
        _ => problem,
    })
}

/// The largest file of networks, in bytes.
pub const LARGEST_NETWORKS: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_networks_has_one_a_line_and_comments() {
        let text = "# the office\n192.0.2.0/24 # first floor\n\n  2001:db8::/32\r\n198.51.100.7\n";
        let networks = parse_networks(text).unwrap();
        let shown: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"]);
    }

    #[test]
    fn one_bad_line_makes_the_whole_file_bad() {
        for (text, wanted) in [
            ("192.0.2.0/24\nlocalhost\n", "line 2: no network"),
            (
                "192.0.2.1/24\n",
                "line 1: the address has bits beyond its prefix",
            ),
        ] {
            assert_eq!(parse_networks(text), Err(wanted.to_owned()));
        }
    }

    #[test]
    fn a_set_without_its_sign_gets_a_suggestion() {
        let help = member("office").unwrap_err().help.unwrap();
        assert_eq!(help, "a set is named with `@`: write `\"@office\"`");
    }
}
