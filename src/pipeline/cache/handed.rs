//! An answer's body that only the first who asked gets.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::exchange::{Body, BodyError, Context};

/// A body that only the first who asked gets. What it says of its breaking off, it says to the
/// record of the fetch: here that is told on to the client's.
pub(super) struct Handed {
    body: Body,
    child: Arc<Context>,
    context: Arc<Context>,
}

impl Handed {
    /// Around a body that came by another record.
    pub(super) fn over(body: Body, child: &Arc<Context>, context: &Arc<Context>) -> Body {
        body.within(|body| Self {
            body,
            child: Arc::clone(child),
            context: Arc::clone(context),
        })
    }
}

impl HttpBody for Handed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(task);
        if let (Poll::Ready(Some(Err(_))), Some(reason)) = (&polled, self.child.reason()) {
            self.context.note(reason);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
