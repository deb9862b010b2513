use super::*;
use crate::store::KeyHasher;
use crate::telemetry::{IntCounter, IntGauge};
use proptest::prelude::*;
use std::{sync::mpsc, thread, time::Duration};

/// Owes so much until so long.
#[derive(Clone, Debug, Default, PartialEq)]
struct Owing {
    debt: u64,
    until: u64,
}

impl Slot for Owing {
    fn debt(&self, now: u64) -> u64 {
        if now < self.until { self.debt } else { 0 }
    }
}

/// Held so many times.
#[derive(Clone, Debug, Default)]
struct Held(u64);

impl Slot for Held {
    const SHARED: bool = true;

    fn debt(&self, _: u64) -> u64 {
        self.0
    }
}

fn figures() -> TableMetrics {
    TableMetrics {
        keys: IntGauge::new("keys", "keys").unwrap(),
        evictions: IntCounter::new("evictions", "evictions").unwrap(),
    }
}

fn key(hasher: &KeyHasher, number: u64) -> KeyHash {
    hasher.hash(&number.to_le_bytes())
}

/// Adds to a key's debt; gives what it owes then.
fn owe(table: &Table<Owing>, key: KeyHash, now: u64, debt: u64) -> u64 {
    let change = |state: &mut Owing| {
        state.debt += debt;
        state.until = u64::MAX;
        (state.debt, true)
    };
    table.update(key, now, change).0
}

fn sweep(table: &Table<Owing>, now: u64) {
    for _ in 0..SWEEPS {
        table.sweep(now);
    }
}

#[test]
fn a_known_key_is_found_again_and_a_refused_newcomer_is_not_taken_in() {
    let (table, hasher) = (Table::<Owing>::new(10, None), KeyHasher::default());
    let (one, other) = (key(&hasher, 1), key(&hasher, 2));
    assert_eq!(owe(&table, one, 0, 3), 3);
    assert_eq!(owe(&table, one, 0, 4), 7);
    table.update(other, 0, |_| ((), false));
    assert_eq!(table.len(), 1);
    assert_eq!(table.read(one, |state| state.debt), Some(7));
    assert_eq!(table.read(other, |state| state.debt), None);
    assert!(table.remove(one) && !table.remove(one));
    assert!(table.is_empty());
}

#[test]
fn a_million_keys_stay_within_the_bound_and_no_debt_is_lost() {
    let figures = figures();
    let table = Table::<Owing>::new(10_000, Some(figures.clone()));
    let hasher = KeyHasher::default();
    for number in 0..1_000_000u64 {
        owe(&table, key(&hasher, number), 0, 1);
    }
    assert_eq!(table.len(), 10_000);
    assert_eq!(figures.keys.get(), 10_000);
    assert_eq!(figures.evictions.get(), 990_000);
    let owed: u64 = table.busiest(0, usize::MAX).iter().map(|it| it.1).sum();
    assert_eq!(owed, 1_000_000, "what one owed another has taken over");
    // A shard grows in powers of two, so this is for the worst of its fillings.
    assert!(table.bytes() <= 128 * 10_000, "{} bytes", table.bytes());
    drop(table);
    assert_eq!(figures.keys.get(), 0);
}

#[test]
fn a_flood_of_made_up_keys_frees_nobody() {
    let (table, hasher) = (Table::<Owing>::new(1_000, None), KeyHasher::default());
    let heavy = key(&hasher, u64::MAX);
    owe(&table, heavy, 0, 1_000_000);
    for number in 0..100_000 {
        owe(&table, key(&hasher, number), 0, 1);
    }
    assert_eq!(table.read(heavy, |state| state.debt), Some(1_000_000));
}

#[test]
fn a_newcomer_to_a_flooded_table_starts_with_a_small_debt() {
    let (table, hasher) = (Table::<Owing>::new(1_000, None), KeyHasher::default());
    for number in 0..500 {
        owe(&table, key(&hasher, number), 0, 1_000);
    }
    for number in 500..1_000 {
        owe(&table, key(&hasher, number), 0, 1);
    }
    let started: Vec<_> = (0..100)
        .map(|number| owe(&table, key(&hasher, 10_000 + number), 0, 0))
        .collect();
    // One of 2^8 samples finds nobody who owes little.
    let burdened = started.iter().filter(|debt| **debt >= 1_000).count();
    assert!(burdened < 10, "{burdened} of 100");
}

#[test]
fn keys_that_owe_nothing_leave_by_themselves_and_by_a_sweep() {
    let figures = figures();
    let table = Table::<Owing>::new(100_000, Some(figures.clone()));
    let hasher = KeyHasher::default();
    let until = |until| {
        move |state: &mut Owing| {
            (state.debt, state.until) = (1, until);
            ((), true)
        }
    };
    for number in 0..50_000 {
        table.update(key(&hasher, number), 0, until(10));
    }
    for number in 50_000..100_000 {
        table.update(key(&hasher, number), 10, until(20));
    }
    assert!(table.len() < 70_000, "{} keys", table.len());
    let full = table.bytes();
    sweep(&table, 10);
    assert_eq!(table.len(), 50_000);
    sweep(&table, 20);
    assert_eq!((table.len(), figures.keys.get()), (0, 0));
    assert!(table.bytes() < full / 8);
    assert_eq!(figures.evictions.get(), 0);
}

#[test]
fn a_full_table_of_shared_slots_counts_newcomers_with_others() {
    let (table, hasher) = (Table::<Held>::new(2, None), KeyHasher::default());
    let take = |number| {
        let add = |held: &mut Held| {
            held.0 += 1;
            (held.0, true)
        };
        table.update(key(&hasher, number), 0, add)
    };
    assert_eq!(take(1).0, 1);
    assert_eq!(take(2).0, 1);
    let (held, under) = take(3);
    assert_eq!(held, 2);
    assert!(under == key(&hasher, 1) || under == key(&hasher, 2));
    let give = || table.update_known(under, 0, |held| held.0 -= 1);
    give();
    assert_eq!(table.len(), 2);
    give();
    assert_eq!(table.len(), 1, "who holds nothing has left");
    assert_eq!(give(), None);
}

#[test]
fn a_newcomer_that_is_counted_with_a_stranger_is_seen() {
    let figures = figures();
    let table = Table::<Held>::new(1, Some(figures.clone()));
    let hasher = KeyHasher::default();
    let take = |number| {
        let add = |held: &mut Held| {
            let fits = held.0 < 2;
            held.0 += u64::from(fits);
            (fits, fits)
        };
        table.update(key(&hasher, number), 0, add).0
    };
    assert!(take(1));
    assert_eq!(figures.evictions.get(), 0);
    assert!(take(2));
    assert_eq!(figures.evictions.get(), 1);
    assert!(!take(3), "for what strangers hold");
    assert_eq!((figures.evictions.get(), figures.keys.get()), (2, 1));
    assert!(!take(1), "who is known takes nobody's place");
    assert_eq!(figures.evictions.get(), 2);
}

#[test]
fn a_sweep_holds_a_lock_for_so_many_places() {
    let (mut shard, hasher) = (Shard::<Owing>::default(), KeyHasher::default());
    for number in 0..10_000 {
        shard.insert(key(&hasher, number), Owing::default());
    }
    let parts = shard.table.num_buckets().div_ceil(PLACES_A_PART);
    assert!(parts > 2, "{parts} parts");
    for part in 1..=parts {
        let done = shard.forget_part(0);
        assert!(done.left <= done.places && done.places <= PLACES_A_PART);
        assert_eq!(done.was_last, part == parts);
    }
    assert!(shard.table.is_empty());
    assert!(shard.table.capacity() <= LOOKED_AT, "memory is given back");
}

#[test]
fn a_large_table_has_more_shards() {
    let shards = |max_keys| Table::<Owing>::new(max_keys, None).shards.len();
    assert_eq!([1, 100, 100_000, 1_000_000].map(shards), [1, 1, 64, 64]);
    assert_eq!([2_000_000, 100_000_000].map(shards), [128, 8_192]);
}

#[test]
fn who_changes_a_key_holds_up_no_key_of_another_shard() {
    let (table, hasher) = (Table::<Owing>::new(100_000, None), KeyHasher::default());
    let shard = |number| key(&hasher, number).shard() % 64;
    let other = (1..).find(|&number| shard(number) != shard(0)).unwrap();
    let (done, was_done) = mpsc::channel();
    let free = thread::scope(|scope| {
        let meanwhile = |_: &mut Owing| {
            scope.spawn(|| {
                owe(&table, key(&hasher, other), 0, 1);
                done.send(())
            });
            let free = was_done.recv_timeout(Duration::from_secs(10)).is_ok();
            (free, true)
        };
        table.update(key(&hasher, 0), 0, meanwhile).0
    });
    assert!(free, "a lock that all keys share");
}

#[test]
fn keys_that_come_and_go_at_once_are_counted_right() {
    let figures = figures();
    let table = Table::<Owing>::new(500, Some(figures.clone()));
    let hasher = KeyHasher::default();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let (table, hasher) = (&table, &hasher);
            scope.spawn(move || {
                for number in 0..5_000 {
                    // Some are the same for all threads.
                    let key = key(hasher, (thread * number) % 1_000);
                    match number % 5 {
                        0 => drop(table.remove(key)),
                        1 => table.sweep(number),
                        _ => {
                            table.update(key, number, |state| {
                                (state.debt, state.until) = (1, number + 50);
                                ((), true)
                            });
                        }
                    }
                }
            });
        }
    });
    let held: usize = table.shards.iter().map(|it| locked(it).table.len()).sum();
    assert_eq!(table.len(), held);
    assert_eq!(figures.keys.get(), i64::try_from(held).unwrap());
    // A shard without a key holds one over the bound.
    assert!(held <= 500 + table.shards.len(), "{held} keys");
}

#[test]
fn the_busiest_come_first() {
    let (table, hasher) = (Table::<Owing>::new(10_000, None), KeyHasher::default());
    for number in 0..1_000 {
        owe(&table, key(&hasher, number), 0, number);
    }
    let busiest = table.busiest(0, 3);
    let expected: Vec<_> = [999, 998, 997].map(|n| (key(&hasher, n), n)).into();
    assert_eq!(busiest, expected);
}

proptest! {
    /// Whatever comes and goes, the number of keys is the number of entries.
    #[test]
    fn the_number_of_keys_is_right(
        steps in prop::collection::vec((0u64..40, 0u64..100, 0u8..4), 0..300),
        max_keys in 1usize..30,
    ) {
        let (table, hasher) = (Table::<Owing>::new(max_keys, None), KeyHasher::default());
        for (number, now, what) in steps {
            let key = key(&hasher, number);
            match what {
                0 => drop(table.remove(key)),
                1 => table.sweep(now),
                _ => {
                    table.update(key, now, |state| {
                        (state.debt, state.until) = (1, now + 10);
                        ((), what == 2)
                    });
                }
            }
            let held: usize = table.shards.iter().map(|it| locked(it).table.len()).sum();
            prop_assert_eq!(table.len(), held);
            prop_assert!(held <= max_keys);
        }
    }
}
