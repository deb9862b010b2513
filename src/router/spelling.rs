//! The spelling of a path that literals are compared in.
//!
//! The normal form that is forwarded keeps `%3A` and `:` apart, as RFC 3986 section 6.2.2.2 has it.
//! Servers decode both alike, so for matching they are one: a literal of a guarded route can't be
//! walked around by an escape.

use std::borrow::Cow;

/// A path in the spelling that the tree compares, beside its lower-case form.
///
/// Both have the same length: an offset into one is an offset into the other.
#[derive(Debug)]
pub(super) struct Spelled<'a> {
    exact: Cow<'a, str>,
    /// Only where it differs and somebody asks for it.
    folded: Option<String>,
}

impl<'a> Spelled<'a> {
    /// `fold`: whether any route ignores case.
    pub(super) fn new(path: &'a str, fold: bool) -> Self {
        let exact = canonical(path);
        let differs = fold && exact.bytes().any(|byte| byte.is_ascii_uppercase());
        Self {
            folded: differs.then(|| exact.to_ascii_lowercase()),
            exact,
        }
    }

    pub(super) fn exact(&self) -> &str {
        &self.exact
    }

    pub(super) fn folded(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.exact)
    }
}

/// Decodes the escapes of all characters that may stand in a segment, and upper-cases the digits of
/// the other escapes.
fn canonical(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut pieces = text.split('%');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let escaped = escape(piece);
        match escaped {
            Some((byte, _, behind)) if is_segment_character(byte) => {
                out.push(char::from(byte));
                out.push_str(behind);
            }
            Some((_, digits, behind)) => {
                out.push('%');
                out.push_str(&digits.to_ascii_uppercase());
                out.push_str(behind);
            }
            None => {
                out.push('%');
                out.push_str(piece);
            }
        }
    }
    Cow::Owned(out)
}

/// The byte, its two digits and what follows, when the text behind a `%` makes it an escape.
fn escape(behind: &str) -> Option<(u8, &str, &str)> {
    let digits = behind.get(..2)?;
    // `from_str_radix` takes a plus sign.
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    Some((byte, digits, &behind[2..]))
}

/// `pchar` without escapes, RFC 3986 section 3.3.
fn is_segment_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_segment_characters_are_the_characters() {
        assert_eq!(canonical("/items%3Abatch%2b%3b"), "/items:batch+;");
    }

    #[test]
    fn escapes_that_carry_meaning_stay() {
        assert_eq!(canonical("/a%2Fb%5c%25%20%c3%A9"), "/a%2Fb%5C%25%20%C3%A9");
        assert_eq!(canonical("/%253A"), "/%253A");
    }

    #[test]
    fn a_path_without_escapes_is_not_copied() {
        assert!(matches!(canonical("/a/b"), Cow::Borrowed("/a/b")));
    }

    #[test]
    fn text_that_is_no_escape_stays() {
        assert_eq!(canonical("/%+a/%é/%4"), "/%+a/%é/%4");
    }
}
