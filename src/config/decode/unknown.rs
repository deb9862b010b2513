//! Keys that a table does not have, and what may have been meant.

use toml::de::DeValue;

use super::{Node, Reader, Scope, Style, quoted_key};
use crate::config::{diagnostic::Finding, reference};

/// Reports a key that its table does not have.
pub(super) fn report(node: Node<'_>, reader: &mut Reader<'_>) {
    let message = match node.scope.header.as_str() {
        "" if matches!(node.value, DeValue::Table(_)) => {
            format!("unknown table `[{}]`", quoted_key(node.name))
        }
        "" => format!("unknown key `{}` at the top level", node.name),
        header => format!("unknown key `{}` in `[{header}]`", node.name),
    };
    let near = nearest(node.name, node.scope.keys.iter().copied());
    let label = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
    let help = of_outer_table(node, near.is_some(), reader)
        .or_else(|| unquoted_dot(node, reader))
        .or_else(|| near.map(|near| format!("write `{near}`")))
        .or_else(|| not_there_yet(node.name))
        .or_else(|| of_other_table(node.name))
        .unwrap_or_else(|| known_keys(node.scope));
    reader.report(Finding::error(node.key, message).label(label).help(help));
}

/// The TOML trap: below `[routes.x.timeouts]` every key belongs to that table, and a key of
/// `[routes.x]` that follows is swallowed. What has a near name here was hardly meant for the top
/// level: `server` in `[upstreams.x]` is `servers`.
fn of_outer_table(node: Node<'_>, has_near: bool, reader: &Reader<'_>) -> Option<String> {
    let mut inner = node.scope;
    while let Some(outer) = inner.parent {
        if has_near && outer.style == Style::Root {
            return None;
        }
        if outer.keys.contains(&node.name) {
            return Some(move_out(node, inner, outer, reader));
        }
        inner = outer;
    }
    None
}

fn move_out(node: Node<'_>, inner: &Scope<'_>, outer: &Scope<'_>, reader: &Reader<'_>) -> String {
    let name = node.name;
    if outer.style == Style::Root {
        return format!(
            "`{name}` stands at the top level: write `[{name}]` on a line of its own, and its keys below"
        );
    }
    let header = &outer.header;
    if inner.style == Style::Header {
        let line = reader.sources.of(inner.place).line(inner.place.start());
        return format!(
            "`{name}` belongs to `[{header}]`: move it above line {line}, where `[{}]` begins",
            inner.header
        );
    }
    format!(
        "`{name}` belongs to `[{header}]`: move it out of `{}`",
        inner.header
    )
}

/// The TOML trap: `partner.7 = ...` is a table `partner` with a key `7`, and `[routes.api.v1]` a
/// table `v1` in the route `api`.
fn unquoted_dot(node: Node<'_>, reader: &Reader<'_>) -> Option<String> {
    let scope = node.scope;
    if let (DeValue::Table(table), true) = (node.value, is_dotted(node, reader)) {
        let rest = table.keys().next()?;
        return Some(quote_name(&format!("{}.{rest}", node.name), None));
    }
    let outer = scope.parent.filter(|outer| names_tables(outer))?;
    let last = scope.header.strip_prefix(&outer.header)?;
    let last = last.trim_start_matches('.').trim_matches('"');
    let name = format!("{last}.{}", node.name);
    let is_table = matches!(node.value, DeValue::Table(_)) && node.style(reader) != Style::Inline;
    if is_table {
        return Some(quote_name(&name, Some(&outer.header)));
    }
    (scope.style == Style::Implicit).then(|| quote_name(&name, None))
}

/// Whether a table was made by a dotted key, not by a header.
fn is_dotted(node: Node<'_>, reader: &Reader<'_>) -> bool {
    let source = reader.sources.of(node.key);
    let line = &source.text[source.line_range(node.key.start())];
    node.style(reader) == Style::Implicit && !line.trim_start().starts_with('[')
}

fn names_tables(scope: &Scope<'_>) -> bool {
    scope.keys.is_empty() && scope.style != Style::Root
}

fn quote_name(name: &str, header: Option<&str>) -> String {
    let written = match header {
        Some(header) => format!("[{header}.\"{name}\"]"),
        None => format!("\"{name}\""),
    };
    format!("a dot separates tables: if the name is `{name}`, write `{written}`")
}

fn of_other_table(name: &str) -> Option<String> {
    let owners: Vec<_> = reference::TABLES
        .iter()
        .filter(|table| table.keys.contains(&name))
        .map(|table| format!("`[{}]`", table.header))
        .take(MOST_OWNERS)
        .collect();
    (!owners.is_empty()).then(|| format!("`{name}` is a key of {}", owners.join(", ")))
}

/// What other gateways have, and whoever comes from there looks for.
fn not_there_yet(name: &str) -> Option<String> {
    TLS.contains(&name).then(|| {
        "there is no TLS yet: let a proxy in front end it, and name that in `server.trusted_proxies`"
            .to_owned()
    })
}

fn known_keys(scope: &Scope<'_>) -> String {
    let keys: Vec<_> = scope.keys.iter().map(|key| format!("`{key}`")).collect();
    format!("known here: {}", keys.join(", "))
}

/// The name that somebody who wrote `name` probably meant.
pub(in crate::config) fn nearest<'n>(
    name: &str,
    known: impl Iterator<Item = &'n str>,
) -> Option<&'n str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    let allowed = (wanted.chars().count() / 3).clamp(1, MOST_EDITS);
    known
        .map(|known| (strsim::damerau_levenshtein(&wanted, &plain(known)), known))
        .filter(|(edits, known)| *edits <= allowed && *edits < known.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| known)
}

const TLS: [&str; 6] = ["tls", "ssl", "https", "cert", "certificate", "acme"];
const MOST_EDITS: usize = 4;
const MOST_OWNERS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_name_is_suggested() {
        let known = ["listen", "workers", "trusted_proxies"];
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(near("lsiten"), Some("listen"));
        assert_eq!(near("trusted-proxies"), Some("trusted_proxies"));
        assert_eq!(near("Workers"), Some("workers"));
        assert_eq!(near("tls"), None);
    }
}
