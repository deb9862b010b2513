//! The same of what is in flight, with those who leave and those who are told of again.

use std::collections::BTreeMap;

use super::*;
use crate::store::redis::places::{LAPSE, Named, Seat};

/// What happens to a place.
#[derive(Clone, Copy, Debug)]
enum Event {
    Take,
    Look,
    Leave,
    /// It is said to be held on.
    Tell,
}

/// Milliseconds by which the clock goes on, or back; what happens then, to which of a few places.
fn events() -> impl Strategy<Value = Vec<(i64, Event, u64)>> {
    let pause = prop_oneof![6 => 0..2_000i64, 2 => 5_000..45_000i64, 1 => -90_000..0i64];
    let event = prop::sample::select(vec![
        Event::Take,
        Event::Take,
        Event::Take,
        Event::Look,
        Event::Leave,
        Event::Tell,
    ]);
    prop::collection::vec((pause, event, 1..8u64), 1..80)
}

/// Until when each place counts.
#[derive(Default)]
struct Lapses(BTreeMap<u64, u64>);

impl Lapses {
    /// How many count beside one.
    fn beside(&mut self, place: u64, now: u64) -> u32 {
        // A clock that was set back leaves nothing for longer than one that was right.
        for lapses in self.0.values_mut() {
            *lapses = (*lapses).min(now + LAPSE_MICROS);
        }
        let others = self.0.iter().filter(|(name, _)| **name != place);
        u32::try_from(others.filter(|(_, lapses)| **lapses > now).count()).unwrap()
    }

    /// What has lapsed is gone, also where the clock goes back behind that.
    fn hold(&mut self, place: u64, now: u64) {
        self.0.retain(|_, lapses| *lapses > now);
        self.0.insert(place, now + LAPSE_MICROS);
    }

    /// What one is told that only looks.
    fn look(&mut self, place: u64, (quota, now): (u32, u64)) -> SharedTaken {
        let free = quota.saturating_sub(self.beside(place, now));
        told(free, 0)
    }

    fn take(&mut self, place: u64, (quota, now): (u32, u64)) -> SharedTaken {
        let free = quota.saturating_sub(self.beside(place, now));
        match free {
            // Who is refused when it asks again holds nothing.
            0 => drop(self.0.remove(&place)),
            _ => self.hold(place, now),
        }
        told(free, 1)
    }
}

/// What a limit says of which so many places are free, one of which is taken or none.
fn told(free: u32, takes: u32) -> SharedTaken {
    let Some(remaining) = free.checked_sub(takes).filter(|_| free > 0) else {
        let refusal = Refused { wait: None };
        return SharedTaken {
            decision: Decision::Refused { window: 0, refusal },
            got: 0,
        };
    };
    let reset = None;
    let standing = Standing { remaining, reset };
    SharedTaken {
        decision: Decision::Granted {
            window: 0,
            standing,
        },
        got: takes,
    }
}

fn agrees(
    model: &mut Model,
    quota: u32,
    events: &[(i64, Event, u64)],
) -> Result<(), TestCaseError> {
    let windows = [Window::held(quota.into())];
    let hash = KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes());
    let ask = one(SharedAlgorithm::InFlight, &windows, 1).take(hash, (1, 1));
    let key = model.redis.key(&ask);
    let mut reference = Lapses::default();
    let mut now = BEGIN;
    for &(pause, event, place) in events {
        now = now.saturating_add_signed(pause * 1_000);
        let ask = SharedAsk { place, ..ask };
        match event {
            Event::Take => {
                let taken = model.decide(Operation::Take, &[ask], now)[0];
                prop_assert_eq!(taken, reference.take(place, (quota, now)), "at {}", now);
            }
            Event::Look => {
                let looked = model.decide(Operation::Look, &[ask], now)[0];
                prop_assert_eq!(looked, reference.look(place, (quota, now)), "at {}", now);
            }
            Event::Leave => {
                reference.0.remove(&place);
                model.say(&place_of(&ask), Duration::ZERO, now);
            }
            Event::Tell => {
                reference.hold(place, now);
                model.say(&place_of(&ask), LAPSE, now);
            }
        }
        // A server whose clock is another would have let it go.
        let mut persist = redis::cmd("PERSIST");
        let _: i64 = persist.arg(&key[..]).query(&mut model.connection).unwrap();
    }
    Ok(())
}

fn place_of(ask: &SharedAsk<'_>) -> Named {
    let (key, limit) = (ask.key, ask.limit.name.into());
    (Seat { key, limit }, ask.place)
}

impl Model {
    /// Has a place be told of or given back, by a call as gateways make it.
    fn say(&mut self, place: &Named, long: Duration, now: u64) {
        let mut say = redis::cmd("EVAL");
        say.arg(moved(PLACES));
        self.redis
            .push_places(&mut say, std::slice::from_ref(place), long);
        let heard: usize = say.arg(now).query(&mut self.connection).unwrap();
        assert_eq!(heard, 1);
    }
}

const PLACES: &str = include_str!("../../places.lua");

#[test]
fn as_many_are_in_flight_as_a_plain_reference_counts() {
    let model = std::cell::RefCell::new(Model::start());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(192));
    let traces = (1..5u32, events());
    let ran = runner.run(&traces, |(quota, events)| {
        agrees(&mut model.borrow_mut(), quota, &events)
    });
    ran.unwrap();
}
