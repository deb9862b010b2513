//! What an answer means: of a batch that was taken in advance, of Redis, and none of it.

use std::time::Duration;

use super::{
    super::{
        lease::{Fetched, Given},
        stage::{Granted, Question, Questions, Refusing, Source, Stage, longest},
    },
    Asking, Pending, top_up,
};
use crate::{
    config::OnStoreError,
    exchange::{Context, LimitSaid, Reason},
    store::{Away, Decision, SharedTaken},
    telemetry::LimitDecision,
};

impl Asking {
    /// Tells those who wait for a batch what has come of it, and a place whether it was given. Where there is
    /// no answer it may have been.
    pub(super) fn answered(&self, taken: Result<&SharedTaken, Away>) {
        if let Some(place) = &self.place {
            match taken {
                Ok(SharedTaken { got: 0, .. }) => place.refused(),
                Ok(_) => place.given(),
                Err(Away::Open) => place.unasked(),
                Err(_) => place.given(),
            }
        }
        let Some(fetch) = &self.fetch else { return };
        let Ok(&SharedTaken { decision, got }) = taken else {
            fetch.failed(Fetched::Away);
            return;
        };
        match decision {
            Decision::Granted { window, standing } => {
                // Where a limit beside it has refused, nothing was taken; the fetch is given up then.
                if let Some(kept) = got.checked_sub(fetch.cost) {
                    let now = self.limit.counters.at(self.limit.clock.now());
                    fetch.keep(kept, (window, standing), &self.tier, now);
                }
            }
            Decision::Refused { window, refusal } => {
                fetch.failed(Fetched::Refused(self.cost, window, refusal));
            }
        }
    }
}

impl Stage {
    /// Takes over what a batch has given, and has it topped up where it runs low.
    pub(super) fn take_given(
        &self,
        (given, began): (Given, Duration),
        question: &mut Question,
        context: &Context,
    ) {
        let Given {
            window,
            standing,
            lent,
            more,
        } = given;
        if let Some(more) = more {
            let limit = &self.on_route(question).limit;
            top_up(limit, &question.ask, context.connection.worker, more);
        }
        let (key, stands) = (question.ask.key, (window, Some(standing)));
        question.taken = Some(Granted {
            lent,
            ..Granted::of(key, stands, Source::Lease, began)
        });
    }

    /// Redis has taken from all of them, or from none.
    pub(super) fn apply(
        &self,
        (group, asked): (&[Pending], Duration),
        answers: &[SharedTaken],
        questions: &mut Questions,
        context: &Context,
    ) -> Result<(), Refusing> {
        self.refusal(group, answers, questions)?;
        for (pending, taken) in group.iter().zip(answers) {
            let question = &mut questions[pending.index];
            self.keep(asked, taken, question, context);
        }
        Ok(())
    }

    /// Of those that refuse the one that takes longest. Who waits for what one of them was to fetch is
    /// told, where no task has told it.
    pub(super) fn refusal(
        &self,
        group: &[Pending],
        answers: &[SharedTaken],
        questions: &Questions,
    ) -> Result<(), Refusing> {
        let refused = |(pending, taken): (&Pending, &SharedTaken)| {
            let Decision::Refused { window, refusal } = taken.decision else {
                return Ok(());
            };
            let told = Fetched::Refused(self.cost, window, refusal);
            pending.fetch().inspect(|it| it.failed(told));
            let index = pending.index;
            let limit = &self.on_route(&questions[index]).limit;
            match limit.config.enforce {
                true => Err(Refusing::Exceeded(index, window, refusal)),
                false => Ok(()),
            }
        };
        let refused = group.iter().zip(answers).map(refused);
        refused.fold(Ok(()), longest)
    }

    fn keep(
        &self,
        asked: Duration,
        taken: &SharedTaken,
        question: &mut Question,
        context: &Context,
    ) {
        let on_route = self.on_route(question);
        let held = question.taken.take().and_then(|taken| taken.held);
        let Decision::Granted { window, standing } = taken.decision else {
            on_route.would_refuse(context, Reason::LimitExceeded);
            return;
        };
        let left = taken.got.saturating_sub(self.cost_of(&on_route.limit));
        let mut standing = standing;
        standing.remaining = standing.remaining.saturating_add(left);
        let (key, stands) = (question.ask.key, (window, Some(standing)));
        question.taken = Some(Granted {
            held,
            ..Granted::of(key, stands, Source::Redis, asked)
        });
    }

    /// Decides without Redis.
    pub(super) fn degraded(
        &self,
        index: usize,
        question: &mut Question,
        context: &Context,
    ) -> Result<(), Refusing> {
        let on_route = self.on_route(question);
        on_route.metrics.decided(LimitDecision::Degraded);
        match on_route.limit.config.on_store_error {
            // What is held is counted here besides.
            OnStoreError::Local if question.taken.is_some() => Ok(()),
            OnStoreError::Local => self.take_one(index, question, context),
            OnStoreError::Allow => {
                let held = question.taken.take().and_then(|taken| taken.held);
                let (key, began) = (question.ask.key, context.began());
                question.taken = Some(Granted {
                    held,
                    ..Granted::of(key, (0, None), Source::Nowhere, began)
                });
                Ok(())
            }
            OnStoreError::Deny if on_route.limit.config.enforce => {
                on_route.note(context, LimitSaid::DenyUncounted);
                Err(Refusing::Away(index))
            }
            OnStoreError::Deny => {
                question.taken = None;
                on_route.would_refuse(context, Reason::LimitStoreUnavailable);
                Ok(())
            }
        }
    }
}
