//! Path patterns in their normal form.
//!
//! The router compares bytes, so a pattern and a request's path must be written alike (RFC 3986
//! 6.2.2): unreserved characters plain, everything that a path can't hold percent-encoded, hex
//! digits in upper case. What would be normalised away in a request (`.`, `..`, `//`) can never
//! match and is refused. `%3A` and `:` are one to whoever matches, so a pattern has one of them
//! only: routes that differ in nothing else can't be told apart.

use std::sync::Arc;

use super::{
    PathPattern, PathSegment,
    decode::{Format, Node, Problem, Reader},
};

/// A pattern of `path`.
pub(super) struct Path;

impl Format for Path {
    type Value = PathPattern;

    fn expected() -> String {
        "a path such as \"/login\", \"/items/{id}\" or \"/admin/**\"".to_owned()
    }

    fn example() -> String {
        "\"/api/**\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<PathPattern> {
        reader.parse(node, &Self::expected(), pattern)
    }
}

/// A plain path, to be put before another or taken off: no slash at its end.
pub(super) struct Prefix;

impl Format for Prefix {
    type Value = Box<str>;

    fn expected() -> String {
        "the beginning of a path such as \"/api/v1\"".to_owned()
    }

    fn example() -> String {
        "\"/api/v1\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Box<str>> {
        reader.parse(node, &Self::expected(), prefix)
    }
}

/// Reads a pattern.
pub(super) fn pattern(text: &str) -> Result<PathPattern, Problem> {
    let mut rest = None;
    let mut segments = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    let mut parts = split(text)?.peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match piece(part, last)? {
            Piece::Rest(name) => rest = Some(name.map(Arc::from)),
            Piece::Capture(name) => segments.push(PathSegment::Capture(name.into())),
            Piece::Literal(text) => {
                let text = normal(text, Escapes::Resolved)?;
                segments.push(PathSegment::Literal(text.into()));
            }
        }
        if let Some(name) = captured_name(part) {
            if names.contains(&name) {
                return Err(Problem::what("the same name in braces stands here twice"));
            }
            names.push(name);
        }
    }
    Ok(PathPattern {
        text: text.into(),
        segments,
        rest,
    })
}

fn prefix(text: &str) -> Result<Box<str>, Problem> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() {
        return Err(Problem::what("`/` alone changes nothing").help("leave it out"));
    }
    let mut prefix = String::with_capacity(text.len());
    for part in split(text)? {
        let Piece::Literal(part) = piece(part, false)? else {
            return Err(Problem::what("a pattern can't stand here, only text"));
        };
        prefix.push('/');
        prefix.push_str(&normal(part, Escapes::Kept)?);
    }
    Ok(prefix.into())
}

/// The segments of a path; `/` has one, which is empty.
fn split(text: &str) -> Result<std::str::Split<'_, char>, Problem> {
    let Some(path) = text.strip_prefix('/') else {
        return Err(Problem::plain().help(match text.starts_with(['~', '^']) {
            true => NO_REGEX.to_owned(),
            false => format!("begin with a slash: `\"/{text}\"`"),
        }));
    };
    if text.contains("//") {
        return Err(Problem::what(
            "`//` never arrives: requests are normalised before they are matched",
        ));
    }
    if text.contains(['?', '#']) {
        return Err(Problem::what("a query is no part of the path").help("use `match_query`"));
    }
    if text.contains('\\') {
        return Err(Problem::what("a backslash never arrives in a path").help("write `/`"));
    }
    Ok(path.split('/'))
}

enum Piece<'t> {
    /// As written.
    Literal(&'t str),
    Capture(&'t str),
    Rest(Option<&'t str>),
}

fn captured_name(part: &str) -> Option<&str> {
    let name = part.strip_prefix('{')?.strip_suffix('}')?;
    Some(name.strip_prefix('*').unwrap_or(name))
}

fn piece(part: &str, last: bool) -> Result<Piece<'_>, Problem> {
    if let Some(name) = captured_name(part) {
        return capture(part, name, last);
    }
    match part {
        "**" if last => Ok(Piece::Rest(None)),
        "**" => Err(Problem::what("`**` stands at the end only").help("one segment in the middle is `{name}`")),
        "*" if last => Err(Problem::plain().help("write `**` for everything below, `{name}` for one segment")),
        _ if part.contains('*') => {
            Err(Problem::plain().help("`*` can't be part of a segment: write `{name}` for a whole one, `%2A` for the character"))
        }
        _ if part.contains(['{', '}']) => {
            Err(Problem::plain().help("braces take a whole segment: `/items/{id}`; `%7B` and `%7D` are the characters"))
        }
        // No path has brackets as they are, so nobody loses a path by this.
        _ if part.contains(['[', ']']) => Err(Problem::plain().help(NO_REGEX)),
        _ if part.starts_with(':') => {
            let help = format!("write `{{{}}}` for one segment, `%3A` for the character", &part[1..]);
            Err(Problem::plain().help(help))
        }
        _ => Ok(Piece::Literal(part)),
    }
}

fn capture<'t>(part: &'t str, name: &'t str, last: bool) -> Result<Piece<'t>, Problem> {
    let mut letters = name.chars();
    let first = letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Problem::what(
            "a name in braces has letters, digits and `_`",
        ));
    }
    if !part.starts_with("{*") {
        return Ok(Piece::Capture(name));
    }
    match last {
        true => Ok(Piece::Rest(Some(name))),
        false => Err(Problem::what("`{*name}` stands at the end only")),
    }
}

/// What becomes of an escape whose character may stand in a segment as it is, as `%3A` for `:`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// It stays: RFC 3986 6.2.2.2 keeps the two apart in what is forwarded.
    Kept,
    /// It becomes the character: what is matched is compared in this spelling.
    Resolved,
}

/// A segment in its normal form.
fn normal(segment: &str, escapes: Escapes) -> Result<String, Problem> {
    let mut normal = String::with_capacity(segment.len());
    let bytes = segment.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        at += 1;
        let value = match byte {
            b'%' => {
                at += 2;
                decoded(bytes.get(at - 2..at))?
            }
            byte => byte,
        };
        if value.is_ascii_control() {
            return Err(Problem::what(
                "control characters never arrive: they are refused",
            ));
        }
        let written = byte != b'%' || escapes == Escapes::Resolved;
        let plain = is_unreserved(value) || (written && is_path_character(value));
        match plain {
            true => normal.push(char::from(value)),
            false => push_encoded(&mut normal, value),
        }
    }
    match normal.as_str() {
        "." | ".." => Err(Problem::what(
            "`.` and `..` never arrive: requests are normalised before they are matched",
        )),
        _ => Ok(normal),
    }
}

fn decoded(digits: Option<&[u8]>) -> Result<u8, Problem> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = match digits {
        Some(&[high, low]) => digit(high).zip(digit(low)),
        _ => None,
    };
    let Some((high, low)) = value else {
        return Err(Problem::what("`%` is followed by two hex digits")
            .help("the character itself is `%25`"));
    };
    let value = u8::try_from(high << 4 | low).unwrap_or_default();
    Ok(value)
}

/// RFC 3986 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What else may stand in a segment as it is (RFC 3986 3.3, `pchar`).
fn is_path_character(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
    )
}

fn push_encoded(text: &mut String, byte: u8) {
    text.push('%');
    for digit in [byte >> 4, byte & 15] {
        text.push(char::from(HEX[usize::from(digit)]));
    }
}

const NO_REGEX: &str =
    "a path is no regular expression: `{name}` takes one segment, `/**` all that follows";
const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(text: &str) -> String {
        match pattern(text) {
            Ok(pattern) => format!("{:?} {:?}", pattern.segments, pattern.rest),
            Err(problem) => problem.what.or(problem.help).unwrap_or_default(),
        }
    }

    fn literal(text: &str) -> String {
        format!("[Literal(\"{text}\")] None")
    }

    #[test]
    fn patterns_are_segments_and_perhaps_a_rest() {
        assert_eq!(shape("/"), literal(""));
        assert_eq!(shape("/login"), literal("login"));
        assert_eq!(shape("/items/"), "[Literal(\"items\"), Literal(\"\")] None");
        assert_eq!(
            shape("/items/{id}"),
            "[Literal(\"items\"), Capture(\"id\")] None"
        );
        assert_eq!(shape("/admin/**"), "[Literal(\"admin\")] Some(None)");
        assert_eq!(shape("/**"), "[] Some(None)");
        assert_eq!(
            shape("/files/{*rest}"),
            "[Literal(\"files\")] Some(Some(\"rest\"))"
        );
    }

    #[test]
    fn patterns_are_brought_to_the_form_that_requests_have() {
        assert_eq!(shape("/caf\u{e9}"), literal("caf%C3%A9"));
        assert_eq!(shape("/a%2fb"), literal("a%2Fb"));
        assert_eq!(shape("/%7euser"), literal("~user"));
        assert_eq!(shape("/a b"), literal("a%20b"));
        assert_eq!(shape("/a;b=1@c"), literal("a;b=1@c"));
    }

    #[test]
    fn a_pattern_has_one_spelling_and_a_prefix_keeps_its_own() {
        assert_eq!(shape("/items%3abatch"), shape("/items:batch"));
        assert_eq!(shape("/a%2A%2a"), literal("a**"));
        assert_eq!(shape("/a%253A"), literal("a%253A"));
        assert_eq!(prefix("/items%3abatch").as_deref(), Ok("/items%3Abatch"));
        assert_eq!(prefix("/items:batch").as_deref(), Ok("/items:batch"));
    }

    #[test]
    fn what_never_arrives_is_refused() {
        for text in ["/a/../b", "/a/./b", "/%2e%2E/b"] {
            assert!(
                shape(text).starts_with("`.` and `..` never arrive"),
                "{text}"
            );
        }
        assert!(shape("/a//b").starts_with("`//` never arrives"));
        for text in ["/a%00", "/a%0ab", "/a\tb", "/%7f"] {
            assert!(
                shape(text).starts_with("control characters never arrive"),
                "{text:?}"
            );
        }
        assert!(shape("/a\\b").starts_with("a backslash never arrives"));
        assert_eq!(shape("/a?b=1"), "a query is no part of the path");
        assert_eq!(shape("/a%zz"), "`%` is followed by two hex digits");
    }

    #[test]
    fn other_routers_patterns_get_a_suggestion() {
        assert_eq!(shape("login"), "begin with a slash: `\"/login\"`");
        for regex in ["~ ^/api/.*$", "^/api", "/users/[0-9]+"] {
            assert_eq!(shape(regex), NO_REGEX, "{regex}");
        }
        assert!(shape("/a/*").starts_with("write `**` for everything below"));
        assert!(shape("/:id").starts_with("write `{id}` for one segment"));
        assert!(shape("/a/**/b").starts_with("`**` stands at the end only"));
        assert!(shape("/v{n}").starts_with("braces take a whole segment"));
        assert!(shape("/{*rest}/b").starts_with("`{*name}` stands at the end only"));
        assert!(shape("/{a}/{a}").starts_with("the same name"));
    }

    #[test]
    fn a_prefix_ends_without_a_slash() {
        assert_eq!(prefix("/api/v1/").as_deref(), Ok("/api/v1"));
        assert!(prefix("/").is_err());
        assert!(prefix("/a/{b}").is_err());
        assert!(prefix("/a/**").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_pattern_panic(text in "(/|[^/]|%2|\\{|\\*)*") {
            let _ = (pattern(&text), prefix(&text));
        }

        #[test]
        fn the_normal_form_stays_as_it_is(text in "/[a-zA-Z0-9é ;%_.~-]{0,12}") {
            if let Ok(once) = prefix(&text) {
                prop_assert_eq!(prefix(&once), Ok(once.clone()));
            }
        }
    }
}
