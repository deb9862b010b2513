//! `match_headers` and `match_query`.

use http::{HeaderName, header::HOST};
use regex::{Regex, RegexBuilder};
use toml::de::DeValue;

use super::{
    ValueMatch,
    decode::{Flag, Format, Node, OptionOf, Problem, Reader, Sub, TableNode, Text, table},
    diagnostic::Finding,
    header::{is_hop_by_hop, key_name, refuse_double},
};

/// `match_headers`.
pub(super) struct HeaderConditions;

/// `match_query`.
pub(super) struct QueryConditions;

impl Format for HeaderConditions {
    type Value = Vec<(HeaderName, ValueMatch)>;

    fn expected() -> String {
        "a table of header names and conditions".to_owned()
    }

    fn example() -> String {
        "{ x-canary = \"1\" }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let mut all: Vec<(HeaderName, ValueMatch)> = Vec::new();
        let mut complete = true;
        each_condition(
            node,
            &Self::example(),
            reader,
            |child, condition, reader| {
                let Some(name) = key_name(child, reader) else {
                    complete = false;
                    return;
                };
                refuse_names(child, &name, reader);
                refuse_double(child, all.iter().any(|(known, _)| *known == name), reader);
                match condition {
                    Some(condition) => all.push((name, condition)),
                    None => complete = false,
                }
            },
        )?;
        complete.then_some(all)
    }
}

impl Format for QueryConditions {
    type Value = Vec<(Box<str>, ValueMatch)>;

    fn expected() -> String {
        "a table of query parameters and conditions".to_owned()
    }

    fn example() -> String {
        "{ version = \"2\" }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let mut all = Vec::new();
        let mut complete = true;
        each_condition(
            node,
            &Self::example(),
            reader,
            |child, condition, reader| {
                refuse_media_type(child, condition.as_ref(), reader);
                match condition {
                    Some(condition) => all.push((child.name.into(), condition)),
                    None => complete = false,
                }
            },
        )?;
        complete.then_some(all)
    }
}

fn each_condition(
    node: Node<'_>,
    example: &str,
    reader: &mut Reader<'_>,
    mut take: impl FnMut(Node<'_>, Option<ValueMatch>, &mut Reader<'_>),
) -> Option<()> {
    let DeValue::Table(table) = node.value else {
        let help = format!("for example `{} = {example}`", node.name);
        return reader.wrong(node, "a table of conditions", Some(help));
    };
    let scope = node.inner(&[], reader);
    for entry in table {
        let child = Node::child(entry, &scope, reader);
        let condition = Condition::read(child, reader);
        take(child, condition, reader);
    }
    Some(())
}

fn refuse_names(node: Node<'_>, name: &HeaderName, reader: &mut Reader<'_>) {
    let finding = if *name == HOST {
        Finding::error(node.key, "the host is no header condition")
            .help("write `hosts = [\"api.example.com\"]` in the route")
    } else if is_hop_by_hop(name) && name != "upgrade" {
        let message = format!("`{name}` belongs to the connection: a route can't depend on it");
        Finding::error(node.key, message)
    } else {
        return;
    };
    reader.report(finding);
}

fn refuse_media_type(node: Node<'_>, condition: Option<&ValueMatch>, reader: &mut Reader<'_>) {
    if let Some(ValueMatch::MediaType(_)) = condition {
        let message = "`media_type` is for headers such as `accept`, not for a query";
        reader.report(Finding::error(node.place, message));
    }
}

/// A string, or a table with one of four kinds.
struct Condition;

impl Format for Condition {
    type Value = ValueMatch;

    fn expected() -> String {
        "a string, or one of `{ prefix }`, `{ regex }`, `{ present }`, `{ media_type }`".to_owned()
    }

    fn example() -> String {
        "\"1\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<ValueMatch> {
        match node.value {
            DeValue::String(_) => Some(ValueMatch::Exact(Text::read(node, reader)?.into())),
            DeValue::Table(_) => Sub::<ConditionKeys>::read(node, reader)?.only(),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                let value = reader.sources.quote(node.place);
                let help = format!("values are text: write `\"{value}\"`");
                reader.wrong(node, &Self::expected(), Some(help))
            }
            _ => reader.wrong(node, &Self::expected(), None),
        }
    }
}

table! {
    /// A condition in `match_headers` or `match_query` that is more than equality: exactly one of these.
    #[derive(Clone, Debug)]
    pub(super) struct ConditionKeys ["routes.NAME.match_headers.NAME", check check_condition] {
        /// `prefix`: the value begins so.
        prefix: Option<String> => OptionOf<Text> = None; "none",
        /// `regex`: the whole value matches this regular expression.
        regex: Option<Regex> => OptionOf<Pattern> = None; "none",
        /// `present`: whether it is there at all.
        present: Option<bool> => OptionOf<Flag> = None; "none",
        /// `media_type`: the type stands in the list by name with a weight above 0; `*/*` and no
        /// header at all fall to the less specific route.
        media_type: Option<Box<str>> => OptionOf<MediaType> = None; "none",
    }
}

impl ConditionKeys {
    fn only(self) -> Option<ValueMatch> {
        let prefix = self.prefix.map(|text| ValueMatch::Prefix(text.into()));
        let regex = self.regex.map(ValueMatch::Regex);
        let present = self.present.map(ValueMatch::Present);
        let media_type = self.media_type.map(ValueMatch::MediaType);
        prefix.or(regex).or(present).or(media_type)
    }
}

fn check_condition(_: &ConditionKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let kinds = ["prefix", "regex", "present", "media_type"];
    let set: Vec<_> = kinds.into_iter().filter(|kind| table.has(kind)).collect();
    let name = table.node.name;
    let finding = match set.as_slice() {
        [_] => return,
        [] if !table.is_empty() => return,
        [] => Finding::error(
            table.node.place,
            format!("`{name}`: the condition is empty"),
        )
        .help("write a string, or one of `prefix`, `regex`, `present`, `media_type`"),
        [first, second, ..] => {
            let message = format!("`{name}`: `{first}` and `{second}` can't stand together");
            Finding::error(table.value_place(second, reader), message)
        }
    };
    reader.report(finding);
}

struct Pattern;

impl Format for Pattern {
    type Value = Regex;

    fn expected() -> String {
        "a regular expression".to_owned()
    }

    fn example() -> String {
        "'v[0-9]+'".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Regex> {
        reader.parse(node, &Self::expected(), whole_match)
    }
}

/// Compiles an expression that matches a whole value.
fn whole_match(text: &str) -> Result<Regex, Problem> {
    // Alone first: `a)|(b` must not become valid by what is put around it.
    let compile = |text: &str| RegexBuilder::new(text).size_limit(LARGEST_REGEX).build();
    compile(text)
        .and_then(|_| compile(&format!("^(?:{text})$")))
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Problem::what("the regular expression is too large"),
            error => Problem::what("this is no regular expression").help(last_line(&error)),
        })
}

/// The reason; what stands before it repeats the expression.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().to_owned()
}

struct MediaType;

impl Format for MediaType {
    type Value = Box<str>;

    fn expected() -> String {
        "a media type such as \"application/vnd.example.v2+json\"".to_owned()
    }

    fn example() -> String {
        "\"application/vnd.example.v2+json\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Box<str>> {
        reader.parse(node, &Self::expected(), |text| {
            let in_token = |c: char| c.is_ascii_alphanumeric() || "!#$&^_.+-".contains(c);
            let is_token = |text: &str| !text.is_empty() && text.chars().all(in_token);
            match text.split_once('/') {
                _ if text.contains(';') => Err(Problem::plain().help("without parameters")),
                _ if text.contains('*') => Err(Problem::plain()
                    .help("name the type: a wildcard falls to the less specific route")),
                Some((first, second)) if is_token(first) && is_token(second) => {
                    Ok(text.to_ascii_lowercase().into())
                }
                _ => Err(Problem::plain()),
            }
        })
    }
}

/// In memory, when compiled.
const LARGEST_REGEX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_takes_the_whole_value() {
        let regex = whole_match("a|b").unwrap();
        assert!(regex.is_match("b"));
        assert!(!regex.is_match("ab"));
        assert!(whole_match("a)|(b").is_err());
        assert!(whole_match("(a{1000}){1000}").is_err());
    }
}
