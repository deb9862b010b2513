//! Limits that are counted in Redis, for all gateways together.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    lease::{Fetch, Leased, Leases},
    limit::Limit,
    stage::{Granted, Question, Questions, Refusing, Source, Stage, longest},
    tier::Tier,
};
use crate::{
    config::{LimitAlgorithm, OnStoreError, RateLimit},
    exchange::{Context, Reason},
    store::{Decision, KeyHash, Redis, SharedAlgorithm, SharedAsk, SharedTaken},
    telemetry::LimitDecision,
};

/// What a limit needs to be counted in Redis.
pub(super) struct Shared {
    pub(super) redis: Arc<Redis>,
    algorithm: SharedAlgorithm,
    pub(super) leases: Option<Leases>,
}

impl Shared {
    /// For a limit over Redis; `None` for one in memory.
    pub(super) fn new(config: &RateLimit, redis: Option<&Arc<Redis>>) -> Option<Self> {
        let algorithm = match (config.algorithm, config.exact) {
            (LimitAlgorithm::TokenBucket, _) => SharedAlgorithm::TokenBucket,
            (LimitAlgorithm::FixedWindow, _) => SharedAlgorithm::FixedWindow,
            (LimitAlgorithm::SlidingWindow, false) => SharedAlgorithm::SlidingWindow,
            (LimitAlgorithm::SlidingWindow, true) => SharedAlgorithm::SlidingLog,
            (LimitAlgorithm::Concurrency, _) => return None,
        };
        Some(Self {
            redis: Arc::clone(redis?),
            algorithm,
            leases: (config.lease > 1).then(|| Leases::new(config.lease, config.max_keys)),
        })
    }
}

/// What is changed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    GiveBack,
    Charge,
}

/// Changes what Redis has counted, beside the request. It costs nobody anything to wait for it.
pub(super) fn change_later(
    limit: &Arc<Limit>,
    (key, tier): (KeyHash, &Arc<Tier>),
    worker: usize,
    (change, cost): (Change, u32),
) {
    let (limit, tier) = (Arc::clone(limit), Arc::clone(tier));
    tokio::spawn(async move {
        let Some(shared) = &limit.shared else { return };
        let ask = SharedAsk {
            limit: &limit.config.name,
            key,
            algorithm: shared.algorithm,
            windows: &tier.windows,
            cost,
            want: cost,
            enforced: limit.config.enforce,
        };
        match change {
            Change::GiveBack => shared.redis.give_back(worker, ask).await,
            Change::Charge => shared.redis.charge(worker, ask).await,
        }
    });
}

/// A question that Redis is to answer.
struct Pending {
    index: usize,
    fetch: Option<Fetch>,
}

type AllPending = SmallVec<[Pending; 2]>;

impl Stage {
    /// Takes from the limits in Redis: at once where one script reaches all of them, else one after
    /// the other.
    pub(super) async fn take_shared(
        &self,
        questions: &mut Questions<'_>,
        context: &Context,
    ) -> Result<(), Refusing> {
        let pending = self.take_leased(questions, context);
        let mut rest = &pending[..];
        while let Some(first) = rest.first() {
            let together = reached_together(questions, first, rest);
            let (group, others) = rest.split_at(together);
            self.take_group(group, questions, context).await?;
            rest = others;
        }
        Ok(())
    }

    /// Takes what has been taken in advance; what is left to ask.
    fn take_leased(&self, questions: &mut Questions<'_>, context: &Context) -> AllPending {
        let mut pending = AllPending::new();
        for (index, question) in questions.iter_mut().enumerate() {
            let limit = &question.on_route.limit;
            let Some(shared) = &limit.shared else {
                continue;
            };
            let now = limit.counters.at(context.began());
            let leased = shared.leases.as_ref();
            match leased.map(|leases| leases.take(question.ask.key, now, self.cost)) {
                Some(Leased::Given(window, standing)) => {
                    question.taken = Some(Granted {
                        under: question.ask.key,
                        window,
                        standing: Some(standing),
                        source: Source::Lease,
                    });
                }
                Some(Leased::Fetch(fetch)) => pending.push(Pending {
                    index,
                    fetch: Some(fetch),
                }),
                Some(Leased::Alone) | None => pending.push(Pending { index, fetch: None }),
            }
        }
        pending
    }

    async fn take_group(
        &self,
        group: &[Pending],
        questions: &mut Questions<'_>,
        context: &Context,
    ) -> Result<(), Refusing> {
        let worker = context.connection.worker;
        let answers = {
            let asked = group
                .iter()
                .filter_map(|pending| self.shared_ask(pending, questions));
            let asks: SmallVec<[_; 2]> = asked.collect();
            match redis_of(questions, group) {
                Some(redis) => redis.take(worker, &asks).await,
                None => return Ok(()),
            }
        };
        match answers {
            Ok(answers) => self.apply(group, &answers, questions, context),
            Err(_) => {
                let mut taken = Ok(());
                for pending in group {
                    taken = longest(taken, self.degraded(pending.index, questions, context));
                }
                taken
            }
        }
    }

    fn shared_ask<'q>(
        &self,
        pending: &Pending,
        questions: &'q Questions<'_>,
    ) -> Option<SharedAsk<'q>> {
        let question = &questions[pending.index];
        let limit = &question.on_route.limit;
        Some(SharedAsk {
            limit: &limit.config.name,
            key: question.ask.key,
            algorithm: limit.shared.as_ref()?.algorithm,
            windows: &question.ask.tier.windows,
            cost: self.cost,
            want: pending.fetch.as_ref().map_or(self.cost, |fetch| fetch.size),
            enforced: limit.config.enforce,
        })
    }

    /// Redis has taken from all of them, or from none.
    fn apply(
        &self,
        group: &[Pending],
        answers: &[SharedTaken],
        questions: &mut Questions<'_>,
        context: &Context,
    ) -> Result<(), Refusing> {
        let refused = |(pending, taken): (&Pending, &SharedTaken)| match taken.decision {
            Decision::Refused { window, refusal }
                if questions[pending.index].on_route.limit.config.enforce =>
            {
                Err(Refusing::Exceeded(pending.index, window, refusal))
            }
            _ => Ok(()),
        };
        group
            .iter()
            .zip(answers)
            .map(refused)
            .fold(Ok(()), longest)?;
        for (pending, taken) in group.iter().zip(answers) {
            self.keep(pending, taken, &mut questions[pending.index], context);
        }
        Ok(())
    }

    fn keep(
        &self,
        pending: &Pending,
        taken: &SharedTaken,
        question: &mut Question<'_>,
        context: &Context,
    ) {
        let limit = &question.on_route.limit;
        let Decision::Granted { window, standing } = taken.decision else {
            question
                .on_route
                .would_refuse(context, Reason::LimitExceeded);
            return;
        };
        let left = taken.got.saturating_sub(self.cost);
        if let Some(fetch) = &pending.fetch {
            let now = limit.counters.at(context.clock.now());
            let windows = &question.ask.tier.windows;
            fetch.keep(left, (window, standing), windows, now);
        }
        let mut standing = standing;
        standing.remaining = standing.remaining.saturating_add(left);
        question.taken = Some(Granted {
            under: question.ask.key,
            window,
            standing: Some(standing),
            source: Source::Redis,
        });
    }

    /// Decides without Redis.
    fn degraded(
        &self,
        index: usize,
        questions: &mut Questions<'_>,
        context: &Context,
    ) -> Result<(), Refusing> {
        let question = &mut questions[index];
        let on_route = question.on_route;
        on_route.metrics.decided(LimitDecision::Degraded);
        match on_route.limit.config.on_store_error {
            OnStoreError::Local => self.take_one(index, question, context),
            OnStoreError::Allow => {
                question.taken = Some(Granted {
                    under: question.ask.key,
                    window: 0,
                    standing: None,
                    source: Source::Nowhere,
                });
                Ok(())
            }
            OnStoreError::Deny if on_route.limit.config.enforce => {
                context.limited_by(&on_route.limit.config.name);
                Err(Refusing::Away(index))
            }
            OnStoreError::Deny => {
                on_route.would_refuse(context, Reason::LimitStoreUnavailable);
                Ok(())
            }
        }
    }
}

/// How many of those that are left one script reaches: in a cluster, those of one key.
fn reached_together(questions: &Questions<'_>, first: &Pending, rest: &[Pending]) -> usize {
    let key = |pending: &Pending| questions[pending.index].ask.key;
    let cluster = redis_of(questions, rest).is_some_and(|redis| redis.is_cluster());
    match cluster {
        true => rest.iter().take_while(|it| key(it) == key(first)).count(),
        false => rest.len(),
    }
}

/// All limits have the same.
fn redis_of<'q>(questions: &'q Questions<'_>, group: &[Pending]) -> Option<&'q Arc<Redis>> {
    let first = group.first()?;
    let shared = questions[first.index].on_route.limit.shared.as_ref()?;
    Some(&shared.redis)
}
