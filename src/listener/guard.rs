//! The guard of one connection: what hyper has no timer for.
//!
//! It polls hyper's future, then looks at what changed and moves one deadline. What a connection is
//! doing, and so which deadline holds, is its [`Phase`]:
//!
//! ```text
//!              first byte                      whole head
//!   Idle ------------------------> Head -------------------------> Busy
//!    ^  keep_alive: close          header_timeout: drop             | no deadline of ours
//!    |                                                              |
//!    +--------------------- the answer has ended -------------------+
//!
//!   Writing     the socket is full      write_timeout since the last byte it took: drop
//!   HalfClosed  FIN behind a request    a grace since the last byte written: it was an abort
//!   Closing     we asked hyper to end   write_timeout: drop
//!   Lingering   only discarding         LINGER: close
//! ```
//!
//! A deadline that counts from progress carries the progress in its phase: another value is another
//! phase, and a new phase arms the timer anew. One keep-alive request costs one clock read.
//!
//! HTTP/2 knows no `Head` (h2 hides it) and no `HalfClosed` (FIN ends the connection); its stalled
//! streams are watched one by one (`http2.rs`).

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::state::{Stage, State};
use crate::{
    config::Limits,
    exchange::{LazyTimer, Protocol, Reason},
};

/// hyper's future of one connection.
pub(super) trait Served: Future<Output = hyper::Result<()>> {
    /// Asks it to end when nothing is under way.
    fn close(self: Pin<&mut Self>);
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// hyper ended it.
    Served(hyper::Result<()>),
    /// The client was too slow.
    Timeout(Reason),
    /// The client was given up, or the gateway aborts: nothing to tell.
    Dropped,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle { calls: u64, read: u64 },
    Head { calls: u64 },
    Busy,
    Writing { written: u64 },
    HalfClosed { written: u64, told: bool },
    Closing,
    Lingering,
}

/// What a look at the connection's state shows.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    calls: u64,
    /// Stays 0 on HTTP/2, whose heads can't be told from other bytes.
    read: u64,
    written: u64,
    busy: bool,
    blocked: bool,
    /// The client sent its FIN.
    fin: bool,
    /// hyper knows of the FIN.
    told: bool,
    lingering: bool,
    /// We asked hyper to end.
    closing: bool,
}

impl Phase {
    /// The phase that what is seen leads to.
    fn next(self, seen: Seen) -> Self {
        let Seen {
            calls,
            read,
            written,
            told,
            ..
        } = seen;
        match self {
            _ if seen.lingering => Self::Lingering,
            _ if seen.blocked => Self::Writing { written },
            _ if seen.busy && seen.fin => Self::HalfClosed { written, told },
            _ if seen.busy => Self::Busy,
            _ if seen.closing => Self::Closing,
            Self::Head { calls: begun } if begun == calls => self,
            // The time of a head counts from its first byte. The one exception is a head that begins
            // in the same read as the end of the request before: it counts from its second read, so
            // it may take `keep_alive` longer.
            Self::Idle {
                calls: begun,
                read: seen,
            } if begun == calls && seen != read => Self::Head { calls },
            _ => Self::Idle { calls, read },
        }
    }

    fn time(self, limits: &Limits) -> Option<Duration> {
        match self {
            Self::Idle { .. } => Some(limits.keep_alive),
            Self::Head { .. } => Some(limits.header_timeout),
            Self::Busy => None,
            Self::Writing { .. } | Self::Closing => Some(limits.write_timeout),
            Self::HalfClosed { .. } => Some(FIN_GRACE),
            Self::Lingering => Some(LINGER),
        }
    }
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
    /// `timer` has been armed for the first head.
    pub(super) fn new(
        state: &'a State,
        limits: &'a Limits,
        timer: LazyTimer,
        protocol: Protocol,
    ) -> Self {
        let mut guard = Self {
            state,
            limits,
            timer,
            protocol,
            phase: Phase::Head { calls: 0 },
            closing: false,
            registered: false,
        };
        // A client of HTTP/2 may well connect before it has anything to ask.
        if protocol == Protocol::Http2 {
            guard.enter(Phase::Idle { calls: 0, read: 0 });
        }
        guard
    }

    /// Serves the connection to its end.
    pub(super) async fn serve(mut self, served: impl Served) -> End {
        let mut served = pin!(served);
        poll_fn(|cx| self.poll(served.as_mut(), cx)).await
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
                return Poll::Ready(End::Served(result));
            }
            self.observe();
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

    /// Whether a hidden FIN may show now that the request has ended: hyper waits for a wake-up that
    /// has passed, so it must be polled once more.
    fn shows_fin(&self) -> bool {
        let shows = self.state.is_fin() && !self.state.is_fin_told() && !self.state.is_busy();
        if shows {
            self.state.tell_fin();
        }
        shows
    }

    /// The deadline has passed. Without an end hyper is to be polled again.
    fn expire<S: Served>(&mut self, served: Pin<&mut S>) -> Option<End> {
        match self.phase {
            Phase::Head { .. } => return Some(End::Timeout(Reason::HeaderTimeout)),
            Phase::Writing { .. } => return Some(End::Timeout(Reason::WriteTimeout)),
            Phase::Idle { .. } => {
                self.closing = true;
                served.close();
            }
            // hyper makes an error of it where it matters: a body that has not come whole may still
            // get its 400. Where hyper does not look, the next grace ends it.
            Phase::HalfClosed { told: false, .. } => self.state.tell_fin(),
            Phase::Lingering if !self.state.is_linger_over() => self.state.end_lingering(),
            _ => return Some(End::Dropped),
        }
        None
    }
}

/// How long a request goes on for a client that sent FIN behind it and takes no byte.
///
/// A client that is gone and one that only half-closed (`nc -N`) look the same until something is
/// written: the one answers with RST, the other reads. nginx and Envoy take both for gone, HAProxy
/// both for there. Here an answer that begins within the grace is delivered, and goes on as long as
/// it moves; an abort reaches the upstream within a second.
const FIN_GRACE: Duration = Duration::from_millis(400);

/// How long a lingering close waits for the client's FIN.
const LINGER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Phase = Phase::Idle {
        calls: 1,
        read: 100,
    };

    fn seen() -> Seen {
        Seen {
            calls: 1,
            read: 100,
            ..Seen::default()
        }
    }

    #[test]
    fn a_quiet_connection_stays_idle() {
        assert_eq!(IDLE.next(seen()), IDLE);
    }

    #[test]
    fn the_first_byte_begins_a_head_and_more_bytes_do_not_prolong_it() {
        let head = IDLE.next(Seen {
            read: 101,
            ..seen()
        });
        assert_eq!(head, Phase::Head { calls: 1 });
        assert_eq!(
            head.next(Seen {
                read: 150,
                ..seen()
            }),
            head
        );
    }

    #[test]
    fn a_request_served_within_one_poll_leaves_the_connection_idle_anew() {
        let after = IDLE.next(Seen {
            calls: 2,
            read: 200,
            ..seen()
        });
        assert_eq!(
            after,
            Phase::Idle {
                calls: 2,
                read: 200
            }
        );
    }

    #[test]
    fn a_request_under_way_has_no_deadline_of_ours() {
        let busy = Phase::Head { calls: 0 }.next(Seen {
            busy: true,
            ..seen()
        });
        assert_eq!(busy, Phase::Busy);
        assert_eq!(busy.time(&Limits::default()), None);
        assert_eq!(busy.next(seen()), IDLE);
    }

    #[test]
    fn a_full_socket_rules_until_it_takes_a_byte() {
        let stalled = Seen {
            busy: true,
            blocked: true,
            written: 7,
            ..seen()
        };
        let phase = Phase::Busy.next(stalled);
        assert_eq!(phase, Phase::Writing { written: 7 });
        assert_eq!(phase.next(stalled), phase);
        let moved = Seen {
            written: 8,
            ..stalled
        };
        assert_ne!(phase.next(moved), phase, "progress arms the timer anew");
    }

    #[test]
    fn a_fin_behind_a_request_starts_a_grace_that_progress_prolongs() {
        let fin = Seen {
            busy: true,
            fin: true,
            ..seen()
        };
        let phase = Phase::Busy.next(fin);
        assert_eq!(
            phase,
            Phase::HalfClosed {
                written: 0,
                told: false
            }
        );
        assert_ne!(phase.next(Seen { written: 1, ..fin }), phase);
        assert_eq!(
            phase.next(Seen {
                fin: true,
                ..seen()
            }),
            IDLE
        );
    }

    #[test]
    fn an_asked_for_end_waits_for_raced_streams_and_then_has_its_own_time() {
        let closing = Seen {
            closing: true,
            ..seen()
        };
        assert_eq!(IDLE.next(closing), Phase::Closing);
        let raced = Phase::Closing.next(Seen {
            busy: true,
            ..closing
        });
        assert_eq!(raced, Phase::Busy);
        assert_eq!(raced.next(closing), Phase::Closing);
    }

    #[test]
    fn lingering_ends_every_other_rule() {
        let seen = Seen {
            lingering: true,
            blocked: true,
            busy: true,
            ..seen()
        };
        assert_eq!(Phase::Busy.next(seen), Phase::Lingering);
    }
}
