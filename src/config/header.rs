//! Names and values of header fields, as far as a configuration may use them.

use http::{
    HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};
use toml::de::DeValue;

use super::{
    decode::{Format, Node, Problem, Reader, Text},
    diagnostic::Finding,
};

/// The name of a header field.
pub(super) struct FieldName;

impl Format for FieldName {
    type Value = HeaderName;

    fn expected() -> String {
        "the name of a header field".to_owned()
    }

    fn example() -> String {
        "\"user-agent\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
        reader.parse(node, &Self::expected(), |text| {
            HeaderName::try_from(text).map_err(|_| Problem::plain())
        })
    }
}

/// A name that arrives from clients only where a route keeps odd names, since servers may read it as
/// another, in letters, digits and hyphens; `None` for one that has nothing else in it.
pub(super) fn in_plain_letters(name: &str) -> Option<String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let plain = || name.replace(|letter| !is_plain(letter), "-");
    (!name.chars().all(is_plain)).then(plain)
}

/// Header fields with their values, for answers that the gateway makes.
pub(super) struct Fields;

impl Format for Fields {
    type Value = Vec<(HeaderName, HeaderValue)>;

    fn expected() -> String {
        "a table of header fields".to_owned()
    }

    fn example() -> String {
        "{ content-type = \"application/json\" }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let DeValue::Table(table) = node.value else {
            let help = format!("for example `{} = {}`", node.name, Self::example());
            return reader.wrong(node, &Self::expected(), Some(help));
        };
        let scope = node.inner(&[], reader);
        let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(table.len());
        for entry in table {
            let child = Node::child(entry, &scope, reader);
            let Some(name) = key_name(child, reader) else {
                continue;
            };
            refuse_framing(child, &name, reader);
            refuse_double(
                child,
                fields.iter().any(|(known, _)| *known == name),
                reader,
            );
            if let Some(value) = field_value(child, reader) {
                fields.push((name, value));
            }
        }
        Some(fields)
    }
}

/// Reads a key as the name of a header field.
pub(super) fn key_name(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
    let name = HeaderName::try_from(node.name).ok();
    if name.is_none() {
        let message = format!("`{}` is not the name of a header field", node.name);
        reader.report(Finding::error(node.key, message));
    }
    name
}

/// TOML takes `X-A` and `x-a` for two keys; HTTP does not.
pub(super) fn refuse_double(node: Node<'_>, double: bool, reader: &mut Reader<'_>) {
    if double {
        let message = format!("the header field `{}` stands here twice", node.name);
        let help = "the case of letters makes no difference in header names";
        reader.report(Finding::error(node.key, message).help(help));
    }
}

/// Refuses fields that belong to one connection (RFC 9110 7.6.1) or frame the message.
pub(super) fn refuse_framing(node: Node<'_>, name: &HeaderName, reader: &mut Reader<'_>) {
    if !is_hop_by_hop(name) && *name != CONTENT_LENGTH {
        return;
    }
    let message = format!("`{name}` belongs to the connection: the gateway sets it itself");
    reader.report(Finding::error(node.key, message));
}

fn field_value(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderValue> {
    if let DeValue::Table(_) = node.value {
        let help = "a dot separates tables: write the name in quotes".to_owned();
        return reader.wrong(node, &Text::expected(), Some(help));
    }
    reader.parse(node, "the value of a header field", |text| {
        let problem = || Problem::plain().help("no line breaks or control characters");
        HeaderValue::from_str(text).map_err(|_| problem())
    })
}

/// Whether a field belongs to one connection and is not forwarded (RFC 9110 7.6.1).
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

/// Whether a field carries credentials.
pub(super) fn is_credential(name: &HeaderName) -> bool {
    [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE].contains(name)
        || ["x-api-key", "x-auth-token"].contains(&name.as_str())
}
