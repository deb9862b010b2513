//! Writing one flat JSON object into bytes: what both logs are made of.
//!
//! Values come from the network: whatever their bytes, a line stays one line of valid JSON, and a
//! terminal that shows it is not steered by it.

/// Where a value ends when it is too long to log.
const ELLIPSIS: &str = "\u{2026}";

/// An object being written; [`Object::end`] closes it.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// Where the object begins: each member writes a comma before itself, and the first one's
    /// becomes the brace.
    start: usize,
}

/// A literal name with its comma, quotes and colon: one copy of a known length. Made by [`key!`].
#[derive(Clone, Copy, Debug)]
pub struct Key(#[doc(hidden)] pub &'static str);

/// The [`Key`] of a literal name that needs no escaping.
macro_rules! key {
    ($name:literal) => {
        $crate::telemetry::json::Key(concat!(",\"", $name, "\":"))
    };
}

pub(crate) use key;

/// What a member can be called.
pub trait Name {
    /// Writes a comma, the name in quotes, and a colon.
    fn write(self, out: &mut Vec<u8>);
}

impl Name for Key {
    /// Inlined, as its callers are, so that it is a few moves and not a call.
    #[inline(always)]
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

/// A name that needs no escaping.
impl Name for &str {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(self.as_bytes());
        out.extend_from_slice(b"\":");
    }
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    /// Writes a name, and returns where its value belongs: plain JSON.
    #[inline(always)]
    pub fn name(&mut self, name: impl Name) -> &mut Vec<u8> {
        name.write(self.out);
        self.out
    }

    /// A text that needs no escaping: one of our own words.
    #[inline(always)]
    pub fn word(&mut self, name: impl Name, value: &str) {
        quote(self.name(name), value.as_bytes());
    }

    /// Any bytes as a text, escaped, and cut at so many bytes.
    #[inline(always)]
    pub fn text(&mut self, name: impl Name, value: &[u8], longest: usize) {
        quote_foreign(self.name(name), value, longest);
    }

    /// A number.
    #[inline(always)]
    pub fn number(&mut self, name: impl Name, value: u64) {
        number(self.name(name), value);
    }

    /// A duration in milliseconds, to the microsecond: `12.345`.
    #[inline(always)]
    pub fn millis(&mut self, name: impl Name, value: std::time::Duration) {
        millis(self.name(name), value);
    }

    /// Closes the object.
    pub fn end(self) {
        match self.out.get_mut(self.start) {
            Some(comma) => *comma = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
    }
}

#[inline(never)]
fn quote(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(value);
    out.push(b'"');
}

#[inline(never)]
fn quote_foreign(out: &mut Vec<u8>, value: &[u8], longest: usize) {
    // No early exit: so the compiler checks sixteen bytes at a time.
    let plain = |value: &[u8]| value.iter().fold(true, |all, byte| all & is_plain(*byte));
    if value.len() <= longest && plain(value) {
        return quote(out, value);
    }
    out.push(b'"');
    escape(out, cut(value, longest));
    if value.len() > longest {
        out.extend_from_slice(ELLIPSIS.as_bytes());
    }
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, value: u64) {
    if value < 10 {
        return out.push(b'0' + value as u8);
    }
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(value).as_bytes());
}

fn millis(out: &mut Vec<u8>, value: std::time::Duration) {
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1_000);
    let rest = (micros % 1_000) as u16;
    let digit = |value: u16| b'0' + (value % 10) as u8;
    let fraction = [b'.', digit(rest / 100), digit(rest / 10), digit(rest)];
    out.extend_from_slice(&fraction);
}

/// Appends bytes as the inside of a JSON text.
///
/// What is not UTF-8 becomes U+FFFD. Control characters (C0, DEL, C1: U+009B steers terminals too)
/// and the two line separators of Unicode are escaped.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            escape_character(out, character);
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
            escape_as_number(out, character as u32);
        }
        _ => {
            let mut utf8 = [0; 4];
            out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
        }
    }
}

fn escape_as_number(out: &mut Vec<u8>, number: u32) {
    let digit = |shift: u32| b"0123456789abcdef"[(number >> shift & 0xf) as usize];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// At most so many bytes, not ending inside a character.
fn cut(bytes: &[u8], longest: usize) -> &[u8] {
    let Some(head) = bytes.get(..longest) else {
        return bytes;
    };
    let continues = |byte: &u8| byte & 0xc0 == 0x80;
    if bytes.get(longest).is_none_or(|next| !continues(next)) {
        return head;
    }
    let tail = head
        .iter()
        .rev()
        .take(3)
        .take_while(|b| continues(b))
        .count();
    // The character's first byte goes too.
    &head[..head.len().saturating_sub(tail + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn object(write: impl FnOnce(&mut Object<'_>)) -> serde_json::Value {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        write(&mut object);
        object.end();
        assert!(out.iter().all(|byte| *byte >= b' '));
        serde_json::from_slice(&out).unwrap()
    }

    fn logged(value: &[u8], longest: usize) -> String {
        let object = object(|object| object.text("value", value, longest));
        object["value"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_steers_a_terminal_or_a_parser_is_escaped() {
        let mut out = Vec::new();
        escape(
            &mut out,
            "a\"\\\n\u{1b}[31m\u{7f}\u{9b}\u{2028}é".as_bytes(),
        );
        let expected = r#"a\"\\\n\u001b[31m\u007f\u009b\u2028é"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(logged(b"a\xffb\xc3", 100), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(logged(b"abcdef", 6), "abcdef");
        assert_eq!(logged(b"abcdef", 3), "abc\u{2026}");
        assert_eq!(logged("aé€x".as_bytes(), 5), "aé\u{2026}");
        assert_eq!(logged("aé€x".as_bytes(), 2), "a\u{2026}");
        assert_eq!(logged("aé€x".as_bytes(), 6), "aé€\u{2026}");
    }

    #[test]
    fn durations_are_milliseconds_to_the_microsecond() {
        let value = object(|object| {
            object.millis("none", Duration::ZERO);
            object.millis("some", Duration::from_nanos(12_005_999));
            object.millis("long", Duration::from_secs(3_600));
        });
        assert_eq!(value["none"], 0.0);
        assert_eq!(value["some"], 12.005);
        assert_eq!(value["long"], 3_600_000.0);
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_as_their_text(value: Vec<u8>) {
            prop_assert_eq!(logged(&value, value.len()), String::from_utf8_lossy(&value));
        }

        #[test]
        fn any_cut_leaves_a_beginning(value: String, longest in 0_usize..40) {
            let logged = logged(value.as_bytes(), longest);
            match logged.strip_suffix(ELLIPSIS) {
                Some(head) if value.len() > longest => prop_assert!(value.starts_with(head)),
                _ => prop_assert_eq!(logged, value),
            }
        }
    }
}
