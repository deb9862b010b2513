//! A head's fields, which share the head's bytes.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_LENGTH};
use httparse::Header;
use smallvec::SmallVec;

/// Where names and values stand in a head: what the parser has found borrows the buffer, which is
/// about to be split. They move a few times, so they are small: no head has 4 GiB.
#[derive(Debug)]
pub struct Places(SmallVec<[[Range<u32>; 2]; 16]>);

impl Places {
    /// The places of what was parsed out of `buffer`.
    #[must_use]
    pub fn of(fields: &[Header<'_>], buffer: &[u8]) -> Self {
        let fields = fields.iter();
        Self(
            fields
                .map(|field| {
                    [
                        narrow(place(field.name.as_bytes(), buffer)),
                        narrow(place(field.value, buffer)),
                    ]
                })
                .collect(),
        )
    }

    /// How many fields there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether each field's line, and the one before the first, ends with CRLF. httparse takes a bare
    /// line feed too (RFC 9112 2.2 lets it).
    #[must_use]
    pub fn stand_behind_crlf(&self, head: &[u8]) -> bool {
        let mut names = self.0.iter().map(|[name, _]| name.start as usize);
        names.all(|start| head[..start].ends_with(b"\r\n")) && head.ends_with(b"\r\n\r\n")
    }

    /// Puts the fields into an empty map, in order. Each is shown before it is put in; what `keep`
    /// refuses is left out.
    ///
    /// # Errors
    ///
    /// Those of `keep`, and `invalid` for a name or a value that is none.
    pub fn collect<E>(
        self,
        head: &Bytes,
        mut headers: HeaderMap,
        invalid: impl Fn(&'static str) -> E,
        mut keep: impl FnMut(&HeaderName, &HeaderValue) -> Result<bool, E>,
    ) -> Result<HeaderMap, E> {
        headers.reserve(self.0.len());
        for [name, value] in self.0 {
            let (name, value) = (wide(name), wide(value));
            let name = HeaderName::from_bytes(&head[name]);
            let name = name.map_err(|_| invalid("a field's name is not valid"))?;
            let value = HeaderValue::from_maybe_shared(head.slice(value));
            let value = value.map_err(|_| invalid("a field's value is not valid"))?;
            if keep(&name, &value)? {
                headers.append(name, value);
            }
        }
        Ok(headers)
    }
}

/// Callers cap heads at some MiB; what lay behind 4 GiB would be taken for empty.
fn narrow(range: Range<usize>) -> Range<u32> {
    match (u32::try_from(range.start), u32::try_from(range.end)) {
        (Ok(start), Ok(end)) => start..end,
        _ => 0..0,
    }
}

fn wide(range: Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Where a part of a buffer stands in it.
pub fn place(part: &[u8], buffer: &[u8]) -> Range<usize> {
    // An empty one may point anywhere.
    let begin = match part.is_empty() {
        true => 0,
        false => part.as_ptr().addr() - buffer.as_ptr().addr(),
    };
    begin..begin + part.len()
}

/// Whether a head may have come to its end behind what was looked at before.
#[must_use]
pub fn has_blank_line(buffer: &[u8], scanned: usize) -> bool {
    let new = &buffer[scanned.saturating_sub(3).min(buffer.len())..];
    memchr::memmem::find(new, b"\n\r\n").is_some() || memchr::memmem::find(new, b"\n\n").is_some()
}

/// The length that a head tells of its body, if it is one.
#[must_use]
pub fn told_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(length)
}

/// RFC 9110 8.6: a length is digits and nothing else. A number's own parser would take `+5` too.
#[must_use]
pub fn length(value: &HeaderValue) -> Option<u64> {
    let digits = Some(value.as_bytes()).filter(|digits| !digits.is_empty())?;
    digits.iter().try_fold(0, |length: u64, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        let read = |text: &'static str| length(&HeaderValue::from_static(text));
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("007"), Some(7));
        assert_eq!(read("18446744073709551615"), Some(u64::MAX));
        for text in [
            "",
            "+5",
            "-5",
            "5 ",
            "5,5",
            "0x5",
            "5.0",
            "a",
            "18446744073709551616",
            "99999999999999999999",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
