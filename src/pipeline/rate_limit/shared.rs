//! Limits that are counted in Redis, for all gateways together.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    lease::{Fetch, Fetched, Leased, Leases},
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
    pub(super) algorithm: SharedAlgorithm,
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
        let redis = redis?;
        let leases = || Leases::new(config.lease, config.max_keys, redis.timeout());
        Some(Self {
            redis: Arc::clone(redis),
            algorithm,
            leases: (config.lease > 1).then(leases),
        })
    }
}

/// What is changed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// What was taken at a moment of the process's clock.
    GiveBack(Duration),
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
            Change::GiveBack(taken) => {
                let ago = limit.clock.now().saturating_sub(taken);
                shared.redis.give_back(worker, ask, ago).await;
            }
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
        let pending = self.take_leased(questions, context).await?;
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
    async fn take_leased(
        &self,
        questions: &mut Questions<'_>,
        context: &Context,
    ) -> Result<AllPending, Refusing> {
        let mut pending = AllPending::new();
        for (index, question) in questions.iter_mut().enumerate() {
            let limit = &question.on_route.limit;
            let Some(shared) = &limit.shared else {
                continue;
            };
            let fetch = match &shared.leases {
                None => None,
                Some(leases) => {
                    let now = limit.counters.at(context.began());
                    // Two who wait for what the other fetches would both wait for nothing.
                    let may_wait = pending.iter().all(|it: &Pending| it.fetch.is_none());
                    let key = question.ask.key;
                    match leases.take(key, now, self.cost, may_wait).await {
                        Leased::Fetch(fetch) => Some(fetch),
                        Leased::Alone => None,
                        done => {
                            self.leased(index, question, &done, context)?;
                            continue;
                        }
                    }
                }
            };
            pending.push(Pending { index, fetch });
        }
        Ok(pending)
    }

    /// Nothing is to be asked.
    fn leased(
        &self,
        index: usize,
        question: &mut Question<'_>,
        leased: &Leased,
        context: &Context,
    ) -> Result<(), Refusing> {
        match *leased {
            Leased::Given(window, standing) => {
                question.taken = Some(Granted {
                    under: question.ask.key,
                    window,
                    standing: Some(standing),
                    source: Source::Lease,
                    at: context.began(),
                    held: None,
                });
            }
            Leased::Refused(window, refused) if question.on_route.limit.config.enforce => {
                return Err(Refusing::Exceeded(index, window, refused));
            }
            Leased::Refused(..) => {
                question
                    .on_route
                    .would_refuse(context, Reason::LimitExceeded);
            }
            Leased::Away => return self.degraded(index, question, context),
            Leased::Fetch(_) | Leased::Alone => {}
        }
        Ok(())
    }

    async fn take_group(
        &self,
        group: &[Pending],
        questions: &mut Questions<'_>,
        context: &Context,
    ) -> Result<(), Refusing> {
        let (worker, asked) = (context.connection.worker, context.clock.now());
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
            Ok(answers) => self.apply((group, asked), &answers, questions, context),
            Err(_) => {
                let mut taken = Ok(());
                for &Pending { index, ref fetch } in group {
                    fetch.as_ref().inspect(|it| it.failed(Fetched::Away));
                    let degraded = self.degraded(index, &mut questions[index], context);
                    taken = longest(taken, degraded);
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
        (group, asked): (&[Pending], Duration),
        answers: &[SharedTaken],
        questions: &mut Questions<'_>,
        context: &Context,
    ) -> Result<(), Refusing> {
        let refused = |(pending, taken): (&Pending, &SharedTaken)| match taken.decision {
            Decision::Refused { window, refusal } => {
                let told = Fetched::Refused(self.cost, window, refusal);
                pending.fetch.as_ref().inspect(|it| it.failed(told));
                match questions[pending.index].on_route.limit.config.enforce {
                    true => Err(Refusing::Exceeded(pending.index, window, refusal)),
                    false => Ok(()),
                }
            }
            Decision::Granted { .. } => Ok(()),
        };
        group
            .iter()
            .zip(answers)
            .map(refused)
            .fold(Ok(()), longest)?;
        for (pending, taken) in group.iter().zip(answers) {
            let question = &mut questions[pending.index];
            self.keep((pending, asked), taken, question, context);
        }
        Ok(())
    }

    fn keep(
        &self,
        (pending, asked): (&Pending, Duration),
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
            at: asked,
            held: None,
        });
    }

    /// Decides without Redis.
    fn degraded(
        &self,
        index: usize,
        question: &mut Question<'_>,
        context: &Context,
    ) -> Result<(), Refusing> {
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
                    at: context.began(),
                    held: None,
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
