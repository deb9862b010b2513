//! A request's body on its way from the connection to whoever reads it.
//!
//! The connection reads one frame ahead and no more: a reader that is slow slows the client. Whoever
//! reads may be another task, so there is a lock, which nobody holds for long.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::exchange::BodyError;

#[derive(Debug, Default)]
struct Shared(Mutex<Slot>);

#[derive(Debug, Default)]
struct Slot {
    frame: Option<Frame<Bytes>>,
    end: Option<End>,
    /// Bytes that the reader has not been given, where that is known.
    left: Option<u64>,
    /// The reader has asked for the body.
    asked: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What comes behind the last frame.
#[derive(Debug)]
enum End {
    Whole,
    Broken(BodyError),
    /// It has been told that the body broke off.
    Told,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body as its reader has it.
#[derive(Debug)]
pub(super) struct Received(Arc<Shared>);

/// The body as its connection has it. Dropped before the body's end, it breaks the body off.
#[derive(Debug)]
pub(super) struct Feed(Arc<Shared>);

/// Whether a body wants more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// There is room for a frame; whether the reader has `asked` for the body yet.
    Room { asked: bool },
    /// Nobody will read on.
    Nothing,
}

/// A body of so many bytes, or of nobody knows how many.
pub(super) fn channel(left: Option<u64>) -> (Feed, Received) {
    let shared = Arc::new(Shared(Mutex::new(Slot {
        left,
        ..Slot::default()
    })));
    (Feed(Arc::clone(&shared)), Received(shared))
}

impl Feed {
    /// Ready when there is something to do.
    pub(super) fn poll_wants(&self, cx: &Context<'_>) -> Poll<Wants> {
        let mut slot = self.0.lock();
        if slot.reader_gone {
            return Poll::Ready(Wants::Nothing);
        }
        // What waits for its reader to begin is woken by that, and has room already.
        slot.writer = Some(cx.waker().clone());
        match slot.frame {
            None => Poll::Ready(Wants::Room { asked: slot.asked }),
            Some(_) => Poll::Pending,
        }
    }

    /// Whether nobody will read on.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.lock().reader_gone
    }

    pub(super) fn data(&self, data: Bytes) {
        self.put(Frame::data(data));
    }

    /// The last frame.
    pub(super) fn trailers(self, trailers: HeaderMap) {
        self.put(Frame::trailers(trailers));
        self.finish(End::Whole);
    }

    fn put(&self, frame: Frame<Bytes>) {
        let mut slot = self.0.lock();
        slot.frame = Some(frame);
        wake(slot.reader.take(), slot);
    }

    /// The body is whole.
    pub(super) fn end(self) {
        self.finish(End::Whole);
    }

    /// The body has broken off.
    pub(super) fn fail(self, error: BodyError) {
        self.finish(End::Broken(error));
    }

    fn finish(&self, end: End) {
        let mut slot = self.0.lock();
        if slot.end.is_none() {
            slot.end = Some(end);
            wake(slot.reader.take(), slot);
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.finish(End::Broken("the client's connection ended".into()));
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.reader_gone = true;
        slot.frame = None;
        wake(slot.writer.take(), slot);
    }
}

/// Wakes without the lock.
fn wake(waker: Option<Waker>, slot: MutexGuard<'_, Slot>) {
    drop(slot);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut slot = self.0.lock();
        let first = !std::mem::replace(&mut slot.asked, true);
        if let Some(frame) = slot.frame.take() {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            slot.left = slot.left.map(|left| left.saturating_sub(length));
            wake(slot.writer.take(), slot);
            return Poll::Ready(Some(Ok(frame)));
        }
        match slot.end.take() {
            Some(End::Whole) => {
                slot.end = Some(End::Whole);
                Poll::Ready(None)
            }
            Some(End::Broken(error)) => {
                slot.end = Some(End::Told);
                Poll::Ready(Some(Err(error)))
            }
            // Asked for more behind an error: whatever that is good for, it is not the end.
            Some(End::Told) => {
                slot.end = Some(End::Told);
                Poll::Ready(Some(Err("the body broke off".into())))
            }
            None => {
                slot.reader = Some(cx.waker().clone());
                if first {
                    wake(slot.writer.take(), slot);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let slot = self.0.lock();
        slot.frame.is_none() && matches!(slot.end, Some(End::Whole))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.0.lock().left;
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    impl Woken {
        fn count(&self) -> usize {
            self.0.load(SeqCst)
        }
    }

    fn next(body: &mut Received) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(&noop_waker()))
    }

    fn data(body: &mut Received) -> Bytes {
        match next(body) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
            other => panic!("no data: {other:?}"),
        }
    }

    fn wants(feed: &Feed) -> Poll<Wants> {
        feed.poll_wants(&Context::from_waker(&noop_waker()))
    }

    #[test]
    fn one_frame_is_held_and_its_reader_makes_room() {
        let (feed, mut body) = channel(Some(5));
        assert_eq!(wants(&feed), Poll::Ready(Wants::Room { asked: false }));
        assert!(next(&mut body).is_pending());
        assert_eq!(wants(&feed), Poll::Ready(Wants::Room { asked: true }));
        feed.data(Bytes::from_static(b"abc"));
        assert!(wants(&feed).is_pending());
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(data(&mut body), "abc");
        assert_eq!(body.size_hint().exact(), Some(2));
        feed.data(Bytes::from_static(b"de"));
        feed.end();
        assert!(!body.is_end_stream());
        assert_eq!(data(&mut body), "de");
        assert!(body.is_end_stream());
        assert!(matches!(next(&mut body), Poll::Ready(None)));
    }

    #[test]
    fn both_sides_are_woken_when_there_is_something_to_do() {
        let (reader, writer) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let (reading, writing) = (reader.clone().into(), writer.clone().into());
        let (feed, mut body) = channel(None);
        assert!(feed.poll_wants(&Context::from_waker(&writing)).is_ready());
        let mut cx = Context::from_waker(&reading);
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
        assert_eq!(writer.count(), 1, "it has been asked for");
        feed.data(Bytes::from_static(b"a"));
        assert_eq!(reader.count(), 1);
        assert!(feed.poll_wants(&Context::from_waker(&writing)).is_pending());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
        assert_eq!(writer.count(), 2, "there is room again");
        assert!(feed.poll_wants(&Context::from_waker(&writing)).is_ready());
        drop(body);
        assert_eq!(writer.count(), 3, "nobody reads on");
        assert_eq!(wants(&feed), Poll::Ready(Wants::Nothing));
        assert!(feed.is_abandoned());
    }

    #[test]
    fn a_body_that_is_not_whole_never_looks_whole() {
        let (feed, mut body) = channel(None);
        feed.data(Bytes::from_static(b"a"));
        drop(feed);
        assert_eq!(data(&mut body), "a");
        assert!(!body.is_end_stream());
        for _ in 0..2 {
            assert!(matches!(next(&mut body), Poll::Ready(Some(Err(_)))));
        }
        let (feed, mut body) = channel(Some(3));
        feed.fail("why".into());
        let Poll::Ready(Some(Err(error))) = next(&mut body) else {
            panic!("it is broken");
        };
        assert_eq!(error.to_string(), "why");
    }

    #[test]
    fn trailers_are_the_last_frame() {
        let (feed, mut body) = channel(None);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("7"));
        feed.trailers(trailers.clone());
        let Poll::Ready(Some(Ok(frame))) = next(&mut body) else {
            panic!("there are trailers");
        };
        assert_eq!(frame.into_trailers().unwrap(), trailers);
        assert!(matches!(next(&mut body), Poll::Ready(None)));
    }
}
