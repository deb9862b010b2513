//! One stage of a route's limits: all of them let a request pass, or none is charged.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    RateLimitLayer,
    book::LimitBook,
    fields::{Report, Reports},
    grant::{Grant, OpenCharge, Place},
    held::{AllHeld, Held},
    lease::Lent,
    limit::{Ask, Asked, Limit},
    refusal::Refusal,
    shared::{Change, change_later},
};
use crate::{
    config::{LimitAlgorithm, LimitHeaders, Route},
    exchange::{Context, LimitSaid, Reason, Rejection, Request, Response},
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
    place: Place,
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
    Refused(Response),
    /// It may pass.
    Granted(Grant),
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
        place: Place,
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
                place,
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

    fn refuse(&self, refusing: &Refusing, questions: &[Question], context: &Context) -> Response {
        self.give_back(questions, context);
        let (Refusing::Exceeded(index, ..) | Refusing::Away(index)) = *refusing;
        let on_route = self.on_route(&questions[index]);
        on_route.metrics.decided(LimitDecision::Deny);
        match *refusing {
            Refusing::Away(_) => Rejection::new(Reason::LimitStoreUnavailable).respond(context),
            Refusing::Exceeded(_, window, refused) => Refusal {
                limit: &on_route.limit,
                report: index,
                window,
                refused,
            }
            .respond(context, self.policies(questions), self.place),
        }
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

    /// Takes from each in memory in turn. Of several that refuse the one that takes longest has the
    /// word, so that `Retry-After` is true for all: they are all asked, also behind the first that
    /// refuses.
    pub(super) fn take(
        &self,
        questions: &mut Questions,
        context: &Context,
    ) -> Result<(), Refusing> {
        let mut taken = Ok(());
        for (index, question) in questions.iter_mut().enumerate() {
            if self.on_route(question).limit.shared.is_none() {
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
        let (now, cost) = (limit.counters.at(context.began()), self.cost_of(limit));
        let windows = &question.ask.tier.windows;
        let counting = &limit.counters.counting;
        let taken = counting.take(question.ask.key, windows, now, cost);
        match taken.decision {
            Decision::Granted { window, standing } => {
                question.taken = Some(Granted {
                    under: taken.under,
                    window,
                    standing: Some(standing),
                    source: Source::Memory,
                    at: context.began(),
                    held: Held::of(limit, taken.under),
                    lent: None,
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
            let (tier, cost) = (&question.ask.tier, self.cost_of(limit));
            match granted.source {
                // It gives itself back.
                Source::Memory if granted.held.is_some() => {}
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

    fn grant(&self, questions: &mut Questions, context: &Context) -> Grant {
        let mut reports = Reports::with_capacity(questions.len());
        let (mut held, mut open) = (AllHeld::new(), Vec::new());
        for question in questions.drain(..) {
            let on_route = &self.limits[question.limit];
            let (limit, tier) = (&on_route.limit, question.ask.tier);
            let Some(granted) = question.taken else {
                on_route.metrics.decided(LimitDecision::ShadowDeny);
                continue;
            };
            on_route.allow(context, granted.standing);
            held.extend(granted.held);
            if let Some(lent) = granted.lent {
                lent.use_up();
            }
            if limit.config.cost_header.is_some() {
                open.push(OpenCharge {
                    limit: Arc::clone(limit),
                    key: granted.under,
                    tier: Arc::clone(&tier),
                    cost: self.cost,
                    source: granted.source,
                    at: granted.at,
                    worker: context.connection.worker,
                    report: reports.len(),
                });
            }
            reports.push(Report {
                tier,
                headers: limit.told(),
                stands: granted.standing.map(|standing| (granted.window, standing)),
            });
        }
        Grant {
            reports,
            held,
            open,
            place: self.place,
        }
    }

    /// The policies of all that was asked, in that order.
    fn policies(&self, questions: &[Question]) -> Reports {
        let policy = |question: &Question| Report {
            tier: Arc::clone(&question.ask.tier),
            headers: self.on_route(question).limit.told(),
            stands: None,
        };
        questions.iter().map(policy).collect()
    }

    /// A request in flight takes one place, whatever it costs.
    fn cost_of(&self, limit: &Limit) -> u32 {
        match limit.config.algorithm {
            LimitAlgorithm::Concurrency => 1,
            _ => self.cost,
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

impl OnRoute {
    /// Counts that the limit let a request pass, and notes how it stands then. A cost that the answer
    /// tells stands in its fields only: the note is of the decision.
    fn allow(&self, context: &Context, standing: Option<Standing>) {
        self.metrics.decided(LimitDecision::Allow);
        if let Some(Standing { remaining, reset }) = standing {
            let said = LimitSaid::Allow { remaining, reset };
            context.limited(&self.limit.config.name, said);
        }
    }

    /// Notes what the limit, in shadow mode, would have done.
    pub(super) fn would_refuse(&self, context: &Context, reason: Reason) {
        context.would_refuse(reason);
        context.limited(&self.limit.config.name, LimitSaid::ShadowDeny);
    }

    fn without_key(&self, context: &Context) -> Result<(), Reason> {
        if !self.limit.config.enforce {
            self.would_refuse(context, Reason::LimitKeyMissing);
            self.metrics.decided(LimitDecision::ShadowDeny);
            return Ok(());
        }
        context.limited(&self.limit.config.name, LimitSaid::Deny);
        self.metrics.decided(LimitDecision::Deny);
        Err(Reason::LimitKeyMissing)
    }
}

impl Limit {
    /// What a limit in shadow mode would say is told to nobody.
    pub(super) fn told(&self) -> LimitHeaders {
        match self.config.enforce {
            true => self.config.headers,
            false => LimitHeaders::Off,
        }
    }
}
