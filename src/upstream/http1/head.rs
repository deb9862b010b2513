//! An answer's head.

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::super::head::Seen;
use crate::exchange::http1::{Decoder, Places, length, told_length};

/// What a server's answer begins with.
pub struct Head {
    /// The status, interim ones too.
    pub status: StatusCode,
    /// The fields as they came.
    pub headers: HeaderMap,
    /// What stands beside the status, where it is not the usual.
    pub(in super::super) phrase: Option<ReasonPhrase>,
    /// What one pass over the fields told.
    pub(in super::super) seen: Seen,
    /// Whether the connection may serve another request behind it (RFC 9112 9.3).
    pub(super) persistent: bool,
}

/// Why an answer is none.
pub type Malformed = &'static str;

impl Head {
    /// Takes a head off the buffer's front, if all of it is there.
    ///
    /// # Errors
    ///
    /// When it is not valid, or too large.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let status = ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, buffer, &mut fields)
            .map_err(|_| "the head is not valid HTTP")?;
        let Status::Complete(length) = status else {
            return match buffer.len() > MOST_BYTES {
                true => Err("the head is too large"),
                false => Ok(None),
            };
        };
        if length > MOST_BYTES {
            return Err("the head is too large");
        }
        let code = parsed.code.unwrap_or_default();
        let status = StatusCode::from_u16(code).map_err(|_| "the status is not valid")?;
        let phrase = parsed.reason.unwrap_or_default();
        let phrase = phrase_of(status, phrase)?;
        let old = parsed.version != Some(1);
        let fields = Places::of(parsed.headers, buffer);
        let head = buffer.split_to(length).freeze();
        let mut seen = Seen::default();
        let room = HeaderMap::with_capacity(fields.count() + ADDED);
        let headers = fields.collect(
            &head,
            room,
            |what| what,
            |name, value| {
                seen.note(name, value);
                Ok(true)
            },
        )?;
        let persistent =
            persists(&headers, &seen, old) && !promises_a_body(status, &headers, &seen);
        if old && seen.has_coding() {
            // RFC 9112 6.1: HTTP/1.0 has no transfer codings; whoever sends one can't be trusted.
            return Err("Transfer-Encoding in an HTTP/1.0 answer");
        }
        Ok(Some(Self {
            status,
            headers,
            phrase,
            seen,
            persistent,
        }))
    }

    /// How the body of an answer to this method is framed (RFC 9112 6.3).
    ///
    /// # Errors
    ///
    /// When its length has more than one reading.
    pub fn decoder(&self, method: &Method) -> Result<Decoder, Malformed> {
        self.seen.check()?;
        let bodiless = self.status.is_informational()
            || self.status == StatusCode::NO_CONTENT
            || self.status == StatusCode::NOT_MODIFIED;
        if *method == Method::HEAD || bodiless {
            return Ok(Decoder::length(0));
        }
        if self.seen.has_coding() {
            return Ok(Decoder::chunked());
        }
        match self.headers.get(http::header::CONTENT_LENGTH).map(length) {
            None => Ok(Decoder::until_close()),
            // It may be more than can be counted.
            Some(length) => length
                .map(Decoder::length)
                .ok_or("Content-Length is not one number"),
        }
    }
}

/// RFC 9112 9.3: HTTP/1.1 persists unless it says `close`, HTTP/1.0 only if it says `keep-alive`.
fn persists(headers: &HeaderMap, seen: &Seen, old: bool) -> bool {
    if !seen.has_connection() {
        return !old;
    }
    let says = |option: &str| {
        let mut options = crate::exchange::fields::list(headers, &http::header::CONNECTION);
        options.any(|said| said.eq_ignore_ascii_case(option))
    };
    !says("close") && (!old || says("keep-alive"))
}

/// Whether a message that has no body tells of one (RFC 9110 8.6, RFC 9112 6.1). Whoever says so may
/// send it too, and then it stands before the next answer. A length of nothing is no promise where it is
/// all that is told: beside chunks or another length nobody knows which of them is meant.
fn promises_a_body(status: StatusCode, headers: &HeaderMap, seen: &Seen) -> bool {
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    let told = bodiless && seen.tells_the_end();
    told && (seen.has_coding() || seen.check().is_err() || told_length(headers) != Some(0))
}

fn phrase_of(status: StatusCode, phrase: &str) -> Result<Option<ReasonPhrase>, Malformed> {
    if phrase.is_empty() || status.canonical_reason() == Some(phrase) {
        return Ok(None);
    }
    let phrase = ReasonPhrase::try_from(phrase.as_bytes());
    phrase.map(Some).map_err(|_| "the reason is not valid")
}

const MOST_FIELDS: usize = 100;
/// The largest head of an answer.
pub(super) const MOST_BYTES: usize = 64 << 10;
/// Fields that we add, so that the map need not grow.
const ADDED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<Head>, Malformed> {
        Head::take(&mut BytesMut::from(text))
    }

    fn head(text: &str) -> Head {
        take(text).unwrap().unwrap()
    }

    #[test]
    fn a_head_is_taken_with_its_fields_and_leaves_what_is_behind_it() {
        let mut buffer = BytesMut::from(
            "HTTP/1.1 299 Not Generated\r\nX-A:  one \r\nx-a: two\r\nX-Empty:\r\n\r\nbody",
        );
        let head = Head::take(&mut buffer).unwrap().unwrap();
        assert_eq!(head.status.as_u16(), 299);
        let values: Vec<_> = head.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["one", "two"]);
        assert_eq!(head.headers["x-empty"], "");
        assert_eq!(head.phrase.unwrap().as_bytes(), b"Not Generated");
        assert_eq!(&buffer[..], b"body");
    }

    #[test]
    fn a_part_of_a_head_is_not_taken() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        for length in 0..whole.len() {
            assert!(take(&whole[..length]).unwrap().is_none(), "{length}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(MOST_BYTES));
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "x: y\r\n".repeat(MOST_FIELDS + 1)
        );
        for text in [
            "SSH-2.0-x\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            &long,
            &many,
        ] {
            assert!(take(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_connection_persists_only_where_both_sides_know_it_does() {
        for (text, persistent) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", true),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n\r\n",
                false,
            ),
            ("HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", false),
            ("HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\n", false),
            (
                "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
            ("HTTP/1.1 103 X\r\nContent-Length: 0\r\n\r\n", true),
            (
                "HTTP/1.1 103 X\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
            (
                "HTTP/1.1 204 X\r\nContent-Length: 0\r\nContent-Length: 47\r\n\r\n",
                false,
            ),
            ("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", true),
        ] {
            assert_eq!(head(text).persistent, persistent, "{text:?}");
        }
    }

    #[test]
    fn a_body_is_framed_by_what_was_asked_and_answered() {
        let left = |method: Method, text: &str| head(text).decoder(&method).unwrap().left();
        let five = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(left(Method::GET, five), Some(5));
        assert_eq!(left(Method::HEAD, five), Some(0));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
        assert_eq!(left(Method::GET, chunked), None);
        for status in [204, 304] {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(left(Method::GET, &text), Some(0));
        }
        let nothing = head("HTTP/1.1 200 OK\r\n\r\n")
            .decoder(&Method::GET)
            .unwrap();
        assert!(nothing.ends_with_connection());
    }

    #[test]
    fn a_length_with_two_readings_is_refused() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length:\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ] {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            assert!(head.decoder(&Method::GET).is_err(), "{fields:?}");
        }
    }
}
