//! A part of a body that is still on its way.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context as Task, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::coop::consume_budget;

use super::FillBody;
use crate::exchange::{BodyError, BodyFault, Reason};

/// So many bytes of a body, from where a reader stands.
pub(in crate::pipeline::cache) struct PartBody<T: Clone> {
    /// What has been read of it and not yet been sent.
    next: Bytes,
    /// It leaves when nothing more is needed, so that nobody waits for it.
    reader: Option<FillBody<T>>,
    left: u64,
}

impl<T: Clone> FillBody<T> {
    /// The part that begins behind so many bytes, once its first byte is there. `None` when the body
    /// does not come so far.
    pub(in crate::pipeline::cache) async fn part(
        mut self,
        mut before: u64,
        length: u64,
    ) -> Option<PartBody<T>> {
        loop {
            let mut piece = self.next_piece().await?.ok()?;
            let here = piece.len() as u64;
            if before < here {
                return Some(PartBody {
                    next: piece.split_off(before as usize),
                    reader: Some(self),
                    left: length,
                });
            }
            before -= here;
        }
    }

    /// How long the body is, once it is there. `None` when it breaks off.
    pub(in crate::pipeline::cache) async fn length(mut self) -> Option<u64> {
        let mut length = 0;
        while let Some(piece) = self.next_piece().await {
            length += piece.ok()?.len() as u64;
        }
        Some(length)
    }

    /// The next bytes. What breaks off here is nothing that the client's record has to tell: it gets
    /// another answer.
    async fn next_piece(&mut self) -> Option<Result<Bytes, Reason>> {
        // Pieces that are there already let nobody wait, and there may be many.
        consume_budget().await;
        let frame = poll_fn(|task| self.fill.locked().poll_read(self.slot, task)).await?;
        // Trailers are no bytes, and the last.
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }
}

impl<T: Clone> PartBody<T> {
    fn poll_next(&mut self, task: &mut Task<'_>) -> Poll<Result<Bytes, BodyError>> {
        let cut = || BodyError::from(BodyFault(Reason::UpstreamCut));
        let Some(reader) = &mut self.reader else {
            return Poll::Ready(Err(cut()));
        };
        // It is shorter than its head has said.
        let Some(frame) = ready!(Pin::new(reader).poll_frame(task)) else {
            return Poll::Ready(Err(cut()));
        };
        Poll::Ready(frame.and_then(|frame| frame.into_data().map_err(|_| cut())))
    }
}

impl<T: Clone> HttpBody for PartBody<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if this.next.is_empty() {
            match ready!(this.poll_next(task)) {
                Ok(bytes) => this.next = bytes,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let mut bytes = std::mem::take(&mut this.next);
        bytes.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
        this.left -= bytes.len() as u64;
        if this.left == 0 {
            this.reader = None;
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
