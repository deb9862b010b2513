//! One fetch for all who wait: its answer's head, and its body as it arrives.
//!
//! A task of its own fetches; whoever asked first is just a reader, and may leave. Readers poll from
//! any worker: a short lock, no lock across a wait. A body that outgrows what may be stored is
//! still handed on: nobody new may read along then, what all have read is given up, and the fetch
//! goes at the pace of the slowest reader, unless that one stalls the others.
//!
//! When the task is gone, however that came, nobody waits for it any more, and a body that did not
//! come to its end is an error to each of its readers: it never looks whole.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as Task, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{timeout, timeout_at},
};

use super::room::Room;
use crate::exchange::{Body, BodyError, BodyFault, Context, Reason, Response};

/// One fetch. `T` is what its head became.
#[derive(Debug)]
pub(super) struct Fill<T> {
    changed: Notify,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    outcome: Option<T>,
    /// The answer itself, where nobody but its first reader may have it.
    handed: Option<Response>,
    /// What is still needed of the body, and how many pieces before it were given up.
    pieces: VecDeque<Bytes>,
    freed: usize,
    trailers: Option<HeaderMap>,
    end: Option<Result<(), Reason>>,
    /// Whether the answer is too large to be stored.
    passing: bool,
    readers: Vec<Option<Reading>>,
    fetch: Option<Waker>,
    /// Held as long as somebody reads what it was taken for.
    room: Option<Room>,
}

/// Where one reader is.
#[derive(Debug)]
struct Reading {
    at: usize,
    waker: Option<Waker>,
}

/// The fetching task's hold on a fill: dropped, it lets nobody wait.
pub(super) struct Fetching<T: Clone> {
    fill: Arc<Fill<T>>,
    lost: T,
}

/// A body that came whole and may be stored.
pub(super) struct Collected {
    /// As it arrived.
    pub(super) pieces: Vec<Bytes>,
    /// What followed it.
    pub(super) trailers: Option<HeaderMap>,
}

impl<T: Clone> Fill<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            changed: Notify::new(),
            state: Mutex::new(State {
                outcome: None,
                handed: None,
                pieces: VecDeque::new(),
                freed: 0,
                trailers: None,
                end: None,
                passing: false,
                readers: Vec::new(),
                fetch: None,
                room: None,
            }),
        })
    }

    /// Waits for the head.
    pub(super) async fn outcome(&self) -> T {
        loop {
            // Made before the look, or what happens in between would be missed.
            let changed = self.changed.notified();
            if let Some(outcome) = self.settled() {
                return outcome;
            }
            changed.await;
        }
    }

    /// What the head has become, if it is there.
    pub(super) fn settled(&self) -> Option<T> {
        self.locked().outcome.clone()
    }

    /// The answer that is nobody else's; there is one at most, and it is taken once.
    pub(super) fn take_response(&self) -> Option<Response> {
        self.locked().handed.take()
    }

    /// Reads along from the beginning; `None` when that is gone.
    ///
    /// Who asked first reads from before the head, or a large body could have gone on without it.
    pub(super) fn read(self: &Arc<Self>, context: &Arc<Context>) -> Option<FillBody<T>> {
        let mut state = self.locked();
        if state.passing || state.freed > 0 {
            return None;
        }
        let reading = Some(Reading { at: 0, waker: None });
        let free = state.readers.iter().position(Option::is_none);
        let slot = free.unwrap_or(state.readers.len());
        match free {
            Some(slot) => state.readers[slot] = reading,
            None => state.readers.push(reading),
        }
        Some(FillBody {
            fill: Arc::clone(self),
            context: Arc::clone(context),
            slot,
        })
    }

    fn locked(&self) -> MutexGuard<'_, State<T>> {
        // Whole after a panic elsewhere: nothing below the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: Bytes) {
        let mut state = self.locked();
        state.pieces.push_back(bytes);
        state.wake_readers();
    }

    fn end(&self, end: Result<(), Reason>, trailers: Option<HeaderMap>) {
        let mut state = self.locked();
        if state.end.is_none() {
            state.end = Some(end);
            state.trailers = trailers;
            state.wake_readers();
        }
    }

    /// From now on the answer is only handed on.
    fn pass(&self) {
        let mut state = self.locked();
        state.passing = true;
        state.give_up();
    }

    /// Waits until the slowest reader is near; an error when nobody reads any more.
    async fn keep_pace(&self) -> Result<(), Abandoned> {
        loop {
            let near = poll_fn(|task| self.locked().poll_near(task));
            match timeout(STALL, near).await {
                Ok(near) => return near,
                Err(_) => self.locked().cut_slowest(),
            }
        }
    }
}

/// Nobody reads any more.
struct Abandoned;

impl<T> State<T> {
    fn wake_readers(&mut self) {
        for reading in self.readers.iter_mut().flatten() {
            if let Some(waker) = reading.waker.take() {
                waker.wake();
            }
        }
    }

    fn total(&self) -> usize {
        self.freed + self.pieces.len()
    }

    fn slowest(&self) -> Option<usize> {
        let readers = self.readers.iter().flatten();
        readers.map(|reading| reading.at).min()
    }

    /// Gives up what all have read, if nothing is kept for storing.
    fn give_up(&mut self) {
        if !self.passing {
            return;
        }
        let read = self.slowest().unwrap_or_else(|| self.total());
        while self.freed < read && self.pieces.pop_front().is_some() {
            self.freed += 1;
        }
        if let Some(fetch) = self.fetch.take() {
            fetch.wake();
        }
    }

    fn poll_near(&mut self, task: &Task<'_>) -> Poll<Result<(), Abandoned>> {
        if self.slowest().is_none() {
            return Poll::Ready(Err(Abandoned));
        }
        let ahead: usize = self.pieces.iter().map(Bytes::len).sum();
        if ahead <= AHEAD {
            return Poll::Ready(Ok(()));
        }
        self.fetch = Some(task.waker().clone());
        Poll::Pending
    }

    /// Ready when nobody reads what is not stored.
    fn poll_abandoned(&mut self, task: &Task<'_>) -> Poll<()> {
        if self.passing && self.slowest().is_none() {
            return Poll::Ready(());
        }
        if !self
            .fetch
            .as_ref()
            .is_some_and(|fetch| fetch.will_wake(task.waker()))
        {
            self.fetch = Some(task.waker().clone());
        }
        Poll::Pending
    }

    /// One who stalls may not hold up others; alone it holds up nobody.
    fn cut_slowest(&mut self) {
        let Some(slowest) = self.slowest() else {
            return;
        };
        let readers = self.readers.iter().flatten();
        if readers.filter(|reading| reading.at > slowest).count() == 0 {
            return;
        }
        for slot in &mut self.readers {
            if let Some(reading) = slot.take_if(|reading| reading.at == slowest)
                && let Some(waker) = reading.waker
            {
                waker.wake();
            }
        }
        self.give_up();
    }

    fn poll_read(
        &mut self,
        slot: usize,
        task: &Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        let total = self.total();
        // It stalled and was cut off.
        let Some(Some(reading)) = self.readers.get_mut(slot) else {
            return Poll::Ready(Some(Err(Reason::WriteTimeout)));
        };
        if reading.at < total {
            let piece = self.pieces.get(reading.at - self.freed).cloned();
            reading.at += 1;
            self.give_up();
            // A reader's place is never behind what was given up.
            return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
        }
        match self.end {
            Some(Ok(())) if reading.at == total && self.trailers.is_some() => {
                reading.at += 1;
                let trailers = self.trailers.clone();
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(reason)) => Poll::Ready(Some(Err(reason))),
            None => {
                let same = reading.waker.as_ref();
                if !same.is_some_and(|waker| waker.will_wake(task.waker())) {
                    reading.waker = Some(task.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn is_over(&self, slot: usize) -> bool {
        let Some(Some(reading)) = self.readers.get(slot) else {
            return false;
        };
        let trailers = usize::from(self.trailers.is_some());
        self.end == Some(Ok(())) && reading.at >= self.total() + trailers
    }
}

impl<T: Clone> Fetching<T> {
    /// `lost` is what those who wait are told when the task ends without a head.
    pub(super) fn new(fill: &Arc<Fill<T>>, lost: T) -> Self {
        Self {
            fill: Arc::clone(fill),
            lost,
        }
    }

    /// Tells what the head has become. A response that nobody may share is handed to the first
    /// who asks.
    pub(super) fn settle(&self, outcome: T, handed: Option<Response>) {
        let mut state = self.fill.locked();
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
            state.handed = handed;
        }
        drop(state);
        self.fill.changed.notify_waiters();
    }

    /// Hands a body on and collects it. `None` when it is not to be stored: it broke off, or grew
    /// too large, or took too long.
    pub(super) async fn collect(&self, mut body: Body, mut room: Room) -> Option<Collected> {
        let mut trailers = None;
        loop {
            let frame = match self.next(&mut body, &mut room).await? {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(reason) => {
                    self.fill.end(Err(reason), None);
                    return None;
                }
            };
            match frame.into_data() {
                Ok(bytes) => self.hand_on(bytes, &mut room).await.ok()?,
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        let pieces = self.whole(room);
        self.fill.end(Ok(()), trailers.clone());
        pieces.map(|pieces| Collected { pieces, trailers })
    }

    /// The pieces, unless some were given up.
    fn whole(&self, room: Room) -> Option<Vec<Bytes>> {
        let mut state = self.fill.locked();
        state.room = Some(room);
        let whole = !state.passing && state.end.is_none();
        whole.then(|| state.pieces.iter().cloned().collect())
    }

    async fn hand_on(&self, bytes: Bytes, room: &mut Room) -> Result<(), Abandoned> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !room.take(bytes.len() as u64) {
            self.fill.pass();
        }
        self.fill.push(bytes);
        match room.is_full() {
            true => self.fill.keep_pace().await,
            false => Ok(()),
        }
    }

    /// The next frame; `None` when nobody reads what is not stored.
    async fn next(
        &self,
        body: &mut Body,
        room: &mut Room,
    ) -> Option<Result<Option<Frame<Bytes>>, Reason>> {
        let mut frame = poll_fn(|task| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(task) {
                return Poll::Ready(Some(frame));
            }
            self.fill.locked().poll_abandoned(task).map(|()| None)
        });
        let polled = match room.is_full() {
            true => frame.await,
            false => match timeout_at(room.deadline, &mut frame).await {
                Ok(polled) => polled,
                // It takes too long to be stored: from now on it is only handed on.
                Err(_) => {
                    room.fill_up();
                    self.fill.pass();
                    frame.await
                }
            },
        };
        let reason = |error: BodyError| {
            BodyFault::in_chain(&*error).map_or(Reason::UpstreamCut, |fault| fault.0)
        };
        polled.map(|frame| frame.transpose().map_err(reason))
    }
}

impl<T: Clone> Drop for Fetching<T> {
    fn drop(&mut self) {
        self.settle(self.lost.clone(), None);
        self.fill.end(Err(Reason::UpstreamCut), None);
    }
}

/// A reader's view of the body.
pub(super) struct FillBody<T: Clone> {
    fill: Arc<Fill<T>>,
    context: Arc<Context>,
    slot: usize,
}

impl<T: Clone> HttpBody for FillBody<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.fill.locked().poll_read(self.slot, task);
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map_err(|reason| {
                    self.context.note(reason);
                    BodyFault(reason).into()
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.fill.locked().is_over(self.slot)
    }

    fn size_hint(&self) -> SizeHint {
        // The length, where one is known, stands in the head.
        SizeHint::default()
    }
}

impl<T: Clone> Drop for FillBody<T> {
    fn drop(&mut self) {
        let mut state = self.fill.locked();
        if let Some(slot) = state.readers.get_mut(self.slot) {
            *slot = None;
        }
        state.give_up();
    }
}

/// How far a body that is not stored is fetched ahead of its slowest reader.
const AHEAD: usize = 256 << 10;
/// How long one reader may hold up the others.
const STALL: Duration = Duration::from_secs(10);
