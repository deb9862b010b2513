//! What a connection is doing, and which deadline that puts on it.
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
//!   Closing     it was asked to end     write_timeout: drop
//!   Lingering   only discarding         LINGER: close
//! ```
//!
//! A deadline that counts from progress carries the progress in its phase: another value is another
//! phase, and a new phase arms the timer anew. One keep-alive request costs one clock read.
//!
//! HTTP/2 has many requests at a time. `Busy` stands before `Head` there: a head that does not end
//! has its time when no stream is under way, since whoever drops it drops the streams with it. Until
//! then it holds no more than a head's bytes, and a client amid a head can't answer a PING. HTTP/2
//! knows no `HalfClosed` (FIN ends the connection); its stalled streams are watched one by one
//! (`http2.rs`).

use std::time::Duration;

use crate::config::Limits;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) struct Seen {
    pub(super) calls: u64,
    /// Stays 0 on HTTP/2, where most bytes are not a head's.
    pub(super) read: u64,
    /// Whether a head has begun that is not whole. HTTP/1.1 does not tell: there a read begins one.
    pub(super) amid_head: Option<bool>,
    pub(super) written: u64,
    pub(super) busy: bool,
    pub(super) blocked: bool,
    /// The client sent its FIN.
    pub(super) fin: bool,
    /// Who serves the connection knows of the FIN.
    pub(super) told: bool,
    pub(super) lingering: bool,
    /// The connection was asked to end.
    pub(super) closing: bool,
}

impl Phase {
    /// The phase that what is seen leads to.
    pub(super) fn next(self, seen: Seen) -> Self {
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
            _ if seen.amid_head == Some(true) => Self::Head { calls },
            Self::Head { calls: begun } if begun == calls && seen.amid_head.is_none() => self,
            // The time of a head counts from its first byte. The one exception is a head that begins
            // in the same read as the end of the request before: it counts from its second read, so
            // it may take `keep_alive` longer.
            Self::Idle {
                calls: begun,
                read: before,
            } if begun == calls && before != read => Self::Head { calls },
            _ => Self::Idle { calls, read },
        }
    }

    /// How long it may last; a phase without progress for longer is over.
    pub(super) fn time(self, limits: &Limits) -> Option<Duration> {
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

/// How long a request goes on for a client that sent FIN behind it and takes no byte.
///
/// A client that is gone and one that only half-closed (`nc -N`) look the same until something is
/// written: the one answers with RST, the other reads. Here an answer that begins within the grace is delivered, and goes on
/// as long as it moves; an abort reaches the upstream within a second, even after two graces.
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
    fn over_http2_frames_tell_where_a_head_begins_and_ends() {
        let seen = |amid| Seen {
            calls: 1,
            amid_head: Some(amid),
            ..Seen::default()
        };
        let idle = Phase::Idle { calls: 1, read: 0 };
        let head = idle.next(seen(true));
        assert_eq!(head, Phase::Head { calls: 1 });
        assert_eq!(head.next(seen(true)), head);
        assert_eq!(head.next(seen(false)), idle, "it was no request");
        let busy = Seen {
            busy: true,
            ..seen(true)
        };
        assert_eq!(head.next(busy), Phase::Busy, "others are under way");
        assert_eq!(Phase::Busy.next(seen(true)), head);
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
