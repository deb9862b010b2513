//! Asking the upstream once for all who wait.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderValue, Method};
use tokio::time::Instant;

use super::{
    CacheRoute, Keys, Visit,
    body::StoredBody,
    consult::{Consulted, Patience},
    fill::{Fetching, Fill, FillBody, LITTLE},
    flights::{Flight, Id, Role, Ticket},
    found::Found,
    handed::Handed,
    judge::Head,
    key::Key,
    object::{CACHE_STATUS, Draft, NAME, Object, Origin},
    places::Place,
    policy::{
        Audience, CacheStatus, Class, Facts, Failure, Forwarded, Moment, NotStored, Reuse,
        make_conditional, reuse, says_nothing_of_others, unconditional,
    },
    serve::Serving,
    store::Learnt,
    together::stale_of,
    unkept::Unkept,
};
use crate::exchange::{Body, Context, Reason, Rejection, Request, Response, fields::has_overrides};

/// What the head of a shared fetch has become.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The answer is being stored; whom it suits may read along.
    Storing(Arc<Draft>),
    /// Another gateway has stored an answer.
    Brought(Found),
    /// What was stored is valid, and up to date again.
    Refreshed(Arc<Object>),
    /// The answer is for the first who asked alone.
    Own(Unkept),
    /// The upstream failed, and who asked first may have what is stale instead.
    Failed(Failure),
    /// The fetch ended without an answer.
    Lost,
}

impl Outcome {
    /// The head of an answer that may be others', too.
    pub(super) fn draft(&self) -> Option<&Draft> {
        match self {
            Self::Storing(draft) => Some(draft),
            Self::Refreshed(object) => Some(&object.draft),
            Self::Brought(found) => Some(&found.object.draft),
            Self::Own(_) | Self::Failed(_) | Self::Lost => None,
        }
    }
}

/// One fetch that others may wait for.
struct Job {
    visit: Visit,
    child: Arc<Context>,
    flight: Arc<Flight<Outcome>>,
    /// Whether nobody waits for it.
    aside: bool,
    /// Whether it has come to its end, and was not ended before.
    ended: bool,
    _ticket: Ticket<Outcome>,
}

impl Drop for Job {
    /// One that was ended, for want of a place, say, knows nothing of an answer for which other gateways
    /// need not wait.
    fn drop(&mut self) {
        if !self.ended {
            self.visit.leave_turn();
        }
    }
}

impl CacheRoute {
    /// Gets an answer that the store does not have, or not fresh.
    pub(super) async fn fetch(self: Arc<Self>, request: Request, mut visit: Visit) -> Response {
        let class = visit.asked.class;
        let overridden = has_overrides(&visit.headers);
        // What was stored is validated in the client's place, but for one that wants nothing stored.
        let validates = visit.stale.is_some() && !visit.asked.wants.no_store;
        let may_lead = visit.asked.may_lead() && !visit.keeps_conditions;
        let leads = class != Class::Head && (validates || may_lead);
        let waits = !visit.passes && visit.may_share();
        let joins = !visit.asked.wants.only_if_cached && waits && !overridden;
        if let (Some(wait), true) = (self.wait, joins) {
            if leads {
                return self.together(request, visit, wait).await;
            }
            if visit.asked.may_follow()
                && visit.takes_anothers()
                && let Some(response) = self.along(&visit, wait).await
            {
                return response;
            }
        }
        let knew_nothing = visit.passes && visit.stale.is_none();
        if !overridden && let Some((response, is_old)) = self.consult_alone(&mut visit).await {
            if is_old {
                self.refresh(&request, visit);
            }
            return response;
        }
        if let Some(wait) = self.wait
            && knew_nothing
            && Self::asks_for_all(&visit)
        {
            return self.together(request, visit, wait).await;
        }
        if visit.asked.wants.only_if_cached {
            // RFC 9111 5.2.1.7.
            visit.note("miss", Some("only-if-cached"));
            return Rejection::new(Reason::NotCached).respond(&visit.context);
        }
        if overridden {
            return self.pass(request, &visit, Unkept::Override).await;
        }
        if class == Class::Head {
            return self.pass(request, &visit, Unkept::Head).await;
        }
        self.alone(request, visit).await
    }

    /// Whether one may ask for all whether what was found in the second tier is right still. That nobody waits
    /// was learnt without it; who finds a stale one in the memory waits then, too.
    fn asks_for_all(visit: &Visit) -> bool {
        // With a ticket it is not looked there once more.
        let is_found = visit.stale.is_some() && visit.ticket.is_some();
        let may_ask = !visit.asked.wants.no_store && !visit.is_known_apart();
        is_found && may_ask && visit.may_share()
    }

    /// Fetches for all who wait; this request is the first reader.
    pub(super) async fn lead(
        self: Arc<Self>,
        request: Request,
        visit: Visit,
        flight: Arc<Flight<Outcome>>,
        ticket: Ticket<Outcome>,
    ) -> Response {
        let reader = flight.fill.read_as_first(&visit.context);
        let child = Arc::new(visit.context.child());
        let job = Job {
            visit: visit.clone(),
            child: Arc::clone(&child),
            flight: Arc::clone(&flight),
            aside: false,
            ended: false,
            _ticket: ticket,
        };
        self.begin(job, fill_request(&request), None);
        let outcome = flight.fill.outcome().await;
        visit.context.follow(&child);
        self.led(&visit, &flight, reader, &outcome, &child)
    }

    /// Fetches anew what was just served stale, or what a 304 says may be kept; nobody has to wait for it, and of
    /// many requests one does it. Where there is no place for that now, one that comes later does.
    pub(super) fn refresh(self: &Arc<Self>, request: &Request, mut visit: Visit) {
        let id = Id {
            key: visit.keys.of_flight().clone(),
            variant: visit.selection.digest(),
        };
        // Nothing of the request may be kept, or the upstream may take it for another.
        let unfit = visit.asked.wants.no_store || has_overrides(&visit.headers);
        // What its last fetch brought was nobody else's, and so may this one's be. One that names nobody
        // makes it all the same, or who is answered apart would keep the answer stale for all others.
        if unfit || visit.is_known_apart() || self.cache.under_way(&id).is_some() {
            return;
        }
        let Some(place) = self.cache.places.take() else {
            return;
        };
        // What comes is judged by what is sent.
        visit.asked.class = Class::Get;
        let will_do = |flight: &Flight<Outcome>| self.cache.will_do(flight);
        let begin = || Ok::<_, Infallible>(self.flight(&visit));
        if let Ok(Role::Lead(flight, ticket)) = self.cache.flights.join(id, will_do, begin) {
            let job = Job {
                child: Arc::new(visit.context.child()),
                visit,
                flight,
                aside: true,
                ended: false,
                _ticket: ticket,
            };
            self.begin(job, fill_request(request), Some(place));
        }
    }

    fn begin(self: &Arc<Self>, job: Job, request: Request, place: Option<Place>) {
        let fill = Arc::clone(&job.flight.fill);
        let fetch = Arc::clone(self).run(job, request);
        self.cache.spawn_fetch(&fill, place, fetch);
    }

    /// What the first reader gets.
    fn led(
        &self,
        visit: &Visit,
        flight: &Flight<Outcome>,
        reader: Option<FillBody<Outcome>>,
        outcome: &Outcome,
        child: &Arc<Context>,
    ) -> Response {
        let now = self.cache.moment();
        let stale = stale_of(visit, flight, now);
        let why = match (&visit.stale, &stale) {
            (None, Some(_)) => Forwarded::Stale,
            _ => visit.why,
        };
        let mut status = CacheStatus::forwarded(NAME, why);
        match outcome {
            Outcome::Brought(found) => {
                let reuse = reuse(&visit.asked, &found.facts, now);
                self.brought(visit, found, reuse)
            }
            Outcome::Storing(draft) => {
                status.stored = true;
                visit.note("miss", None);
                let body = reader.map_or_else(Body::empty, Body::boxed);
                let response = self.handed(flight, visit).map(|_| body);
                let response = self.conditioned(visit, response, now);
                self.told(response, visit.keys.of(draft), status)
            }
            Outcome::Refreshed(object) => {
                status.stored = true;
                self.revalidated(visit, object, status)
            }
            Outcome::Failed(failure) => {
                match self.stale_instead(visit, stale.as_ref(), *failure, now) {
                    Some(response) => response,
                    // By now it is too old for that, or was purged: the failure stands.
                    None => self.unshared(visit, flight, status, child, Unkept::UpstreamFailed),
                }
            }
            Outcome::Own(why) => self.unshared(visit, flight, status, child, *why),
            Outcome::Lost => Rejection::new(Reason::Panic).respond(&visit.context),
        }
    }

    /// An answer that the first who asked gets alone, and why.
    fn unshared(
        &self,
        visit: &Visit,
        flight: &Flight<Outcome>,
        mut status: CacheStatus<'_>,
        child: &Arc<Context>,
        why: Unkept,
    ) -> Response {
        let why = why.as_str();
        visit.note("miss", Some(why));
        status.detail = Some(why);
        let response = self.handed(flight, visit);
        if let Some(reason) = child.reason() {
            visit.context.note(reason);
        }
        let response = self.conditioned(visit, response, self.cache.moment());
        let response = response.map(|body| Handed::over(body, child, &visit.context));
        self.told(response, visit.keys.first(), status)
    }

    fn handed(&self, flight: &Flight<Outcome>, visit: &Visit) -> Response {
        let handed = flight.fill.take_response();
        // It is there for the one who leads.
        handed.unwrap_or_else(|| Rejection::new(Reason::Panic).respond(&visit.context))
    }

    /// The fetch itself.
    async fn run(self: Arc<Self>, mut job: Job, mut request: Request) {
        let fetching = Fetching::new(&job.flight.fill, Outcome::Lost);
        let Some(fetching) = self.bring(&mut job, fetching).await else {
            return;
        };
        let mut again = fill_request(&request);
        match &job.visit.stale {
            Some(stale) => make_conditional(request.headers_mut(), &stale.object.draft.head),
            None => unconditional(request.headers_mut()),
        }
        let (mut response, mut head) = self.ask(&job, request).await;
        if let Head::AskAgain = head {
            unconditional(again.headers_mut());
            job.visit.stale = None;
            (response, head) = self.ask(&job, again).await;
        }
        match head {
            Head::Store(draft) => {
                let draft = Arc::new(*draft);
                Self::let_go_of_large(&mut job.visit, &draft);
                let body = std::mem::take(response.body_mut());
                fetching.settle(Outcome::Storing(Arc::clone(&draft)), Some(response));
                self.keep(&fetching, draft, body, &job.visit).await;
            }
            Head::Refreshed(object) => {
                self.put(&job.visit, &object);
                fetching.settle(Outcome::Refreshed(object), None);
            }
            Head::Failed(failure) => {
                job.visit.leave_turn();
                fetching.settle(Outcome::Failed(failure), Some(response));
            }
            Head::Own(why) => {
                self.pass_for_a_while(&job.visit, &response, why);
                fetching.settle(Outcome::Own(why), Some(response));
            }
            // Without conditions no 304 is one of ours.
            Head::AskAgain => {
                let why = Unkept::Rules(NotStored::Status);
                fetching.settle(Outcome::Own(why), Some(response));
            }
        }
        job.ended = true;
    }

    /// Looks whether another gateway has the answer; `None` when nothing more is to be done. Behind
    /// one that is served stale it goes on, and nobody waits for it any more.
    async fn bring(&self, job: &mut Job, fetching: Fetching<Outcome>) -> Option<Fetching<Outcome>> {
        let patience = match (job.aside, self.wait) {
            (true, _) => Patience::Aside,
            (false, Some(wait)) => Patience::For(wait),
            (false, None) => Patience::None,
        };
        let fetching = match self.consult(&mut job.visit, patience).await {
            Consulted::Ask => fetching,
            Consulted::LeaveIt => return None,
            Consulted::Found(found, reuse) => {
                fetching.settle(Outcome::Brought(found.clone()), None);
                if reuse != Reuse::StaleWhileRevalidate {
                    return None;
                }
                job.visit.stale = Some(found);
                match self.consult(&mut job.visit, Patience::Aside).await {
                    Consulted::Ask => Fetching::new(&Fill::new(), Outcome::Lost),
                    _ => return None,
                }
            }
        };
        if let Some(stale) = &job.visit.stale {
            job.flight.stale.get_or_init(|| stale.clone());
        }
        Some(fetching)
    }

    async fn ask(&self, job: &Job, request: Request) -> (Response, Head) {
        let requested = self.cache.moment();
        let origin = Origin {
            marks: job.flight.marks.clone(),
            // Behind the look into the second tier, which may have taken a while.
            began: self.cache.stamp(),
            tags: Box::default(),
        };
        let mut response = self.inner.handle(request, &job.child).await;
        let head = self.judge(&job.visit, &mut response, requested, origin);
        (response, head)
    }

    /// Hands a body on and stores it when it is whole.
    pub(super) async fn keep(
        &self,
        fetching: &Fetching<Outcome>,
        draft: Arc<Draft>,
        body: Body,
        visit: &Visit,
    ) {
        let deadline = Instant::now() + LONGEST_FETCH;
        let room = self.cache.budget.room(self.cache.largest).at_least(LITTLE);
        if let Some(collected) = fetching.collect(body, room, deadline).await {
            let body = StoredBody::compact(&collected.pieces, self.cache.budget.bodies());
            let key = visit.keys.of(&draft);
            let object = Arc::new(Object::new(key, draft, body, collected.trailers));
            self.put(visit, &object);
            fetching.stored(object.body.pieces());
        } else if fetching.outgrew(self.cache.largest) {
            self.pass_from_now(&visit.keys, Learnt::Whole);
        }
    }

    /// Requests for what nobody may share do not wait for each other for a while. Failures pass by
    /// themselves, and what one client wants, or is told of its own request, says nothing of others.
    pub(super) fn pass_for_a_while(&self, visit: &Visit, response: &Response, why: Unkept) {
        let status = response.status();
        let failed = response.body().is_own() || status.is_server_error();
        let unwanted = why == Unkept::Rules(NotStored::RequestNoStore);
        if failed || unwanted || says_nothing_of_others(status) {
            return visit.leave_turn();
        }
        self.pass_from_now(&visit.keys, why.learnt());
    }

    fn pass_from_now(&self, keys: &Keys, learnt: Learnt) {
        let until = self.cache.stamp() + PASS.as_nanos() as u64;
        let store = &self.cache.store;
        store.pass_until(keys.of_flight(), keys.asker, until, learnt);
    }

    pub(super) fn stale_instead(
        &self,
        visit: &Visit,
        stale: Option<&Found>,
        failure: Failure,
        now: Moment,
    ) -> Option<Response> {
        let Found { object, facts, .. } = self.stands_in(visit, stale?, failure, now)?;
        let mut status = CacheStatus::forwarded(NAME, Forwarded::Stale);
        status.ttl = Some(facts.ttl(now));
        status.detail = Some("stale-if-error");
        if let Failure::Status(code) = failure {
            status.forwarded_status = Some(code.as_u16());
        }
        visit.note("stale", Some("upstream-failed"));
        Some(
            self.serving(visit, &object.draft, facts, now, &status)
                .object(object),
        )
    }

    /// What serves an answer that is stored or on its way. Its facts are others than those of its head where a
    /// purge has made it stale.
    pub(super) fn serving<'a>(
        &self,
        visit: &'a Visit,
        draft: &Draft,
        facts: &'a Facts,
        now: Moment,
        status: &CacheStatus<'_>,
    ) -> Serving<'a> {
        Serving {
            asked: &visit.asked,
            request: &visit.headers,
            facts,
            now,
            status: Some(self.status(visit.keys.of(draft), *status)),
        }
    }

    fn status(&self, key: &Key, status: CacheStatus<'_>) -> HeaderValue {
        let key = self.show_key.then(|| self.shown(key));
        let key = key.as_deref();
        CacheStatus { key, ..status }.header()
    }

    /// A key as clients see it.
    pub(super) fn shown(&self, key: &Key) -> String {
        key.show(&self.rule.key_headers, &self.cache.hasher)
    }

    /// Tells the client what the cache did, and under which key.
    pub(super) fn told(
        &self,
        mut response: Response,
        key: &Key,
        status: CacheStatus<'_>,
    ) -> Response {
        let status = self.status(key, status);
        response.headers_mut().append(CACHE_STATUS, status);
        response
    }
}

/// A GET for the whole with the fields of a request.
pub(super) fn fill_request(request: &Request) -> Request {
    let mut fill = Request::new(Body::empty());
    *fill.method_mut() = Method::GET;
    *fill.uri_mut() = request.uri().clone();
    *fill.version_mut() = request.version();
    *fill.headers_mut() = request.headers().clone();
    fill
}

impl Keys {
    /// The key under which an answer is stored.
    pub(super) fn of(&self, draft: &Draft) -> &Key {
        match draft.audience {
            Audience::Everyone => &self.everyone,
            Audience::Caller => self.first(),
        }
    }

    /// The key that is looked up first: the caller's own, where callers have answers of their own.
    pub(super) fn first(&self) -> &Key {
        self.caller.as_ref().unwrap_or(&self.everyone)
    }

    /// The key by which requests wait for each other: only those of one caller, where callers have
    /// stores of their own, and of one kind.
    pub(super) fn of_flight(&self) -> &Key {
        let waiting = self.waiting.as_ref().map(|(key, _)| key);
        waiting.unwrap_or_else(|| self.first())
    }
}

/// A body that takes longer is handed on, but not stored.
const LONGEST_FETCH: Duration = Duration::from_secs(300);
/// How long requests for what can't be shared do not wait for each other.
const PASS: Duration = Duration::from_secs(5);
/// How long behind that conditions go on to the upstream as they are: a client that polls does so less often
/// than that, and shall get the upstream's 304 and not have it send a whole that nobody keeps each time.
pub(super) const REMEMBERED: Duration = Duration::from_secs(300);

#[cfg(test)]
pub(super) mod tests;
