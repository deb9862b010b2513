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
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Writes a name that needs no escaping, and returns where its value belongs: plain JSON.
    ///
    /// Inlined, as its callers are, so that a literal name is a few moves and not a call.
    #[inline(always)]
    pub fn name(&mut self, name: &str) -> &mut Vec<u8> {
        let opening: &[u8] = if self.first { b"\"" } else { b",\"" };
        self.first = false;
        self.out.extend_from_slice(opening);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A text that needs no escaping: one of our own words.
    #[inline]
    pub fn word(&mut self, name: &str, value: &str) {
        let out = self.name(name);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }

    /// Any bytes as a text, escaped, and cut at so many bytes.
    #[inline]
    pub fn text(&mut self, name: &str, value: &[u8], longest: usize) {
        let out = self.name(name);
        out.push(b'"');
        escape(out, cut(value, longest));
        if value.len() > longest {
            out.extend_from_slice(ELLIPSIS.as_bytes());
        }
        out.push(b'"');
    }

    /// A number.
    #[inline]
    pub fn number(&mut self, name: &str, value: u64) {
        if value < 10 {
            return self.name(name).push(b'0' + value as u8);
        }
        let mut digits = itoa::Buffer::new();
        let text = digits.format(value);
        self.name(name).extend_from_slice(text.as_bytes());
    }

    /// A duration in milliseconds, to the microsecond: `12.345`.
    #[inline]
    pub fn millis(&mut self, name: &str, value: std::time::Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.number(name, micros / 1_000);
        let rest = (micros % 1_000) as u16;
        let digit = |value: u16| b'0' + (value % 10) as u8;
        let fraction = [b'.', digit(rest / 100), digit(rest / 10), digit(rest)];
        self.out.extend_from_slice(&fraction);
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends bytes as the inside of a JSON text.
///
/// What is not UTF-8 becomes U+FFFD. Control characters (C0, DEL, C1: U+009B steers terminals too)
/// and the two line separators of Unicode are escaped.
pub fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    // No early exit: so the compiler checks sixteen bytes at a time.
    let plain = bytes
        .iter()
        .fold(true, |plain, byte| plain & is_plain(*byte));
    if plain {
        out.extend_from_slice(bytes);
    } else {
        escape_slowly(out, bytes);
    }
}

fn escape_slowly(out: &mut Vec<u8>, bytes: &[u8]) {
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
