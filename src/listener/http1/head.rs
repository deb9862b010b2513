//! A request's head.

use std::{borrow::Cow, mem::MaybeUninit, ops::Range};

use bytes::{Buf, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE},
};
use httparse::{Header, ParserConfig, Status};

use crate::exchange::{
    Reason,
    http1::{Decoder, Places, length, place},
};

/// What a request begins with.
#[derive(Debug)]
pub struct Head {
    method: Method,
    target: Uri,
    version: Version,
    headers: HeaderMap,
    /// The framing of the request's body.
    pub decoder: Decoder,
    pub(super) said: Said,
}

/// What a head says to us and not to the server behind.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The client speaks HTTP/1.0.
    pub(super) old: bool,
    /// Only the head of the answer is wanted.
    pub(super) head: bool,
    /// The connection may have another request (RFC 9112 9.3).
    pub(super) persistent: bool,
    /// The body comes only when we ask for it (RFC 9110 10.1.1).
    pub(super) expects_continue: bool,
    /// It names protocols to switch to (RFC 9110 7.8).
    pub(super) upgrade: bool,
    /// It takes trailers (RFC 9110 10.1.4).
    pub(super) trailers: bool,
}

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, the request line and the empty line included.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// Why a head is none.
#[derive(Debug)]
pub struct Refused {
    /// For the client and the figures.
    pub reason: Reason,
    /// For the log.
    pub detail: Cow<'static, str>,
}

impl Head {
    /// Takes a head off the buffer's front, if all of it is there. Its fields go into `room`, an empty
    /// map, which is left as it is otherwise.
    ///
    /// # Errors
    ///
    /// When it is not valid, has more than one meaning, or is too large.
    pub fn take(
        buffer: &mut BytesMut,
        limits: HeadLimits,
        room: &mut HeaderMap,
    ) -> Result<Option<Self>, Refused> {
        // RFC 9112 2.2: empty lines in front of a head mean nothing.
        while buffer.starts_with(b"\r\n") {
            buffer.advance(2);
        }
        if buffer.first() == Some(&b'\n') {
            return Err(malformed("a line in front of the head ends without CRLF"));
        }
        let Some(found) = Found::in_buffer(buffer, limits)? else {
            return match buffer.len() > limits.bytes {
                true => Err(too_large()),
                false => Ok(None),
            };
        };
        found.check(buffer, limits)?;
        let Found {
            method,
            target,
            old,
            length,
            fields,
        } = found;
        let head = buffer.split_to(length).freeze();
        let target = Uri::from_maybe_shared(head.slice(target))
            .map_err(|_| malformed("the target is not valid"))?;
        let mut framing = Fields::new(old);
        let headers = fields.collect(&head, std::mem::take(room), malformed, |name, value| {
            framing.note(name, value)
        })?;
        let decoder = framing.decoder()?;
        let mut said = framing.said;
        said.head = method == Method::HEAD;
        Ok(Some(Self {
            method,
            target,
            version: match old {
                true => Version::HTTP_10,
                false => Version::HTTP_11,
            },
            headers,
            decoder,
            said,
        }))
    }

    pub(super) fn into_request<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        request
    }
}

/// A whole head in a buffer.
struct Found {
    method: Method,
    target: Range<usize>,
    old: bool,
    length: usize,
    fields: Places,
}

impl Found {
    fn in_buffer(buffer: &[u8], limits: HeadLimits) -> Result<Option<Self>, Refused> {
        if limits.fields <= USUAL_FIELDS {
            let mut space = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
            return Self::parse(buffer, &mut space[..limits.fields]);
        }
        let space = std::iter::repeat_with(MaybeUninit::uninit);
        let mut space: Vec<_> = space.take(limits.fields).collect();
        Self::parse(buffer, &mut space)
    }

    fn parse<'b>(
        buffer: &'b [u8],
        space: &mut [MaybeUninit<Header<'b>>],
    ) -> Result<Option<Self>, Refused> {
        let mut parsed = httparse::Request::new(&mut []);
        let status = ParserConfig::default()
            .parse_request_with_uninit_headers(&mut parsed, buffer, space)
            .map_err(|error| match error {
                httparse::Error::TooManyHeaders => too_large(),
                error => Refused {
                    reason: Reason::Malformed,
                    detail: error.to_string().into(),
                },
            })?;
        let Status::Complete(length) = status else {
            return Ok(None);
        };
        let method = parsed.method.unwrap_or_default();
        let method = Method::from_bytes(method.as_bytes());
        Ok(Some(Self {
            method: method.map_err(|_| malformed("the method is not valid"))?,
            target: place(parsed.path.unwrap_or_default().as_bytes(), buffer),
            old: parsed.version != Some(1),
            length,
            fields: Places::of(parsed.headers, buffer),
        }))
    }

    fn check(&self, buffer: &[u8], limits: HeadLimits) -> Result<(), Refused> {
        if self.length > limits.bytes {
            return Err(too_large());
        }
        if self.target.len() > LONGEST_TARGET {
            return Err(Refused {
                reason: Reason::TargetTooLong,
                detail: "the target is too long".into(),
            });
        }
        // RFC 9112 2.2 lets us take a bare line feed. Others don't, so it has two readings.
        if !self.fields.stand_behind_crlf(&buffer[..self.length]) {
            return Err(malformed("a line of the head ends without CRLF"));
        }
        Ok(())
    }
}

/// What the fields tell of the message.
struct Fields {
    said: Said,
    close: bool,
    keep_alive: bool,
    length: Option<u64>,
    /// Of the last `Transfer-Encoding`: whether it ends in `chunked`.
    chunked: Option<bool>,
}

impl Fields {
    fn new(old: bool) -> Self {
        Self {
            said: Said {
                old,
                ..Said::default()
            },
            close: false,
            keep_alive: false,
            length: None,
            chunked: None,
        }
    }

    /// Whether the field goes on.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Refused> {
        let said = &mut self.said;
        match *name {
            CONTENT_LENGTH => return self.note_length(value),
            TRANSFER_ENCODING => self.note_coding(value)?,
            CONNECTION => {
                self.close |= has_member(value, "close");
                self.keep_alive |= has_member(value, "keep-alive");
            }
            EXPECT => {
                let expected = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
                said.expects_continue |= expected && !said.old;
            }
            UPGRADE => said.upgrade = !said.old,
            TE => said.trailers |= has_member(value, "trailers"),
            _ => {}
        }
        Ok(true)
    }

    /// RFC 9112 6.3: equal lengths may be taken for one, others are refused.
    fn note_length(&mut self, value: &HeaderValue) -> Result<bool, Refused> {
        let length = length(value).ok_or_else(|| malformed("Content-Length is not one number"))?;
        match self.length.replace(length) {
            None => Ok(true),
            Some(before) if before == length => Ok(false),
            Some(_) => Err(malformed("Content-Length has two values")),
        }
    }

    /// RFC 9112 6.1: HTTP/1.0 has no transfer codings; whoever sends one can't be trusted.
    fn note_coding(&mut self, value: &HeaderValue) -> Result<(), Refused> {
        if self.said.old {
            return Err(malformed("Transfer-Encoding in an HTTP/1.0 request"));
        }
        let last = value.as_bytes().rsplit(|byte| *byte == b',').next();
        let last = last.unwrap_or_default().trim_ascii();
        self.chunked = Some(last.eq_ignore_ascii_case(b"chunked"));
        Ok(())
    }

    /// RFC 9112 6.3. A length beside chunks, and codings beside `chunked`, are for the frame to refuse:
    /// it answers such requests with an envelope and closes.
    fn decoder(&mut self) -> Result<Decoder, Refused> {
        let persistent = !self.close && (!self.said.old || self.keep_alive);
        self.said.persistent = persistent && (self.chunked.is_none() || self.length.is_none());
        match (self.chunked, self.length) {
            (Some(true), _) => Ok(Decoder::chunked()),
            (Some(false), _) => Err(malformed("Transfer-Encoding does not end in chunked")),
            (None, length) => Ok(Decoder::length(length.unwrap_or(0))),
        }
    }
}

/// Whether a comma list has a member, perhaps with parameters.
pub(super) fn has_member(value: &HeaderValue, wanted: &str) -> bool {
    let mut members = value.as_bytes().split(|byte| *byte == b',');
    members.any(|member| {
        let name = member.split(|byte| *byte == b';').next();
        let name = name.unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(wanted.as_bytes())
    })
}

fn malformed(detail: &'static str) -> Refused {
    Refused {
        reason: Reason::Malformed,
        detail: detail.into(),
    }
}

fn too_large() -> Refused {
    Refused {
        reason: Reason::HeadTooLarge,
        detail: "the head is too large".into(),
    }
}

/// As many fields as are parsed without an allocation.
const USUAL_FIELDS: usize = 100;
/// The longest that [`Uri`] takes.
const LONGEST_TARGET: usize = (u16::MAX - 1) as usize;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 1 << 10,
        fields: 5,
    };

    fn take(text: &str) -> Result<Option<Head>, Refused> {
        Head::take(&mut BytesMut::from(text), LIMITS, &mut HeaderMap::new())
    }

    fn said(fields: &str) -> Said {
        take(&format!("GET / HTTP/1.1\r\n{fields}\r\n"))
            .unwrap()
            .unwrap()
            .said
    }

    fn refused(text: &str) -> Reason {
        take(text).unwrap_err().reason
    }

    #[test]
    fn a_head_is_taken_and_leaves_what_is_behind_it() {
        let text = "\r\n\r\nPUT /a?b HTTP/1.1\r\nHost: h\r\nX: 1\r\nx:  2 \r\nE:\r\n\r\nbody";
        let mut buffer = BytesMut::from(text);
        let head = Head::take(&mut buffer, LIMITS, &mut HeaderMap::new())
            .unwrap()
            .unwrap();
        let request = head.into_request(());
        assert_eq!(request.method(), Method::PUT);
        assert_eq!(request.uri(), "/a?b");
        assert_eq!(request.version(), Version::HTTP_11);
        let values: Vec<_> = request.headers().get_all("x").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(request.headers()["e"], "");
        assert_eq!(&buffer[..], b"body");
    }

    #[test]
    fn a_line_that_ends_without_crlf_is_refused_wherever_it_stands() {
        for text in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\n\n",
            "GET / HTTP/1.1\n\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "\r\n\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(refused(text), Reason::Malformed, "{text:?}");
        }
    }

    #[test]
    fn heads_are_as_large_as_they_may_be_and_no_larger() {
        let of = |bytes: usize| {
            let frame = "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(bytes - frame))
        };
        assert!(take(&of(LIMITS.bytes)).unwrap().is_some());
        assert_eq!(refused(&of(LIMITS.bytes + 1)), Reason::HeadTooLarge);
        let unfinished = "GET / HTTP/1.1\r\nX: ".to_owned() + &"a".repeat(LIMITS.bytes);
        assert_eq!(refused(&unfinished), Reason::HeadTooLarge);
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(count));
        assert!(take(&fields(5)).unwrap().is_some());
        assert_eq!(refused(&fields(6)), Reason::HeadTooLarge);
        let limits = HeadLimits {
            bytes: 1 << 20,
            fields: 150,
        };
        let many = |count| {
            Head::take(
                &mut BytesMut::from(&*fields(count)),
                limits,
                &mut HeaderMap::new(),
            )
        };
        assert!(many(150).unwrap().is_some());
        assert_eq!(many(151).unwrap_err().reason, Reason::HeadTooLarge);
        let target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(LONGEST_TARGET));
        let long = Head::take(&mut BytesMut::from(&*target), limits, &mut HeaderMap::new());
        assert_eq!(long.unwrap_err().reason, Reason::TargetTooLong);
    }

    #[test]
    fn a_connection_persists_only_where_both_sides_know_it_does() {
        assert!(said("").persistent);
        assert!(!said("Connection: x, Close\r\n").persistent);
        assert!(!said("Connection: close\r\nConnection: keep-alive\r\n").persistent);
        assert!(!said("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n").persistent);
        let old = |fields: &str| {
            let head = take(&format!("GET / HTTP/1.0\r\n{fields}\r\n"));
            head.unwrap().unwrap().said.persistent
        };
        assert!(!old(""));
        assert!(old("Connection: Keep-Alive\r\n"));
        assert!(!old("Connection: keep-alive, close\r\n"));
    }

    #[test]
    fn what_a_client_says_to_us_is_heard() {
        assert!(said("Expect: 100-Continue\r\n").expects_continue);
        assert!(!said("Expect: 100-continue, x\r\n").expects_continue);
        assert!(said("TE: gzip;q=1, Trailers\r\n").trailers);
        assert!(!said("TE: gzip\r\n").trailers);
        assert!(said("Upgrade: websocket\r\n").upgrade);
        let old = "GET / HTTP/1.0\r\nExpect: 100-continue\r\nUpgrade: x\r\n\r\n";
        let old = take(old).unwrap().unwrap().said;
        assert!(!old.expects_continue && !old.upgrade);
    }

    #[test]
    fn a_body_has_one_framing_or_the_head_is_refused() {
        let left = |fields: &str| {
            let head = take(&format!("POST / HTTP/1.1\r\n{fields}\r\n"));
            head.unwrap().unwrap().decoder.left()
        };
        assert_eq!(left(""), Some(0));
        assert_eq!(left("Content-Length: 007\r\n"), Some(7));
        assert_eq!(left("Content-Length: 7\r\nContent-Length: 7\r\n"), Some(7));
        assert_eq!(left("Transfer-Encoding: Chunked\r\n"), None);
        for fields in [
            "Content-Length: 4\r\nContent-Length: 5\r\n",
            "Content-Length: 4, 4\r\n",
            "Content-Length: +4\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(refused(&text), Reason::Malformed, "{fields:?}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refused(old), Reason::Malformed);
    }

    proptest! {
        #[test]
        fn a_head_is_the_same_in_whatever_pieces_it_comes(
            values in prop::collection::vec("[ -~]{0,20}", 0..5),
            behind in "[a-z]{0,9}",
            piece in 1_usize..30,
        ) {
            let fields: String = values.iter().map(|value| format!("x-a: {value}\r\n")).collect();
            let text = format!("GET /x HTTP/1.1\r\n{fields}\r\n{behind}");
            let mut buffer = BytesMut::new();
            let mut pieces = text.as_bytes().chunks(piece);
            let head = loop {
                if let Some(head) = Head::take(&mut buffer, LIMITS, &mut HeaderMap::new()).unwrap() {
                    break head;
                }
                buffer.extend_from_slice(pieces.next().unwrap());
            };
            let headers = head.into_request(()).into_parts().0.headers;
            let seen: Vec<_> = headers.get_all("x-a").iter().map(|value| value.to_str().unwrap()).collect();
            let sent: Vec<_> = values.iter().map(|value| value.trim_matches(' ')).collect();
            prop_assert_eq!(seen, sent);
            let rest: Vec<u8> = buffer.iter().copied().chain(pieces.flatten().copied()).collect();
            prop_assert_eq!(rest, behind.as_bytes());
        }
    }
}
