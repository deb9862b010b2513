//! Headers that tell the upstream who the caller is.

use http::{
    HeaderName,
    header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST},
};
use toml::de::DeValue;

use super::{ClaimPath, claim::Claim};
use crate::config::{
    decode::{Format, Node, Reader},
    diagnostic::Finding,
    header::{in_plain_letters, is_hop_by_hop, key_name, refuse_double},
    source::Place,
};

/// `forward_claims`: headers, and the claims that they show.
pub(super) struct ForwardClaims;

impl Format for ForwardClaims {
    type Value = Vec<(HeaderName, ClaimPath)>;

    fn expected() -> String {
        "a table of header fields and claims".to_owned()
    }

    fn example() -> String {
        "{ x-user-id = \"sub\" }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let DeValue::Table(table) = node.value else {
            let help = format!("for example `{} = {}`", node.name, Self::example());
            return reader.wrong(node, &Self::expected(), Some(help));
        };
        let scope = node.inner(&[], reader);
        let mut claims: Vec<(HeaderName, ClaimPath)> = Vec::with_capacity(table.len());
        for entry in table {
            let child = Node::child(entry, &scope, reader);
            let Some(name) = identity_header(child, reader) else {
                continue;
            };
            refuse_double(
                child,
                claims.iter().any(|(known, _)| *known == name),
                reader,
            );
            if let Some(claim) = Claim::read(child, reader) {
                claims.push((name, claim));
            }
        }
        Some(claims)
    }
}

/// A header that the gateway alone may set. Those that mean something to every server are not for
/// it, and neither are those that a client can't send anyway.
fn identity_header(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
    let name = key_name(node, reader)?;
    identity_name(name, node.key, reader)
}

/// The same for a name that stands somewhere else than in front of a `=`.
pub(super) fn identity_name(
    name: HeaderName,
    place: Place,
    reader: &mut Reader<'_>,
) -> Option<HeaderName> {
    let text = name.as_str();
    let taken = [AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST].contains(&name)
        || is_hop_by_hop(&name)
        || [
            "forwarded",
            "via",
            "x-request-id",
            "traceparent",
            "tracestate",
            "accept",
            "content-type",
        ]
        .contains(&text)
        || text.starts_with("x-forwarded-");
    if taken {
        let message = format!("`{text}` has a meaning of its own: it can't tell who the caller is");
        let finding = Finding::error(place, message);
        reader.report(finding.help("take a name such as `x-user-id`"));
        return None;
    }
    if let Some(plain) = in_plain_letters(text) {
        let message =
            format!("`{text}`: servers read `_`, `-` and other signs in header names as one");
        let help = format!("write `{plain}`");
        reader.report(Finding::error(place, message).help(help));
        return None;
    }
    Some(name)
}
