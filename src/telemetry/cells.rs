//! A short list of handles that are made on first use and found again without a lock.

use std::sync::OnceLock;

/// An append-only chain: a look-up is one load per link.
///
/// Made for a handful of keys (a route's methods and statuses). Its length is capped, since a
/// status is the upstream's word and a method the client's.
#[derive(Debug)]
pub(super) struct Cells<K, V> {
    first: Link<K, V>,
}

type Link<K, V> = OnceLock<Box<Cell<K, V>>>;

#[derive(Debug)]
struct Cell<K, V> {
    key: K,
    value: V,
    next: Link<K, V>,
}

impl<K: Copy + PartialEq, V> Cells<K, V> {
    /// An empty list.
    pub(super) fn new() -> Self {
        Self { first: Link::new() }
    }

    /// The value for a key, made when it is asked for the first time; `None` when the list is full.
    pub(super) fn get(&self, key: K, make: impl Fn() -> V) -> Option<&V> {
        let mut link = &self.first;
        for _ in 0..LONGEST {
            let cell = link.get_or_init(|| {
                let (value, next) = (make(), Link::new());
                Box::new(Cell { key, value, next })
            });
            if cell.key == key {
                return Some(&cell.value);
            }
            link = &cell.next;
        }
        None
    }

    /// What there is so far, in the order in which it was made.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let cells = std::iter::successors(self.first.get(), |cell| cell.next.get());
        cells.map(|cell| (cell.key, &cell.value))
    }
}

/// Links of one chain at most; 40 or so methods and statuses are a lively route.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell as Counter;

    #[test]
    fn a_value_is_made_once_a_key() {
        let (cells, made) = (Cells::new(), Counter::new(0));
        let make = || made.replace(made.get() + 1);
        assert_eq!(cells.get("a", make), Some(&0));
        assert_eq!(cells.get("b", make), Some(&1));
        assert_eq!(cells.get("a", make), Some(&0));
        assert_eq!(made.get(), 2);
    }

    #[test]
    fn a_full_list_takes_no_new_key_and_keeps_the_old_ones() {
        let cells = Cells::new();
        for key in 0..LONGEST {
            assert_eq!(cells.get(key, || key), Some(&key));
        }
        assert_eq!(cells.get(LONGEST, || 0), None);
        assert_eq!(cells.get(7, || 0), Some(&7));
    }
}
