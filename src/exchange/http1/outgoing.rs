//! A message on its way out: its head, and its body as it comes.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, header::TRAILER};
use http_body::{Body as HttpBody, Frame};
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use crate::exchange::{Body, BodyError, fields::list};

/// How a message's body is framed (RFC 9112 6).
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks, and behind them those trailers that were named.
    Chunked(SmallVec<[HeaderName; 1]>),
    /// By the connection's end, for clients of HTTP/1.0.
    UntilClose,
}

/// What `Trailer` announces.
#[must_use]
pub fn named_trailers(headers: &HeaderMap) -> SmallVec<[HeaderName; 1]> {
    list(headers, &TRAILER)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect()
}

/// Writes one field.
pub fn line(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let name = name.as_str().as_bytes();
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What is still to be sent. Small frames are gathered with the head, large ones are never copied.
pub struct Outgoing<B = Body> {
    out: Vec<u8>,
    sent: usize,
    /// What stands behind the output and is not copied.
    pieces: VecDeque<Bytes>,
    /// Bytes of the pieces.
    queued: usize,
    body: B,
    framing: Framing,
    /// Whether all of the body was taken.
    over: bool,
    /// What broke the body off, until what came before it has been sent.
    failed: Option<OutgoingError>,
    /// Whether the other side takes nothing at the moment.
    pub blocked: bool,
    /// Whether any byte was written.
    pub began: bool,
    /// The same, since whoever watches has looked.
    pub moved: bool,
}

/// Why a message can't be sent to its end.
#[derive(Debug)]
pub enum OutgoingError {
    /// Its body broke off, or the gateway broke it off.
    Body(BodyError),
    /// It is longer or shorter than was told.
    Length,
    /// The other side takes no more.
    Write(io::Error),
}

impl<B> Outgoing<B> {
    /// Whether only the connection's end tells the body's.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilClose
    }
}

impl<B> Outgoing<B>
where
    B: HttpBody<Data = Bytes, Error = BodyError> + Unpin,
{
    /// A message whose head stands in `out`.
    #[must_use]
    pub fn new(out: Vec<u8>, framing: Framing, body: B) -> Self {
        Self {
            out,
            sent: 0,
            pieces: VecDeque::new(),
            queued: 0,
            over: framing == Framing::Empty,
            failed: None,
            body,
            framing,
            blocked: false,
            began: false,
            moved: false,
        }
    }

    /// Whether the other side has been sent all that it was told of.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let whole = self.over || self.framing == Framing::Length(0);
        whole && self.failed.is_none() && self.is_flushed()
    }

    fn sends_no_more(&self) -> bool {
        !self.began || self.is_flushed()
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.out.len() && self.pieces.is_empty()
    }

    /// The output's room, for the next message.
    #[must_use]
    pub fn into_output(mut self) -> Vec<u8> {
        self.out.clear();
        self.out
    }

    /// Sends what there is; ready when all of it was sent. Now and then it makes a pause, so that what
    /// comes from the other side meanwhile is seen.
    ///
    /// # Errors
    ///
    /// When the body breaks off, or is not what the head told of it, or the socket takes no more.
    pub fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), OutgoingError>> {
        for _ in 0..WRITES {
            if self.failed.is_none() {
                self.failed = self.gather(cx).err();
            }
            // Of what is not worth beginning nothing is sent.
            if self.sends_no_more()
                && let Some(error) = self.failed.take()
            {
                return Poll::Ready(Err(error));
            }
            if self.is_flushed() {
                return if self.over {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            self.blocked = true;
            ready!(self.poll_write(stream, cx)).map_err(OutgoingError::Write)?;
            self.blocked = false;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes frames as long as they are there, up to what one write is good for.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), OutgoingError> {
        if self.sent >= GATHERED {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        while !self.over && self.has_room() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.encode(frame)?,
                Poll::Ready(Some(Err(error))) => return Err(OutgoingError::Body(error)),
                Poll::Ready(None) => self.finish()?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        match self.pieces.len() {
            0 => self.out.len() - self.sent < GATHERED,
            pieces => self.queued < QUEUED && pieces < MOST_PIECES,
        }
    }

    /// Puts a few bytes of framing behind what is there.
    fn put(&mut self, bytes: &[u8]) {
        match self.pieces.is_empty() {
            true => self.out.extend_from_slice(bytes),
            false => self.push(Bytes::copy_from_slice(bytes)),
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.queued += piece.len();
        self.pieces.push_back(piece);
    }

    fn encode(&mut self, frame: Frame<Bytes>) -> Result<(), OutgoingError> {
        let frame = match frame.into_data() {
            Ok(data) => return self.encode_data(data),
            Err(frame) => frame,
        };
        if let Ok(trailers) = frame.into_trailers() {
            self.encode_trailers(&trailers)?;
        }
        Ok(())
    }

    /// An empty chunk would end the body (RFC 9112 7.1).
    fn encode_data(&mut self, data: Bytes) -> Result<(), OutgoingError> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Empty => return Err(OutgoingError::Length),
            Framing::Length(left) => {
                let length = data.len() as u64;
                *left = left.checked_sub(length).ok_or(OutgoingError::Length)?;
            }
            Framing::Chunked(_) if self.pieces.is_empty() => {
                // Writing to memory can't fail.
                let _ = write!(self.out, "{:x}\r\n", data.len());
            }
            Framing::Chunked(_) => self.push(format!("{:x}\r\n", data.len()).into()),
            Framing::UntilClose => {}
        }
        if data.len() <= GATHERED && self.pieces.is_empty() {
            self.out.extend_from_slice(&data);
        } else {
            self.push(data);
        }
        if matches!(self.framing, Framing::Chunked(_)) {
            self.put(b"\r\n");
        }
        // The end of a body with a length needs no further look at it.
        self.over = self.framing == Framing::Length(0) && self.body.is_end_stream();
        Ok(())
    }

    /// RFC 9112 7.1.2: only chunks can have trailers behind them.
    fn encode_trailers(&mut self, trailers: &HeaderMap) -> Result<(), OutgoingError> {
        let Framing::Chunked(named) = &self.framing else {
            return self.finish();
        };
        let mut last = b"0\r\n".to_vec();
        for (name, value) in trailers {
            if named.contains(name) {
                line(&mut last, name, value.as_bytes());
            }
        }
        last.extend_from_slice(b"\r\n");
        self.put(&last);
        self.over = true;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), OutgoingError> {
        match self.framing {
            Framing::Length(1..) => return Err(OutgoingError::Length),
            Framing::Chunked(_) => self.put(b"0\r\n\r\n"),
            Framing::Length(0) | Framing::Empty | Framing::UntilClose => {}
        }
        self.over = true;
        Ok(())
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let head = &self.out[self.sent..];
        let stream = Pin::new(stream);
        let written = if self.pieces.is_empty() {
            ready!(stream.poll_write(cx, head))?
        } else {
            let pieces = self.pieces.iter().map(|piece| &piece[..]);
            let all = std::iter::once(head).chain(pieces);
            let filled = all.filter(|slice| !slice.is_empty()).map(IoSlice::new);
            let slices: SmallVec<[_; MOST_PIECES + 3]> = filled.collect();
            ready!(stream.poll_write_vectored(cx, &slices))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.began = true;
        self.moved = true;
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.out.len() - self.sent);
        self.sent += of_head;
        let mut rest = written - of_head;
        self.queued -= rest;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > rest {
                piece.advance(rest);
                break;
            }
            rest -= piece.len();
            self.pieces.pop_front();
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
    }
}

/// Frames up to this size are copied behind the head, into one write.
pub const GATHERED: usize = 4 << 10;
/// How much is taken of a body that comes faster than it can be sent: enough for one write.
const QUEUED: usize = 64 << 10;
/// Of how many pieces one write is made; a frame in chunks is three.
const MOST_PIECES: usize = 29;
/// Writes without a look at what the other side says.
const WRITES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::http1::{Decoded, Decoder};
    use bytes::BytesMut;
    use http_body_util::StreamBody;
    use proptest::prelude::*;
    use smallvec::smallvec;
    use std::future::poll_fn;

    /// A socket that takes as much as its script says, and now and then nothing.
    struct Reluctant {
        taken: Vec<u8>,
        script: Vec<usize>,
        step: usize,
    }

    impl Reluctant {
        fn take(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.step += 1;
            match self.script[self.step % self.script.len()] {
                0 => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                most => {
                    let taken = most.min(bytes.len());
                    self.taken.extend_from_slice(&bytes[..taken]);
                    Poll::Ready(Ok(taken))
                }
            }
        }
    }

    impl AsyncWrite for Reluctant {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(cx, bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            self.take(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn body(frames: &[Vec<u8>], trailers: Option<HeaderMap>) -> Body {
        let data = frames
            .iter()
            .cloned()
            .map(|frame| Frame::data(frame.into()));
        let frames: Vec<Result<_, BodyError>> =
            data.chain(trailers.map(Frame::trailers)).map(Ok).collect();
        Body::boxed(StreamBody::new(futures_util::stream::iter(frames)))
    }

    /// What arrives behind the head of a request that is sent in full.
    async fn sent(
        framing: Framing,
        body: Body,
        script: Vec<usize>,
    ) -> Result<Vec<u8>, OutgoingError> {
        let mut outgoing = Outgoing::new(b"head".to_vec(), framing, body);
        let mut socket = Reluctant {
            taken: Vec::new(),
            script,
            step: 0,
        };
        poll_fn(|cx| outgoing.poll(&mut socket, cx)).await?;
        assert!(outgoing.is_complete());
        Ok(socket.taken.strip_prefix(b"head").unwrap().to_vec())
    }

    /// The body of chunks, which must end with them.
    fn decoded(bytes: &[u8]) -> (Vec<u8>, Option<HeaderMap>) {
        let (mut decoder, mut buffer) = (Decoder::chunked(), BytesMut::from(bytes));
        let mut body = Vec::new();
        loop {
            match decoder.decode(&mut buffer).unwrap() {
                Decoded::Data(data) => body.extend_from_slice(&data),
                Decoded::Trailers(trailers) => return (body, Some(trailers)),
                Decoded::End => {
                    assert!(buffer.is_empty());
                    return (body, None);
                }
                Decoded::More => panic!("the body does not end: {bytes:?}"),
            }
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn a_body_arrives_whole_however_little_the_server_takes_at_once(
            sizes in prop::collection::vec(prop_oneof![0_usize..20, 4090_usize..4110, 9000_usize..9002], 0..6),
            mut script in prop::collection::vec(prop_oneof![Just(0), 1_usize..6, 4000_usize..9100], 1..9),
        ) {
            script.push(700);
            let frames: Vec<Vec<u8>> =
                (b'a'..).zip(sizes).map(|(byte, size)| vec![byte; size]).collect();
            let whole = frames.concat();
            let chunks = sent(Framing::Chunked(smallvec![]), body(&frames, None), script.clone());
            prop_assert_eq!(decoded(&run(chunks).unwrap()).0, whole.clone());
            let told = sent(Framing::Length(whole.len() as u64), body(&frames, None), script);
            prop_assert_eq!(run(told).unwrap(), whole);
        }
    }

    #[tokio::test]
    async fn a_body_that_differs_from_its_length_is_not_sent_to_its_end() {
        for length in [0, 4, 6] {
            let sent = sent(
                Framing::Length(length),
                body(&[b"hello".to_vec()], None),
                vec![99],
            );
            assert!(matches!(sent.await, Err(OutgoingError::Length)), "{length}");
        }
    }

    #[tokio::test]
    async fn what_came_before_a_body_broke_off_is_sent_and_no_end_of_it() {
        let frame = |size| Ok(Frame::data(Bytes::from(vec![b'x'; size])));
        for (sizes, begun) in [(&[9000, 9000, 10][..], true), (&[10], true), (&[], false)] {
            let frames = sizes.iter().copied().map(frame);
            let broken: Vec<Result<_, BodyError>> = frames.chain([Err("broken".into())]).collect();
            // The head has left before the rest is known.
            let first = futures_util::stream::once(async {
                tokio::task::yield_now().await;
                Ok(Frame::data(Bytes::from_static(b"first")))
            });
            let rest = futures_util::stream::iter(broken);
            let body = match begun {
                true => Body::boxed(StreamBody::new(Box::pin(futures_util::StreamExt::chain(
                    first, rest,
                )))),
                false => Body::boxed(StreamBody::new(rest)),
            };
            let framing = Framing::Chunked(smallvec![]);
            let mut outgoing = Outgoing::new(b"head".to_vec(), framing, body);
            let mut socket = Reluctant {
                taken: Vec::new(),
                script: vec![3, 700, 0],
                step: 0,
            };
            let sent = poll_fn(|cx| outgoing.poll(&mut socket, cx)).await;
            assert!(matches!(sent, Err(OutgoingError::Body(_))));
            assert!(!outgoing.is_complete());
            let count = socket.taken.iter().filter(|byte| **byte == b'x').count();
            assert_eq!(count, sizes.iter().sum::<usize>());
            assert_eq!(socket.taken.is_empty(), !begun);
            assert!(!socket.taken.ends_with(b"0\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn only_trailers_that_were_named_are_sent() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("7"));
        trailers.insert("x-other", http::HeaderValue::from_static("8"));
        let named = Framing::Chunked(smallvec![HeaderName::from_static("x-sum")]);
        let sent = sent(named, body(&[b"a".to_vec()], Some(trailers)), vec![3]).await;
        let (body, trailers) = decoded(&sent.unwrap());
        let trailers = trailers.unwrap();
        assert_eq!((body.as_slice(), trailers.len()), (&b"a"[..], 1));
        assert_eq!(trailers["x-sum"], "7");
    }
}
