use super::*;
use crate::pipeline::cache::key::tests::key;

struct Blob {
    label: Label,
    weight: u64,
    variant: u32,
    standing: AtomicU64,
    asked: AtomicU64,
    others_since: Option<u64>,
}

impl Kept for Blob {
    fn weight(&self) -> u64 {
        self.weight
    }

    fn label(&self) -> &Label {
        &self.label
    }

    fn standing(&self) -> u64 {
        self.standing.load(Relaxed)
    }

    fn last_asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    fn others_since(&self) -> Option<u64> {
        self.others_since
    }

    fn succeed(&self, replaced: &Self) {
        self.standing.store(replaced.standing(), Relaxed);
    }
}

fn store(memory: u64, largest: u64) -> Store<Blob> {
    let counter = IntCounter::new("evictions", "evictions").unwrap();
    Store::new(memory, largest, counter)
}

fn put(store: &Store<Blob>, name: &str, weight: u64, variant: u32) {
    put_asked(store, (name, weight, variant), 0);
}

/// The same of one that was asked for at a moment.
fn put_asked(store: &Store<Blob>, (name, weight, variant): (&str, u64, u32), at: u64) {
    let blob = Arc::new(Blob {
        label: Label::of(&key(name).to_key()),
        weight,
        variant,
        standing: AtomicU64::new(0),
        asked: AtomicU64::new(at),
        others_since: None,
    });
    store.put(&blob, |known| known.variant == variant, |_| false);
}

fn variants_of(store: &Store<Blob>, name: &str) -> Vec<u32> {
    let shelf = store.find(&key(name)).unwrap();
    shelf.variants().iter().map(|blob| blob.variant).collect()
}

#[test]
fn the_bound_holds_under_a_million_random_objects() {
    let store = store(16 << 20, 1 << 20);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..1_000_000_u32 {
        let name = format!("/{}", random.u32(..500_000));
        let weight = 1 << random.u32(4..21);
        put(&store, &name, random.u64(1..=weight), random.u32(..3));
        if round % 10_000 == 0 {
            assert!(store.weight() <= store.capacity());
        }
    }
    assert!(store.weight() <= 16 << 20, "{}", store.weight());
    assert!(store.weight() > 12 << 20, "{}", store.weight());
    assert!(store.evicted() > 100_000);
}

#[test]
fn the_largest_object_fits_whatever_the_memory() {
    for (memory, largest) in [(1 << 20, 192 << 10), (192 << 20, 8 << 20), (1 << 40, 1)] {
        let store = store(memory, largest);
        put(&store, "/a", largest + 4096, 0);
        assert!(store.find(&key("/a")).is_some(), "{memory} {largest}");
    }
}

#[test]
fn one_scan_does_not_wash_out_what_is_in_use() {
    let store = store(4 << 20, 64 << 10);
    let hot: Vec<_> = (0..100).map(|index| format!("/hot/{index}")).collect();
    for name in &hot {
        put(&store, name, 4 << 10, 0);
    }
    for index in 0..20_000 {
        put(&store, &format!("/scan/{index}"), 4 << 10, 0);
        let _ = store.find(&key(&hot[index % hot.len()]));
    }
    let kept = hot.iter().filter(|name| store.find(&key(name)).is_some());
    assert!(kept.count() > 90);
}

#[test]
fn variants_replace_their_own_kind_and_are_few() {
    let store = store(1 << 20, 64 << 10);
    for variant in 0..100 {
        put(&store, "/a", 10, variant);
        put(&store, "/a", 10, variant);
    }
    let shelf = store.find(&key("/a")).unwrap();
    let variants: Vec<_> = shelf.variants().iter().map(|blob| blob.variant).collect();
    assert_eq!(variants, (68..100).rev().collect::<Vec<_>>());
    store.remove(&key("/a").to_key(), |blob| blob.variant > 68);
    assert_eq!(store.find(&key("/a")).unwrap().variants().len(), 1);
    store.remove(&key("/a").to_key(), |_| true);
    assert!(store.find(&key("/a")).is_none());
}

#[test]
fn of_many_variants_those_stay_that_are_asked_for() {
    let store = store(1 << 20, 64 << 10);
    for variant in 0..3 {
        put(&store, "/a", 10, variant);
    }
    for (variant, standing) in [(0, 7), (2, 5)] {
        let shelf = store.find(&key("/a")).unwrap();
        let found = shelf.variants().iter().find(|blob| blob.variant == variant);
        found.unwrap().standing.store(standing, Relaxed);
    }
    for variant in 3..100 {
        put(&store, "/a", 10, variant);
    }
    let shelf = store.find(&key("/a")).unwrap();
    let variants: Vec<_> = shelf.variants().iter().map(|blob| blob.variant).collect();
    let newest: Vec<_> = (70..100).rev().chain([2, 0]).collect();
    assert_eq!(variants, newest);
}

#[test]
fn variants_that_are_asked_for_most_take_half_of_the_room_at_most() {
    let store = store(1 << 20, 64 << 10);
    for variant in 0..31 {
        put_asked(&store, ("/a", 10, variant), 5);
    }
    let shelf = store.find(&key("/a")).unwrap();
    for blob in shelf.variants() {
        blob.standing.store(100, Relaxed);
    }
    // What is asked for from now on stays beside them, as long as it is.
    for round in 0..20 {
        for variant in 40..50 {
            put_asked(&store, ("/a", 10, variant), 10 + round);
        }
    }
    let variants = variants_of(&store, "/a");
    assert_eq!(variants[..10], (40..50).rev().collect::<Vec<_>>());
    put_asked(&store, ("/a", 10, 60), 40);
    for variant in 70..100 {
        put_asked(&store, ("/a", 10, variant), 50);
    }
    let variants = variants_of(&store, "/a");
    let newest: Vec<_> = (84..100).rev().chain((15..31).rev()).collect();
    assert_eq!(variants, newest);
}

#[test]
fn variants_that_are_gone_make_room_before_all_others() {
    let store = store(1 << 20, 64 << 10);
    for variant in 0..32 {
        put(&store, "/a", 10, variant);
    }
    let shelf = store.find(&key("/a")).unwrap();
    for blob in shelf.variants() {
        blob.standing.store(100, Relaxed);
    }
    let new = Arc::new(Blob {
        label: Label::of(&key("/a").to_key()),
        weight: 10,
        variant: 40,
        standing: AtomicU64::new(0),
        asked: AtomicU64::new(0),
        others_since: None,
    });
    store.put(&new, |_| false, |known| known.variant != 7);
    assert_eq!(variants_of(&store, "/a"), [40, 7]);
}

#[test]
fn what_takes_the_place_of_a_variant_that_is_asked_for_stays_as_that_would() {
    let store = store(1 << 20, 64 << 10);
    put(&store, "/a", 10, 0);
    let shelf = store.find(&key("/a")).unwrap();
    shelf.variants()[0].standing.store(7, Relaxed);
    for variant in 0..100 {
        put(&store, "/a", 10, variant);
    }
    let shelf = store.find(&key("/a")).unwrap();
    let last = shelf.variants().last().map(|blob| blob.variant);
    assert_eq!(last, Some(0));
}

#[test]
fn a_shelf_gives_up_its_oldest_when_it_is_too_heavy() {
    let store = store(1 << 20, 128 << 10);
    for variant in 0..32 {
        put(&store, "/a", 100 << 10, variant);
    }
    let shelf = store.find(&key("/a")).unwrap();
    assert_eq!(shelf.variants()[0].variant, 31);
    assert!(shelf.variants().len() < 8);
    assert!(store.weight() <= store.capacity());
}

#[test]
fn two_of_the_largest_variants_stand_beside_each_other() {
    for memory in [64 << 20, 100 << 20, 256 << 20] {
        let store = store(memory, 8 << 20);
        for variant in 0..2 {
            put(&store, "/a", 8 << 20, variant);
        }
        assert_eq!(variants_of(&store, "/a"), [1, 0], "{memory}");
    }
}

#[test]
fn of_two_variants_that_do_not_fit_the_one_stays_that_is_asked_for() {
    let store = store(1 << 20, 512 << 10);
    put(&store, "/a", 400 << 10, 0);
    let shelf = store.find(&key("/a")).unwrap();
    shelf.variants()[0].standing.store(5, Relaxed);
    put(&store, "/a", 400 << 10, 1);
    assert_eq!(variants_of(&store, "/a"), [0]);
    // What comes in its own place stays as it would.
    put(&store, "/a", 410 << 10, 0);
    put(&store, "/a", 400 << 10, 1);
    let shelf = store.find(&key("/a")).unwrap();
    assert_eq!(shelf.variants()[0].weight, 410 << 10);
    shelf.variants()[0].standing.store(0, Relaxed);
    put(&store, "/a", 400 << 10, 1);
    assert_eq!(variants_of(&store, "/a"), [1]);
}

#[test]
fn a_large_variant_that_is_refused_pushes_out_no_small_ones() {
    let store = store(1 << 20, 512 << 10);
    put(&store, "/a", 400 << 10, 0);
    let shelf = store.find(&key("/a")).unwrap();
    shelf.variants()[0].standing.store(5, Relaxed);
    for variant in 1..9 {
        put(&store, "/a", 10, variant);
    }
    put(&store, "/a", 400 << 10, 9);
    assert_eq!(variants_of(&store, "/a"), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
    // Where it is not refused, it takes the place of the one that it does not fit beside.
    shelf.variants()[0].standing.store(0, Relaxed);
    put(&store, "/a", 400 << 10, 9);
    assert_eq!(variants_of(&store, "/a"), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn large_variants_that_are_made_up_push_out_no_small_ones() {
    for asked in [0, 1] {
        let store = store(1 << 20, 512 << 10);
        put(&store, "/a", 200 << 10, 0);
        for variant in 1..9 {
            put(&store, "/a", 10, variant);
        }
        let shelf = store.find(&key("/a")).unwrap();
        for known in shelf.variants() {
            let standing = if known.variant == 0 { 5 } else { asked };
            known.standing.store(standing, Relaxed);
        }
        for made_up in 20..23 {
            put(&store, "/a", 200 << 10, made_up);
        }
        let left = [22, 8, 7, 6, 5, 4, 3, 2, 1, 0];
        assert_eq!(variants_of(&store, "/a"), left, "{asked}");
    }
}

#[test]
fn a_large_variant_that_is_made_up_does_not_push_out_what_all_ask_for() {
    let store = store(1 << 20, 512 << 10);
    put(&store, "/a", 200 << 10, 0);
    for variant in 1..9 {
        put(&store, "/a", 20 << 10, variant);
    }
    let shelf = store.find(&key("/a")).unwrap();
    for known in shelf.variants() {
        let standing = if known.variant == 0 { 5 } else { 1 };
        known.standing.store(standing, Relaxed);
    }
    // It would fit beside each of them alone.
    put(&store, "/a", 280 << 10, 20);
    assert_eq!(variants_of(&store, "/a"), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_mark_to_pass_leaves_what_is_stored_and_ends() {
    let store = store(1 << 20, 64 << 10);
    put(&store, "/a", 10, 0);
    store.pass_until(&key("/a").to_key(), 0, 100, Learnt::Fields);
    let shelf = store.find(&key("/a")).unwrap();
    assert!(shelf.passes(99) && !shelf.passes(100));
    assert!(shelf.passed_within(0, 109, 10) && !shelf.passed_within(0, 110, 10));
    assert_eq!(shelf.variants().len(), 1);
    put(&store, "/a", 10, 1);
    let shelf = store.find(&key("/a")).unwrap();
    assert!(!shelf.passes(99) && !shelf.passed_within(0, 99, 10));
}

#[test]
fn a_mark_to_pass_is_remembered_of_those_of_whom_it_was_learnt() {
    let store = store(1 << 20, 64 << 10);
    let kept = key("/a").to_key();
    let find = || store.find(&key("/a"));
    store.wait_again(&kept, 1);
    assert!(find().is_none());
    store.pass_until(&kept, 1, 100, Learnt::Fields);
    store.pass_until(&kept, 2, 200, Learnt::Fields);
    let shelf = find().unwrap();
    assert!(shelf.passes(199), "none waits as long as it is so of one");
    let within = |asker| shelf.passed_within(asker, 150, 0);
    assert_eq!([0, 1, 2].map(within), [false, false, true]);
    assert!(shelf.passed_within(1, 109, 10) && !shelf.passed_within(3, 109, 10));
    // Another of its group, of whom nothing was learnt.
    assert!(shelf.passes_alone(2, 199) && !shelf.passes_alone(2, 200));
    assert!(within(18) && !shelf.passes_alone(18, 150));
    store.wait_again(&kept, 2);
    assert!(find().is_some_and(|shelf| shelf.passes(99) && !shelf.passes(100)));
    store.wait_again(&kept, 1);
    assert!(find().is_none(), "nothing is left of it");
    let changes = store.changes.load(Relaxed);
    store.wait_again(&kept, 1);
    assert_eq!(store.changes.load(Relaxed), changes, "there is no mark");
}

#[test]
fn what_is_nowhere_is_looked_for_now_and_then_where_nobody_waits() {
    let store = store(1 << 20, 64 << 10);
    let kept = key("/a").to_key();
    store.note_look(&kept, Some(10));
    assert!(store.may_look(&kept, 10), "nothing is known of it");
    store.pass_until(&kept, 1, 100, Learnt::Fields);
    assert!(store.may_look(&kept, 10) && store.may_look(&kept, 10));
    store.note_look(&kept, Some(10));
    // What is learnt of another meanwhile brings nothing.
    store.pass_until(&kept, 2, 100, Learnt::Fields);
    let due = 10 + 250_000_000;
    assert!(!store.may_look(&kept, 10) && !store.may_look(&kept, due - 1));
    assert!(store.may_look(&kept, due));
    assert!(!store.may_look(&kept, due), "another looks");
    store.note_look(&kept, None);
    assert!(store.may_look(&kept, due) && store.may_look(&kept, due));
}

#[test]
fn a_mark_to_pass_is_forgotten_and_what_stands_beside_it_stays() {
    let store = store(1 << 20, 64 << 10);
    let kept = key("/a").to_key();
    for variant in 0..2 {
        put(&store, "/a", 10, variant);
    }
    for asker in 1..3 {
        store.pass_until(&kept, asker, 100, Learnt::Fields);
    }
    for (asker, passes) in [(1, true), (2, false)] {
        store.wait_again(&kept, asker);
        let shelf = store.find(&key("/a")).unwrap();
        assert_eq!(shelf.passes(99), passes);
        assert_eq!(variants_of(&store, "/a"), [1, 0]);
    }
}

#[test]
fn a_mark_to_pass_that_was_learnt_by_the_whole_is_not_soon_taken_away_by_a_304() {
    let store = store(1 << 20, 64 << 10);
    let kept = key("/a").to_key();
    for (asker, learnt, stays) in [(1, Learnt::Fields, false), (2, Learnt::Whole, true)] {
        store.pass_until(&kept, asker, 100, learnt);
        assert_eq!(store.wait_again_as_told(&kept, asker, 90), !stays);
        let shelf = store.find(&key("/a")).unwrap();
        let within = shelf.passed_within(asker, 99, 10);
        assert_eq!((shelf.passes(99), within), (stays, stays));
    }
}

#[test]
fn a_mark_to_pass_stays_where_a_304_was_taken_at_its_word_just_before() {
    let store = store(1 << 20, 64 << 10);
    let kept = key("/a").to_key();
    for passes in [false, true] {
        store.pass_until(&kept, 1, 100, Learnt::Fields);
        assert_eq!(store.wait_again_as_told(&kept, 1, 90), !passes);
        assert_eq!(store.find(&key("/a")).unwrap().passes(99), passes);
    }
    // What is kept shows that it was right.
    store.wait_again(&kept, 1);
    assert!(store.find(&key("/a")).is_none());
}

#[test]
fn a_mark_to_pass_stays_beside_a_variant_that_others_get() {
    let store = store(1 << 20, 64 << 10);
    let kept = key("/a").to_key();
    let put = |others_since| {
        let blob = Arc::new(Blob {
            label: Label::of(&kept),
            weight: 10,
            variant: 0,
            standing: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            others_since,
        });
        store.put(&blob, |_| true, |_| false);
        let shelf = store.find(&key("/a")).unwrap();
        [1, 2].map(|asker| shelf.passes_alone(asker, 99))
    };
    store.pass_until(&kept, 1, 100, Learnt::Fields);
    store.pass_until(&kept, 2, 200, Learnt::Fields);
    assert_eq!(put(Some(99)), [true, true]);
    assert_eq!(put(Some(100)), [false, true], "the other's is over");
    assert_eq!(put(None), [false, false], "it is for all");
}

#[test]
fn keys_are_told_apart_whose_labels_are_long() {
    let store = store(1 << 20, 64 << 10);
    let names = ["x", "y"].map(|end| format!("/{}{end}", "a".repeat(500)));
    for (variant, name) in names.iter().enumerate() {
        put(&store, name, 10, variant as u32);
    }
    for (variant, name) in names.iter().enumerate() {
        let shelf = store.find(&key(name)).unwrap();
        assert_eq!(shelf.variants()[0].variant, variant as u32);
    }
    assert_eq!(store.len(), 2);
}

#[test]
fn a_key_with_the_hash_of_another_is_not_taken_for_it() {
    let store = store(1 << 20, 64 << 10);
    put(&store, "/a", 10, 0);
    let place = store.place(key("/b").bytes());
    let others = || store.shelves.peek(&place).expect("one is there");
    // As if the two had one hash.
    store.shelves.insert(place, store.find(&key("/a")).unwrap());
    assert!(store.find(&key("/b")).is_none());
    store.remove(&key("/b").to_key(), |_| true);
    assert_eq!(others().variants()[0].variant, 0);
    put(&store, "/b", 10, 1);
    assert_eq!(others().variants().len(), 1);
    assert_eq!(store.find(&key("/b")).unwrap().variants()[0].variant, 1);
}

#[test]
fn a_variant_can_be_taken_off_its_shelf() {
    let store = store(1 << 20, 64 << 10);
    put(&store, "/a", 10, 0);
    let taken = |index| store.find(&key("/a"))?.take(index);
    assert_eq!(taken(0).map(|blob| blob.variant), Some(0));
    assert!(taken(1).is_none());
    put(&store, "/a", 10, 1);
    let variants = [0, 1].map(|index| taken(index).map(|blob| blob.variant));
    assert_eq!(variants, [Some(1), Some(0)]);
    assert!(taken(2).is_none());
}

#[test]
fn who_takes_its_own_place_makes_nobody_leave() {
    let store = store(1 << 20, 64 << 10);
    for variant in 0..10 {
        put(&store, "/a", 10, 0);
        put(&store, "/a", 10, variant);
        store.pass_until(&key("/a").to_key(), 0, 100, Learnt::Fields);
    }
    assert_eq!((store.evicted(), store.len()), (0, 1));
    for index in 0..100 {
        put(&store, &format!("/{index}"), 60 << 10, 0);
    }
    assert!(store.evicted() > 50);
    assert_eq!(store.evicted() + store.len() as u64, 101);
}

#[test]
fn marks_that_make_room_are_no_answers_that_had_to_go() {
    let store = store(1 << 20, 64 << 10);
    for index in 0..20_000 {
        let kept = key(&format!("/{index}")).to_key();
        store.pass_until(&kept, 0, 100, Learnt::Fields);
    }
    assert!(store.len() < 19_000, "{}", store.len());
    assert_eq!(store.evicted(), 0);
}

/// Tables that were made for many small objects are there still when all of them have left.
#[test]
fn what_tables_take_is_held_back_when_larger_objects_come() {
    let store = store(16 << 20, 64 << 10);
    let name = |index| format!("/small/{index}");
    for index in 0..30_000 {
        put(&store, &name(index), 1_000, 0);
    }
    assert!(store.weight() <= store.capacity());
    for index in 0..30_000 {
        store.remove(&key(&name(index)).to_key(), |_| true);
    }
    for index in 0..2_000 {
        put(&store, &format!("/large/{index}"), 64 << 10, 0);
        assert!(store.weight() <= store.capacity(), "{index}");
    }
    assert!(store.idle_tables() > 1 << 20, "{}", store.idle_tables());
    assert!(store.weight() > 12 << 20, "{}", store.weight());
}

#[test]
fn what_tables_take_is_held_back_when_everything_was_taken_out() {
    let store = store(16 << 20, 64 << 10);
    for index in 0..30_000 {
        put(&store, &format!("/small/{index}"), 1_000, 0);
    }
    let before = store.shelves.memory_used().entries as u64;
    store.clear();
    assert!(store.is_empty());
    assert!(store.idle_tables() >= before, "{}", store.idle_tables());
    for index in 0..2_000 {
        put(&store, &format!("/large/{index}"), 64 << 10, 0);
        assert!(store.weight() <= store.capacity(), "{index}");
    }
}
