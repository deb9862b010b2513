//! `/events`: server-sent events, one a second, to see that an answer streams.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Uri, header};
use http_body::Frame;
use http_body_util::StreamBody;

use super::{Body, Response, number, with_header};

/// `?count=` events, 60 by default; the first comes at once.
pub(super) fn answer(uri: &Uri) -> Response {
    let count = number(uri, "count", 60, 1..=3600);
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    let mut next = 1;
    let events = stream::poll_fn(move |cx| {
        if next > count {
            return std::task::Poll::Ready(None);
        }
        clock.poll_tick(cx).map(|_| {
            let event = event(next, count);
            next += 1;
            Some(event)
        })
    });
    let response = Response::new(Body::boxed(StreamBody::new(events)));
    let response = with_header(
        response,
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    with_header(
        response,
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    )
}

fn event(number: u64, count: u64) -> Result<Frame<Bytes>, Infallible> {
    let text = format!("id: {number}\ndata: {{\"number\":{number},\"of\":{count}}}\n\n");
    Ok(Frame::data(Bytes::from(text)))
}
