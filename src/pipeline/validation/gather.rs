//! Holds a body in memory to be judged, and hands it on as it came.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::memory::{Judge, Reservation};
use crate::exchange::{Body, BodyError};

/// A body that was read.
pub(super) enum Gathered {
    /// All of it, and the same once more to be sent on.
    Whole {
        /// Its bytes.
        bytes: Bytes,
        /// Bytes and trailers.
        body: Body,
    },
    /// The budget is used up. What was read already stands in front of the rest.
    NoRoom(Body),
}

/// Reads a body within the budget; the route's own limit is already around it.
///
/// # Errors
///
/// When the body breaks off or is over the limit.
pub(super) async fn gather(mut body: Body, judge: &Judge) -> Result<Gathered, BodyError> {
    let mut reservation = judge.reserve();
    let mut held = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                let room = reservation.grow(data.len());
                held.extend_from_slice(&data);
                if !room {
                    let body = replay(keep(held, reservation), None, Some(body));
                    return Ok(Gathered::NoRoom(body));
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let bytes = keep(held, reservation);
    let body = match trailers {
        None => Body::full(bytes.clone()),
        trailers => replay(bytes.clone(), trailers, None),
    };
    Ok(Gathered::Whole { bytes, body })
}

/// Bytes that hold their share of the budget until the last reader has let go of them.
fn keep(held: Vec<u8>, reservation: Reservation) -> Bytes {
    struct Kept(Vec<u8>, #[allow(dead_code)] Reservation);
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Kept(held, reservation))
}

fn replay(held: Bytes, trailers: Option<HeaderMap>, rest: Option<Body>) -> Body {
    Body::boxed(Replay {
        held,
        rest,
        trailers,
    })
}

/// What was read, and what was not.
struct Replay {
    held: Bytes,
    rest: Option<Body>,
    trailers: Option<HeaderMap>,
}

impl HttpBody for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        if let Some(rest) = &mut self.rest {
            return Pin::new(rest).poll_frame(task);
        }
        Poll::Ready(
            self.trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers))),
        )
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref();
        self.held.is_empty() && self.trailers.is_none() && rest.is_none_or(Body::is_end_stream)
    }

    /// Without an upper bound where trailers follow: hyper would frame the body by its length and
    /// leave them out.
    fn size_hint(&self) -> SizeHint {
        let held = self.held.len() as u64;
        let rest = self
            .rest
            .as_ref()
            .map(HttpBody::size_hint)
            .unwrap_or_default();
        let mut hint = SizeHint::new();
        hint.set_lower(held + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(held + upper);
        }
        hint
    }
}
