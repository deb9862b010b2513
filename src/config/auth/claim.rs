//! The name of a claim, or the path to it.

use toml::de::DeValue;

use crate::config::{
    decode::{Format, Node, OneOrList, Problem, Reader, Show, Text, quoted},
    diagnostic::Finding,
};

/// Where a claim stands in a token: `"roles"` is one literal name, `["realm_access", "roles"]` a
/// path. A name with dots in it (`"https://example.com/roles"`) so needs no escape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(pub Box<[Box<str>]>);

/// The format of a [`ClaimPath`].
pub(in crate::config) struct Claim;

impl Format for Claim {
    type Value = ClaimPath;

    fn expected() -> String {
        "the name of a claim, or a list of names as the path to it".to_owned()
    }

    fn example() -> String {
        "[\"realm_access\", \"roles\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<ClaimPath> {
        let right = matches!(node.value, DeValue::String(_) | DeValue::Array(_));
        if !right {
            return reader.wrong(node, &Self::expected(), None);
        }
        warn_of_dots(node, reader);
        let names = OneOrList::<Text>::read(node, reader)?;
        if names.is_empty() || names.iter().any(String::is_empty) {
            let problem = Problem::what("a claim has a name");
            return reader.refuse(node, &Self::expected(), problem);
        }
        Some(ClaimPath(names.into_iter().map(Into::into).collect()))
    }
}

/// Elsewhere a dot leads into an object. A name that is a URL has dots and is meant as it stands; any
/// other is told to be one name by standing in a list.
fn warn_of_dots(node: Node<'_>, reader: &mut Reader<'_>) {
    let DeValue::String(text) = node.value else {
        return;
    };
    if !text.contains('.') || text.contains(['/', ':']) {
        return;
    }
    let path: Vec<_> = text.split('.').map(quoted).collect();
    let message = format!("`{}`: this is one name, not a path", node.name);
    let help = format!(
        "write `[{}]` for the path, or `[{}]` if the name has a dot in it",
        path.join(", "),
        quoted(text)
    );
    reader.report(Finding::warning(node.place, message).help(help));
}

impl Show for Claim {
    fn show(value: &ClaimPath) -> String {
        let names: Vec<_> = value.0.iter().map(|name| quoted(name)).collect();
        match &names[..] {
            [name] => name.clone(),
            names => format!("[{}]", names.join(", ")),
        }
    }
}
