//! What a crowd pays for what one client does: whatever that has sent before and beside it.
//!
//! The crowd asks for one URL at once, and nothing tells those in it apart. The attacker sends whatever it
//! likes. [`bounds`] says how often the crowd may ask the upstream then, and how often in series.

mod attacker;
mod bounds;
mod upstream;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use tollgate::exchange::Clock;

use crate::support::{Answer, Gateway, Raw, eventually, within};
use attacker::{Move, one_move};
use bounds::{Bound, Past};
use upstream::{Policy, Upstream, body_for_all, in_series};

/// Those who ask at once.
const CROWD: usize = 20;

/// What happens to one URL, and then to one that nobody has asked for.
#[derive(Clone, Debug)]
struct Case {
    policy: Policy,
    /// Whether the answers are large.
    is_large: bool,
    /// Whether the route obeys what requests say in `Cache-Control`.
    obeys: bool,
    before: Vec<Move>,
    /// Seconds from these moves until the crowd comes.
    later: u64,
    /// Seconds until the next one comes, and what the attacker does beside that.
    again: u64,
    beside: Vec<Move>,
}

/// A gateway and an upstream for all cases: each has URLs of its own.
struct Ground {
    clock: Clock,
    upstream: Upstream,
    gateway: Gateway,
    urls: Cell<usize>,
}

/// One URL under way: who has got an answer, or has left, since the upstream was held.
struct Meeting<'a> {
    ground: &'a Ground,
    path: String,
    done: Cell<usize>,
    is_over: Cell<bool>,
}

/// What the crowd got, and what that cost.
struct Outcome {
    answers: Vec<Answer>,
    fetches: usize,
    rounds: usize,
}

impl Ground {
    async fn start() -> Self {
        let clock = Clock::movable();
        let upstream = Upstream::start(&clock).await;
        let url = upstream.url();
        let text = format!(
            "[routes.plain]\npath = '/plain/**'\nupstream = '{url}'\ncache = {{}}\n\
             [routes.obeying]\npath = '/obeying/**'\nupstream = '{url}'\n\
             [routes.obeying.cache]\nrequest_directives = true\n"
        );
        Self {
            gateway: Gateway::start_at(&text, clock.clone()),
            clock,
            upstream,
            urls: Cell::new(0),
        }
    }

    /// A URL that nobody has asked for.
    fn meeting(&self, case: &Case) -> Meeting<'_> {
        let route = if case.obeys { "obeying" } else { "plain" };
        let number = self.urls.replace(self.urls.get() + 1);
        Meeting {
            ground: self,
            path: format!("/{route}/{}/{number}", case.policy.name(case.is_large)),
            done: Cell::new(0),
            is_over: Cell::new(false),
        }
    }

    fn in_flight(&self) -> usize {
        self.gateway.metric("tollgate_requests_in_flight", &[]) as usize
    }

    /// Waits until nothing is under way, and then some time.
    async fn later(&self, seconds: u64) {
        eventually(|| self.in_flight() == 0 && self.upstream.is_idle()).await;
        self.clock.advance(Duration::from_secs(seconds));
    }
}

impl Meeting<'_> {
    /// One who asks for the whole, and says who it is.
    async fn ask(&self, who: &str) -> Answer {
        let path = &self.path;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nX-Who: {who}\r\n\r\n");
        Raw::ask(self.ground.gateway.address(), request).await
    }

    /// Moves of which some are made at once, and others when those before have been answered.
    async fn before(&self, moves: &[Move]) {
        let address = self.ground.gateway.address();
        for at_once in moves.split_inclusive(|one| one.is_waited_for) {
            let all = at_once
                .iter()
                .map(|one| one.make(address, &self.path, "before"));
            join_all(all).await;
        }
    }

    /// The crowd, and the attacker beside it: first with all its moves at once, before the crowd comes, then with
    /// one after another as long as that waits. The upstream answers nobody before all have come.
    async fn crowd(&self, beside: &[Move]) -> Outcome {
        let (ground, address) = (self.ground, self.ground.gateway.address());
        self.done.set(0);
        self.is_over.set(false);
        ground.upstream.hold();
        let first = async {
            let all = beside.iter().map(|one| async move {
                one.make(address, &self.path, "beside").await;
                self.one_is_done();
            });
            join_all(all).await;
        };
        let attacking = async {
            first.await;
            for one in beside.iter().cycle() {
                if self.is_over.get() {
                    break;
                }
                one.make(address, &self.path, "on").await;
            }
        };
        let asking = async {
            self.until_in(beside.len()).await;
            let began = Instant::now();
            let all = (0..CROWD).map(|_| async move {
                let answer = self.ask("crowd").await;
                self.one_is_done();
                answer
            });
            let answers = join_all(all).await;
            self.is_over.set(true);
            (answers, began)
        };
        let letting_go = async {
            self.until_in(beside.len() + CROWD).await;
            ground.upstream.let_go();
        };
        let ((answers, began), (), ()) = tokio::join!(asking, letting_go, attacking);
        self.outcome(answers, began)
    }

    fn outcome(&self, answers: Vec<Answer>, began: Instant) -> Outcome {
        let fetches = self.ground.upstream.fetches(&self.path, began);
        let of_crowd = fetches.iter().filter(|fetch| fetch.who == "crowd");
        let fetches_of_crowd = of_crowd.count();
        // The crowd waits for those that were under way; the attacker's later ones are its own.
        let counted = fetches.iter().filter(|fetch| fetch.who != "on");
        Outcome {
            answers,
            fetches: fetches_of_crowd,
            rounds: in_series(counted),
        }
    }

    fn one_is_done(&self) {
        self.done.set(self.done.get() + 1);
    }

    /// Waits until so many have come to the gateway.
    async fn until_in(&self, requests: usize) {
        eventually(|| self.done.get() + self.ground.in_flight() >= requests).await;
    }

    /// Waits until what is for all is there.
    async fn until_kept(&self) {
        let is_hit = async || {
            let answer = self.ask("probe").await;
            let status = answer.header("cache-status");
            status.is_some_and(|status| status.starts_with("tollgate; hit"))
        };
        within(async { while !is_hit().await {} }).await;
    }
}

impl Outcome {
    /// Each has got its own answer, whole, and they have not cost more than that.
    fn check(&self, case: &Case, bound: Bound, when: &str) {
        let (status, body) = (200, body_for_all(case.is_large));
        for answer in &self.answers {
            assert_eq!((answer.status, answer.complete), (status, true), "{when}");
            assert!(answer.body == body.as_bytes(), "another's, {when}");
            assert_eq!(answer.header("set-cookie"), None, "{when}");
        }
        let (fetches, rounds) = (self.fetches, self.rounds);
        assert!(fetches <= bound.fetches, "{fetches} fetches {when}");
        assert!(rounds <= bound.rounds, "{rounds} in series {when}");
    }
}

async fn holds(ground: &Ground, case: &Case) {
    let (policy, beside) = (case.policy, case.beside.as_slice());
    // Where one case has failed, the next is not to.
    ground.upstream.let_go();
    let url = ground.meeting(case);
    url.before(&case.before).await;
    ground.later(case.later).await;
    let mut past = Past::of(&case.before, case.later);
    let bound = bounds::behind(policy, &past);
    url.crowd(&[]).await.check(case, bound, "behind the moves");
    if policy.is_for_several() {
        url.until_kept().await;
    }
    ground.later(case.again).await;
    past.crowd_was_there(case.again);
    let bound = bounds::beside(policy, &past, beside);
    let outcome = url.crowd(beside).await;
    outcome.check(case, bound, "beside the attacker");
    ground.later(0).await;
    let (url, bound) = (
        ground.meeting(case),
        bounds::beside(policy, &Past::none(), beside),
    );
    let outcome = url.crowd(beside).await;
    outcome.check(case, bound, "where nothing was known");
    ground.later(0).await;
}

fn cases(policy: Policy) -> impl Strategy<Value = Case> {
    let seconds = || select(vec![0_u64, 6, 90]);
    let drawn = (
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(one_move(), 0..9),
        seconds(),
        seconds(),
        prop::collection::vec(one_move(), 1..9),
    );
    drawn.prop_map(
        move |(is_large, obeys, before, later, again, beside)| Case {
            policy,
            is_large,
            obeys,
            before,
            later,
            again,
            beside,
        },
    )
}

/// The same cases each time, of each policy as many.
#[test]
fn whatever_one_client_sends_costs_a_crowd_no_more_than_its_bound() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let ground = runtime.block_on(Ground::start());
    let config = ProptestConfig {
        cases: 3,
        max_shrink_iters: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut drawing = TestRunner::new_with_rng(config.clone(), random);
    for policy in Policy::ALL {
        let random = drawing.new_rng();
        let mut runner = TestRunner::new_with_rng(config.clone(), random);
        let outcome = runner.run(&cases(policy), |case| {
            runtime.block_on(holds(&ground, &case));
            Ok(())
        });
        outcome.unwrap();
    }
}
