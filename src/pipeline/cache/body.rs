//! The bytes of a stored answer. They are shared: serving a part of them copies nothing.

use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::room::Bodies;
use crate::exchange::{Body, BodyError};

/// A whole body.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredBody {
    segments: Segments,
    length: u64,
}

#[derive(Clone, Debug, Default)]
enum Segments {
    #[default]
    None,
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl StoredBody {
    /// Copies what arrived into pieces of its own.
    ///
    /// What arrives are slices of the reader's buffers: kept as they are, a small body would hold a
    /// large buffer that no account knows of.
    pub(super) fn compact(arrived: &[Bytes], bodies: &Arc<Bodies>) -> Self {
        let length: usize = arrived.iter().map(Bytes::len).sum();
        let mut rest = length;
        let mut segments = Vec::with_capacity(length.div_ceil(SEGMENT));
        let mut segment = Vec::with_capacity(rest.min(SEGMENT));
        for mut piece in arrived.iter().map(|bytes| &bytes[..]) {
            while !piece.is_empty() {
                let room = (SEGMENT - segment.len()).min(piece.len());
                segment.extend_from_slice(&piece[..room]);
                piece = &piece[room..];
                rest -= room;
                if segment.len() == SEGMENT || rest == 0 {
                    segments.push(bodies.piece(segment));
                    segment = Vec::with_capacity(rest.min(SEGMENT));
                }
            }
        }
        Self::of(segments, length as u64)
    }

    fn of(mut segments: Vec<Bytes>, length: u64) -> Self {
        let segments = match segments.len() {
            0 => Segments::None,
            1 => Segments::One(segments.remove(0)),
            _ => Segments::Many(segments.into()),
        };
        Self { segments, length }
    }

    /// Its pieces, in their order.
    pub(super) fn pieces(&self) -> &[Bytes] {
        match &self.segments {
            Segments::None => &[],
            Segments::One(bytes) => std::slice::from_ref(bytes),
            Segments::Many(segments) => segments,
        }
    }

    /// Bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of memory, with what holds them.
    pub(super) fn weight(&self) -> usize {
        let held = match &self.segments {
            Segments::None => 0,
            Segments::One(_) => SHARED,
            Segments::Many(segments) => segments.len() * (SHARED + size_of::<Bytes>()),
        };
        self.length as usize + held
    }

    /// All of it, as an answer's body.
    pub(super) fn whole(&self, trailers: Option<&HeaderMap>) -> Body {
        match (&self.segments, trailers) {
            (Segments::None, None) => Body::empty(),
            (Segments::One(bytes), None) => Body::full(bytes.clone()),
            _ => self.reader(0..self.length, trailers.cloned()),
        }
    }

    /// A part of it; `range` lies within.
    pub(super) fn part(&self, range: Range<u64>) -> Body {
        match &self.segments {
            Segments::None => Body::empty(),
            Segments::One(bytes) => {
                let end = (range.end as usize).min(bytes.len());
                let start = (range.start as usize).min(end);
                Body::full(bytes.slice(start..end))
            }
            Segments::Many(_) => self.reader(range, None),
        }
    }

    fn reader(&self, range: Range<u64>, trailers: Option<HeaderMap>) -> Body {
        Body::boxed(Reader {
            segments: self.segments.clone(),
            at: range.start,
            end: range.end.min(self.length),
            trailers,
        })
    }
}

/// Serves one answer out of shared segments.
struct Reader {
    segments: Segments,
    at: u64,
    end: u64,
    trailers: Option<HeaderMap>,
}

impl Reader {
    fn next(&self) -> Option<Bytes> {
        let left = (self.end - self.at) as usize;
        // Every segment but the last is full.
        let (index, offset) = (self.at as usize / SEGMENT, self.at as usize % SEGMENT);
        let segment = match &self.segments {
            Segments::None => return None,
            Segments::One(bytes) => bytes,
            Segments::Many(segments) => segments.get(index)?,
        };
        let end = segment.len().min(offset.checked_add(left)?);
        (offset < end).then(|| segment.slice(offset..end))
    }
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.at < self.end
            && let Some(bytes) = self.next()
        {
            self.at += bytes.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let trailers = self.trailers.take();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // Told a length, hyper would send no chunks, and behind those alone trailers can follow.
        if self.trailers.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.end - self.at)
    }
}

/// The largest piece: in one for most answers, and no page of memory need be found for megabytes.
const SEGMENT: usize = 256 << 10;
/// What shares a piece of bytes: its count, its place and who counts it.
const SHARED: usize = 56;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: usize) -> Bytes {
        (0..length).map(|index| (index % 251) as u8).collect()
    }

    fn read(body: Body) -> (Bytes, Option<HeaderMap>) {
        use futures_util::FutureExt;
        let collected = body.collect().now_or_never().unwrap().unwrap();
        let trailers = collected.trailers().cloned();
        (collected.to_bytes(), trailers)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_part_of_a_stored_body_is_what_arrived(
            length in 0_usize..600_000,
            cut in 1_usize..100_000,
            from in 0_u64..600_000,
            to in 0_u64..600_000,
        ) {
            let whole = bytes(length);
            let arrived: Vec<_> = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
            let stored = StoredBody::compact(&arrived, &Arc::default());
            prop_assert_eq!(stored.length(), length as u64);
            prop_assert!(stored.weight() >= length);
            prop_assert_eq!(&read(stored.whole(None)).0, &whole);
            let (from, to) = (from.min(length as u64), to.min(length as u64));
            if from <= to {
                let part = read(stored.part(from..to)).0;
                prop_assert_eq!(&part, &whole.slice(from as usize..to as usize));
            }
        }
    }

    #[test]
    fn trailers_follow_a_body_of_any_size() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", 17.into());
        for length in [0, 1, SEGMENT + 1] {
            let stored = StoredBody::compact(&[bytes(length)], &Arc::default());
            let (body, told) = read(stored.whole(Some(&trailers)));
            assert_eq!((body.len(), told.as_ref()), (length, Some(&trailers)));
        }
    }

    /// The pieces of memory that a body is sent from.
    fn frames(mut body: Body) -> Vec<Bytes> {
        use futures_util::FutureExt;
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().now_or_never().unwrap() {
            frames.extend(frame.unwrap().into_data());
        }
        frames
    }

    #[test]
    fn what_is_served_is_not_copied() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", 17.into());
        for length in [1, 1000, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 7] {
            let stored = StoredBody::compact(&[bytes(length)], &Arc::default());
            let (from, to) = (length as u64 / 3, length as u64 - length as u64 / 4);
            for (body, expected) in [
                (stored.whole(None), length as u64),
                (stored.whole(Some(&trailers)), length as u64),
                (stored.part(from..to), to - from),
            ] {
                let frames = frames(body);
                let sum: usize = frames.iter().map(Bytes::len).sum();
                assert_eq!(sum as u64, expected);
                for frame in frames.iter().map(|frame| frame.as_ptr_range()) {
                    let mut pieces = stored.pieces().iter().map(|piece| piece.as_ptr_range());
                    let lies_within = |piece: Range<*const u8>| {
                        piece.start <= frame.start && frame.end <= piece.end
                    };
                    assert!(pieces.any(lies_within), "a copy of {length} bytes");
                }
            }
        }
    }
}
