//! The guard of one connection: its time limits.
//!
//! It polls the future that serves it, then looks at what changed, finds the connection's [`Phase`] and moves
//! one deadline. Nothing is spawned and nothing is locked for a request.

use std::{
    future::{Future, poll_fn},
    ops::DerefMut,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{
    http1::Refused,
    phase::{Phase, Seen},
    state::{Stage, State},
};
use crate::{
    config::Limits,
    exchange::{LazyTimer, Protocol, Reason},
};

/// The future that serves one connection: ours over HTTP/1.1, hyper's over HTTP/2.
pub(super) trait Served: Future<Output = Result<(), Self::Error>> {
    /// What breaks it.
    type Error: Into<Broken>;

    /// Asks it to end when nothing is under way.
    fn close(self: Pin<&mut Self>);
}

/// Why a connection could not be served to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// What came is no HTTP/1.1; the client was told so.
    Refused(Refused),
    /// The client is gone, or an answer broke off: the frame logs those requests.
    Lost,
    /// hyper's word.
    Http2(hyper::Error),
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Self::Http2(error)
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was served, up to its end or to what broke it.
    Served(Result<(), Broken>),
    /// The client was too slow, or too much trouble.
    Fault(Reason, &'static str),
    /// The client was given up, or the gateway aborts: nothing to tell.
    Dropped,
}

/// Watches one connection.
pub(super) struct Guard<'a> {
    state: &'a State,
    limits: &'a Limits,
    timer: LazyTimer,
    protocol: Protocol,
    phase: Phase,
    closing: bool,
    /// The drain knows whom to wake.
    registered: bool,
}

impl<'a> Guard<'a> {
    /// `timer` has been armed for the first head; over HTTP/2 it is the preface's end, with which
    /// the connection may idle: a client may well connect before it has anything to ask.
    pub(super) fn new(
        state: &'a State,
        limits: &'a Limits,
        timer: LazyTimer,
        protocol: Protocol,
    ) -> Self {
        Self {
            state,
            limits,
            timer,
            protocol,
            phase: Phase::Head { calls: 0 },
            closing: false,
            registered: false,
        }
    }

    /// Serves the connection to its end, which `tell` hears of before the connection is dropped.
    ///
    /// Not an `async fn`: its future would have two places for the guard.
    pub(super) fn serve<'s, P>(
        mut self,
        mut served: Pin<P>,
        tell: impl Fn(&End) + Send + 's,
    ) -> impl Future<Output = ()> + Send + 's
    where
        'a: 's,
        P: DerefMut<Target: Served + Sized> + Send + 's,
    {
        poll_fn(move |cx| self.poll(served.as_mut(), cx).map(|end| tell(&end)))
    }

    fn poll<S: Served>(&mut self, mut served: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<End> {
        if !self.registered {
            self.registered = true;
            self.state.driven_by(cx.waker());
        }
        loop {
            if self.state.is_aborted() {
                return Poll::Ready(End::Dropped);
            }
            if let Poll::Ready(result) = served.as_mut().poll(cx) {
                self.state.release();
                return Poll::Ready(End::Served(result.map_err(Into::into)));
            }
            self.observe();
            if self.is_reset_rapidly() {
                return Poll::Ready(RAPID_RESETS);
            }
            if self.wants_close() {
                self.closing = true;
                served.as_mut().close();
            } else if !self.shows_fin() {
                if self.timer.poll_expired(cx).is_pending() {
                    return Poll::Pending;
                }
                if let Some(end) = self.expire(served.as_mut()) {
                    return Poll::Ready(end);
                }
            }
        }
    }

    fn observe(&mut self) {
        self.state.settle();
        let phase = self.phase.next(self.look());
        if phase != self.phase {
            self.enter(phase);
        }
    }

    fn look(&self) -> Seen {
        let state = self.state;
        let http1 = self.protocol == Protocol::Http1;
        Seen {
            calls: state.calls(),
            read: if http1 { state.read() } else { 0 },
            amid_head: (!http1).then(|| state.is_amid_head()),
            written: state.written(),
            busy: state.is_busy(),
            blocked: state.is_blocked(),
            fin: http1 && state.is_fin(),
            told: state.is_fin_told(),
            lingering: state.is_lingering(),
            closing: self.closing,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        match phase.time(self.limits) {
            Some(time) => self.timer.arm(Instant::now(), time),
            None => self.timer.disarm(),
        }
    }

    /// Whether the drain has come to this connection. An HTTP/1.1 connection that has begun to
    /// receive a request is left to answer it: the answer says `Connection: close`.
    fn wants_close(&self) -> bool {
        !self.closing
            && match self.protocol {
                Protocol::Http1 => {
                    matches!(self.phase, Phase::Idle { .. }) && self.state.stage() >= Stage::Closing
                }
                Protocol::Http2 => self.state.stage() >= Stage::GoingAway,
            }
    }

    /// Whether a client of HTTP/2 resets most of its streams before they are answered, which makes
    /// work at the upstream for nothing (rapid reset, CVE-2023-44487). h2 counts only the resets
    /// that come before it has handed the stream on, so not those that keep a little distance.
    fn is_reset_rapidly(&self) -> bool {
        self.protocol == Protocol::Http2
            && self.state.cut_streams() > TOLERATED_RESETS.max(self.state.calls() / 2)
    }

    /// Whether a hidden FIN may show now that the request has ended: who serves it waits for a wake-up that
    /// has passed, so it must be polled once more.
    fn shows_fin(&self) -> bool {
        let shows = self.state.is_fin() && !self.state.is_fin_told() && !self.state.is_busy();
        if shows {
            self.state.tell_fin();
        }
        shows
    }

    /// The deadline has passed. Without an end the connection is to be polled again.
    fn expire<S: Served>(&mut self, served: Pin<&mut S>) -> Option<End> {
        match self.phase {
            Phase::Head { .. } => return Some(LATE_HEAD),
            Phase::Writing { .. } => return Some(STALLED),
            Phase::Idle { .. } => {
                self.closing = true;
                served.close();
            }
            // It is an error where it matters: a body that has not come whole may still get its 400.
            // Where nobody looks, the next grace ends it.
            Phase::HalfClosed { told: false, .. } => self.state.tell_fin(),
            Phase::Lingering if !self.state.is_linger_over() => self.state.end_lingering(),
            _ => return Some(End::Dropped),
        }
        None
    }
}

/// A head that took too long.
pub(super) const LATE_HEAD: End = End::Fault(
    Reason::HeaderTimeout,
    "the head did not arrive whole in time",
);

const STALLED: End = End::Fault(
    Reason::WriteTimeout,
    "the client took no byte of the answer in time",
);

const RAPID_RESETS: End = End::Fault(
    Reason::Malformed,
    "the client reset most of its streams before they were answered",
);

/// Streams that a client may cut short before the share of them counts. Envoy's number.
const TOLERATED_RESETS: u64 = 500;
