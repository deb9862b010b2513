//! Limits that are counted in Redis, for all gateways together: what is asked, by which scripts and in
//! whose task. What the answers mean stands in `answer`.

mod answer;

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    lease::{Fetch, InAdvance, Leased, Leases, TopUp, Waited},
    limit::{Ask, Limit},
    stage::{Question, Questions, Refusing, Stage, longest},
    tier::Tier,
};
use crate::{
    config::{LimitAlgorithm, RateLimit},
    exchange::{Context, Reason},
    store::{Away, KeyHash, Place, Redis, SharedAlgorithm, SharedAsk, SharedLimit, SharedTaken},
};

/// What a limit needs to be counted in Redis.
pub(super) struct Shared {
    pub(super) redis: Arc<Redis>,
    pub(super) algorithm: SharedAlgorithm,
    /// The largest quota that the configuration knows.
    pub(super) largest: u32,
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
            (LimitAlgorithm::Concurrency, _) => SharedAlgorithm::InFlight,
        };
        let redis = redis?;
        let leases = || Leases::new(config.lease, config.max_keys);
        Some(Self {
            redis: Arc::clone(redis),
            algorithm,
            largest: config.largest(),
            leases: (config.lease > 1).then(leases),
        })
    }

    /// The place that a request is to hold; `None` for what is used up and not held.
    fn place(&self, limit: &Limit, key: KeyHash, worker: usize) -> Option<Arc<Place>> {
        let is_held = self.algorithm == SharedAlgorithm::InFlight;
        is_held.then(|| self.redis.place(worker, &limit.config.name, key))
    }

    /// The limit as Redis knows it, by the windows of a tier.
    pub(super) fn limit<'a>(&self, limit: &'a Limit, tier: &'a Tier) -> SharedLimit<'a> {
        SharedLimit {
            name: &limit.config.name,
            algorithm: self.algorithm,
            windows: &tier.windows,
            largest: self.largest,
        }
    }

    /// What Redis is asked for a key of the limit: so much, or more if it has more.
    pub(super) fn ask<'a>(
        &self,
        limit: &'a Limit,
        (key, tier): (KeyHash, &'a Tier),
        (cost, want): (u32, u32),
    ) -> SharedAsk<'a> {
        SharedAsk {
            enforced: limit.config.enforce,
            ..self.limit(limit, tier).take(key, (cost, want))
        }
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
        let ask = shared.ask(&limit, (key, &tier), (cost, cost));
        match change {
            Change::GiveBack(taken) => {
                let ago = limit.clock.now().saturating_sub(taken);
                shared.redis.give_back(worker, ask, ago).await;
            }
            Change::Charge => shared.redis.charge(worker, ask).await,
        }
    });
}

/// Has a batch topped up beside the request that found it low, which may be over before: one task for
/// half a batch, and one at a time for a key and tier. It ends when Redis's deadlines say so.
fn top_up(limit: &Arc<Limit>, ask: &Ask, worker: usize, more: TopUp) {
    let (limit, tier, key) = (Arc::clone(limit), Arc::clone(ask.tier(limit)), ask.key);
    tokio::spawn(async move {
        let TopUp { mut fetch, least } = more;
        fetch.begin();
        // It had to make room meanwhile.
        if fetch.size == 0 {
            return;
        }
        let asking = Asking {
            limit,
            tier,
            key,
            cost: least,
            fetch: Some(fetch),
            place: None,
        };
        ask_all(worker, SmallVec::from_buf([asking])).await;
    });
}

/// What a limit is asked in a task of its own.
struct Asking {
    limit: Arc<Limit>,
    tier: Arc<Tier>,
    key: KeyHash,
    /// What has to be there.
    cost: u32,
    fetch: Option<Fetch>,
    /// What is held and not used up. It is given back when the answer is there and the request is not.
    place: Option<Arc<Place>>,
}

type AllAsking = SmallVec<[Asking; 1]>;

/// What Redis has said to each of what it was asked.
type Answers = SmallVec<[SharedTaken; 2]>;

/// Begins what is to be fetched, and asks for it with the rest.
async fn fetch_all(worker: usize, mut all: AllAsking) -> Option<Answers> {
    let fetches = all.iter_mut().filter_map(|asking| asking.fetch.as_mut());
    fetches.for_each(Fetch::begin);
    ask_all(worker, all).await
}

/// Asks, and keeps what was fetched: to be spawned, since the request that asks may be gone before Redis
/// answers, and what was taken for the next ones would be lost. `None` where Redis is away.
async fn ask_all(worker: usize, all: AllAsking) -> Option<Answers> {
    let redis = &all.first()?.limit.shared.as_ref()?.redis;
    let asks: SmallVec<[SharedAsk<'_>; 2]> = all.iter().filter_map(Asking::ask).collect();
    let answers = redis.take(worker, &asks).await;
    for (index, asking) in all.iter().enumerate() {
        let answer = match &answers {
            Ok(answers) => answers.get(index).ok_or(Away::Garbage),
            Err(away) => Err(*away),
        };
        asking.answered(answer);
    }
    answers.ok()
}

impl Asking {
    fn ask(&self) -> Option<SharedAsk<'_>> {
        let want = self.fetch.as_ref().map_or(self.cost, |fetch| fetch.size);
        let shared = self.limit.shared.as_ref()?;
        Some(SharedAsk {
            place: self.place.as_ref().map_or(0, |place| place.name()),
            ..shared.ask(&self.limit, (self.key, &self.tier), (self.cost, want))
        })
    }
}

/// A question that Redis is to answer.
pub(super) struct Pending {
    index: usize,
    how: How,
}

/// In what way.
enum How {
    /// By itself.
    Alone,
    /// For the requests that wait for the batch.
    Fetch(Fetch),
    /// Another request is asking for it.
    Wait,
}

impl Pending {
    fn fetch(&self) -> Option<&Fetch> {
        match &self.how {
            How::Fetch(fetch) => Some(fetch),
            How::Alone | How::Wait => None,
        }
    }

    /// The fetch, which another sees to from now on.
    fn hand_over(&mut self) -> Option<Fetch> {
        match std::mem::replace(&mut self.how, How::Alone) {
            How::Fetch(fetch) => Some(fetch),
            How::Alone | How::Wait => None,
        }
    }
}

/// What Redis is to be asked: nothing, where all was taken in advance.
pub(super) type AllPending = SmallVec<[Pending; 1]>;

impl Stage {
    /// Takes what has been taken in advance; what is left to ask.
    pub(super) fn take_leased(&self, questions: &mut Questions, context: &Context) -> AllPending {
        let mut pending = AllPending::new();
        let lends = self.lends(questions);
        for (index, question) in questions.iter_mut().enumerate() {
            let limit = &self.on_route(question).limit;
            // Of what is held this process has refused in shadow mode what Redis would refuse, too.
            if limit.shared.is_none() || (limit.is_held() && question.taken.is_none()) {
                continue;
            }
            let Some(lease) = limit.lease_of(&mut question.ask) else {
                let how = How::Alone;
                pending.push(Pending { index, how });
                continue;
            };
            let began = context.began();
            let how = match lease.take(limit.counters.at(began), (self.cost, lends)) {
                Leased::Wait => How::Wait,
                Leased::Fetch(fetch) => How::Fetch(fetch),
                Leased::Given(given) => {
                    self.take_given((given, began), question, context);
                    continue;
                }
            };
            pending.push(Pending { index, how });
        }
        pending
    }

    /// Whether what a batch gives may have to come back: Redis is asked behind those in memory, and there
    /// are others that it may refuse.
    fn lends(&self, questions: &Questions) -> bool {
        let shared = |it: &&Question| self.on_route(it).limit.shared.is_some();
        questions.iter().filter(shared).count() > 1
    }

    /// Takes from the limits in Redis: at once where one script reaches all of them, else one after
    /// the other.
    pub(super) async fn take_shared(
        &self,
        mut pending: AllPending,
        questions: &mut Questions,
        context: &Context,
    ) -> Result<(), Refusing> {
        // Few wait: the future of the others is not to be as large.
        let mut taken = match pending.iter().any(|it| matches!(it.how, How::Wait)) {
            true => Box::pin(self.take_fetched(&mut pending, questions, context)).await,
            false => Ok(()),
        };
        let has_slots = self.has_slots(questions, &pending);
        if has_slots {
            bring_together(&mut pending[..], |it| questions[it.index].ask.key);
        }
        let mut rest = &mut pending[..];
        while let Some(first) = rest.first() {
            // There is no telling then when to come again.
            if matches!(taken, Err(Refusing::Away(_))) {
                break;
            }
            let together = match has_slots {
                true => of_one_key(questions, first, rest),
                false => rest.len(),
            };
            let (group, others) = std::mem::take(&mut rest).split_at_mut(together);
            let decided = match taken {
                Ok(()) => self.take_group(group, questions, context).await,
                Err(_) => self.look_at(group, questions, context).await,
            };
            taken = longest(taken, decided);
            rest = others;
        }
        taken
    }

    /// Takes of the batches that others fetch; what is left to ask, also where one refuses.
    async fn take_fetched(
        &self,
        pending: &mut AllPending,
        questions: &mut Questions,
        context: &Context,
    ) -> Result<(), Refusing> {
        // Who has to fetch for others waits for nobody: two might wait for what the other fetches. It
        // asks for both then, on one Redis in one go.
        let mut may_wait = pending.iter().all(|it| it.fetch().is_none());
        let mut taken = Ok(());
        for it in std::mem::take(pending) {
            let left = match it.how {
                How::Wait if may_wait && taken.is_ok() => {
                    let waited = self.wait_for(it.index, questions, context).await;
                    waited.unwrap_or_else(|refusing| {
                        taken = Err(refusing);
                        None
                    })
                }
                How::Wait => Some(How::Alone),
                how => Some(how),
            };
            may_wait &= !matches!(left, Some(How::Fetch(_)));
            let index = it.index;
            pending.extend(left.map(|how| Pending { index, how }));
        }
        taken
    }

    /// What of a question is left to ask when the batch is there.
    async fn wait_for(
        &self,
        index: usize,
        questions: &mut Questions,
        context: &Context,
    ) -> Result<Option<How>, Refusing> {
        let want = (self.cost, self.lends(questions));
        let question = &mut questions[index];
        let on_route = self.on_route(question);
        let limit = &on_route.limit;
        let began = context.began();
        let (Some(shared), InAdvance::Held(lease)) = (&limit.shared, &question.ask.in_advance)
        else {
            return Ok(Some(How::Alone));
        };
        let redis = &shared.redis;
        let fetched = lease.take_fetched(limit.counters.at(began), want);
        let worker = context.connection.worker;
        let waited = redis.within(worker, redis.timeout(), fetched).await;
        match waited.unwrap_or(Waited::Alone) {
            Waited::Given(given) => self.take_given((given, began), question, context),
            Waited::Refused(window, refused) if limit.config.enforce => {
                return Err(Refusing::Exceeded(index, window, refused));
            }
            Waited::Refused(..) => on_route.would_refuse(context, Reason::LimitExceeded),
            Waited::Away => self.degraded(index, question, context)?,
            Waited::Fetch(fetch) => return Ok(Some(How::Fetch(fetch))),
            Waited::Alone => return Ok(Some(How::Alone)),
        }
        Ok(None)
    }

    /// Takes from those that one script reaches. Where that is to bring a batch for others too, or what is
    /// held, a task sees to it.
    async fn take_group(
        &self,
        group: &mut [Pending],
        questions: &mut Questions,
        context: &Context,
    ) -> Result<(), Refusing> {
        let (worker, asked) = (context.connection.worker, context.clock.now());
        // What is held is given back behind the answer, also where the client has left before.
        let is_held = |it: &Pending| self.on_route(&questions[it.index]).limit.is_held();
        let is_owned = |it: &Pending| it.fetch().is_some() || is_held(it);
        let answers = if group.iter().any(is_owned) {
            let asking = self.hand_over(group, questions, worker);
            let answers = tokio::spawn(fetch_all(worker, asking)).await;
            // It is only lost where the process ends.
            answers.ok().flatten()
        } else {
            let asks = self.asks(group, questions);
            match self.redis_of(questions, group) {
                Some(redis) => redis.take(worker, &asks).await.ok(),
                None => return Ok(()),
            }
        };
        match answers {
            Some(answers) => self.apply((&*group, asked), &answers, questions, context),
            None => {
                let mut taken = Ok(());
                for pending in group {
                    let index = pending.index;
                    let degraded = self.degraded(index, &mut questions[index], context);
                    taken = longest(taken, degraded);
                }
                taken
            }
        }
    }

    /// What a task is to ask. Of the group the fetches are gone then.
    fn hand_over(
        &self,
        group: &mut [Pending],
        questions: &mut Questions,
        worker: usize,
    ) -> AllAsking {
        let asking = group.iter_mut().map(|pending| {
            let question = &mut questions[pending.index];
            let limit = Arc::clone(&self.on_route(question).limit);
            let (cost, key) = (self.cost_of(&limit), question.ask.key);
            let shared = limit.shared.as_ref();
            let place = shared.and_then(|it| it.place(&limit, key, worker));
            if let Some(held) = question.held() {
                held.place.clone_from(&place);
            }
            Asking {
                tier: Arc::clone(question.ask.tier(&limit)),
                limit,
                key,
                cost,
                fetch: pending.hand_over(),
                place,
            }
        });
        asking.collect()
    }

    /// The same where another limit has refused: nothing is taken any more, but of all that refuse the
    /// one that takes longest has the word.
    async fn look_at(
        &self,
        group: &[Pending],
        questions: &Questions,
        context: &Context,
    ) -> Result<(), Refusing> {
        let asks = self.asks(group, questions);
        let Some(redis) = self.redis_of(questions, group) else {
            return Ok(());
        };
        match redis.look(context.connection.worker, &asks).await {
            Ok(answers) => self.refusal(group, &answers, questions),
            // The request is refused whatever it would have said.
            Err(_) => Ok(()),
        }
    }

    fn asks<'q>(
        &'q self,
        group: &[Pending],
        questions: &'q Questions,
    ) -> SmallVec<[SharedAsk<'q>; 2]> {
        let asks = group
            .iter()
            .filter_map(|pending| self.shared_ask(pending, questions));
        asks.collect()
    }

    fn shared_ask<'q>(
        &'q self,
        pending: &Pending,
        questions: &'q Questions,
    ) -> Option<SharedAsk<'q>> {
        let question = &questions[pending.index];
        let (limit, ask) = (&self.on_route(question).limit, &question.ask);
        let cost = self.cost_of(limit);
        let want = pending.fetch().map_or(cost, |fetch| fetch.size);
        let shared = limit.shared.as_ref()?;
        Some(shared.ask(limit, (ask.key, ask.tier(limit)), (cost, want)))
    }

    fn has_slots(&self, questions: &Questions, pending: &[Pending]) -> bool {
        let redis = self.redis_of(questions, pending);
        redis.is_some_and(|redis| redis.has_slots())
    }

    /// All limits have the same.
    fn redis_of(&self, questions: &Questions, group: &[Pending]) -> Option<&Arc<Redis>> {
        let first = &questions[group.first()?.index];
        let shared = self.on_route(first).limit.shared.as_ref()?;
        Some(&shared.redis)
    }
}

/// How many of those that are left one script reaches in a cluster: those of one key.
fn of_one_key(questions: &Questions, first: &Pending, rest: &[Pending]) -> usize {
    let key = |pending: &Pending| questions[pending.index].ask.key;
    rest.iter().take_while(|it| key(it) == key(first)).count()
}

/// Puts what has the same key behind the first of that key: a script each. The order stays otherwise.
fn bring_together<T, K: PartialEq>(items: &mut [T], key: impl Fn(&T) -> K) {
    let mut begin = 0;
    while begin < items.len() {
        let mut end = begin + 1;
        for place in begin + 1..items.len() {
            if key(&items[place]) == key(&items[begin]) {
                items[end..=place].rotate_right(1);
                end += 1;
            }
        }
        begin = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_come_together_and_the_order_stays() {
        let together = |text: &str| {
            let mut items: Vec<_> = text.char_indices().collect();
            bring_together(&mut items, |(_, letter)| *letter);
            let places: Vec<_> = items.iter().map(|(place, _)| *place).collect();
            let letters: String = items.iter().map(|(_, letter)| *letter).collect();
            (letters, places)
        };
        assert_eq!(together("iri"), ("iir".to_owned(), vec![0, 2, 1]));
        assert_eq!(
            together("bacabc"),
            ("bbaacc".to_owned(), vec![0, 4, 1, 3, 2, 5])
        );
        assert_eq!(together(""), (String::new(), Vec::new()));
    }
}
