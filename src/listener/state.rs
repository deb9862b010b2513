//! What the parts of one connection tell each other.
//!
//! The I/O wrapper, the guard and the request's tasks live on one worker, so a field has one writer
//! at a time and plain loads and stores do: a relaxed atomic costs what a field costs. Only [`Stage`]
//! comes from another thread, and it is followed by a wake-up.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Waker,
};

use crate::exchange::{Connection, Protocol};

/// How far the drain has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// No drain.
    #[default]
    Open,
    /// Answers carry `Connection: close`; connections still come.
    Draining,
    /// The delay is over: HTTP/2 gets GOAWAY.
    GoingAway,
    /// The grace is over too: idle HTTP/1.1 connections close.
    Closing,
    /// Everything ends now.
    Aborted,
}

/// What a response body of HTTP/2 did when it was last polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// It was not polled.
    Not,
    /// It had nothing yet: the upstream is slow.
    Empty,
    /// It gave a frame: what hyper now waits for is the client's window.
    Frame,
}

/// The shared state of one connection.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Bytes read from the client.
    read: AtomicU64,
    /// Bytes that the socket took.
    written: AtomicU64,
    /// Requests handed to the handler.
    calls: AtomicU64,
    /// Of these, on HTTP/2, how many got an answer.
    answers: AtomicU64,
    /// `calls` when the connection's future last returned; see [`State::is_busy`].
    settled: AtomicU64,
    /// HTTP/2 streams that are being answered.
    streams: AtomicUsize,
    /// The last write found the socket full.
    blocked: AtomicBool,
    /// The client sent its FIN.
    fin: AtomicBool,
    /// The client's FIN is hidden no longer.
    fin_told: AtomicBool,
    /// Writing is shut down, reading discards.
    lingering: AtomicBool,
    /// Lingering has taken long enough.
    linger_over: AtomicBool,
    /// The connection is served; if the socket lives on, a tunnel owns it.
    released: AtomicBool,
    /// Over HTTP/2, a head has begun that is not whole.
    amid_head: AtomicBool,
    polled: AtomicU8,
    stage: AtomicU8,
    /// Wakes whoever drives the socket: the guard, later a tunnel.
    driver: Mutex<Option<Waker>>,
    /// Known when the first bytes told the protocol.
    connection: OnceLock<Arc<Connection>>,
}

impl State {
    pub(super) fn new(stage: Stage) -> Self {
        let state = Self::default();
        state.stage.store(stage as u8, Relaxed);
        state
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(SeqCst) {
            0 => Stage::Open,
            1 => Stage::Draining,
            2 => Stage::GoingAway,
            3 => Stage::Closing,
            _ => Stage::Aborted,
        }
    }

    /// Moves on with the drain and wakes whoever drives the socket.
    pub(super) fn advance(&self, stage: Stage) {
        self.stage.store(stage as u8, SeqCst);
        if let Some(connection) = self.connection.get() {
            connection.drain();
        }
        if let Some(driver) = &*self.driver() {
            driver.wake_by_ref();
        }
    }

    /// Names the task to wake on [`advance`](Self::advance). Look at the stage after it, not before.
    pub(super) fn driven_by(&self, waker: &Waker) {
        let mut driver = self.driver();
        if !driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *driver = Some(waker.clone());
        }
    }

    fn driver(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The protocol is known.
    ///
    /// The caller holds the worker's registry, so that no [`advance`](Self::advance) comes between.
    pub(super) fn identify(&self, connection: &Arc<Connection>) {
        if self.stage() != Stage::Open {
            connection.drain();
        }
        // A connection is identified once, so the slot is free.
        let _ = self.connection.set(Arc::clone(connection));
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.stage.load(Relaxed) == Stage::Aborted as u8
    }

    // --- the I/O wrapper ---

    pub(super) fn note_read(&self, bytes: usize) {
        add(&self.read, bytes as u64);
    }

    pub(super) fn note_written(&self, bytes: usize) {
        add(&self.written, bytes as u64);
        self.blocked.store(false, Relaxed);
    }

    pub(super) fn note_blocked(&self) {
        self.blocked.store(true, Relaxed);
    }

    pub(super) fn note_fin(&self) {
        self.fin.store(true, Relaxed);
    }

    pub(super) fn note_amid_head(&self, amid: bool) {
        self.amid_head.store(amid, Relaxed);
    }

    pub(super) fn note_lingering(&self) {
        self.lingering.store(true, Relaxed);
    }

    /// Whether the connection must not learn yet that the client sent its FIN.
    ///
    /// An end of stream behind a request is an abort, and the request is dropped. A client
    /// that only half-closed still waits for its answer, so the guard decides, after a grace.
    pub(super) fn hides_fin(&self) -> bool {
        !self.fin_told.load(Relaxed)
            && !self.is_released()
            && self.is_busy()
            && self
                .connection
                .get()
                .is_some_and(|connection| connection.protocol == Protocol::Http1)
    }

    // --- the guard ---

    pub(super) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    pub(super) fn is_amid_head(&self) -> bool {
        self.amid_head.load(Relaxed)
    }

    pub(super) fn is_fin(&self) -> bool {
        self.fin.load(Relaxed)
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.lingering.load(Relaxed)
    }

    pub(super) fn is_linger_over(&self) -> bool {
        self.linger_over.load(Relaxed)
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.load(Relaxed)
    }

    pub(super) fn tell_fin(&self) {
        self.fin_told.store(true, Relaxed);
    }

    pub(super) fn is_fin_told(&self) -> bool {
        self.fin_told.load(Relaxed)
    }

    pub(super) fn end_lingering(&self) {
        self.linger_over.store(true, Relaxed);
    }

    pub(super) fn release(&self) {
        self.released.store(true, Relaxed);
    }

    // --- requests ---

    /// Whether a request is being answered.
    ///
    /// The handler counts a request at the latest when its future is first polled, which is
    /// right after the call but perhaps behind another read: until the connection's future has returned, a
    /// call counts by itself.
    pub(super) fn is_busy(&self) -> bool {
        self.calls() != self.settled.load(Relaxed)
            || self.streams.load(Relaxed) > 0
            || self
                .connection
                .get()
                .is_some_and(|connection| connection.in_flight() > 0)
    }

    pub(super) fn settle(&self) {
        self.settled.store(self.calls(), Relaxed);
    }

    pub(super) fn note_call(&self) {
        add(&self.calls, 1);
    }

    pub(super) fn note_answer(&self) {
        add(&self.answers, 1);
    }

    /// HTTP/2 streams that ended without an answer; fewer, while some wait for theirs.
    pub(super) fn cut_streams(&self) -> u64 {
        let waiting = self.streams.load(Relaxed) as u64;
        self.calls()
            .saturating_sub(self.answers.load(Relaxed))
            .saturating_sub(waiting)
    }

    pub(super) fn stream_opened(&self) {
        self.streams.store(self.streams.load(Relaxed) + 1, Relaxed);
    }

    pub(super) fn stream_closed(&self) {
        self.streams
            .store(self.streams.load(Relaxed).saturating_sub(1), Relaxed);
    }

    pub(super) fn note_polled(&self, polled: Polled) {
        self.polled.store(polled as u8, Relaxed);
    }

    pub(super) fn polled(&self) -> Polled {
        match self.polled.load(Relaxed) {
            0 => Polled::Not,
            1 => Polled::Empty,
            _ => Polled::Frame,
        }
    }
}

/// Adds without a locked instruction: each counter has one writer.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}
