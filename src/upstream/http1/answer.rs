//! An answer's body, read from the connection as it is asked for.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio_util::task::AbortOnDropHandle;

use super::Connection;
use crate::exchange::{
    BodyError,
    http1::{Decoded, Decoder},
};

/// The body, and the connection that it comes from.
pub(in super::super) struct Answer {
    connection: Box<Connection>,
    decoder: Decoder,
    reusable: bool,
    /// The rest of the request; it ends with an answer that nobody wants.
    rest: Option<AbortOnDropHandle<()>>,
}

impl Answer {
    pub(super) fn new(
        connection: Box<Connection>,
        decoder: Decoder,
        reusable: bool,
        rest: Option<AbortOnDropHandle<()>>,
    ) -> Self {
        Self {
            connection,
            decoder,
            reusable,
            rest,
        }
    }

    /// The whole body, if all of it is here already.
    pub(in super::super) fn take_whole(&mut self) -> Option<Bytes> {
        let left = usize::try_from(self.decoder.left()?).ok()?;
        let there = left <= self.connection.input.buffer.len();
        there.then(|| {
            self.decoder = Decoder::length(0);
            self.connection.input.take(left)
        })
    }

    /// The connection of an answer that was read to its end, if it can serve another request. What
    /// is left of the request goes on: a server that answers early may still want to have it.
    pub(in super::super) fn finish(self) -> Option<Box<Connection>> {
        if let Some(rest) = self.rest {
            drop(rest.detach());
            return None;
        }
        let mut connection = self.connection;
        // Bytes behind the answer would answer the next request.
        let clean = self.decoder.is_over() && connection.input.is_empty();
        (self.reusable && clean).then(|| {
            connection.rest();
            connection
        })
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self {
            connection,
            decoder,
            ..
        } = &mut *self;
        let connection = &mut **connection;
        loop {
            match decoder.decode(&mut connection.input.buffer)? {
                Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Decoded::Trailers(trailers) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Decoded::End => return Poll::Ready(None),
                Decoded::More => {}
            }
            let read = ready!(connection.input.poll_read(&mut connection.stream, cx))?;
            if read == 0 {
                decoder.close()?;
                return Poll::Ready(None);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder
            .left()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
