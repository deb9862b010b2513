//! Interim answers of a server (RFC 9110 15.2) on their way to the client.

use std::{
    mem,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

/// What of them waits for a connection to write it.
///
/// It stands on the connection and not on the request: HTTP/1.1 has one request at a time under way,
/// and nearly none has an interim answer.
#[derive(Debug, Default)]
pub struct Interim {
    heads: Mutex<Vec<u8>>,
    /// So that the connection looks without a lock.
    some: AtomicBool,
    /// Of the connection's task, which is always the same.
    writer: OnceLock<Waker>,
}

impl Interim {
    /// Hands on a head. It is dropped where the client takes none, or has not taken those before it.
    pub fn pass(&self, head: &[u8]) {
        let Some(writer) = self.writer.get() else {
            return;
        };
        let mut heads = self.lock();
        if heads.len() + head.len() > MOST_WAITING {
            return;
        }
        heads.extend_from_slice(head);
        drop(heads);
        self.some.store(true, Ordering::Release);
        writer.wake_by_ref();
    }

    /// Says whom to wake; without that there is nobody who writes them.
    pub fn written_by(&self, writer: &Waker) {
        self.writer.get_or_init(|| writer.clone());
    }

    /// What is to be written, if there is anything.
    #[must_use]
    pub fn take(&self) -> Option<Vec<u8>> {
        let some = self.some.load(Ordering::Acquire);
        some.then(|| {
            self.some.store(false, Ordering::Release);
            mem::take(&mut *self.lock())
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits for one client at most.
const MOST_WAITING: usize = 16 << 10;
