//! One stage of a route's limits: all of them let a request pass, or none is charged.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    RateLimitLayer,
    book::LimitBook,
    fields::{Report, Reports},
    grant::{Grant, OpenCharge},
    held::{AllHeld, Held},
    limit::{Ask, Asked, Limit},
    refusal::Refusal,
};
use crate::{
    config::{LimitAlgorithm, LimitHeaders, Route},
    exchange::{Context, Reason, Rejection, Request, Response},
    store::{Decision, KeyHash, Refused, Standing},
    telemetry::{LimitDecision, LimitMetrics},
};

/// The limits of one stage on one route.
pub(super) struct Stage {
    limits: Box<[OnRoute]>,
    /// What a request of the route costs.
    cost: u32,
    /// Whether a stage of ours stands around this one.
    outer: bool,
}

/// A limit on a route.
struct OnRoute {
    limit: Arc<Limit>,
    metrics: Arc<LimitMetrics>,
}

/// What becomes of a request.
pub(super) enum Verdict {
    /// No limit counts it.
    Unlimited,
    /// It is too much.
    Refused(Response),
    /// It may pass.
    Granted(Grant),
}

/// A limit's question about this request, and its outcome so far.
struct Question<'s> {
    on_route: &'s OnRoute,
    ask: Ask,
    taken: Option<Granted>,
}

/// What was taken.
struct Granted {
    under: KeyHash,
    window: usize,
    standing: Standing,
}

/// Which limit refuses, and for how long.
struct Refusing {
    question: usize,
    window: usize,
    refused: Refused,
}

type Questions<'s> = SmallVec<[Question<'s>; 2]>;

impl Stage {
    /// The stage of those limits of a route that belong to it; `None` when there is none.
    pub(super) fn layer(
        route: &Route,
        limits: &LimitBook,
        belongs: impl Fn(&Limit) -> bool,
        outer: bool,
    ) -> Option<RateLimitLayer> {
        let named = route.rate_limits.iter().filter_map(|name| limits.get(name));
        let on_route = |limit: &Arc<Limit>| OnRoute {
            limit: Arc::clone(limit),
            metrics: limit.metrics.limit(&route.name, &limit.config.name),
        };
        let limits: Box<[_]> = named.filter(|limit| belongs(limit)).map(on_route).collect();
        let cost = route.cost;
        (!limits.is_empty()).then(|| {
            RateLimitLayer::from(Self {
                limits,
                cost,
                outer,
            })
        })
    }

    /// Asks every limit.
    pub(super) fn decide(&self, request: &Request, context: &Context) -> Verdict {
        let mut questions = match self.questions(request, context) {
            Ok(questions) if questions.is_empty() => return Verdict::Unlimited,
            Ok(questions) => questions,
            Err(reason) => return Verdict::Refused(Rejection::new(reason).respond(context)),
        };
        match self.take(&mut questions, context) {
            None => Verdict::Granted(self.grant(questions)),
            Some(refusing) => {
                self.give_back(&questions, context);
                Verdict::Refused(self.refuse(&questions, &refusing, context))
            }
        }
    }

    fn refuse(
        &self,
        questions: &Questions<'_>,
        refusing: &Refusing,
        context: &Context,
    ) -> Response {
        let question = &questions[refusing.question];
        question.on_route.metrics.decided(LimitDecision::Deny);
        let refusal = Refusal {
            limit: &question.on_route.limit,
            tier: &question.ask.tier,
            window: refusing.window,
            refused: refusing.refused,
        };
        refusal.respond(context, policies(questions), self.outer)
    }

    /// What the limits are asked. Nothing is taken yet.
    fn questions(&self, request: &Request, context: &Context) -> Result<Questions<'_>, Reason> {
        let mut questions = Questions::new();
        for on_route in &self.limits {
            match on_route.limit.ask(request, context) {
                Asked::Ask(ask) => questions.push(Question {
                    on_route,
                    ask,
                    taken: None,
                }),
                Asked::Skip => {}
                Asked::NoKey => on_route.without_key(context)?,
            }
        }
        Ok(questions)
    }

    /// Takes from each in turn. Of several that refuse the one that takes longest has the word, so
    /// that `Retry-After` is true for all: they are all asked, also behind the first that refuses.
    fn take(&self, questions: &mut Questions<'_>, context: &Context) -> Option<Refusing> {
        let began = context.began();
        let mut refusing = None::<Refusing>;
        for (index, question) in questions.iter_mut().enumerate() {
            let limit = &question.on_route.limit;
            let (now, cost) = (limit.counters.at(began), self.cost_of(limit));
            let (counting, tier) = (&limit.counters.counting, &question.ask.tier);
            let taken = counting.take(question.ask.key, &tier.windows, now, cost);
            match taken.decision {
                Decision::Granted { window, standing } => {
                    let under = taken.under;
                    question.taken = Some(Granted {
                        under,
                        window,
                        standing,
                    });
                }
                Decision::Refused { .. } if !limit.config.enforce => {
                    context.would_refuse(Reason::LimitExceeded);
                    context.limited_by(&limit.config.name);
                }
                Decision::Refused { window, refusal } => {
                    let longer = |known: &Refusing| refusal.wait > known.refused.wait;
                    if refusing.as_ref().is_none_or(longer) {
                        refusing = Some(Refusing {
                            question: index,
                            window,
                            refused: refusal,
                        });
                    }
                }
            }
        }
        refusing
    }

    /// Undoes what was taken beside a limit that refused.
    fn give_back(&self, questions: &Questions<'_>, context: &Context) {
        let began = context.began();
        for question in questions {
            if let Some(granted) = &question.taken {
                let limit = &question.on_route.limit;
                let (now, cost) = (limit.counters.at(began), self.cost_of(limit));
                let windows = &question.ask.tier.windows;
                limit
                    .counters
                    .counting
                    .give_back(granted.under, windows, now, cost);
            }
        }
    }

    fn grant(&self, questions: Questions<'_>) -> Grant {
        let mut reports = policies(&questions);
        let (mut held, mut open) = (AllHeld::new(), Vec::new());
        for question in questions {
            let Question {
                on_route,
                ask,
                taken,
            } = question;
            let limit = &on_route.limit;
            let Some(granted) = taken else {
                on_route.metrics.decided(LimitDecision::ShadowDeny);
                continue;
            };
            on_route.metrics.decided(LimitDecision::Allow);
            if limit.config.algorithm == LimitAlgorithm::Concurrency {
                let counters = Arc::clone(&limit.counters);
                held.push(Held {
                    counters,
                    under: granted.under,
                });
            }
            if limit.config.cost_header.is_some() {
                open.push(OpenCharge {
                    limit: Arc::clone(limit),
                    key: granted.under,
                    tier: Arc::clone(&ask.tier),
                    cost: self.cost,
                });
            }
            reports.stands(Report {
                headers: limit.told(),
                tier: ask.tier,
                window: granted.window,
                standing: granted.standing,
            });
        }
        Grant {
            reports,
            held,
            open,
            outer: self.outer,
        }
    }

    /// A request in flight takes one place, whatever it costs.
    fn cost_of(&self, limit: &Limit) -> u32 {
        match limit.config.algorithm {
            LimitAlgorithm::Concurrency => 1,
            _ => self.cost,
        }
    }
}

impl OnRoute {
    fn without_key(&self, context: &Context) -> Result<(), Reason> {
        context.limited_by(&self.limit.config.name);
        if !self.limit.config.enforce {
            context.would_refuse(Reason::LimitKeyMissing);
            self.metrics.decided(LimitDecision::ShadowDeny);
            return Ok(());
        }
        self.metrics.decided(LimitDecision::Deny);
        Err(Reason::LimitKeyMissing)
    }
}

impl Limit {
    /// What a limit in shadow mode would say is told to nobody.
    fn told(&self) -> LimitHeaders {
        match self.config.enforce {
            true => self.config.headers,
            false => LimitHeaders::Off,
        }
    }
}

fn policies(questions: &Questions<'_>) -> Reports {
    let mut reports = Reports::default();
    for question in questions {
        reports.policy(&question.ask.tier, question.on_route.limit.told());
    }
    reports
}
