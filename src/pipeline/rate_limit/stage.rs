//! One stage of a route's limits: all of them let a request pass, or none is charged.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    RateLimitLayer,
    book::LimitBook,
    grant::{Grant, OpenCharge, allow},
    held::Held,
    lease::{InAdvance, Lent},
    limit::{Ask, Asked, Limit},
    shared::{Change, change_later},
};
use crate::{
    config::Route,
    exchange::{Context, LimitReport, LimitSaid, Reason, Rejection, Request},
    store::{Decision, KeyHash, Refused, Standing},
    telemetry::{LimitDecision, LimitMetrics},
};

/// The limits of one stage on one route.
pub(super) struct Stage {
    limits: Box<[OnRoute]>,
    /// What a request of the route costs.
    pub(super) cost: u32,
    /// Whether the route takes upper and lower case in paths for the same.
    ignore_case: bool,
    /// Whether a limit is counted elsewhere, so that deciding may have to wait.
    pub(super) shared: bool,
}

/// A limit on a route.
pub(super) struct OnRoute {
    pub(super) limit: Arc<Limit>,
    pub(super) metrics: Arc<LimitMetrics>,
}

/// What becomes of a request.
pub(super) enum Verdict {
    /// It is too much.
    Refused(Rejection),
    /// It may pass; with what is to be done when its answer comes, if there is anything.
    Granted(Option<Grant>),
}

/// A limit's question about this request, and its outcome so far.
pub(super) struct Question {
    /// The limit's place in the stage.
    pub(super) limit: usize,
    pub(super) ask: Ask,
    pub(super) taken: Option<Granted>,
}

/// What was taken.
pub(super) struct Granted {
    pub(super) under: KeyHash,
    pub(super) window: usize,
    /// How the window stands, where somebody has counted.
    pub(super) standing: Option<Standing>,
    pub(super) source: Source,
    /// When, on the process's clock; not later than it was.
    pub(super) at: Duration,
    /// A place among those in flight. It gives itself back: a client may leave while another limit
    /// of the stage waits for Redis.
    pub(super) held: Option<Held>,
    /// What is lent of a batch. It gives itself back too.
    pub(super) lent: Option<Lent>,
}

impl Granted {
    /// What neither is held nor lent, and how its window stands.
    pub(super) fn of(
        under: KeyHash,
        (window, standing): (usize, Option<Standing>),
        source: Source,
        at: Duration,
    ) -> Self {
        Self {
            under,
            window,
            standing,
            source,
            at,
            held: None,
            lent: None,
        }
    }
}

/// Where it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In this process.
    Memory,
    /// In Redis.
    Redis,
    /// From what was taken of Redis in advance.
    Lease,
    /// Nobody has counted it.
    Nowhere,
}

/// Why a stage refuses: the question's place among all of the stage.
pub(super) enum Refusing {
    /// The quota of a window is used up.
    Exceeded(usize, usize, Refused),
    /// Nobody can count.
    Away(usize),
}

pub(super) type Questions = SmallVec<[Question; 1]>;

impl Stage {
    /// The stage of those limits of a route that belong to it; `None` when there is none.
    pub(super) fn layer(
        route: &Route,
        limits: &LimitBook,
        belongs: impl Fn(&Limit) -> bool,
    ) -> Option<RateLimitLayer> {
        let named = route.rate_limits.iter().filter_map(|name| limits.get(name));
        let on_route = |limit: &Arc<Limit>| OnRoute {
            limit: Arc::clone(limit),
            metrics: limit.metrics.limit(&route.name, &limit.config.name),
        };
        let limits: Box<[_]> = named.filter(|limit| belongs(limit)).map(on_route).collect();
        let cost = route.cost;
        let shared = limits.iter().any(|it| it.limit.shared.is_some());
        (!limits.is_empty()).then(|| {
            RateLimitLayer::from(Self {
                limits,
                cost,
                ignore_case: route.ignore_case,
                shared,
            })
        })
    }

    /// What the limits say about a request of which all has been asked.
    pub(super) fn verdict(
        &self,
        taken: Result<(), Refusing>,
        questions: &mut Questions,
        context: &Context,
    ) -> Verdict {
        match taken {
            Ok(()) => Verdict::Granted(self.grant(questions, context)),
            Err(refusing) => Verdict::Refused(self.refuse(&refusing, questions, context)),
        }
    }

    /// The refusing window has the word; of the limits beside it the policies are told. The frame writes
    /// it all.
    fn refuse(&self, refusing: &Refusing, questions: &[Question], context: &Context) -> Rejection {
        self.give_back(questions, context);
        let (Refusing::Exceeded(index, ..) | Refusing::Away(index)) = *refusing;
        let on_route = self.on_route(&questions[index]);
        on_route.metrics.decided(LimitDecision::Deny);
        let Refusing::Exceeded(_, window, Refused { wait }) = *refusing else {
            return Rejection::new(Reason::LimitStoreUnavailable);
        };
        for (place, question) in questions.iter().enumerate() {
            let (window, said) = match place == index {
                true => (window, LimitSaid::Deny { reset: wait }),
                false => (0, LimitSaid::Nothing),
            };
            let limit = &self.on_route(question).limit;
            context.limited(question.report(limit, window, said));
        }
        Rejection::new(Reason::LimitExceeded).limit(&on_route.limit.config.name)
    }

    pub(super) fn on_route(&self, question: &Question) -> &OnRoute {
        &self.limits[question.limit]
    }

    /// What the limits are asked. Nothing is taken yet.
    ///
    /// # Errors
    ///
    /// When a limit that refuses what has no key finds none.
    pub(super) fn ask(
        &self,
        request: &Request,
        context: &Context,
        questions: &mut Questions,
    ) -> Result<(), Reason> {
        questions.reserve(self.limits.len());
        for (place, on_route) in self.limits.iter().enumerate() {
            match on_route.limit.ask(request, context, self.ignore_case) {
                Asked::Ask(ask) => questions.push(Question {
                    limit: place,
                    ask,
                    taken: None,
                }),
                Asked::Skip => {}
                Asked::NoKey => on_route.without_key(context)?,
            }
        }
        Ok(())
    }

    /// Takes from each limit in memory in turn, and here too from those in Redis whose places are held: who
    /// may not have so many by itself need not ask Redis, and while that is away this count goes on. They are
    /// all asked, also behind the first that refuses: the one that takes longest has the word, so that
    /// `Retry-After` is true for all.
    pub(super) fn take(
        &self,
        questions: &mut Questions,
        context: &Context,
    ) -> Result<(), Refusing> {
        let mut taken = Ok(());
        for (index, question) in questions.iter_mut().enumerate() {
            let limit = &self.on_route(question).limit;
            if limit.shared.is_none() || limit.is_held() {
                taken = longest(taken, self.take_one(index, question, context));
            }
        }
        taken
    }

    /// Takes from one limit in memory.
    pub(super) fn take_one(
        &self,
        index: usize,
        question: &mut Question,
        context: &Context,
    ) -> Result<(), Refusing> {
        let on_route = self.on_route(question);
        let limit = &on_route.limit;
        let at = context.began();
        let (now, cost) = (limit.counters.at(at), self.cost_of(limit));
        let windows = &question.ask.tier(limit).windows;
        let counting = &limit.counters.counting;
        let taken = counting.take(question.ask.key, windows, now, cost);
        match taken.decision {
            Decision::Granted { window, standing } => {
                question.taken = Some(Granted {
                    held: Held::of(limit, taken.under),
                    ..Granted::of(taken.under, (window, Some(standing)), Source::Memory, at)
                });
            }
            Decision::Refused { .. } if !limit.config.enforce => {
                on_route.would_refuse(context, Reason::LimitExceeded);
            }
            Decision::Refused { window, refusal } => {
                return Err(Refusing::Exceeded(index, window, refusal));
            }
        }
        Ok(())
    }

    /// Undoes what was taken beside a limit that refused.
    fn give_back(&self, questions: &[Question], context: &Context) {
        for question in questions {
            let Some(granted) = &question.taken else {
                continue;
            };
            let limit = &self.on_route(question).limit;
            let (tier, cost) = (question.ask.tier(limit), self.cost_of(limit));
            match granted.source {
                // It gives itself back.
                _ if granted.held.is_some() => {}
                // Its window may have passed while Redis was asked, and the next one belongs to others.
                Source::Memory if self.shared => {
                    let counters = &limit.counters;
                    let (taken, now) = (granted.at, limit.clock.now());
                    let (taken, now) = (counters.at(taken), counters.at(now));
                    let counting = &counters.counting;
                    counting.refund(granted.under, &tier.windows, taken, now, cost);
                }
                Source::Memory => {
                    let now = limit.counters.at(context.began());
                    let counting = &limit.counters.counting;
                    counting.give_back(granted.under, &tier.windows, now, cost);
                }
                Source::Redis => {
                    let worker = context.connection.worker;
                    let back = (Change::GiveBack(granted.at), cost);
                    change_later(limit, (granted.under, tier), worker, back);
                }
                // What is lent gives itself back.
                Source::Lease | Source::Nowhere => {}
            }
        }
    }

    fn grant(&self, questions: &mut [Question], context: &Context) -> Option<Grant> {
        let mut grant = None::<Grant>;
        for question in questions.iter_mut() {
            let on_route = &self.limits[question.limit];
            let Some(granted) = &mut question.taken else {
                on_route.metrics.decided(LimitDecision::ShadowDeny);
                continue;
            };
            on_route.metrics.decided(LimitDecision::Allow);
            let said = granted.standing.map_or(LimitSaid::Nothing, allow);
            if let Some(held) = granted.held.take() {
                grant.get_or_insert_default().held.push(held);
            }
            if let Some(lent) = granted.lent.take() {
                lent.use_up();
            }
            let Granted {
                under,
                window,
                source,
                at,
                ..
            } = *granted;
            let limit = &on_route.limit;
            let report = context.limited(question.report(limit, window, said));
            if limit.config.cost_header.is_some() {
                grant.get_or_insert_default().open.push(OpenCharge {
                    limit: Arc::clone(limit),
                    key: under,
                    tier: Arc::clone(question.ask.tier(limit)),
                    cost: self.cost,
                    source,
                    at,
                    worker: context.connection.worker,
                    report,
                    in_advance: std::mem::replace(&mut question.ask.in_advance, InAdvance::Never),
                });
            }
        }
        grant
    }

    /// A request in flight takes one place, whatever it costs.
    pub(super) fn cost_of(&self, limit: &Limit) -> u32 {
        match limit.is_held() {
            true => 1,
            false => self.cost,
        }
    }
}

/// Of two refusals the one that takes longer.
pub(super) fn longest(
    one: Result<(), Refusing>,
    other: Result<(), Refusing>,
) -> Result<(), Refusing> {
    match (&one, &other) {
        (_, Ok(())) | (Err(Refusing::Away(_)), _) => one,
        (Ok(()), _) | (_, Err(Refusing::Away(_))) => other,
        (Err(Refusing::Exceeded(_, _, first)), Err(Refusing::Exceeded(_, _, second))) => {
            match second.wait > first.wait {
                true => other,
                false => one,
            }
        }
    }
}

impl Question {
    /// What it holds so far.
    pub(super) fn held(&mut self) -> Option<&mut Held> {
        self.taken.as_mut()?.held.as_mut()
    }

    fn report(&self, limit: &Limit, window: usize, said: LimitSaid) -> LimitReport {
        LimitReport {
            policy: Arc::clone(&self.ask.tier(limit).policy),
            window,
            said,
        }
    }
}

impl OnRoute {
    /// Notes what the limit, in shadow mode, would have done.
    pub(super) fn would_refuse(&self, context: &Context, reason: Reason) {
        context.would_refuse(reason);
        self.note(context, LimitSaid::ShadowDeny);
    }

    /// Notes what the limit says about a request that nobody has counted.
    pub(super) fn note(&self, context: &Context, said: LimitSaid) {
        context.limited(LimitReport {
            policy: Arc::clone(&self.limit.tier().policy),
            window: 0,
            said,
        });
    }

    fn without_key(&self, context: &Context) -> Result<(), Reason> {
        if !self.limit.config.enforce {
            self.would_refuse(context, Reason::LimitKeyMissing);
            self.metrics.decided(LimitDecision::ShadowDeny);
            return Ok(());
        }
        self.note(context, LimitSaid::DenyUncounted);
        self.metrics.decided(LimitDecision::Deny);
        Err(Reason::LimitKeyMissing)
    }
}
