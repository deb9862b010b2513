//! `request_headers` and `response_headers`: what a route changes in the fields of a message.

use std::marker::PhantomData;

use http::{
    HeaderName,
    header::{CONTENT_LENGTH, EXPECT, FORWARDED, HOST, VIA},
};
use toml::de::DeValue;

use super::{
    Template, TemplatePart,
    decode::{Format, Node, OneOrList, Problem, Reader, table},
    diagnostic::Finding,
    header::{is_hop_by_hop, key_name, refuse_double},
};

table! {
    /// `request_headers`: what the upstream gets instead of what the client sent. First `remove`,
    /// then `set`, then `add`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RequestEdits ["routes.NAME.request_headers"] {
        /// `set`: fields with the only value that they shall have.
        pub set: Vec<(HeaderName, Template)> => Templates<OfRequest> = Vec::new(); "none",
        /// `add`: fields that are added to those of their name.
        pub add: Vec<(HeaderName, Template)> => Templates<OfRequest> = Vec::new(); "none",
        /// `remove`: fields that are taken out.
        pub remove: Vec<HeaderName> => OneOrList<Name<OfRequest>> = Vec::new(); "none",
    }
}

table! {
    /// `response_headers`: what the client gets instead of what the target answered. First
    /// `remove`, then `set`, then `add`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ResponseEdits ["routes.NAME.response_headers"] {
        /// `set`: fields with the only value that they shall have.
        pub set: Vec<(HeaderName, Template)> => Templates<OfResponse> = Vec::new(); "none",
        /// `add`: fields that are added to those of their name.
        pub add: Vec<(HeaderName, Template)> => Templates<OfResponse> = Vec::new(); "none",
        /// `remove`: fields that are taken out.
        pub remove: Vec<HeaderName> => OneOrList<Name<OfResponse>> = Vec::new(); "none",
    }
}

impl RequestEdits {
    /// The fields that tell the upstream who calls. Nobody else may send them.
    pub fn identity_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let templates = self.set.iter().chain(&self.add);
        templates.filter_map(|(name, template)| template.names_principal().then_some(name))
    }
}

/// Whose fields they are, and so which of them the gateway writes itself.
trait Side {
    /// Why a field can't be changed, and what to do instead.
    fn refusal(name: &HeaderName) -> Option<&'static str>;
}

struct OfRequest;

struct OfResponse;

impl Side for OfRequest {
    fn refusal(name: &HeaderName) -> Option<&'static str> {
        let ours = [
            "x-request-id",
            "traceparent",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
        ];
        match name {
            name if *name == HOST => Some("write `rewrite = { host = \"...\" }` in the route"),
            name if [FORWARDED, VIA].contains(name) || ours.contains(&name.as_str()) => {
                Some("the gateway writes it itself: what the upstream believes must be true")
            }
            name if *name == EXPECT => Some("the gateway answers it itself"),
            _ => None,
        }
    }
}

impl Side for OfResponse {
    fn refusal(name: &HeaderName) -> Option<&'static str> {
        (name == "x-request-id").then_some("the gateway writes it itself")
    }
}

/// Reports a field that can't be changed (RFC 9110 7.6.1: those of one hop; those that frame).
fn refuse<S: Side>(name: &HeaderName, node: Node<'_>, reader: &mut Reader<'_>) -> bool {
    let help = match name {
        name if is_hop_by_hop(name) || *name == CONTENT_LENGTH => {
            Some("it belongs to the connection: the gateway sets it itself")
        }
        name => S::refusal(name),
    };
    if let Some(help) = help {
        let finding = Finding::error(node.key, format!("`{name}` can't be changed here"));
        reader.report(finding.help(help));
    }
    help.is_some()
}

/// A table of header fields and templates.
struct Templates<S>(PhantomData<S>);

impl<S: Side> Format for Templates<S> {
    type Value = Vec<(HeaderName, Template)>;

    fn expected() -> String {
        "a table of header fields".to_owned()
    }

    fn example() -> String {
        "{ x-user = \"${principal}\" }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let DeValue::Table(table) = node.value else {
            let help = format!("for example `{} = {}`", node.name, Self::example());
            return reader.wrong(node, &Self::expected(), Some(help));
        };
        let scope = node.inner(&[], reader);
        let mut fields: Vec<(HeaderName, Template)> = Vec::with_capacity(table.len());
        for entry in table {
            let child = Node::child(entry, &scope, reader);
            let Some(name) = key_name(child, reader) else {
                continue;
            };
            refuse_double(
                child,
                fields.iter().any(|(known, _)| *known == name),
                reader,
            );
            if refuse::<S>(&name, child, reader) {
                continue;
            }
            if let Some(template) = value(child, reader) {
                fields.push((name, template));
            }
        }
        Some(fields)
    }
}

fn value(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Template> {
    let expected = "the value of a header field";
    match node.value {
        DeValue::String(_) => {}
        DeValue::Table(_) => {
            let help = "a dot separates tables: write the name in quotes".to_owned();
            return reader.wrong(node, expected, Some(help));
        }
        _ => return reader.wrong(node, expected, None),
    }
    let template = reader.template(node)?;
    let sane = template.parts.iter().all(|part| match part {
        TemplatePart::Literal(text) => text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')),
        _ => true,
    });
    if !sane {
        let problem = Problem::what("only visible ASCII characters can stand here")
            .help("no line breaks or control characters");
        return reader.refuse(node, expected, problem);
    }
    Some(template)
}

/// The name of a field that may be taken out.
struct Name<S>(PhantomData<S>);

impl<S: Side> Format for Name<S> {
    type Value = HeaderName;

    fn expected() -> String {
        "the name of a header field".to_owned()
    }

    fn example() -> String {
        "\"x-internal\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
        let name = reader.parse(node, &Self::expected(), |text| {
            HeaderName::try_from(text).map_err(|_| Problem::plain())
        })?;
        let at = Node {
            key: node.place,
            ..node
        };
        (!refuse::<S>(&name, at, reader)).then_some(name)
    }
}
