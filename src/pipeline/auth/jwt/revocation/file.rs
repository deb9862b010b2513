//! Revocations in a file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Revocation, Revocations, list::List};
use crate::{
    config::RevocationList,
    exchange::{Clock, Watched, WatchedFile},
    pipeline::Tools,
};

/// A list that is read again when its file changes.
///
/// While the file is broken or gone the last list serves, up to `max_stale`: nobody can say any more
/// then who has been added, and nobody is let in.
pub(super) struct FileRevocations {
    list: Watched<List>,
    broken: Arc<Broken>,
    clock: Clock,
    max_stale: Duration,
}

/// Since when the file can't be used: nanoseconds on the clock, [`NEVER`] while it can.
struct Broken(AtomicU64);

impl FileRevocations {
    /// Reads the file and watches it. `owner` is whose list it is: `jwt.customers`.
    pub(super) fn watch(owner: &str, config: &RevocationList, tools: &Tools) -> Self {
        let owner: Arc<str> = format!("{owner}.revocation").into();
        let broken = Arc::new(Broken(AtomicU64::new(NEVER)));
        let (told, metrics) = (Arc::clone(&broken), tools.metrics.file(&owner));
        let clock = tools.clock.clone();
        let file = WatchedFile {
            owner,
            path: config.file.clone(),
            most: LARGEST,
            report: Box::new(move |usable| {
                metrics.was_read(usable);
                told.note(usable, clock.now());
            }),
        };
        Self {
            list: tools.files.watch(file, List::parse),
            broken,
            clock: tools.clock.clone(),
            max_stale: config.max_stale,
        }
    }
}

impl Revocations for FileRevocations {
    fn check(&self, id: Option<&str>, subject: &str) -> Revocation {
        match &*self.list.get() {
            Some(list) if list.contains(id, subject) => Revocation::Revoked,
            Some(_) if !self.broken.is_longer_than(self.max_stale, &self.clock) => {
                Revocation::Clear
            }
            _ => Revocation::Unknown,
        }
    }
}

impl Broken {
    /// The first of several faults counts.
    fn note(&self, usable: bool, now: Duration) {
        if usable {
            return self.0.store(NEVER, Ordering::Relaxed);
        }
        let now = u64::try_from(now.as_nanos()).unwrap_or(NEVER - 1);
        let _ = self
            .0
            .compare_exchange(NEVER, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is_longer_than(&self, most: Duration, clock: &Clock) -> bool {
        match self.0.load(Ordering::Relaxed) {
            NEVER => false,
            since => clock.now().saturating_sub(Duration::from_nanos(since)) > most,
        }
    }
}

const NEVER: u64 = u64::MAX;
/// A million ids of 36 letters, with room.
const LARGEST: u64 = 64 << 20;
