//! What fetches under way, and slow readers of what is stored no more, may hold in memory.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;

/// What all fetches under way may hold together.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    most: u64,
    /// Bodies in memory, and what they and fetches may take together.
    bodies: Arc<Bodies>,
    all: u64,
}

/// The bytes of whole bodies in memory: of those that are stored, and of those that somebody still
/// reads though they had to make room.
#[derive(Debug, Default)]
pub(super) struct Bodies(AtomicU64);

/// A piece of a body, which is counted for as long as anybody holds it.
struct Piece {
    bytes: Box<[u8]>,
    bodies: Arc<Bodies>,
}

/// What one fetch may hold.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    held: u64,
    /// What it may still take.
    most: u64,
    /// What it may hold whatever others do.
    least: u64,
}

impl Budget {
    /// For fetches, beside bodies that may be stored.
    pub(super) fn new(fetches: u64, stored: u64) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            most: fetches,
            bodies: Arc::default(),
            all: fetches.saturating_add(stored),
        })
    }

    /// Bytes that fetches hold now.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// The bodies that are counted.
    pub(super) fn bodies(&self) -> &Arc<Bodies> {
        &self.bodies
    }

    /// Room for one fetch, whose body may have so many bytes.
    pub(super) fn room(self: &Arc<Self>, most: u64) -> Room {
        Room {
            budget: Arc::clone(self),
            held: 0,
            most,
            least: 0,
        }
    }

    /// Room for what has been read out of another store, as long as that is here. What there is no room
    /// for is let go of.
    pub(super) fn read(self: &Arc<Self>, values: &mut [Option<Bytes>]) -> Room {
        let mut room = self.room(u64::MAX);
        for value in values {
            let size = value.as_ref().map_or(0, Bytes::len) as u64;
            // What is as large as all that fetches have can be read when nothing else is here.
            if !room.take(size.min(self.most), 0) {
                *value = None;
            }
        }
        room
    }

    fn take(&self, bytes: u64) -> bool {
        let used = self.used.fetch_add(bytes, Relaxed) + bytes;
        let fits = self.fits(used);
        if !fits {
            self.used.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    fn fits(&self, used: u64) -> bool {
        used <= self.most && used.saturating_add(self.bodies.bytes()) <= self.all
    }
}

impl Bodies {
    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Counts a piece of a body.
    pub(super) fn piece(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        self.0.fetch_add(bytes.len() as u64, Relaxed);
        Bytes::from_owner(Piece {
            bytes: bytes.into(),
            bodies: Arc::clone(self),
        })
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.bodies.0.fetch_sub(self.bytes.len() as u64, Relaxed);
    }
}

impl Room {
    /// So much it may hold though others have taken all there is.
    pub(super) fn at_least(mut self, bytes: u64) -> Self {
        self.least = bytes;
        self
    }

    /// Takes room for bytes of a body, and for what is beside them; `false`, and for good, when there
    /// is none.
    pub(super) fn take(&mut self, bytes: u64, beside: u64) -> bool {
        let all = bytes + beside;
        let fits = self.most >= bytes && (self.budget.take(all) || self.overdraw(all));
        self.most = if fits { self.most - bytes } else { 0 };
        self.held += if fits { all } else { 0 };
        fits
    }

    fn overdraw(&self, bytes: u64) -> bool {
        let may = self.held + bytes <= self.least;
        if may {
            self.budget.used.fetch_add(bytes, Relaxed);
        }
        may
    }

    /// Whether more is in memory than there was room for.
    pub(super) fn is_overdrawn(&self) -> bool {
        !self.budget.fits(self.budget.used())
    }

    /// Counts what is in memory though there was no room for it.
    pub(super) fn hold(&mut self, bytes: u64) {
        self.budget.used.fetch_add(bytes, Relaxed);
        self.held += bytes;
    }

    /// Gives back what is in memory no more.
    pub(super) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.held);
        self.budget.used.fetch_sub(bytes, Relaxed);
        self.held -= bytes;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_given_back() {
        let budget = Budget::new(100, 100);
        let mut room = budget.room(60);
        assert!(
            room.take(45, 5) && !room.take(20, 0),
            "more than one may have"
        );
        assert!(!room.take(1, 0), "for good");
        assert_eq!(budget.used(), 50, "what is there is not gone");
        assert!(!room.is_overdrawn());
        room.hold(60);
        assert!(room.is_overdrawn());
        room.give_back(100);
        assert_eq!(budget.used(), 10);
        drop(room);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_read_is_counted_and_what_there_is_no_room_for_is_let_go_of() {
        let budget = Budget::new(100, 100);
        let value = |length| Some(Bytes::from(vec![0; length]));
        let mut first = [value(60), None, value(30)];
        let room = budget.read(&mut first);
        assert_eq!((budget.used(), first[2].is_some()), (90, true));
        let mut second = [value(5), value(10), value(1)];
        let other = budget.read(&mut second);
        let left = second.map(|value| value.map(|value| value.len()));
        assert_eq!((budget.used(), left), (95, [Some(5), None, None]));
        drop((room, other));
        let mut alone = [value(1000)];
        let room = budget.read(&mut alone);
        assert_eq!((budget.used(), alone[0].is_some()), (100, true));
        drop(room);
        let _read_on = budget.bodies().piece(vec![0; 150]);
        let mut more = [value(51)];
        let _room = budget.read(&mut more);
        assert!(more[0].is_none(), "it would be one body too many");
    }

    #[test]
    fn bodies_that_are_still_read_leave_less_for_fetches() {
        let budget = Budget::new(100, 100);
        let read = budget.bodies().piece(vec![0; 150]);
        let part = read.slice(10..20);
        drop(read);
        assert!(
            !budget.room(100).take(60, 0),
            "a part of it holds all of it"
        );
        assert!(budget.room(100).take(50, 0));
        drop(part);
        assert_eq!(budget.bodies().bytes(), 0);
        assert!(budget.room(100).take(100, 0));
    }
}
