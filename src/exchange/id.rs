//! Names of one request: the request id and the W3C trace context.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use uuid::Builder;

/// The longest caller's id that is taken over.
const LONGEST_ID: usize = 128;

/// The id of one request, in the header form in which it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new id: a `UUIDv7`, so ids sort by time, to the millisecond.
    ///
    /// It is unique, and no secret: whoever has seen some can guess others.
    #[must_use]
    pub fn generate(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&fastrand::u64(..).to_ne_bytes());
        random[8..].copy_from_slice(&fastrand::u16(..).to_ne_bytes());
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let mut text = [0_u8; 36];
        id.hyphenated().encode_lower(&mut text);
        let value = HeaderValue::from_bytes(&text);
        // Hexadecimal digits and hyphens are always a valid value.
        Self(value.unwrap_or(HeaderValue::from_static("-")))
    }

    /// The caller's id if it is sane: 1 to 128 letters, digits and `-_.:/+=@`.
    #[must_use]
    pub fn from_caller(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
        let fits = !bytes.is_empty() && bytes.len() <= LONGEST_ID;
        (fits && bytes.iter().all(sane)).then(|| Self(value.clone()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or("-")
    }

    /// The id as a header value; a clone counts a reference.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The W3C trace context of one request: the caller's trace or a new one, and our own span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 32],
    span_id: [u8; 16],
    flags: u8,
    /// Whether the trace came from the caller; its `tracestate` is then forwarded too.
    pub continued: bool,
}

impl TraceContext {
    /// Starts a trace.
    ///
    /// The sampled bit is set: a backend's usual sampler (always on unless the parent says no)
    /// then decides just as it would without us. The random bit is set, since the id is random.
    #[must_use]
    pub fn generate() -> Self {
        let mut trace_id = [0; 32];
        hex_into(&mut trace_id[..16], fastrand::u64(1..));
        hex_into(&mut trace_id[16..], fastrand::u64(..));
        Self {
            trace_id,
            span_id: new_span(),
            flags: 0b11,
            continued: false,
        }
    }

    /// Continues the caller's trace if its `traceparent` is valid (W3C Trace Context 3.2).
    #[must_use]
    pub fn from_caller(value: &[u8]) -> Option<Self> {
        let version = hex_byte(value.get(..2)?)?;
        let well_formed = value.len() >= 55
            && value[2] == b'-'
            && value[35] == b'-'
            && value[52] == b'-'
            && version != 0xff;
        if !well_formed || !right_length(version, value) {
            return None;
        }
        let trace_id = lower_hex::<32>(&value[3..35])?;
        lower_hex::<16>(&value[36..52])?;
        Some(Self {
            trace_id,
            span_id: new_span(),
            flags: hex_byte(&value[53..55])?,
            continued: true,
        })
    }

    /// The trace id, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        std::str::from_utf8(&self.trace_id).unwrap_or("-")
    }

    /// The `traceparent` to send on, with our own span as the parent.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text()).unwrap_or(HeaderValue::from_static("-"))
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.trace_id);
        text[36..52].copy_from_slice(&self.span_id);
        text[53] = hex_digit(self.flags >> 4);
        text[54] = hex_digit(self.flags);
        text
    }
}

/// Version 00 ends after the flags; a later version may go on behind a hyphen.
fn right_length(version: u8, value: &[u8]) -> bool {
    value.len() == 55 || (version != 0 && value[55] == b'-')
}

/// A parent id is valid unless it is all zero.
fn new_span() -> [u8; 16] {
    let mut span = [0; 16];
    hex_into(&mut span, fastrand::u64(1..));
    span
}

fn hex_into(out: &mut [u8], mut value: u64) {
    for slot in out.iter_mut().rev() {
        *slot = hex_digit(value as u8);
        value >>= 4;
    }
}

fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value & 0xf)]
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    Some(hex_value(digits[0])? << 4 | hex_value(*digits.get(1)?)?)
}

/// Lower-case hexadecimal that is not all zero.
fn lower_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let valid = digits.iter().all(|digit| hex_value(*digit).is_some());
    let zero = digits.iter().all(|digit| *digit == b'0');
    (valid && !zero).then(|| digits.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_traceparent_is_continued_with_a_span_of_our_own() {
        let trace = TraceContext::from_caller(PARENT).unwrap();
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let header = trace.header();
        assert_ne!(header.as_bytes(), PARENT);
        assert_eq!(header.len(), 55);
        assert_eq!(&header.as_bytes()[53..], b"01");
        assert!(TraceContext::from_caller(header.as_bytes()).is_some());
    }

    #[test]
    fn an_invalid_traceparent_is_not_continued() {
        let zero_trace = b"00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let upper = b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";
        let version_ff = b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let longer = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x";
        let cases: [&[u8]; 7] = [zero_trace, zero_span, upper, version_ff, longer, b"", b"0"];
        for case in cases {
            assert_eq!(TraceContext::from_caller(case), None, "{case:?}");
        }
    }

    #[test]
    fn a_later_version_is_read_by_its_first_four_parts() {
        let later = b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what";
        assert!(TraceContext::from_caller(later).is_some());
    }

    #[test]
    fn a_callers_id_is_taken_only_when_it_is_sane() {
        let sane = HeaderValue::from_static("abc-123_X.y:z/1+2=3@4");
        assert_eq!(RequestId::from_caller(&sane).unwrap().header(), &sane);
        for bad in ["", "a b", "a\"b", "a,b", "<script>"] {
            assert!(RequestId::from_caller(&HeaderValue::from_static(bad)).is_none());
        }
        let long = HeaderValue::from_str(&"a".repeat(129)).unwrap();
        assert!(RequestId::from_caller(&long).is_none());
    }

    #[test]
    fn generated_ids_differ_and_sort_by_time() {
        let now = SystemTime::now();
        let first = RequestId::generate(now);
        let second = RequestId::generate(now + std::time::Duration::from_millis(1));
        assert_ne!(first, RequestId::generate(now));
        assert_ne!(first, second);
        assert!(first.as_str() <= second.as_str());
        assert_eq!(first.as_str().len(), 36);
    }
}
