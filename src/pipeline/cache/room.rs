//! What fetches under way may hold in memory.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::time::Instant;

/// What all fetches under way may hold together.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    most: u64,
}

/// What one fetch may hold.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    held: u64,
    most: u64,
    /// When it must be over to be stored.
    pub(super) deadline: Instant,
}

impl Budget {
    pub(super) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            most,
        })
    }

    /// Bytes that fetches hold now.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Room for one fetch, whose body may have so many bytes.
    pub(super) fn room(self: &Arc<Self>, most: u64, deadline: Instant) -> Room {
        Room {
            budget: Arc::clone(self),
            held: 0,
            most,
            deadline,
        }
    }

    fn take(&self, bytes: u64) -> bool {
        let used = self.used.fetch_add(bytes, Relaxed) + bytes;
        if used > self.most {
            self.used.fetch_sub(bytes, Relaxed);
        }
        used <= self.most
    }
}

impl Room {
    /// Takes room; `false`, and for good, when there is none.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let fits = self.most >= bytes && self.budget.take(bytes);
        match fits {
            true => {
                self.most -= bytes;
                self.held += bytes;
            }
            false => self.fill_up(),
        }
        fits
    }

    /// Nothing more is to be stored.
    pub(super) fn fill_up(&mut self) {
        self.most = 0;
        self.budget.used.fetch_sub(self.held, Relaxed);
        self.held = 0;
    }

    pub(super) fn is_full(&self) -> bool {
        self.most == 0 && self.held == 0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Relaxed);
    }
}
