//! The script against a plain reference that keeps every request, in a real `redis-server`.
//!
//! Nobody can move that server's clock. So the two lines of the script that read it are replaced by
//! one that takes the time from the last argument; everything else is what runs in production, and so
//! are the command and the reading of the answer.

mod in_flight;

use std::sync::Arc;

use proptest::{prelude::*, test_runner::TestRunner};

use super::{server::RedisServer, *};
use crate::{config::Config, store::KeyHasher, telemetry::Metrics};

/// The script as it stands.
const QUOTA: &str = include_str!("../quota.lua");
/// Microseconds. All times are whole milliseconds: then no fraction of a token is within the script's
/// epsilon of a whole one.
const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000 * MILLI;
const BEGIN: u64 = 1_700_000_000 * SECOND;
const CLOCK: &str = "local clock = redis.call('TIME')\n\
                     local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])\n";

/// A server, and the script with a clock that the test moves.
struct Model {
    connection: redis::Connection,
    redis: Arc<Redis>,
    script: String,
    _server: RedisServer,
}

impl Model {
    fn start() -> Self {
        let server = RedisServer::start();
        let text = format!(
            "[redis]\nurl = '{}'\n[routes.all]\nrespond = {{}}",
            server.url()
        );
        let config = Config::parse("model.toml", &text).unwrap().config;
        let metrics = Metrics::new().redis();
        // It is never asked, so nothing runs there.
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut load = redis::cmd("SCRIPT");
        let script = load.arg("LOAD").arg(moved(QUOTA));
        let script = script.query(&mut connection).unwrap();
        Self {
            connection,
            redis: Redis::new(&config.redis.unwrap(), 1, metrics, runtime.handle()),
            script,
            _server: server,
        }
    }

    fn run(&mut self, operation: Operation, asks: &[SharedAsk<'_>], now: u64) -> Value {
        self.run_all(operation, &[asks], now)
    }

    /// Several questions by one call.
    fn run_all(&mut self, operation: Operation, all: &[&[SharedAsk<'_>]], now: u64) -> Value {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.script);
        let mut questions = Questions::new(operation);
        for asks in all {
            questions.add(self.redis.prefix(), asks);
        }
        questions.push(&mut command);
        command.arg(now).query(&mut self.connection).unwrap()
    }

    fn take(&mut self, asks: &[SharedAsk<'_>], now: u64) -> Vec<SharedTaken> {
        self.decide(Operation::Take, asks, now)
    }

    fn decide(
        &mut self,
        operation: Operation,
        asks: &[SharedAsk<'_>],
        now: u64,
    ) -> Vec<SharedTaken> {
        let value = self.run(operation, asks, now);
        let bytes = bytes_of(&value).expect("a text");
        parse(bytes, asks).expect("an answer").into_vec()
    }

    /// For how many microseconds a key is kept; from now on it is kept until it is asked for again,
    /// however long this machine takes for that.
    fn kept(&mut self, ask: &SharedAsk<'_>) -> u64 {
        let key = self.redis.key(ask);
        let millis: i64 = redis::cmd("PTTL")
            .arg(&key[..])
            .query(&mut self.connection)
            .unwrap();
        let _: i64 = redis::cmd("PERSIST")
            .arg(&key[..])
            .query(&mut self.connection)
            .unwrap();
        u64::try_from(millis).expect("every key expires") * MILLI
    }
}

/// A script with the clock that the test moves.
fn moved(script: &str) -> String {
    assert_eq!(script.matches(CLOCK).count(), 1, "the clock is read once");
    script.replace(CLOCK, "local now = tonumber(ARGV[#ARGV])\n")
}

/// What one limit has let through.
struct Reference {
    algorithm: SharedAlgorithm,
    windows: Vec<Window>,
    /// When and how much; what a bucket is given back is less than nothing.
    counted: Vec<(u64, i64)>,
}

impl Reference {
    fn new(algorithm: SharedAlgorithm, windows: &[Window]) -> Self {
        Self {
            algorithm,
            windows: windows.to_vec(),
            counted: Vec::new(),
        }
    }

    /// What a window has left, in whole tokens.
    fn left(&self, window: &Window, now: u64) -> i64 {
        let per = per(window);
        let sum = |counts: &dyn Fn(u64) -> bool| -> i64 {
            let counted = self.counted.iter().filter(|(at, _)| counts(*at));
            counted.map(|(_, cost)| cost).sum()
        };
        let quota = i64::from(window.quota);
        let left = match self.algorithm {
            SharedAlgorithm::FixedWindow => quota - sum(&|at| at / per == now / per),
            SharedAlgorithm::SlidingLog => quota - sum(&|at| at + per > now),
            SharedAlgorithm::SlidingWindow => {
                let (current, before) = (
                    sum(&|at| at / per == now / per),
                    sum(&|at| at / per + 1 == now / per),
                );
                let share = i128::from(before) * i128::from(per - now % per);
                let used = i128::from(current) * i128::from(per) + share;
                floor(i128::from(quota) * i128::from(per) - used, per)
            }
            SharedAlgorithm::TokenBucket => {
                let size = i128::from(window.bucket) * i128::from(per);
                floor(size - self.debt(window, now), per)
            }
            SharedAlgorithm::InFlight => unreachable!("it has a model of its own"),
        };
        left.max(0)
    }

    /// What a bucket owes, in tokens times `per`.
    fn debt(&self, window: &Window, now: u64) -> i128 {
        let (per, rate) = (i128::from(per(window)), i128::from(window.quota));
        let (mut debt, mut before) = (0, 0);
        for &(at, cost) in self.counted.iter().chain([&(now, 0)]) {
            debt = (debt - i128::from(at - before) * rate).max(0);
            debt = (debt + i128::from(cost) * per).max(0);
            before = at;
        }
        debt
    }

    fn least(&self, now: u64) -> i64 {
        let left = self.windows.iter().map(|window| self.left(window, now));
        left.min().unwrap()
    }

    /// Of what was taken at a moment some is given back. Redis knows no key that owes nothing.
    fn give_back(&mut self, taken: u64, now: u64, cost: i64) {
        if self.algorithm == SharedAlgorithm::TokenBucket {
            self.counted.push((now, -cost));
            return;
        }
        let entry = self
            .counted
            .iter_mut()
            .rfind(|(at, left)| *at == taken && *left >= cost);
        entry.expect("it was taken").1 -= cost;
    }

    /// When nothing counts any more.
    fn idle_at(&self, now: u64) -> u64 {
        let newest = self.counted.last().map_or(0, |(at, _)| *at);
        let idle = self.windows.iter().map(|window| {
            let per = per(window);
            match self.algorithm {
                SharedAlgorithm::FixedWindow => (newest / per + 1) * per,
                SharedAlgorithm::SlidingWindow => (newest / per + 2) * per,
                SharedAlgorithm::SlidingLog => newest + per,
                SharedAlgorithm::InFlight => unreachable!("it has a model of its own"),
                SharedAlgorithm::TokenBucket => {
                    let melts = self.debt(window, now) / i128::from(window.quota);
                    now + u64::try_from(melts).unwrap()
                }
            }
        });
        idle.max().unwrap()
    }
}

fn per(window: &Window) -> u64 {
    window.per / 1_000
}

fn floor(number: i128, by: u64) -> i64 {
    i64::try_from(number.div_euclid(i128::from(by))).unwrap()
}

/// What happens at a moment.
#[derive(Clone, Debug)]
enum Step {
    /// So much is asked of all limits, and as many more of the first one if there are.
    Take { cost: u32, more: u32 },
    /// Of what was taken last so much is given back.
    Give(u32),
    /// So much is charged.
    Charge(u32),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let pause = prop_oneof![3 => 0..100u64, 1 => Just(0), 1 => 0..4_000u64];
    let step = prop_oneof![
        8 => (1..5u32, prop_oneof![3 => Just(0), 1 => 0..9u32])
            .prop_map(|(cost, more)| Step::Take { cost, more }),
        1 => (1..4u32).prop_map(Step::Give),
        1 => (1..20u32).prop_map(Step::Charge),
    ];
    prop::collection::vec((pause, step), 1..60)
}

/// An algorithm and one or two windows: a quota, milliseconds, a bucket.
fn limits() -> impl Strategy<Value = Vec<Limited>> {
    let algorithm = prop::sample::select(vec![
        SharedAlgorithm::TokenBucket,
        SharedAlgorithm::FixedWindow,
        SharedAlgorithm::SlidingWindow,
        SharedAlgorithm::SlidingLog,
    ]);
    let window = |(quota, millis, bucket): (u64, u64, u64)| {
        Window::new(quota, Duration::from_millis(millis), Some(bucket))
    };
    let short = (4..30u64, 200..1_500u64, 4..30u64).prop_map(window);
    let long = (4..60u64, 2_000..9_000u64, 4..60u64).prop_map(window);
    let windows = prop_oneof![
        short.clone().prop_map(|short| vec![short]),
        (short, long).prop_map(|(short, long)| vec![short, long]),
    ];
    let limit = (algorithm, windows, prop::bool::weighted(0.8));
    prop::collection::vec(limit, 1..3)
}

/// A limit of a trace, and whether it can refuse.
type Limited = (SharedAlgorithm, Vec<Window>, bool);

/// What one of the limits of a trace is asked.
fn ask_of(
    limits: &[Limited],
    index: usize,
    key: KeyHash,
    cost_and_want: (u32, u32),
) -> SharedAsk<'_> {
    let (algorithm, ref windows, enforced) = limits[index];
    let limit = SharedLimit {
        name: ["one", "other"][index],
        ..one(algorithm, windows, 1)
    };
    SharedAsk {
        enforced,
        ..limit.take(key, cost_and_want)
    }
}

/// A limit by what matters of it.
fn one(algorithm: SharedAlgorithm, windows: &[Window], largest: u32) -> SharedLimit<'_> {
    SharedLimit {
        name: "one",
        algorithm,
        windows,
        largest,
    }
}

/// Runs a trace through the script and the reference.
fn agrees(
    model: &mut Model,
    limits: &[Limited],
    steps: &[(u64, Step)],
) -> Result<(), TestCaseError> {
    let mut both = Both::new(model, limits);
    let mut now = BEGIN;
    for (pause, step) in steps {
        now += pause * MILLI;
        match *step {
            Step::Take { cost, more } => both.take((cost, more), now)?,
            Step::Give(cost) => both.give_back(cost, now),
            Step::Charge(cost) => both.charge(cost, now),
        }
    }
    Ok(())
}

/// The script beside the reference of each limit, for one key.
struct Both<'a> {
    model: &'a mut Model,
    limits: &'a [Limited],
    references: Vec<Reference>,
    key: KeyHash,
    /// When the first limit has given something last, and how much.
    last: Option<(u64, u32)>,
}

impl<'a> Both<'a> {
    fn new(model: &'a mut Model, limits: &'a [Limited]) -> Self {
        let references = limits.iter();
        let references =
            references.map(|(algorithm, windows, _)| Reference::new(*algorithm, windows));
        Self {
            model,
            limits,
            references: references.collect(),
            key: KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes()),
            last: None,
        }
    }

    fn ask(&self, index: usize, cost_and_want: (u32, u32)) -> SharedAsk<'a> {
        ask_of(self.limits, index, self.key, cost_and_want)
    }

    fn take(&mut self, (cost, more): (u32, u32), now: u64) -> Result<(), TestCaseError> {
        let wants = |index| if index == 0 { cost + more } else { cost };
        let asks = (0..self.limits.len()).map(|it| self.ask(it, (cost, wants(it))));
        let asks: Vec<_> = asks.collect();
        let looked = self.model.decide(Operation::Look, &asks, now);
        let taken = self.model.take(&asks, now);
        let fits = |reference: &Reference| reference.least(now) >= i64::from(cost);
        let fits: Vec<_> = self.references.iter().map(fits).collect();
        let mut passing = fits.iter().zip(self.limits);
        let passes = passing.all(|(fits, (_, _, enforced))| *fits || !enforced);
        for (index, taken) in taken.iter().enumerate() {
            prop_assert_eq!(looked[index].got, 0);
            if !fits[index] {
                prop_assert_eq!(looked[index].decision, taken.decision);
            }
            let there = self.references[index].least(now);
            let got = match passes && fits[index] {
                true => i64::from(asks[index].want).min(there),
                false => 0,
            };
            prop_assert_eq!(i64::from(taken.got), got);
            if got > 0 {
                self.references[index].counted.push((now, got));
                let kept = now + self.model.kept(&asks[index]);
                let idle = self.references[index].idle_at(now);
                prop_assert!(kept >= idle, "it is kept as long as it counts");
            }
            let reference = &self.references[index];
            decided(reference, taken.decision, fits[index], now, cost)?;
        }
        let first = taken[0].got;
        self.last = (first > 0).then_some((now, first)).or(self.last);
        Ok(())
    }

    fn give_back(&mut self, cost: u32, now: u64) {
        let Some((taken, got)) = self.last.take() else {
            return;
        };
        let cost = cost.min(got);
        let ago = Duration::from_micros(now - taken);
        let ask = self.ask(0, (cost, cost));
        self.model.run(Operation::Give(ago), &[ask], now);
        self.references[0].give_back(taken, now, cost.into());
    }

    fn charge(&mut self, cost: u32, now: u64) {
        let ask = self.ask(0, (cost, cost));
        self.model.run(Operation::Charge, &[ask], now);
        self.references[0].counted.push((now, cost.into()));
        self.model.kept(&ask);
    }
}

/// Whether the answer is what the reference, in which it has been counted already, says.
fn decided(
    reference: &Reference,
    decision: Decision,
    fits: bool,
    now: u64,
    cost: u32,
) -> Result<(), TestCaseError> {
    let left = |at: u64| {
        reference
            .windows
            .iter()
            .map(move |window| reference.left(window, at))
    };
    match decision {
        Decision::Granted { window, standing } => {
            prop_assert!(fits);
            let least = left(now).min().unwrap();
            prop_assert_eq!(i64::from(standing.remaining), least);
            prop_assert_eq!(left(now).position(|it| it == least), Some(window));
            // There is more when it says so.
            let reset = standing.reset.unwrap() / 1_000;
            let later = |at: u64| reference.left(&reference.windows[window], at);
            if least < whole(reference, window) {
                prop_assert!(later(now + reset) > least);
                prop_assert!(reset < 2 || later(now + reset - 2) <= least);
            }
        }
        Decision::Refused { refusal, .. } => {
            prop_assert!(!fits);
            let never = reference
                .windows
                .iter()
                .enumerate()
                .any(|(index, _)| whole(reference, index) < i64::from(cost));
            let wait = refusal.wait.unwrap() / 1_000;
            let fits = |at: u64| left(at).all(|left| left >= i64::from(cost));
            prop_assert!(never || fits(now + wait), "never early");
            prop_assert!(never || wait < 2 || !fits(now + wait - 2), "and not late");
        }
    }
    Ok(())
}

/// All that a window can have.
fn whole(reference: &Reference, index: usize) -> i64 {
    let window = &reference.windows[index];
    match reference.algorithm {
        SharedAlgorithm::TokenBucket => window.bucket.into(),
        _ => window.quota.into(),
    }
}

#[test]
fn the_script_decides_as_a_plain_reference_does() {
    let mut model = Model::start();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(192));
    // Of all tests here this one alone runs a server, so it runs all cases on one.
    let model = std::cell::RefCell::new(&mut model);
    let outcome = runner.run(&(limits(), steps()), |(limits, steps)| {
        agrees(&mut model.borrow_mut(), &limits, &steps)
    });
    outcome.unwrap();
}

#[test]
fn questions_of_one_call_are_answered_as_if_each_came_by_itself() {
    let model = std::cell::RefCell::new(Model::start());
    let question = (1..5_u32, 0..9_u32, 0..3_usize);
    let calls = prop::collection::vec((0..900_u64, prop::collection::vec(question, 1..9)), 1..12);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    let outcome = runner.run(&(limits(), calls), |(limits, calls)| {
        let hash = |_| KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes());
        let [together, alone] = [(); 2].map(|()| [0; 3].map(hash));
        let asks = |keys: &[KeyHash; 3], (cost, more, key): (u32, u32, usize)| {
            let asks = (0..limits.len())
                .map(|index| ask_of(&limits, index, keys[key], (cost, cost + more)));
            asks.collect::<Vec<_>>()
        };
        let mut now = BEGIN;
        for (pause, questions) in calls {
            now += pause * MILLI;
            let mut model = model.borrow_mut();
            let of = |keys| {
                questions
                    .iter()
                    .map(|&it| asks(keys, it))
                    .collect::<Vec<_>>()
            };
            let (joined, single) = (of(&together), of(&alone));
            let slices: Vec<_> = joined.iter().map(Vec::as_slice).collect();
            let value = model.run_all(Operation::Take, &slices, now);
            let mut rest = bytes_of(&value).expect("a text");
            for (joined, single) in joined.iter().zip(&single) {
                let (own, others) = rest.split_at(joined.len() * ANSWER);
                let taken = parse(own, joined).expect("an answer");
                prop_assert_eq!(taken.to_vec(), model.take(single, now));
                rest = others;
            }
            prop_assert!(rest.is_empty());
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_server_s_clock_that_goes_back_lets_no_more_through_than_time_allows() {
    let mut model = Model::start();
    let windows = [Window::new(10, Duration::from_secs(1), None)];
    for algorithm in [
        SharedAlgorithm::TokenBucket,
        SharedAlgorithm::FixedWindow,
        SharedAlgorithm::SlidingWindow,
        SharedAlgorithm::SlidingLog,
    ] {
        let key = KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes());
        let ask = one(algorithm, &windows, 10).take(key, (1, 1));
        let (mut passed, mut latest) = (0u64, BEGIN);
        // Back by up to a second and forward again, over and over, without getting anywhere.
        for step in 0..400u64 {
            let now = BEGIN + SECOND - (step * 37 % 1_000) * MILLI;
            latest = latest.max(now);
            if let Decision::Granted { .. } = model.take(&[ask], now)[0].decision {
                passed += 1;
                model.kept(&ask);
            }
        }
        let windows = (latest - BEGIN) / SECOND + 2;
        assert!(
            passed <= 10 * windows,
            "{algorithm:?}: {passed} in {windows} windows"
        );
    }
}

#[test]
fn a_server_s_clock_that_is_set_back_shuts_nobody_out_until_it_has_caught_up() {
    let mut model = Model::start();
    let windows = [Window::new(10, Duration::from_secs(1), None)];
    for (_, algorithm) in SHARING {
        // A little more than a window is the worst: nothing changes until the second one has passed.
        for (back, seconds) in [(3_600 * SECOND, 3), (1_100 * MILLI, 4)] {
            let key = KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes());
            let ask = sharing(algorithm, key, &windows, 1);
            let ahead = passed_at(&mut model, &ask, BEGIN + back);
            assert_eq!(ahead, 10, "{algorithm:?}");
            let at_once = passed_at(&mut model, &ask, BEGIN);
            assert_eq!(at_once, 0, "{algorithm:?}: it frees nothing");
            let tenths = (1..10 * seconds).map(|tenth| BEGIN + tenth * 100 * MILLI);
            let passed: u32 = tenths.map(|now| passed_at(&mut model, &ask, now)).sum();
            // Two windows may go by before a weighted one lets anybody in.
            assert!((10..=40).contains(&passed), "{algorithm:?}: {passed}");
        }
    }
}

#[test]
fn a_server_s_clock_that_is_set_back_frees_nothing_of_a_log_of_several_windows() {
    let mut model = Model::start();
    let window = |quota, seconds| Window::new(quota, Duration::from_secs(seconds), None);
    let windows = [window(5, 1), window(8, 60)];
    let key = KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes());
    let ask = sharing(SharedAlgorithm::SlidingLog, key, &windows, 1);
    let mut passed = |seconds: u64| passed_at(&mut model, &ask, BEGIN + seconds * SECOND);
    assert_eq!(passed(3_600), 5);
    // More than a window for the short one alone, then for both.
    assert_eq!(passed(3_598), 0);
    assert_eq!(passed(3_599), 3);
    assert_eq!(passed(0), 0);
    assert_eq!(passed(59), 0);
    assert_eq!(passed(60), 5);
}

/// How many pass at a moment, who come until one is refused.
fn passed_at(model: &mut Model, ask: &SharedAsk<'_>, now: u64) -> u32 {
    let mut passed = 0;
    while let Decision::Granted { .. } = model.take(&[*ask], now)[0].decision {
        passed += 1;
        model.kept(ask);
    }
    passed
}

#[test]
fn what_another_program_has_written_under_a_key_leaves_an_answer_that_can_be_read() {
    let mut model = Model::start();
    let windows = [Window::new(10, Duration::from_secs(1), None)];
    for algorithm in [
        SharedAlgorithm::TokenBucket,
        SharedAlgorithm::FixedWindow,
        SharedAlgorithm::SlidingWindow,
    ] {
        for value in ["", "x", "-5", "inf", "-inf", "nan", "1e300"] {
            let ask = one(algorithm, &windows, 10).take(
                KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes()),
                (1, 1),
            );
            let mut write = redis::cmd("HSET");
            write.arg(&model.redis.key(&ask)[..]);
            for name in ["a", "d", "s", "c", "p"] {
                write.arg(format!("{SECOND}{name}")).arg(value);
            }
            let _: i64 = write.query(&mut model.connection).unwrap();
            // It panics where there is none.
            model.take(&[ask], BEGIN);
            model.run(Operation::Charge, &[ask], BEGIN);
            assert!(model.kept(&ask) > 0, "{algorithm:?}, {value:?}: it expires");
        }
    }
}

#[test]
fn a_debt_has_a_bound_and_its_key_expires() {
    let mut model = Model::start();
    let slow = [Window::new(1, Duration::from_secs(3600 * 24 * 3650), None)];
    let quick = [Window::new(5, Duration::from_secs(1), None)];
    for (algorithm, windows) in [
        (SharedAlgorithm::TokenBucket, &slow),
        (SharedAlgorithm::TokenBucket, &quick),
        (SharedAlgorithm::FixedWindow, &slow),
        (SharedAlgorithm::SlidingWindow, &slow),
        (SharedAlgorithm::SlidingLog, &quick),
    ] {
        let key = KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes());
        let ask = |cost: u32| one(algorithm, windows, 1).take(key, (cost, cost));
        for number in 0..20 {
            model.run(Operation::Charge, &[ask(u32::MAX)], BEGIN + number);
            model.kept(&ask(1));
        }
        let taken = model.take(&[ask(1)], BEGIN + 20);
        let refused = matches!(taken[0].decision, Decision::Refused { .. });
        assert!(refused, "{algorithm:?}");
        let mut count = redis::cmd("ZCARD");
        if algorithm == SharedAlgorithm::SlidingLog {
            count.arg(&model.redis.key(&ask(1))[..]);
            let entries: u64 = count.query(&mut model.connection).unwrap();
            assert_eq!(entries, 10, "twice the quota");
        }
    }
}

/// How many quotas an algorithm may let into a stretch as long as the window.
const SHARING: [(u64, SharedAlgorithm); 4] = [
    (2, SharedAlgorithm::TokenBucket),
    (2, SharedAlgorithm::FixedWindow),
    (2, SharedAlgorithm::SlidingWindow),
    (1, SharedAlgorithm::SlidingLog),
];

/// What is asked by one of those who are counted together.
fn sharing(
    algorithm: SharedAlgorithm,
    key: KeyHash,
    windows: &[Window],
    cost: u32,
) -> SharedAsk<'_> {
    one(algorithm, windows, 100).take(key, (cost, cost))
}

#[test]
fn a_charge_to_a_small_quota_frees_nothing_that_was_used_of_a_large_one() {
    let mut model = Model::start();
    let minute = |quota| [Window::new(quota, Duration::from_secs(60), None)];
    let (small, large) = (minute(5), minute(100));
    for (_, algorithm) in SHARING {
        let key = KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes());
        let large = sharing(algorithm, key, &large, 1);
        assert_eq!(passed_at(&mut model, &large, BEGIN), 100, "{algorithm:?}");
        let small = sharing(algorithm, key, &small, 3);
        model.run(Operation::Charge, &[small], BEGIN + 1);
        model.kept(&small);
        assert_eq!(passed_at(&mut model, &large, BEGIN + 2), 0, "{algorithm:?}");
    }
}

#[test]
fn under_a_small_and_a_large_quota_passes_together_what_the_large_one_allows() {
    let mut model = Model::start();
    let second = |quota| [Window::new(quota, Duration::from_secs(1), None)];
    let windows = [second(3), second(20)];
    for (quotas, algorithm) in SHARING {
        let key = KeyHasher::shared().hash(&fastrand::u128(..).to_le_bytes());
        let mut random = fastrand::Rng::with_seed(11);
        let (mut now, mut passed) = (BEGIN, Vec::new());
        for _ in 0..900 {
            now += u64::from(random.u8(..) < 24) * random.u64(..200) * MILLI;
            let ask = sharing(algorithm, key, &windows[random.usize(..2)], 1);
            if let Decision::Granted { .. } = model.take(&[ask], now)[0].decision {
                passed.push(now);
                model.kept(&ask);
            }
        }
        let within = passed.iter().map(|begin| {
            let after = passed.iter().filter(|at| *at >= begin);
            after.filter(|at| **at - begin < SECOND).count()
        });
        let most = within.max().unwrap_or(0) as u64;
        assert!(most <= 20 * quotas, "{algorithm:?}: {most}");
        assert!(most >= 20, "{algorithm:?}: {most}");
    }
}
