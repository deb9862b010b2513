//! One fetch for all who wait: its answer's head, and its body as it arrives.
//!
//! A task of its own fetches; whoever asked first is just a reader, and may leave. Readers poll from
//! any worker: a short lock, no lock across a wait. A body that outgrows what may be stored is
//! still handed on: nobody new may read along then, what all have read is given up, and the fetch
//! goes at the pace of the slowest reader, unless that one stalls the others. What is in memory is
//! charged for as long as it is there; once a body is stored, its readers go on with what is stored.
//! A fetch that nobody waits for or reads goes on too, but few of them do at a time.
//!
//! When the task is gone, however that came, nobody waits for it any more, and a body that did not
//! come to its end is an error to each of its readers: it never looks whole.

mod attendance;
mod part;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as Task, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::room::Room;
use crate::exchange::{Body, BodyError, BodyFault, Context, Reason, Response, fields::withhold};
use attendance::Waiting;

/// One fetch. `T` is what its head became.
#[derive(Debug)]
pub(super) struct Fill<T> {
    changed: Notify,
    /// Told when the first comes who waits or reads, and when the last leaves.
    attended: Notify,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    outcome: Option<T>,
    /// The answer itself, where nobody but its first reader may have it.
    handed: Option<Response>,
    /// What is still needed of the body, and how many pieces and bytes before it were given up.
    pieces: VecDeque<Piece>,
    freed: usize,
    given_up: u64,
    /// What the pieces take.
    held: u64,
    trailers: Option<HeaderMap>,
    end: Option<Result<(), Reason>>,
    /// Whether the answer is too large to be stored.
    passing: bool,
    /// Whether the fetch ends since nobody waits for it; nobody new may read along then.
    forsaken: bool,
    /// How many wait for the head.
    waiting: usize,
    readers: Vec<Option<Reading>>,
    /// The places in that list which nobody has, and some behind its end.
    free: Vec<usize>,
    /// How many readers there are, and how many of them have read all that is there.
    reading: usize,
    at_end: usize,
    fetch: Option<Waker>,
    /// Where the pieces are charged.
    room: Option<Room>,
}

/// A piece of the body, and how many readers have it before them: who reads on or leaves asks nobody
/// else how far they have come.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    readers: usize,
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
            attended: Notify::new(),
            state: Mutex::new(State {
                outcome: None,
                handed: None,
                pieces: VecDeque::new(),
                freed: 0,
                given_up: 0,
                held: 0,
                trailers: None,
                end: None,
                passing: false,
                forsaken: false,
                waiting: 0,
                readers: Vec::new(),
                free: Vec::new(),
                reading: 0,
                at_end: 0,
                fetch: None,
                room: None,
            }),
        })
    }

    /// Waits for the head.
    pub(super) async fn outcome(&self) -> T {
        if let Some(outcome) = self.settled() {
            return outcome;
        }
        let _waiting = Waiting::on(self);
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

    /// Reads all of it, what is withheld from others too: for who asked first alone. That one reads from
    /// before the head, or a large body could have gone on without it.
    pub(super) fn read_as_first(self: &Arc<Self>, context: &Arc<Context>) -> Option<FillBody<T>> {
        self.read_without(context, &[])
    }

    /// Reads along from the beginning, without the trailers of these names, which are for who asked
    /// first; `None` when the beginning is gone.
    pub(super) fn read_without(
        self: &Arc<Self>,
        context: &Arc<Context>,
        withheld: &[HeaderName],
    ) -> Option<FillBody<T>> {
        let mut state = self.locked();
        if state.passing || state.forsaken || state.freed > 0 {
            return None;
        }
        let was_attended = state.is_attended();
        let slot = state.join();
        drop(state);
        if !was_attended {
            self.attended.notify_one();
        }
        Some(FillBody {
            fill: Arc::clone(self),
            context: Arc::clone(context),
            slot,
            withheld: withheld.into(),
        })
    }

    fn locked(&self) -> MutexGuard<'_, State<T>> {
        // Whole after a panic elsewhere: nothing below the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: Result<(), Reason>, trailers: Option<HeaderMap>) {
        let mut state = self.locked();
        if state.end.is_none() {
            state.end = Some(end);
            state.trailers = trailers;
            state.wake_readers();
        }
    }

    /// Waits until the slowest reader is near; an error when nobody reads any more.
    async fn keep_pace(&self, pace: &mut Pace) -> Result<(), Abandoned> {
        loop {
            let began = Instant::now();
            let near = poll_fn(|task| self.locked().poll_near(task));
            let near = timeout(STALL.saturating_sub(pace.waited), near).await;
            pace.waited += began.elapsed();
            if pace.waited >= STALL {
                self.locked().judge(pace);
            }
            if let Ok(near) = near {
                return near;
            }
        }
    }
}

/// How long a fetch has waited for its slowest reader, and how far that one was before.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    given_up: u64,
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

    /// A new reader at the beginning; where it stands in the list.
    fn join(&mut self) -> usize {
        let reading = Some(Reading { at: 0, waker: None });
        *self.standing(0) += 1;
        self.reading += 1;
        match self.free_place() {
            Some(slot) => {
                self.readers[slot] = reading;
                slot
            }
            None => {
                self.readers.push(reading);
                self.readers.len() - 1
            }
        }
    }

    /// A place in the list that nobody has. Those behind its end have been given up since they were noted.
    fn free_place(&mut self) -> Option<usize> {
        while let Some(slot) = self.free.pop() {
            if slot < self.readers.len() {
                return Some(slot);
            }
        }
        None
    }

    /// Takes a reader off the list, if it is there still. Whoever walks that list shall not walk the places of
    /// a crowd that is gone.
    fn leave(&mut self, slot: usize) -> Option<Reading> {
        let reading = self.readers.get_mut(slot)?.take()?;
        *self.standing(reading.at) -= 1;
        self.reading -= 1;
        self.free.push(slot);
        while self.readers.last().is_some_and(Option::is_none) {
            self.readers.pop();
        }
        Some(reading)
    }

    /// How many readers have come to just there.
    fn standing(&mut self, at: usize) -> &mut usize {
        // A reader's place is never behind what was given up.
        match self.pieces.get_mut(at - self.freed) {
            Some(piece) => &mut piece.readers,
            None => &mut self.at_end,
        }
    }

    /// Gives up what all have read, if nothing is kept for storing.
    fn give_up(&mut self) {
        if !self.passing {
            return;
        }
        while self.pieces.front().is_some_and(|piece| piece.readers == 0)
            && let Some(piece) = self.pieces.pop_front()
        {
            let length = piece.bytes.len() as u64;
            self.freed += 1;
            self.given_up += length;
            self.held -= length + PIECE;
            if let Some(room) = &mut self.room {
                room.give_back(length + PIECE);
            }
        }
        if let Some(fetch) = self.fetch.take() {
            fetch.wake();
        }
    }

    fn push(&mut self, bytes: Bytes) {
        let length = bytes.len() as u64;
        if let Some(room) = &mut self.room
            && (self.passing || !room.take(length, PIECE))
        {
            room.hold(length + PIECE);
            self.pass();
        }
        self.held += length + PIECE;
        // Who has read all that was there has this one before it.
        let readers = std::mem::take(&mut self.at_end);
        self.pieces.push_back(Piece { bytes, readers });
        self.wake_readers();
    }

    /// From now on the answer is only handed on.
    fn pass(&mut self) {
        self.passing = true;
        self.give_up();
    }

    /// Puts the same body in other pieces in the place of what arrived, cut where readers are.
    fn replace(&mut self, pieces: &[Bytes]) {
        if self.passing || self.freed > 0 {
            return;
        }
        let mut ends = vec![0];
        ends.extend(self.pieces.iter().scan(0, |end, piece| {
            *end += piece.bytes.len();
            Some(*end)
        }));
        let total = self.total();
        let readers = self.readers.iter().flatten();
        let mut cuts: Vec<usize> = readers.map(|reading| ends[reading.at.min(total)]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let (pieces, places) = cut(pieces, &cuts);
        for reading in self.readers.iter_mut().flatten() {
            // Who has read the trailers too stays one behind the end.
            let behind = reading.at.saturating_sub(total);
            let place = cuts.binary_search(&ends[reading.at - behind]);
            reading.at = place.map_or(pieces.len(), |place| places[place]) + behind;
        }
        let pieces = pieces.into_iter();
        self.pieces = pieces.map(|bytes| Piece { bytes, readers: 0 }).collect();
        self.at_end = 0;
        let readers = self.readers.iter().flatten();
        for at in readers.map(|reading| reading.at).collect::<Vec<_>>() {
            *self.standing(at) += 1;
        }
        self.held = 0;
        self.room = None;
    }

    /// Cuts the slowest reader off if it came hardly further while all waited for it.
    fn judge(&mut self, pace: &mut Pace) {
        if self.given_up - pace.given_up < LEAST {
            self.cut_slowest();
        }
        *pace = Pace {
            waited: Duration::ZERO,
            given_up: self.given_up,
        };
    }

    fn poll_near(&mut self, task: &Task<'_>) -> Poll<Result<(), Abandoned>> {
        if self.reading == 0 {
            return Poll::Ready(Err(Abandoned));
        }
        let most = match self.room.as_ref().is_some_and(Room::is_overdrawn) {
            true => LITTLE,
            false => AHEAD,
        };
        if self.held <= most {
            return Poll::Ready(Ok(()));
        }
        self.fetch = Some(task.waker().clone());
        Poll::Pending
    }

    /// Ready when nobody reads what is not stored.
    fn poll_abandoned(&mut self, task: &Task<'_>) -> Poll<()> {
        if self.passing && self.reading == 0 {
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
        // What all have read is given up, so the slowest have the first piece before them.
        let slowest = self.pieces.front().map_or(0, |piece| piece.readers);
        if slowest == 0 || slowest == self.reading {
            return;
        }
        // Nobody comes any more by now, so no place is given to another.
        for slot in 0..self.readers.len() {
            // The list ends with a reader: until its last place is left it becomes no shorter.
            let reading = self.readers[slot].as_ref();
            if reading.is_some_and(|reading| reading.at == self.freed)
                && let Some(Reading {
                    waker: Some(waker), ..
                }) = self.leave(slot)
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
            let at = reading.at;
            reading.at += 1;
            let piece = self.pieces.get(at - self.freed);
            let bytes = piece.map(|piece| piece.bytes.clone());
            *self.standing(at) -= 1;
            *self.standing(at + 1) += 1;
            self.give_up();
            return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
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
    pub(super) async fn collect(
        &self,
        mut body: Body,
        room: Room,
        deadline: Instant,
    ) -> Option<Collected> {
        self.fill.locked().room = Some(room);
        let (mut trailers, mut pace) = (None, Pace::default());
        loop {
            let frame = match self.next(&mut body, deadline).await? {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(reason) => {
                    self.fill.end(Err(reason), None);
                    return None;
                }
            };
            match frame.into_data() {
                Ok(bytes) => self.hand_on(bytes, &mut pace).await.ok()?,
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        let pieces = self.whole();
        self.fill.end(Ok(()), trailers.clone());
        pieces.map(|pieces| Collected { pieces, trailers })
    }

    /// Lets those who still read go on with the pieces of what is stored now.
    pub(super) fn stored(&self, pieces: &[Bytes]) {
        self.fill.locked().replace(pieces);
    }

    /// Whether more bytes came than so many.
    pub(super) fn outgrew(&self, most: u64) -> bool {
        let state = self.fill.locked();
        let here = state.pieces.iter().map(|piece| piece.bytes.len() as u64);
        state.given_up + here.sum::<u64>() > most
    }

    /// The pieces, unless some were given up.
    fn whole(&self) -> Option<Vec<Bytes>> {
        let state = self.fill.locked();
        let whole = !state.passing && state.end.is_none();
        let pieces = state.pieces.iter();
        whole.then(|| pieces.map(|piece| piece.bytes.clone()).collect())
    }

    async fn hand_on(&self, bytes: Bytes, pace: &mut Pace) -> Result<(), Abandoned> {
        if bytes.is_empty() {
            return Ok(());
        }
        let passing = {
            let mut state = self.fill.locked();
            state.push(bytes);
            state.passing
        };
        match passing {
            true => self.fill.keep_pace(pace).await,
            false => Ok(()),
        }
    }

    /// The next frame; `None` when nobody reads what is not stored.
    async fn next(
        &self,
        body: &mut Body,
        deadline: Instant,
    ) -> Option<Result<Option<Frame<Bytes>>, Reason>> {
        let mut frame = poll_fn(|task| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(task) {
                return Poll::Ready(Some(frame));
            }
            self.fill.locked().poll_abandoned(task).map(|()| None)
        });
        let passing = self.fill.locked().passing;
        let polled = match passing {
            true => frame.await,
            false => match timeout_at(deadline, &mut frame).await {
                Ok(polled) => polled,
                // It takes too long to be stored: from now on it is only handed on.
                Err(_) => {
                    self.fill.locked().pass();
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
    /// The trailers that this one does not get.
    withheld: Box<[HeaderName]>,
}

impl<T: Clone> FillBody<T> {
    fn without_withheld(&self, mut frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(trailers) = frame.trailers_mut() {
            withhold(trailers, &self.withheld);
        }
        frame
    }
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
                let frame = frame.map(|frame| self.without_withheld(frame));
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
        state.leave(self.slot);
        state.give_up();
        let is_attended = state.is_attended();
        drop(state);
        if !is_attended {
            self.fill.attended.notify_one();
        }
    }
}

/// Pieces cut so that one begins at each of the places, which are in order; and which one that is. At
/// the very end none does.
fn cut(pieces: &[Bytes], places: &[usize]) -> (VecDeque<Bytes>, Vec<usize>) {
    let (mut parts, mut found) = (VecDeque::new(), Vec::new());
    let (mut at, mut places) = (0, places.iter().peekable());
    for piece in pieces {
        let mut rest = piece.clone();
        while let Some(place) = places.next_if(|place| **place < at + rest.len()) {
            let before = rest.split_to(place - at);
            at = *place;
            if !before.is_empty() {
                parts.push_back(before);
            }
            found.push(parts.len());
        }
        at += rest.len();
        parts.push_back(rest);
    }
    found.extend(places.map(|_| parts.len()));
    (parts, found)
}

/// How far a body that is not stored is fetched ahead of its slowest reader, and how far where all
/// fetches together have taken more than they may. A body that takes no more than that in all is stored
/// even then: it would take as much if it were only handed on.
const AHEAD: u64 = 256 << 10;
pub(super) const LITTLE: u64 = 32 << 10;
/// What a piece takes beside its bytes: its place among the others, and how it was framed in the
/// reader's buffer. Without that, bodies of very small chunks would take many times what they count.
const PIECE: u64 = 64;
/// How long one reader may hold up the others, if it does not read so many bytes in that time.
const STALL: Duration = Duration::from_secs(10);
const LEAST: u64 = 256 << 10;

#[cfg(test)]
pub(super) mod tests;
