//! Interim answers of a server (RFC 9110 15.2) on their way to the client.

use std::{
    mem,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

/// What of them waits for a connection to write it.
///
/// It stands on the connection and not on the request: HTTP/1.1 has one request at a time under way,
/// and nearly none has an interim answer.
#[derive(Debug, Default)]
pub struct Interim {
    waiting: Mutex<Waiting>,
    /// So that the connection looks without a lock.
    some: AtomicBool,
    /// Changes when a request comes, and when its answer is made: a fetch may go on for others, or for
    /// nobody, and what its server says then is for no request behind it.
    turn: AtomicU64,
    /// Of the connection's task, which is always the same.
    writer: OnceLock<Waker>,
}

#[derive(Debug, Default)]
struct Waiting {
    turn: u64,
    heads: Vec<u8>,
}

impl Interim {
    /// Whose turn it is, for [`pass`](Self::pass).
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// A request comes, or its answer. Only the connection's task says so, hence no locked instruction.
    pub fn next_turn(&self) {
        let next = self.turn.load(Ordering::Relaxed).wrapping_add(1);
        self.turn.store(next, Ordering::Release);
    }

    /// Hands on a head. It is dropped where the turn is over, and where the client takes none or has
    /// not taken those before it.
    pub fn pass(&self, turn: u64, head: &[u8]) {
        let Some(writer) = self.writer.get().filter(|_| turn == self.turn()) else {
            return;
        };
        let mut waiting = self.lock();
        // It may have ended meanwhile.
        if turn != self.turn() {
            return;
        }
        if waiting.turn != turn {
            waiting.heads.clear();
            waiting.turn = turn;
        }
        if waiting.heads.len() + head.len() > MOST_WAITING {
            return;
        }
        waiting.heads.extend_from_slice(head);
        drop(waiting);
        self.some.store(true, Ordering::Release);
        writer.wake_by_ref();
    }

    /// Says whom to wake; without that there is nobody who writes them.
    pub fn written_by(&self, writer: &Waker) {
        self.writer.get_or_init(|| writer.clone());
    }

    /// What is to be written now, if there is anything.
    #[must_use]
    pub fn take(&self) -> Option<Vec<u8>> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        self.some.store(false, Ordering::Release);
        let mut waiting = self.lock();
        let heads = mem::take(&mut waiting.heads);
        (waiting.turn == self.turn()).then_some(heads)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits for one client at most.
const MOST_WAITING: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;

    #[test]
    fn what_is_said_for_one_request_is_never_said_for_another() {
        let interim = Interim::default();
        interim.pass(0, b"nobody writes");
        assert_eq!(interim.take(), None);
        interim.written_by(&noop_waker());
        interim.next_turn();
        let turn = interim.turn();
        interim.pass(turn, b"one");
        interim.pass(turn, b"two");
        assert_eq!(interim.take().as_deref(), Some(&b"onetwo"[..]));
        interim.pass(turn, b"left behind");
        interim.next_turn();
        assert_eq!(interim.take(), None);
        interim.pass(turn, b"too late");
        interim.pass(interim.turn(), b"next");
        assert_eq!(interim.take().as_deref(), Some(&b"next"[..]));
        assert_eq!(interim.take(), None);
    }

    #[test]
    fn no_more_waits_than_may() {
        let interim = Interim::default();
        interim.written_by(&noop_waker());
        for _ in 0..100 {
            interim.pass(0, &[b'a'; 1 << 10]);
        }
        assert_eq!(interim.take().map(|heads| heads.len()), Some(MOST_WAITING));
    }
}
