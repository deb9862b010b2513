//! The framing of a body (RFC 9112 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;

use super::fields::place;

/// What is left of a body. Reads as strictly as the RFC is written: what is framed otherwise could be
/// read otherwise by somebody else.
#[derive(Debug)]
pub struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    Length(u64),
    /// With the bytes of its extensions so far.
    Chunked(Chunked, usize),
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
pub enum Decoded {
    /// Of the body.
    Data(Bytes),
    /// Behind the last chunk.
    Trailers(HeaderMap),
    /// The body is over.
    End,
    /// More bytes are needed to tell.
    More,
}

/// The framing is broken; what was wrong.
pub type Broken = &'static str;

impl Decoder {
    /// A body of so many bytes.
    #[must_use]
    pub fn length(length: u64) -> Self {
        Self(match length {
            0 => Kind::Over,
            length => Kind::Length(length),
        })
    }

    /// A body in chunks (RFC 9112 7.1).
    #[must_use]
    pub fn chunked() -> Self {
        Self(Kind::Chunked(Chunked::Size, 0))
    }

    /// A body that ends with its connection.
    #[must_use]
    pub fn until_close() -> Self {
        Self(Kind::UntilClose)
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.0, Kind::Over)
    }

    /// How many bytes are left, where that was told.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.0 {
            Kind::Over => Some(0),
            Kind::Length(left) => Some(left),
            Kind::Chunked(..) | Kind::UntilClose => None,
        }
    }

    /// Whether only the connection's end tells the body's.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, Kind::UntilClose)
    }

    /// The other side has closed.
    ///
    /// # Errors
    ///
    /// When the body is not whole.
    pub fn close(&mut self) -> Result<(), Broken> {
        match self.0 {
            Kind::UntilClose | Kind::Over => {
                self.0 = Kind::Over;
                Ok(())
            }
            Kind::Length(_) | Kind::Chunked(..) => Err("the body broke off"),
        }
    }

    /// Takes what comes next off the buffer's front.
    ///
    /// # Errors
    ///
    /// When the framing is broken.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Broken> {
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
            Kind::Chunked(chunked, extensions) => {
                let decoded = chunked.decode(buffer, extensions);
                if matches!(decoded, Ok(Decoded::End | Decoded::Trailers(_))) {
                    self.0 = Kind::Over;
                }
                decoded
            }
        }
    }
}

impl Chunked {
    fn decode(&mut self, buffer: &mut BytesMut, extensions: &mut usize) -> Result<Decoded, Broken> {
        if self.reach_data(buffer, extensions)? {
            let data = self.data(buffer);
            return Ok(Decoded::Data(self.joined(data, buffer, extensions)));
        }
        match self {
            Self::Trailers => trailers(buffer),
            Self::Size | Self::Data(_) | Self::DataEnd => Ok(Decoded::More),
        }
    }

    /// Goes on to data that is here, if there is some before the trailers.
    fn reach_data(
        &mut self,
        buffer: &mut BytesMut,
        extensions: &mut usize,
    ) -> Result<bool, Broken> {
        loop {
            match self {
                Self::Size => match size(buffer, extensions)? {
                    None => return Ok(false),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::Data(size),
                },
                Self::Data(_) => return Ok(!buffer.is_empty()),
                Self::DataEnd => match buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(false),
                    _ => return Err("a chunk is longer than its size"),
                },
                Self::Trailers => return Ok(false),
            }
        }
    }

    /// What is here of a chunk's data.
    fn data(&mut self, buffer: &mut BytesMut) -> Bytes {
        let Self::Data(left) = self else {
            return Bytes::new();
        };
        let data = take(buffer, left);
        if *left == 0 {
            *self = Self::DataEnd;
        }
        data
    }

    /// The data with that of small chunks behind it that are here too. A chunk may be of one byte, and
    /// each piece of a body is work on its way, a write and a packet of its own perhaps.
    fn joined(&mut self, first: Bytes, buffer: &mut BytesMut, extensions: &mut usize) -> Bytes {
        if !self.follows(first.len(), buffer, extensions) {
            return first;
        }
        let mut all = first.to_vec();
        while self.follows(all.len(), buffer, extensions) {
            all.extend_from_slice(&self.data(buffer));
        }
        // No more room than it needs: it may wait somewhere.
        all.into_boxed_slice().into()
    }

    /// Whether data of another chunk is here that can be joined to so much. What is wrong with that
    /// chunk is told when it is looked at again: nothing of it is taken.
    fn follows(&mut self, before: usize, buffer: &mut BytesMut, extensions: &mut usize) -> bool {
        let room = JOINED.saturating_sub(before) as u64;
        let here = room > 0 && matches!(self.reach_data(buffer, extensions), Ok(true));
        here && matches!(self, Self::Data(left) if *left <= room)
    }
}

fn take(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let there = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    *left -= there as u64;
    buffer.split_to(there).freeze()
}

/// `chunk-size [ chunk-ext ] CRLF`.
fn size(buffer: &mut BytesMut, extensions: &mut usize) -> Result<Option<u64>, Broken> {
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
    let behind = &line[digits..];
    *extensions += behind.len();
    if *extensions > MOST_EXTENSIONS {
        return Err("a body's chunks have too many extensions");
    }
    let blanks = behind
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'));
    let behind = &behind[blanks.count()..];
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
    let end = memchr::memmem::find(buffer, b"\r\n\r\n").map(|end| end + 4);
    if end.unwrap_or(buffer.len()) > LONGEST_TRAILERS {
        return Err("the trailers are too large");
    }
    let Some(end) = end else {
        return Ok(Decoded::More);
    };
    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    let headers = match httparse::parse_headers(&buffer[..end], &mut fields) {
        // Shorter, where a bare line feed has ended them.
        Ok(Status::Complete((length, fields)))
            if length == end && stand_behind_crlf(fields, &buffer[..end]) =>
        {
            collect(fields)?
        }
        _ => return Err("the trailers are not valid"),
    };
    buffer.advance(end);
    Ok(Decoded::Trailers(headers))
}

/// Whether each line but the first, which a chunk's line stands before, begins behind CRLF.
fn stand_behind_crlf(fields: &[httparse::Header<'_>], buffer: &[u8]) -> bool {
    let starts = fields
        .iter()
        .map(|field| place(field.name.as_bytes(), buffer).start);
    starts
        .skip(1)
        .all(|start| buffer[..start].ends_with(b"\r\n"))
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
/// Of a body's chunks together: nothing else counts these bytes.
const MOST_EXTENSIONS: usize = 16 << 10;
const LONGEST_TRAILERS: usize = 16 << 10;
const MOST_TRAILERS: usize = 100;
/// How large a piece is made of small chunks: pieces up to this size are copied on their way out too.
const JOINED: usize = super::GATHERED;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A body, its trailers, and what stands behind it.
    type Whole = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// The body and its trailers, from bytes that come in pieces of these sizes, or what is wrong.
    fn read(mut decoder: Decoder, bytes: &[u8], pieces: &[usize]) -> Result<Whole, Broken> {
        let (mut buffer, mut rest) = (BytesMut::new(), bytes);
        let mut pieces = pieces.iter().cycle();
        let mut body = Vec::new();
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => body.extend_from_slice(&data),
                Decoded::Trailers(trailers) => {
                    return Ok((body, Some(trailers), [&buffer, rest].concat()));
                }
                Decoded::End => return Ok((body, None, [&buffer, rest].concat())),
                Decoded::More if rest.is_empty() => {
                    decoder.close()?;
                    return Ok((body, None, Vec::new()));
                }
                Decoded::More => {
                    let (piece, behind) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
                    buffer.extend_from_slice(piece);
                    rest = behind;
                }
            }
        }
    }

    fn chunked(bytes: &[u8]) -> Result<Whole, Broken> {
        read(Decoder::chunked(), bytes, &[usize::MAX])
    }

    #[test]
    fn chunks_are_joined_and_what_stands_behind_them_is_left() {
        let bytes = b"4\r\nhalf\r\n0005;a=\"b\"\r\n more\r\n0\r\n\r\nHTTP/1.1";
        let (body, trailers, rest) = chunked(bytes).unwrap();
        assert_eq!(body, b"half more");
        assert!(trailers.is_none());
        assert_eq!(rest, b"HTTP/1.1");
    }

    /// The sizes of the pieces in which a body comes that is here whole.
    fn pieces(bytes: &[u8]) -> Vec<usize> {
        let (mut decoder, mut buffer) = (Decoder::chunked(), BytesMut::from(bytes));
        let mut pieces = Vec::new();
        while let Ok(Decoded::Data(data)) = decoder.decode(&mut buffer) {
            pieces.push(data.len());
        }
        pieces
    }

    #[test]
    fn small_chunks_that_came_together_are_few_pieces_and_large_ones_stay_what_they_are() {
        let of = |sizes: &[usize]| {
            let chunk = |size: &usize| format!("{size:x}\r\n{}\r\n", "a".repeat(*size));
            let chunks: String = sizes.iter().map(chunk).collect();
            pieces((chunks + "0\r\n\r\n").as_bytes())
        };
        assert_eq!(of(&[1; 10_000]), [JOINED, JOINED, 10_000 - 2 * JOINED]);
        assert_eq!(of(&[1, JOINED - 1, 1]), [JOINED, 1]);
        assert_eq!(of(&[1, JOINED, 1]), [1, JOINED, 1]);
        assert_eq!(of(&[3 * JOINED, 3 * JOINED]), [3 * JOINED, 3 * JOINED]);
        // Of one that is not here whole, what is here.
        assert_eq!(pieces(b"1\r\na\r\n8\r\nhalf"), [5]);
    }

    #[test]
    fn a_joined_piece_takes_no_more_room_than_it_needs() {
        let mut buffer = BytesMut::from("1\r\na\r\n".repeat(100).as_bytes());
        let Ok(Decoded::Data(data)) = Decoder::chunked().decode(&mut buffer) else {
            panic!("it is here");
        };
        assert_eq!(Vec::<u8>::from(data).capacity(), 100);
    }

    #[test]
    fn what_stands_before_a_broken_chunk_is_told_before_it() {
        let mut buffer = BytesMut::from(&b"1\r\na\r\n2;x\r\nbc\r\n3 3\r\n"[..]);
        let mut decoder = Decoder::chunked();
        let Ok(Decoded::Data(data)) = decoder.decode(&mut buffer) else {
            panic!("it is whole so far");
        };
        assert_eq!(data, "abc");
        assert!(decoder.decode(&mut buffer).is_err());
    }

    #[test]
    fn trailers_are_read() {
        let (body, trailers, rest) =
            chunked(b"1\r\na\r\n0\r\nx-sum: 7\r\nx-sum: 8\r\n\r\nrest").unwrap();
        let trailers = trailers.unwrap();
        let sums: Vec<_> = trailers.get_all("x-sum").iter().collect();
        assert_eq!(
            (body.as_slice(), sums.as_slice()),
            (
                &b"a"[..],
                &["7", "8"].map(HeaderValue::from_static).each_ref()[..]
            )
        );
        assert_eq!(rest, b"rest");
    }

    #[test]
    fn what_is_framed_otherwise_is_refused() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(LONGEST_SIZE_LINE));
        let many = format!(
            "{}0\r\n\r\n",
            format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(20)
        );
        let trailers = format!("0\r\nx: {}\r\n\r\n", "x".repeat(LONGEST_TRAILERS));
        for bytes in [
            "4\nmore\r\n",
            "4\r\nmoreX\r\n0\r\n\r\n",
            "4\r\nmore\n0\r\n\r\n",
            "-4\r\nmore\r\n",
            "+4\r\nmore\r\n",
            "0x4\r\nmore\r\n",
            " 4\r\nmore\r\n",
            "4 4\r\nmore\r\n",
            "\r\n",
            ";\r\n",
            "11111111111111111\r\n",
            "4;a\rb\r\nmore\r\n0\r\n\r\n",
            "0\r\nno field\r\n\r\n",
            "0\r\na: b\n\nc: d\r\n\r\n",
            "0\r\na: b\nc: d\r\n\r\n",
            "4\x0c\r\nmore\r\n0\r\n\r\n",
            &many,
            "0\r\n a: b\r\n\r\n",
            "4\r\nmo",
            "4\r\nmore\r\n0\r\n",
            &long,
            &trailers,
        ] {
            assert!(chunked(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_body_with_a_length_takes_just_that() {
        let read = |bytes| read(Decoder::length(3), bytes, &[2]);
        assert_eq!(
            read(b"abcd").unwrap(),
            (b"abc".to_vec(), None, b"d".to_vec())
        );
        assert!(read(b"ab").is_err());
    }

    #[test]
    fn a_body_without_one_takes_all() {
        let (body, _, _) = read(Decoder::until_close(), b"all of it", &[4]).unwrap();
        assert_eq!(body, b"all of it");
    }

    proptest! {
        #[test]
        fn chunks_read_the_same_in_whatever_pieces_they_come(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            behind in prop::collection::vec(any::<u8>(), 0..8),
            pieces in prop::collection::vec(1_usize..20, 1..6),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            bytes.extend_from_slice(&behind);
            let (body, trailers, rest) = read(Decoder::chunked(), &bytes, &pieces).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert!(trailers.is_none());
            prop_assert_eq!(rest, behind);
        }

        #[test]
        fn any_bytes_read_the_same_whole_and_in_pieces(
            bytes in prop::collection::vec(prop::sample::select(b"0123aF;\r\n: x".to_vec()), 0..60),
            pieces in prop::collection::vec(1_usize..9, 1..6),
        ) {
            let whole = chunked(&bytes).ok();
            let parts = read(Decoder::chunked(), &bytes, &pieces).ok();
            prop_assert_eq!(whole, parts);
        }
    }
}
