//! What a request holds until it is over: its place in a limit of concurrency.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::limit::{Limit, LimitCounters};
use crate::{
    exchange::{Body, BodyError, Response, Tunnel},
    store::{KeyHash, Place, Window},
};

/// A place among those in flight; dropping it gives it back.
pub(super) struct Held {
    counters: Arc<LimitCounters>,
    /// The key under which it is counted.
    under: KeyHash,
    /// The same in Redis, where that counts too. It gives itself back.
    pub(super) place: Option<Arc<Place>>,
}

impl Held {
    /// What was taken of a limit, where that is held and not used up.
    pub(super) fn of(limit: &Limit, under: KeyHash) -> Option<Self> {
        limit.is_held().then(|| Self {
            counters: Arc::clone(&limit.counters),
            under,
            place: None,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let window = [Window::held(1)];
        self.counters.counting.give_back(self.under, &window, 0, 1);
    }
}

/// All that one request holds.
pub(super) type AllHeld = Vec<Held>;

/// Ties what is held to the end of an answer: of its body, or of its tunnel.
///
/// A client that leaves drops the body, and with it the places.
pub(super) fn hold_until_end(response: Response, held: AllHeld) -> Response {
    if held.is_empty() {
        return response;
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return hold_until_closed(response, held);
    }
    response.map(|body| body.within(|body| HeldBody { body, held }))
}

fn hold_until_closed(mut response: Response, held: AllHeld) -> Response {
    let tunnel = response.extensions_mut().remove::<Tunnel>();
    if let Some(run) = tunnel.and_then(|tunnel| tunnel.take()) {
        let run = async move {
            let end = run.await;
            drop(held);
            end
        };
        response.extensions_mut().insert(Tunnel::new(run));
    }
    response
}

struct HeldBody {
    body: Body,
    held: AllHeld,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(task);
        // hyper does not ask for what comes behind the last frame.
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.held.clear();
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
