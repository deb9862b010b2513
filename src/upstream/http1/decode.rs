//! The framing of an answer's body (RFC 9112 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;

/// What is left of a body. Reads as strictly as the RFC is written: what is framed otherwise could be
/// read otherwise by somebody else.
#[derive(Debug)]
pub(in super::super) struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Over,
}

#[derive(Debug)]
enum Chunked {
    /// A chunk's size and its extensions, which nobody knows.
    Size,
    Data(u64),
    /// The line end behind a chunk's data.
    DataEnd,
    Trailers,
}

/// What the next bytes are.
#[derive(Debug)]
pub(in super::super) enum Decoded {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The body is over.
    End,
    /// More bytes are needed to tell.
    More,
}

/// The framing is broken; what was wrong.
pub(in super::super) type Broken = &'static str;

impl Decoder {
    pub(super) fn length(length: u64) -> Self {
        Self(match length {
            0 => Kind::Over,
            length => Kind::Length(length),
        })
    }

    pub(super) fn chunked() -> Self {
        Self(Kind::Chunked(Chunked::Size))
    }

    pub(super) fn until_close() -> Self {
        Self(Kind::UntilClose)
    }

    /// Whether nothing more comes.
    pub(in super::super) fn is_over(&self) -> bool {
        matches!(self.0, Kind::Over)
    }

    /// How many bytes are left, where that was told.
    pub(in super::super) fn left(&self) -> Option<u64> {
        match self.0 {
            Kind::Over => Some(0),
            Kind::Length(left) => Some(left),
            Kind::Chunked(_) | Kind::UntilClose => None,
        }
    }

    /// Whether only the connection's end tells the body's.
    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self.0, Kind::UntilClose)
    }

    /// The server has closed: is the body whole?
    pub(super) fn close(&mut self) -> Result<(), Broken> {
        match self.0 {
            Kind::UntilClose | Kind::Over => {
                self.0 = Kind::Over;
                Ok(())
            }
            Kind::Length(_) | Kind::Chunked(_) => Err("the answer broke off"),
        }
    }

    /// Takes what comes next off the buffer's front.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Broken> {
        match &mut self.0 {
            Kind::Over => Ok(Decoded::End),
            _ if buffer.is_empty() => Ok(Decoded::More),
            Kind::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            Kind::Length(left) => {
                let data = take(buffer, left);
                if *left == 0 {
                    self.0 = Kind::Over;
                }
                Ok(Decoded::Data(data))
            }
            Kind::Chunked(chunked) => {
                let decoded = chunked.decode(buffer);
                if matches!(decoded, Ok(Decoded::End | Decoded::Trailers(_))) {
                    self.0 = Kind::Over;
                }
                decoded
            }
        }
    }
}

impl Chunked {
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Broken> {
        loop {
            match self {
                Self::Size => match size(buffer)? {
                    None => return Ok(Decoded::More),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::Data(size),
                },
                Self::Data(_) if buffer.is_empty() => return Ok(Decoded::More),
                Self::Data(left) => {
                    let data = take(buffer, left);
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(Decoded::Data(data));
                }
                Self::DataEnd => match buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::More),
                    _ => return Err("a chunk is longer than its size"),
                },
                Self::Trailers => return trailers(buffer),
            }
        }
    }
}

fn take(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let there = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    *left -= there as u64;
    buffer.split_to(there).freeze()
}

/// `chunk-size [ chunk-ext ] CRLF`.
fn size(buffer: &mut BytesMut) -> Result<Option<u64>, Broken> {
    let Some(end) = memchr::memchr(b'\n', buffer) else {
        return match buffer.len() > LONGEST_SIZE_LINE {
            true => Err("a chunk's extensions are too long"),
            false => Ok(None),
        };
    };
    let line = buffer[..end]
        .strip_suffix(b"\r")
        .ok_or("a chunk's size ends without CRLF")?;
    if line.len() > LONGEST_SIZE_LINE || line.contains(&b'\r') {
        return Err("a chunk's extensions are not valid");
    }
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    // RFC 9112 7.1.1: an extension begins with a semicolon, perhaps behind some spaces.
    let behind = line[digits..].trim_ascii_start();
    if digits == 0 || digits > 16 || !(behind.is_empty() || behind[0] == b';') {
        return Err("a chunk's size is not valid");
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| "a chunk's size is not valid")?;
    let size = u64::from_str_radix(text, 16).map_err(|_| "a chunk's size is not valid")?;
    buffer.advance(end + 1);
    Ok(Some(size))
}

/// The fields behind the last chunk, up to an empty line.
fn trailers(buffer: &mut BytesMut) -> Result<Decoded, Broken> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Decoded::End);
    }
    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    let parsed = httparse::parse_headers(buffer, &mut fields);
    let (length, headers) = match parsed.map_err(|_| "the trailers are not valid")? {
        Status::Complete((length, fields)) => (length, collect(fields)?),
        Status::Partial if buffer.len() > LONGEST_TRAILERS => {
            return Err("the trailers are too large");
        }
        Status::Partial => return Ok(Decoded::More),
    };
    if length > LONGEST_TRAILERS {
        return Err("the trailers are too large");
    }
    buffer.advance(length);
    Ok(Decoded::Trailers(headers))
}

fn collect(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Broken> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err("a trailer is not valid");
        };
        headers.append(name, value);
    }
    Ok(headers)
}

const LONGEST_SIZE_LINE: usize = 4 << 10;
const LONGEST_TRAILERS: usize = 16 << 10;
const MOST_TRAILERS: usize = 100;
