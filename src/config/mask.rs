//! Where a configuration's text holds secrets.
//!
//! The answer must not depend on the text being well formed: a syntax error on a secret's line is
//! shown too. So this looks at characters only, and rather masks too much: the value of every key
//! whose name ends like a credential's, or nearly so (`tokn`), and the user part of every URL. A value that is nothing but
//! `${env:X}` or `${file:F}` is no secret and helps to be seen.

use std::ops::Range;

use super::source::printable;

/// What is shown instead of a secret.
pub(super) const MASK: &str = "***";

/// The secrets of a text, in order.
pub(super) fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(equals) = memchr::memchr(b'=', &text.as_bytes()[at..]) {
        let equals = at + equals;
        at = equals + 1;
        let near = equals.saturating_sub(FARTHEST_KEY);
        if !names_a_secret(&text.as_bytes()[near..equals]) {
            continue;
        }
        let value = value_range(text, equals + 1);
        at = value.end.max(at);
        let shown = &text[value.clone()];
        if !is_reference(shown) && !is_boolean(shown) && !value.is_empty() {
            found.push(value);
        }
    }
    found.extend(user_parts(text));
    found.extend(api_keys(text));
    found.sort_by_key(|range| range.start);
    found
}

/// Whether what stands before `=` ends with the name of a credential.
fn names_a_secret(before: &[u8]) -> bool {
    let mut key = before.trim_ascii_end();
    while let [rest @ .., b'"' | b'\''] = key {
        key = rest;
    }
    let harmless = HARMLESS.iter().any(|word| ends_with(key, word));
    !harmless && (WORDS.iter().any(|word| ends_with(key, word)) || is_misspelt(key))
}

/// Whether a key, or the last part of it, is a credential's with a slip of the pen.
fn is_misspelt(key: &[u8]) -> bool {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    let start = key.iter().rposition(|byte| !of_name(byte));
    let name = String::from_utf8_lossy(&key[start.map_or(0, |at| at + 1)..]).to_lowercase();
    let last = name.rsplit(['_', '-']).next().unwrap_or_default();
    [&*name, last].into_iter().any(|name| {
        let near = |word: &&str| {
            let most = word.len() / LETTERS_PER_SLIP;
            name.len() >= SHORTEST_SLIP
                && name.len().abs_diff(word.len()) <= most
                && strsim::damerau_levenshtein(name, word) <= most
        };
        WORDS.iter().any(near)
    })
}

fn ends_with(key: &[u8], word: &str) -> bool {
    let tail = key.len().checked_sub(word.len());
    tail.is_some_and(|start| key[start..].eq_ignore_ascii_case(word.as_bytes()))
}

/// The value that begins after `from`, quotes included.
fn value_range(text: &str, from: usize) -> Range<usize> {
    let rest = &text[from..];
    let start = from + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
    let value = &text[start..];
    for quote in ["\"\"\"", "'''"] {
        if let Some(inner) = value.strip_prefix(quote) {
            let end = inner.find(quote).map_or(value.len(), |at| at + 6);
            return start..start + end.min(value.len());
        }
    }
    let end = match value.as_bytes().first() {
        Some(quote @ (b'"' | b'\'')) => closing_quote(value, *quote),
        Some(b'[') => closing_bracket(value, b']'),
        Some(b'{') => closing_bracket(value, b'}'),
        _ => value.find('\n').unwrap_or(value.len()),
    };
    start..start + end
}

/// The end of a string that begins with its quote; the end of the line when it is not closed.
fn closing_quote(value: &str, quote: u8) -> usize {
    let mut bytes = value.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\n' => return at,
            b'\\' if quote == b'"' => {
                bytes.next();
            }
            byte if byte == quote => return at + 1,
            _ => {}
        }
    }
    value.len()
}

/// The end of a list, or of a table on one line, that begins with its bracket. Strings in it may hold
/// brackets too.
fn closing_bracket(value: &str, closing: u8) -> usize {
    let bytes = value.as_bytes();
    let (mut at, mut open) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match *byte {
            quote @ (b'"' | b'\'') => {
                at += closing_quote(&value[at..], quote);
                continue;
            }
            b'\n' if closing == b'}' => return at,
            byte if byte == bytes[0] => open += 1,
            byte if byte == closing => open -= 1,
            _ => {}
        }
        at += 1;
        if open == 0 {
            return at;
        }
    }
    value.len()
}

/// Whether a value is `"${env:X}"` or `"${file:F}"` and nothing more: no default either.
fn is_reference(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']);
    let inner = value
        .strip_prefix("${env:")
        .or_else(|| value.strip_prefix("${file:"))
        .and_then(|value| value.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains(['}', '$']) && !inner.contains(":-"))
}

/// Whether a value is `true` or `false`, as in `credentials = true`.
fn is_boolean(value: &str) -> bool {
    let word = value.split([' ', '\t', '\r', '#', ',', '}']).next();
    matches!(word, Some("true" | "false"))
}

/// `user:password` of `scheme://user:password@host`.
fn user_parts(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(at, scheme)| {
        let start = at + scheme.len();
        // A password that should have been encoded is one all the same.
        let redis = ["redis", "rediss"]
            .iter()
            .any(|scheme| text[..at].ends_with(scheme));
        let end = |c: char| {
            c.is_whitespace() || matches!(c, '"' | '\'') || !redis && matches!(c, '/' | '?' | '#')
        };
        let authority = text[start..].split(end).next().unwrap_or_default();
        let user = authority.rfind('@').filter(|at| *at > 0)?;
        Some(start..start + user)
    })
}

/// Our own API keys, wherever somebody has put one.
fn api_keys(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("tgk_").filter_map(|(at, prefix)| {
        let start = at + prefix.len();
        let rest = &text[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
        let length = end.unwrap_or(rest.len());
        (length > 0).then_some(start..start + length)
    })
}

/// A sentence as it may be shown: without the user parts of URLs, without control characters.
pub(super) fn sentence(text: &str) -> String {
    let mut masked = printable(text);
    let parts: Vec<_> = user_parts(&masked).collect();
    for part in parts.into_iter().rev() {
        masked.replace_range(part, MASK);
    }
    masked
}

const WORDS: [&str; 14] = [
    "token",
    "secret",
    "password",
    "passwd",
    "api_key",
    "api-key",
    "apikey",
    "private_key",
    "authorization",
    "cookie",
    "credentials",
    "passphrase",
    "pwd",
    "bearer",
];
/// Keys that end like a credential's and hold none.
const HARMLESS: [&str; 3] = ["forward_credentials", "api_keys", "set_cookie"];
/// As many letters of a word allow for one slip.
const LETTERS_PER_SLIP: usize = 4;
/// Shorter names are near to too much.
const SHORTEST_SLIP: usize = 4;
/// How far before `=` its key is looked for: a look to the line's start would square the work on a
/// long line.
const FARTHEST_KEY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of the configuration that hold a secret.
    const SECRETS: [&str; 3] = ["token", "secret", "credentials"];

    fn masked(text: &str) -> Vec<&str> {
        secrets(text)
            .into_iter()
            .map(|range| &text[range])
            .collect()
    }

    #[test]
    fn values_of_credential_keys_are_secret() {
        assert_eq!(masked("token = \"abc\" # why"), ["\"abc\""]);
        assert_eq!(masked("a = { token = 'x', b = 1 }"), ["'x'"]);
        assert_eq!(masked("\"X-Api-Key\" = \"a\\\"b\"\n"), ["\"a\\\"b\""]);
        assert_eq!(masked("admin.token=abc\nlisten=1"), ["abc"]);
        assert_eq!(masked("credentials = true # yes\ntoken = false"), [""; 0]);
        assert_eq!(masked("token = trueish"), ["trueish"]);
        assert_eq!(masked("level = \"info\"\npath = \"/token\""), [""; 0]);
    }

    #[test]
    fn the_password_of_a_redis_is_secret_whatever_it_holds() {
        assert_eq!(masked("url = \"redis://:pa/s#s@host:1\""), [":pa/s#s"]);
        assert_eq!(masked("url = [\"rediss://u:p@a\", 'redis://b']"), ["u:p"]);
    }

    #[test]
    fn values_of_misspelt_credential_keys_are_secret() {
        for key in [
            "tokn",
            "toekn",
            "tokens",
            "Tokken",
            "admin.tokem",
            "\"tokn\"",
            "pasword",
            "redis_passwrod",
            "secrt",
            "api_kye",
            "x-apikeys",
            "authorisation",
            "cookies",
            "credential",
            "pwd",
        ] {
            assert_eq!(masked(&format!("{key} = \"abc\"")), ["\"abc\""], "{key}");
        }
    }

    #[test]
    fn no_key_of_the_configuration_is_taken_for_a_misspelt_one() {
        for table in &crate::config::reference::TABLES {
            for key in table.keys {
                assert!(
                    !names_a_secret(key.as_bytes()) || SECRETS.contains(key),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn an_unclosed_or_long_secret_is_hidden_to_its_end() {
        assert_eq!(masked("token = \"abc\nlevel = 1"), ["\"abc"]);
        assert_eq!(
            masked("token = \"\"\"\nabc\n\"\"\"\nx=1"),
            ["\"\"\"\nabc\n\"\"\""]
        );
        assert_eq!(masked("token = '''\nabc"), ["'''\nabc"]);
        assert_eq!(
            masked("token = [\"a\",\n\"b\"]\nx = 1"),
            ["[\"a\",\n\"b\"]"]
        );
        assert_eq!(
            masked("authorization = { prefix = \"Bearer abc\" }"),
            ["{ prefix = \"Bearer abc\" }"]
        );
    }

    #[test]
    fn a_bracket_in_a_secret_does_not_end_what_holds_it() {
        for value in [
            r#"["a]b", 'c]']"#,
            r#"[["a"], "b"]"#,
            r#"{ prefix = "Bearer a}b" }"#,
            r#"{ a = { b = "x" }, c = "y" }"#,
        ] {
            assert_eq!(masked(&format!("token = {value} # why\nx = 1")), [value]);
        }
    }

    #[test]
    fn a_mere_reference_is_shown_and_its_default_is_not() {
        assert_eq!(masked("token = \"${env:T}\""), [""; 0]);
        assert_eq!(masked("token = \"${env:T:-abc}\"").len(), 1);
        assert_eq!(masked("token = \"${env:T}abc\"").len(), 1);
    }

    #[test]
    fn an_api_key_is_secret_wherever_it_stands() {
        assert_eq!(masked("hash = \"tgk_abc1\"\nnote = 'tgk_x'"), ["abc1", "x"]);
    }

    #[test]
    fn the_user_part_of_a_url_is_secret() {
        assert_eq!(masked("url = \"http://me:pw@host/\""), ["me:pw"]);
        assert_eq!(masked("url = \"http://host/a@b\""), [""; 0]);
        assert_eq!(
            sentence("found http://a:b@c and http://d:e@f"),
            "found http://***@c and http://***@f"
        );
    }
}
