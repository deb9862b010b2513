//! `validation`: what a request must look like before it is forwarded.

mod schema;

use http::HeaderName;
use toml::de::DeValue;

pub use schema::BodySchema;

use super::{
    ValueMatch,
    condition::{HeaderConditions, QueryConditions},
    decode::{Flag, Format, Node, OneOrList, OptionOf, Problem, Reader, TableNode, Text, table},
    diagnostic::Finding,
    header::is_hop_by_hop,
};
use schema::SchemaFile;

table! {
    /// `validation`: what a request must look like before it is forwarded. It stands behind
    /// authentication and limits.
    #[derive(Clone, Debug)]
    pub struct Validation ["routes.NAME.validation", check check_validation] {
        /// `content_types`: the media types that a body may have, as `"application/json"` or
        /// `"image/*"`; another is 415.
        pub content_types: Vec<MediaRange> => OneOrList<MediaType> = Vec::new(); "any",
        /// `body_schema`: a file with the JSON Schema that bodies must fit; a fault is 400. Bodies
        /// must be JSON then, and POST, PUT and PATCH must have one.
        pub body_schema: Option<BodySchema> => OptionOf<SchemaFile> = None; "none",
        /// `headers`: fields that must be there: a list of names, or a table of conditions as in
        /// `match_headers`; else 400.
        pub headers: Vec<(HeaderName, ValueMatch)> => Required<OfHeaders> = Vec::new(); "none",
        /// `query`: parameters that must be there: a list of names, or a table of conditions as in
        /// `match_query`; else 400.
        pub query: Vec<(Box<str>, ValueMatch)> => Required<OfQuery> = Vec::new(); "none",
        /// `enforce`: `false` only logs and counts what would have been refused.
        pub enforce: bool => Flag = true,
    }
}

/// A media type, or all of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    /// The first part, in lower case.
    pub kind: Box<str>,
    /// The second part, in lower case; `None` is `*`.
    pub subtype: Option<Box<str>>,
}

impl MediaRange {
    fn is_json(&self) -> bool {
        let subtype = self.subtype.as_deref().unwrap_or_default();
        &*self.kind == "application" && (subtype == "json" || subtype.ends_with("+json"))
    }
}

fn check_validation(validation: &Validation, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let other = validation
        .content_types
        .iter()
        .any(|range| !range.is_json());
    if let (true, Some(_)) = (other, &validation.body_schema) {
        let place = table.value_place("content_types", reader);
        let schema = table.value_place("body_schema", reader);
        let message = "`body_schema` reads JSON, so other media types can't stand beside it";
        let finding = Finding::error(place, message).related(schema, "the schema");
        reader.report(
            finding.help("give the other types a route of their own, or leave `content_types` out"),
        );
    }
}

struct MediaType;

impl Format for MediaType {
    type Value = MediaRange;

    fn expected() -> String {
        "a media type such as \"application/json\"".to_owned()
    }

    fn example() -> String {
        "\"application/json\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<MediaRange> {
        reader.parse(node, &Self::expected(), media_range)
    }
}

fn media_range(text: &str) -> Result<MediaRange, Problem> {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "!#$&^_.+-".contains(c);
    let is_token = |text: &str| !text.is_empty() && text.chars().all(in_token);
    match text.to_ascii_lowercase().split_once('/') {
        _ if text.contains(';') => Err(Problem::plain().help("without parameters")),
        Some(("*", _)) => Err(Problem::plain().help("leave `content_types` out for any")),
        Some((kind, "*")) if is_token(kind) => Ok(MediaRange {
            kind: kind.into(),
            subtype: None,
        }),
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => Ok(MediaRange {
            kind: kind.into(),
            subtype: Some(subtype.into()),
        }),
        _ => Err(Problem::plain()),
    }
}

/// A list of names that must be there, or a table of conditions.
struct Required<K>(std::marker::PhantomData<K>);

/// What is required.
trait Kind {
    /// The name of one.
    type Name: PartialEq + ToString;

    /// Conditions as in a route's matching.
    type Conditions: Format<Value = Vec<(Self::Name, ValueMatch)>>;

    /// A name alone.
    fn name(text: &str) -> Option<Self::Name>;
}

struct OfHeaders;

struct OfQuery;

impl Kind for OfHeaders {
    type Name = HeaderName;
    type Conditions = HeaderConditions;

    fn name(text: &str) -> Option<HeaderName> {
        // Those of one hop are gone before anything is validated.
        let name = HeaderName::try_from(text).ok();
        name.filter(|name| !is_hop_by_hop(name))
    }
}

impl Kind for OfQuery {
    type Name = Box<str>;
    type Conditions = QueryConditions;

    fn name(text: &str) -> Option<Box<str>> {
        (!text.is_empty()).then(|| text.into())
    }
}

impl<K: Kind> Format for Required<K> {
    type Value = Vec<(K::Name, ValueMatch)>;

    fn expected() -> String {
        "a list of names, or a table of names and conditions".to_owned()
    }

    fn example() -> String {
        K::Conditions::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        match node.value {
            DeValue::Table(_) => K::Conditions::read(node, reader)
                .filter(|conditions| refuse_media_types(node, conditions, reader)),
            DeValue::Array(_) | DeValue::String(_) => OneOrList::<Present<K>>::read(node, reader),
            _ => reader.wrong(node, &Self::expected(), None),
        }
    }
}

fn refuse_media_types<N: ToString>(
    node: Node<'_>,
    conditions: &[(N, ValueMatch)],
    reader: &mut Reader<'_>,
) -> bool {
    let media = conditions
        .iter()
        .find(|(_, condition)| matches!(condition, ValueMatch::MediaType(_)));
    if let Some((name, _)) = media {
        let message = format!(
            "`{}`: `media_type` tells routes apart; it is no check",
            name.to_string()
        );
        let finding = Finding::error(node.place, message);
        reader.report(finding.help("for bodies write `content_types`"));
    }
    media.is_none()
}

/// A name alone: it must be there.
struct Present<K>(std::marker::PhantomData<K>);

impl<K: Kind> Format for Present<K> {
    type Value = (K::Name, ValueMatch);

    fn expected() -> String {
        "a name".to_owned()
    }

    fn example() -> String {
        Text::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let name = reader.parse(node, &Self::expected(), |text| {
            K::name(text).ok_or_else(Problem::plain)
        })?;
        Some((name, ValueMatch::Present(true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_have_two_parts_and_no_parameters() {
        assert!(media_range("Application/JSON").unwrap().is_json());
        assert!(media_range("application/problem+json").unwrap().is_json());
        assert!(!media_range("image/*").unwrap().is_json());
        for wrong in ["json", "a/b;c=d", "*/*", "", "a/", "a b/c"] {
            assert!(media_range(wrong).is_err(), "{wrong}");
        }
    }
}
