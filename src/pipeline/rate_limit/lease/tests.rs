use futures_util::FutureExt;
use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{pipeline::rate_limit::tier::tests, store::KeyHasher};

/// The batches of a key under which a request has come before.
fn lease(size: u32) -> Arc<Lease> {
    let lease = new_lease(size);
    lease.locked().is_known = true;
    lease
}

fn new_lease(size: u32) -> Arc<Lease> {
    let owner = Owner::of_nobody(&tier());
    Arc::new(Lease::new(KeyHasher::default().hash(b"key"), size, owner))
}

/// The quota of a hundred a second.
fn tier() -> Arc<Tier> {
    tier_of(100)
}

fn found(leases: &Leases, tier: &Tier) -> InAdvance {
    leases.find(|hasher| hasher.hash(b"key"), tier)
}

fn tier_of(quota: u32) -> Arc<Tier> {
    tests::tier("x", &tests::in_seconds(&[(quota, 1)]))
}

fn standing() -> Standing {
    Standing {
        remaining: 90,
        reset: None,
    }
}

/// What a request gets that does not wait.
fn now(lease: &Arc<Lease>, now: u64) -> Leased {
    lease.take(now, (1, false))
}

fn fetch(lease: &Arc<Lease>) -> Fetch {
    match now(lease, 1) {
        Leased::Fetch(fetch) => begun(fetch),
        _ => panic!("there is no batch"),
    }
}

/// The same when its task runs.
fn begun(mut fetch: Fetch) -> Fetch {
    fetch.begin();
    fetch
}

/// What a request gets of a batch that has enough.
fn given(lease: &Arc<Lease>, now: u64) -> Given {
    given_to(lease, (now, false))
}

/// The same, where another limit may still refuse.
fn lent(lease: &Arc<Lease>, now: u64) -> Given {
    given_to(lease, (now, true))
}

fn given_to(lease: &Arc<Lease>, (now, lends): (u64, bool)) -> Given {
    match lease.take(now, (1, lends)) {
        Leased::Given(given) => given,
        Leased::Fetch(_) => panic!("there is too little"),
        Leased::Wait => panic!("another fetches"),
    }
}

/// So many requests that another limit may still refuse. None of them finds the batch low.
fn all_lent(lease: &Arc<Lease>, count: usize) -> Vec<Lent> {
    let lent = (0..count).map(|_| {
        let given = lent(lease, 1);
        assert!(given.more.is_none(), "what is lent may come back");
        given.lent.expect("another limit may refuse")
    });
    lent.collect()
}

/// The duty to top up a batch of ten, of which four are left.
fn half_used(lease: &Arc<Lease>) -> TopUp {
    fetch(lease).keep(9, (0, standing()), &tier(), 1);
    for _ in 0..4 {
        assert!(given(lease, 1).more.is_none(), "there are enough");
    }
    given(lease, 1).more.expect("half of it is used")
}

/// How many requests are served at once.
fn served(lease: &Arc<Lease>, now: u64) -> u32 {
    let is_given = |_: &u32| matches!(self::now(lease, now), Leased::Given(_));
    let served = (0..200).take_while(is_given);
    u32::try_from(served.count()).unwrap()
}

/// So many requests that wait, each polled once.
fn waiting(lease: &Arc<Lease>, count: usize) -> Vec<futures_util::future::BoxFuture<'_, Waited>> {
    let mut waiting: Vec<_> = (0..count)
        .map(|_| lease.take_fetched(1, (1, false)).boxed())
        .collect();
    for one in &mut waiting {
        assert!(one.now_or_never().is_none(), "it waits");
    }
    waiting
}

#[test]
fn one_request_fetches_a_batch_and_the_next_live_on_it_until_it_is_old() {
    let (lease, tier) = (lease(10), tier());
    let first = fetch(&lease);
    assert_eq!(first.size, 10);
    assert!(matches!(now(&lease, 1), Leased::Wait));
    first.keep(9, (0, standing()), &tier, 1);
    for left in (0..9).rev() {
        let given = given(&lease, 1);
        assert_eq!((given.window, given.standing.remaining), (0, 90 + left));
    }
    fetch(&lease).keep(9, (0, standing()), &tier, 1);
    let old = tier.shortest() + 1;
    assert!(matches!(now(&lease, old), Leased::Fetch(_)));
}

#[test]
fn what_another_limit_refuses_comes_back_and_what_passes_does_not() {
    let lease = lease(10);
    fetch(&lease).keep(9, (0, standing()), &tier(), 1);
    let mut lent = all_lent(&lease, 9);
    lent.drain(..4).for_each(Lent::use_up);
    assert_eq!(served(&lease, 1), 0);
    drop(lent);
    assert_eq!(served(&lease, 1), 5);
}

#[test]
fn all_that_is_refused_during_a_top_up_comes_back_and_is_not_fetched_again() {
    let lease = lease(100);
    fetch(&lease).keep(99, (0, standing()), &tier(), 1);
    // However many are refused, nobody is to fetch for them.
    drop(all_lent(&lease, 99));
    let lent = all_lent(&lease, 30);
    for _ in 0..49 {
        assert!(given(&lease, 1).more.is_none(), "there are enough");
    }
    let more = given(&lease, 1).more.expect("half of it is used");
    let fetch = begun(more.fetch);
    assert_eq!(fetch.size, 50, "19 are left, 30 may come back");
    drop(lent);
    fetch.keep(50, (0, standing()), &tier(), 1);
    assert_eq!(served(&lease, 1), 99);
}

#[test]
fn what_is_lent_has_its_place_beside_what_a_request_fetches() {
    let lease = lease(10);
    fetch(&lease).keep(9, (0, standing()), &tier(), 1);
    let mut lent = all_lent(&lease, 9);
    let alone = fetch(&lease);
    assert_eq!(alone.size, 1, "all may come back");
    alone.keep(0, (0, standing()), &tier(), 1);
    lent.drain(..3).for_each(Lent::use_up);
    let next = fetch(&lease);
    assert_eq!(next.size, 4);
    // It comes back before there is an answer, and behind that.
    lent.truncate(2);
    next.keep(3, (0, standing()), &tier(), 1);
    drop(lent);
    assert_eq!(served(&lease, 1), 9);
}

#[tokio::test]
async fn who_comes_while_a_batch_is_fetched_waits_for_it() {
    let lease = lease(3);
    let first = fetch(&lease);
    let mut waiting = waiting(&lease, 3);
    first.keep(2, (0, standing()), &tier(), 1);
    for one in &mut waiting[..2] {
        assert!(matches!(one.await, Waited::Given(..)));
    }
    // Whom the batch does not reach fetches the next one.
    assert!(matches!((&mut waiting[2]).await, Waited::Fetch(_)));
}

#[tokio::test]
async fn what_redis_refuses_it_refuses_to_all_who_wait() {
    let lease = lease(3);
    let refused = Refused { wait: Some(7) };
    let first = fetch(&lease);
    let waiting = waiting(&lease, 5);
    first.failed(Fetched::Refused(1, 0, refused));
    for one in waiting {
        assert!(matches!(one.await, Waited::Refused(0, told) if told == refused));
    }
    // What cost more says nothing about what costs less.
    let dear = fetch(&lease);
    let waiting = self::waiting(&lease, 1);
    dear.failed(Fetched::Refused(2, 0, refused));
    for one in waiting {
        assert!(matches!(one.await, Waited::Fetch(_)));
    }
}

#[tokio::test]
async fn what_one_tier_is_refused_or_has_left_is_nothing_to_another_of_the_same_key() {
    let leases = Leases::new(10, 100);
    let shared = KeyHasher::shared().hash(b"key");
    let of_tier = |quota| {
        let tier = tier_of(quota);
        let InAdvance::Not(key) = found(&leases, &tier) else {
            panic!("nothing is held yet");
        };
        let lease = leases.make(key, shared, Owner::of_nobody(&tier));
        assert!(
            matches!(found(&leases, &tier), InAdvance::Held(held) if Arc::ptr_eq(&held, &lease))
        );
        lease.locked().is_known = true;
        lease
    };
    let (small, large) = (&of_tier(100), &of_tier(200));
    assert_eq!((small.key, large.key), (shared, shared));
    let first = fetch(small);
    let waiting = waiting(small, 2);
    let other = fetch(large);
    let refused = Refused { wait: Some(7) };
    first.failed(Fetched::Refused(1, 0, refused));
    for one in waiting {
        assert!(matches!(one.await, Waited::Refused(0, told) if told == refused));
    }
    other.keep(9, (0, standing()), &tier(), 1);
    assert_eq!(served(small, 1), 0);
    assert_eq!(served(large, 1), 9);
}

#[tokio::test]
async fn nobody_waits_for_a_redis_that_is_away_twice() {
    let lease = lease(3);
    let first = fetch(&lease);
    let waiting = waiting(&lease, 5);
    first.failed(Fetched::Away);
    for one in waiting {
        assert!(matches!(one.await, Waited::Away));
    }
}

#[tokio::test]
async fn a_fetch_that_is_given_up_is_another_s_duty() {
    let lease = lease(3);
    let first = fetch(&lease);
    let mut waiting = waiting(&lease, 2);
    drop(first);
    let Waited::Fetch(second) = (&mut waiting[0]).await else {
        panic!("it takes over");
    };
    // It has waited once for nothing.
    assert!(matches!((&mut waiting[1]).await, Waited::Alone));
    drop(second);
}

#[test]
fn half_a_batch_is_topped_up_to_a_whole_one_less_one_and_nobody_waits_meanwhile() {
    let lease = lease(10);
    let more = half_used(&lease);
    // One fetch at a time, whatever is left.
    assert!(given(&lease, 1).more.is_none());
    let fetch = begun(more.fetch);
    assert_eq!(fetch.size, 6, "three are left");
    assert!(given(&lease, 1).more.is_none());
    let told = Standing {
        remaining: 70,
        reset: None,
    };
    fetch.keep(6, (0, told), &tier(), 1);
    let given = given(&lease, 1);
    assert_eq!(given.standing.remaining, 70 + 7, "eight were in hand");
}

#[test]
fn nobody_is_told_of_more_than_a_window_has_room_for() {
    let lease = lease(10);
    let fetch = begun(half_used(&lease).fetch);
    let told = Standing {
        remaining: 98,
        reset: None,
    };
    fetch.keep(5, (0, told), &tier(), 1);
    let remaining = || given(&lease, 1).standing.remaining;
    let all: Vec<_> = std::iter::repeat_with(remaining).take(9).collect();
    assert_eq!(all, [100, 100, 100, 100, 100, 100, 100, 99, 98]);
}

#[tokio::test]
async fn who_uses_up_what_is_left_waits_for_the_top_up() {
    let lease = lease(10);
    let fetch = begun(half_used(&lease).fetch);
    assert_eq!(served(&lease, 1), 4);
    let mut waiting = waiting(&lease, 6);
    fetch.keep(5, (0, standing()), &tier(), 1);
    for one in &mut waiting[..5] {
        assert!(matches!(one.await, Waited::Given(_)));
    }
    assert!(matches!((&mut waiting[5]).await, Waited::Fetch(_)));
}

#[test]
fn a_top_up_that_redis_has_too_little_for_or_does_not_answer_leaves_what_is_left() {
    let refused = Fetched::Refused(1, 0, Refused { wait: Some(7) });
    for why in [refused, Fetched::Away, Fetched::Nothing] {
        let lease = lease(10);
        begun(half_used(&lease).fetch).failed(why);
        for _ in 0..4 {
            assert!(given(&lease, 1).more.is_none(), "it is not tried on");
        }
        assert!(matches!(now(&lease, 1), Leased::Fetch(_)));
    }
    let lease = lease(10);
    let fetch = begun(half_used(&lease).fetch);
    fetch.keep(2, (0, standing()), &tier(), 1);
    for _ in 0..6 {
        assert!(given(&lease, 1).more.is_none(), "Redis had no more");
    }
    assert!(matches!(now(&lease, 1), Leased::Fetch(_)));
}

#[tokio::test]
async fn a_refused_top_up_refuses_who_waits_for_as_much_and_no_other() {
    let lease = lease(10);
    let fetch = begun(half_used(&lease).fetch);
    assert_eq!(served(&lease, 1), 4);
    let (mut cheap, mut dear) = (
        lease.take_fetched(1, (1, false)).boxed(),
        lease.take_fetched(1, (3, false)).boxed(),
    );
    for one in [&mut cheap, &mut dear] {
        assert!(one.now_or_never().is_none(), "it waits");
    }
    let refused = Refused { wait: Some(7) };
    fetch.failed(Fetched::Refused(1, 0, refused));
    assert!(matches!(cheap.await, Waited::Refused(0, told) if told == refused));
    // That would be too early for it: it asks when.
    assert!(matches!(dear.await, Waited::Fetch(_)));
}

#[test]
fn what_has_become_too_old_is_no_part_of_what_is_topped_up() {
    let (lease, tier) = (lease(10), tier());
    let fetch = begun(half_used(&lease).fetch);
    let late = tier.shortest() + 1;
    fetch.keep(5, (0, standing()), &tier, late);
    assert_eq!(served(&lease, late), 5);
}

#[test]
fn a_batch_for_a_few_requests_is_not_topped_up() {
    for (size, cost) in [(7, 1), (10, 2), (50, 7)] {
        let lease = lease(size);
        let Leased::Fetch(fetch) = lease.take(1, (cost, false)) else {
            panic!("there is no batch");
        };
        fetch.keep(size - cost, (0, standing()), &tier(), 1);
        while let Leased::Given(given) = lease.take(1, (cost, false)) {
            assert!(given.more.is_none());
        }
    }
}

#[test]
fn nothing_is_taken_in_advance_for_who_comes_first() {
    let lease = new_lease(10);
    let first = fetch(&lease);
    assert_eq!(first.size, 1);
    first.keep(0, (0, standing()), &tier(), 1);
    assert_eq!(fetch(&lease).size, 10);
}

#[test]
fn who_comes_first_fetches_a_batch_where_others_wait_for_it() {
    let lease = new_lease(10);
    let Leased::Fetch(first) = now(&lease, 1) else {
        panic!("nothing is there");
    };
    assert!(matches!(now(&lease, 1), Leased::Wait));
    assert_eq!(begun(first).size, 10);
}

#[test]
fn what_had_to_make_room_has_nothing_and_keeps_nothing() {
    let lease = lease(10);
    fetch(&lease).keep(9, (0, standing()), &tier(), 1);
    let lent = all_lent(&lease, 2);
    let under_way = begun(Fetch::new(&lease, 0));
    lease.close();
    assert_eq!(served(&lease, 1), 0);
    drop(lent);
    under_way.keep(5, (0, standing()), &tier(), 1);
    let alone = fetch(&lease);
    assert_eq!(alone.size, 1);
    alone.keep(0, (0, standing()), &tier(), 1);
    assert_eq!(served(&lease, 1), 0);
}

#[test]
fn a_fetch_that_brings_nothing_keeps_what_is_left_for_no_longer() {
    let lease = lease(10);
    fetch(&lease).keep(5, (0, standing()), &tier(), 1);
    let Leased::Fetch(dear) = lease.take(2, (20, false)) else {
        panic!("there is not that much");
    };
    begun(dear).keep(0, (0, standing()), &tier(), 2);
    let old = 1 + tier().shortest();
    assert_eq!(served(&lease, old - 1), 5);
    assert!(matches!(now(&lease, old), Leased::Fetch(_)));
}

#[test]
fn a_quota_of_few_has_nothing_taken_in_advance() {
    let leases = Leases::new(10, 100);
    let quotas = tests::in_seconds(&[(19, 1)]);
    let few = tests::brought("x", &quotas);
    assert!(matches!(found(&leases, &few), InAdvance::Never));
}

#[test]
fn what_a_request_has_turned_out_to_cost_more_comes_out_of_the_batch_first() {
    let lease = lease(10);
    fetch(&lease).keep(9, (0, standing()), &tier(), 1);
    assert_eq!(lease.charge(1, 4), 0);
    assert_eq!(lease.charge(1, 7), 2, "five were left");
    assert!(matches!(now(&lease, 1), Leased::Fetch(_)));
    // What is too old is nobody's.
    let lease = self::lease(10);
    fetch(&lease).keep(9, (0, standing()), &tier(), 1);
    assert_eq!(lease.charge(1 + tier().shortest(), 4), 4);
}

/// What the next top-up finds in hand, where so much was used during the one before.
fn low_behind(lease: &Arc<Lease>, more: TopUp, used: u32) -> (u32, TopUp) {
    let fetch = begun(more.fetch);
    assert_eq!(
        (0..used).filter(|_| given(lease, 1).more.is_none()).count(),
        used as usize
    );
    fetch.keep(fetch.size, (0, standing()), &tier(), 1);
    let mut left = lease.size - 1 - used;
    loop {
        left -= 1;
        if let Some(more) = given(lease, 1).more {
            return (left, more);
        }
    }
}

#[test]
fn a_batch_is_topped_up_the_later_the_less_was_used_during_the_last_top_up() {
    let lease = lease(80);
    fetch(&lease).keep(79, (0, standing()), &tier(), 1);
    // Whoever had to fetch it says nothing about that.
    let half = std::iter::repeat_with(|| given(&lease, 1)).find_map(|given| given.more);
    let mut more = half.expect("half of it is used");
    for (used, low) in [(0, 10), (2, 10), (3, 12), (10, 39), (0, 10), (5, 20)] {
        let (left, next) = low_behind(&lease, more, used);
        assert_eq!(left, low, "{used} were used");
        more = next;
    }
    drop(more);
    // Redis has not answered: a request asks next, and half of that is left again.
    while let Leased::Given(given) = now(&lease, 1) {
        assert!(given.more.is_none(), "it is not tried on");
    }
}

/// What may happen to a key.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request comes, with its cost, and whether another limit may still refuse it.
    Take(u32, bool),
    /// Another limit refuses one that may be, or its client leaves.
    GiveBack(Index),
    /// It lets one pass.
    UseUp(Index),
    /// The task of a top-up is run.
    Begin,
    /// Redis answers: it has so much of what it is asked for.
    Answer(u32),
    /// It does not, or the client leaves.
    Fail,
    /// So many nanoseconds pass.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (prop_oneof![5 => Just(1), 1 => 1..14u32], any::<bool>())
            .prop_map(|(cost, lends)| Step::Take(cost, lends)),
        2 => any::<Index>().prop_map(Step::GiveBack),
        2 => any::<Index>().prop_map(Step::UseUp),
        4 => Just(Step::Begin),
        4 => prop_oneof![3 => Just(u32::MAX), 1 => 0..12u32].prop_map(Step::Answer),
        1 => Just(Step::Fail),
        1 => (1..2_000_000_000u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..80)
}

/// A gateway with one key, and what its Redis has still to answer.
struct Model {
    lease: Arc<Lease>,
    now: u64,
    low: Option<TopUp>,
    /// What is fetched, and what of it the request takes that fetches.
    asked: Option<(Fetch, u32)>,
    /// What requests have that another limit may still refuse.
    lent: Vec<Lent>,
}

impl Model {
    fn new(size: u32) -> Self {
        Self {
            lease: lease(size),
            now: 1,
            low: None,
            asked: None,
            lent: Vec::new(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Take(cost, lends) => {
                self.take((cost, lends));
            }
            Step::GiveBack(index) => drop(self.one_lent(index)),
            Step::UseUp(index) => {
                if let Some(lent) = self.one_lent(index) {
                    lent.use_up();
                }
            }
            Step::Begin => {
                if let Some(low) = self.low.take() {
                    let fetch = begun(low.fetch);
                    assert!(fetch.size > 0, "half of it is used");
                    self.asked = Some((fetch, 0));
                }
            }
            Step::Answer(there) => {
                if let Some((fetch, cost)) = self.asked.take() {
                    self.answer(&fetch, cost, there);
                }
            }
            Step::Fail => {
                if let Some((fetch, _)) = self.asked.take() {
                    fetch.failed(Fetched::Away);
                }
            }
            Step::Pass(time) => self.now += time,
        }
    }

    fn one_lent(&mut self, index: Index) -> Option<Lent> {
        let count = self.lent.len();
        (count > 0).then(|| self.lent.swap_remove(index.index(count)))
    }

    /// Whether a request is served at once.
    fn take(&mut self, (cost, lends): (u32, bool)) -> bool {
        match self.lease.take(self.now, (cost, lends)) {
            Leased::Given(given) => {
                self.lent.extend(given.lent);
                if given.more.is_some() {
                    self.low = given.more;
                }
                return true;
            }
            Leased::Fetch(fetch) => self.asked = Some((begun(fetch), cost)),
            Leased::Wait => {}
        }
        false
    }

    fn answer(&self, fetch: &Fetch, cost: u32, there: u32) {
        match fetch.size.min(there).checked_sub(cost) {
            Some(left) => fetch.keep(left, (0, standing()), &tier(), self.now),
            None => fetch.failed(Fetched::Refused(cost, 0, Refused { wait: Some(7) })),
        }
    }

    /// How many requests that come from now on are served by what Redis has given, or is about to, and by
    /// what others give back: some of it before Redis answers.
    fn in_hand(&mut self) -> u32 {
        let under_way = self.asked.take();
        self.lent.truncate(self.lent.len() / 2);
        let mut served = self.serve();
        if let Some((fetch, cost)) = under_way {
            self.answer(&fetch, cost, u32::MAX);
        }
        self.lent.clear();
        served += self.serve();
        served
    }

    fn serve(&mut self) -> u32 {
        let mut served = 0;
        while self.take((1, false)) {
            served += 1;
        }
        served
    }
}

proptest! {
    /// What a quota is exceeded by at worst: what was taken before a window and is given out in it.
    #[test]
    fn there_is_never_more_in_hand_than_a_batch_less_one(size in 2..30u32, steps in steps()) {
        let mut model = Model::new(size);
        for step in steps {
            model.run(step);
        }
        let served = model.in_hand();
        prop_assert!(served < size, "{served} of {size}");
    }
}
