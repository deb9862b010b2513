//! Asking the second tier before the upstream, and whose turn it is to ask that.
//!
//! ```text
//! look -> found, and it may be served -> serve it
//!   no -> our turn?   yes -> look again: another may just have been served -> fetch
//!                     another's -> wait a little, look again; in the end fetch ourselves
//! ```
//!
//! When Redis does not answer, the request goes on as if there were no second tier.

use std::{sync::Arc, time::Duration};

use http::header::CONTENT_LENGTH;
use tokio::time::{Instant, sleep};

use super::{
    CacheRoute, Visit,
    found::Found,
    object::{Draft, NAME, Object},
    policy::{CacheStatus, Class, Forwarded, Reuse, reuse},
    second_tier::{Begun, End, Ticket},
};
use crate::{config::CacheQuery, exchange::Response};

/// How long one waits for other gateways.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// So long; others wait for us as long.
    For(Duration),
    /// Not at all.
    None,
    /// Not at all, and nothing will be stored: it is only looked.
    OnlyLook,
    /// Nobody waits: where another fetches it, nothing is to be done.
    Aside,
}

/// What the second tier has said.
pub(super) enum Consulted {
    /// This may be served.
    Found(Found, Reuse),
    /// The upstream is to be asked.
    Ask,
    /// Another gateway is asking it.
    LeaveIt,
}

impl CacheRoute {
    /// Asks the second tier, if there is one. What is to be validated and what the fetch has to know
    /// is written into the visit.
    pub(super) async fn consult(&self, visit: &mut Visit, patience: Patience) -> Consulted {
        let Some(tier) = &self.second else {
            return Consulted::Ask;
        };
        // It was looked for just now, before it was known that others may wait: a slow Redis has cost it enough.
        if visit.ticket.is_some() {
            return Consulted::Ask;
        }
        let until = match patience {
            Patience::For(wait) => Instant::now() + wait,
            _ => Instant::now(),
        };
        let place = tier.place(visit, self.rule.query == CacheQuery::AsIs);
        let mut pause = SHORTEST_PAUSE;
        let mut time = tier.time(&visit.context);
        loop {
            let looking = tier.look(&self.cache, visit, &place, &mut time);
            let looked = looking.await;
            let is_there = looked.as_ref().is_ok_and(|looked| !looked.is_empty());
            self.note_look(visit, is_there);
            let Ok(looked) = looked else {
                return Consulted::Ask;
            };
            if let Some(found) = &looked.found
                && let Some(consulted) = self.found(visit, found, patience)
            {
                return consulted;
            }
            // It was our turn already, and nobody has been quicker.
            if visit.ticket.is_some() {
                return Consulted::Ask;
            }
            let turn = match patience {
                Patience::OnlyLook => return Consulted::Ask,
                Patience::None => None,
                Patience::For(wait) => Some(wait),
                Patience::Aside => Some(TURN_ASIDE),
            };
            let beginning = tier.begin(visit, &place, &looked, turn);
            match time.within(beginning).await {
                Ok(Begun::Ours(ticket)) => visit.ticket = Some(ticket),
                Ok(Begun::Everybodys(ticket)) => {
                    visit.ticket = Some(ticket);
                    return Consulted::Ask;
                }
                Ok(Begun::Others(_)) if matches!(patience, Patience::Aside) => {
                    return Consulted::LeaveIt;
                }
                Ok(Begun::Others(ticket)) => {
                    let now = Instant::now();
                    if now >= until {
                        visit.ticket = Some(ticket);
                        return Consulted::Ask;
                    }
                    sleep(pause.min(until - now)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    time = tier.time(&visit.context);
                }
                Err(_) => return Consulted::Ask,
            }
        }
    }

    /// What may be done with what was found; `None` where the upstream is to be asked.
    fn found(&self, visit: &mut Visit, found: &Found, patience: Patience) -> Option<Consulted> {
        let now = self.cache.moment();
        let is_older = |known: &Found| known.facts.received >= found.facts.received;
        if visit.stale.as_ref().is_some_and(is_older) {
            visit.keep_stale(found, now);
            return None;
        }
        if self.memory {
            self.cache.put(&found.object);
            self.wait_again(visit);
        }
        let reuse = reuse(&visit.asked, &found.facts, now);
        // Who fetches beside a stale one wants a newer one.
        let is_aside = matches!(patience, Patience::Aside);
        if reuse == Reuse::Fresh || (reuse.serves() && !is_aside) {
            if let Some(ticket) = visit.ticket.take() {
                ticket.end(End::Next);
            }
            return Some(Consulted::Found(found.clone(), reuse));
        }
        visit.keep_stale(found, now);
        visit.why = match reuse {
            Reuse::ValidateAsWanted => Forwarded::Request,
            _ => Forwarded::Stale,
        };
        None
    }

    /// An answer of the second tier to a request that nobody waits for, and whether it is stale and to
    /// be fetched anew, as the visit says then.
    pub(super) async fn consult_alone(&self, visit: &mut Visit) -> Option<(Response, bool)> {
        if !self.looks_alone(visit) {
            return None;
        }
        let stores = visit.asked.class == Class::Get
            && !visit.asked.range
            && !visit.asked.wants.only_if_cached;
        let patience = match stores {
            true => Patience::None,
            false => Patience::OnlyLook,
        };
        match self.consult(visit, patience).await {
            Consulted::Found(found, reuse) => {
                let response = self.brought(visit, &found, reuse);
                visit.stale = Some(found);
                Some((response, reuse == Reuse::StaleWhileRevalidate))
            }
            Consulted::Ask | Consulted::LeaveIt => None,
        }
    }

    /// Whether a request that nobody waits for is looked for. What was nobody else's a moment ago is not, each
    /// time. Of whom that was not learnt himself what he brings is kept in the memory, where the rule has one;
    /// where it has none, all that others may have is in the second tier alone, and has to come there. So some of
    /// them look as long as there is nothing, and all of them as soon as there is something.
    fn looks_alone(&self, visit: &Visit) -> bool {
        if self.second.is_none() {
            return false;
        }
        // Nothing else can answer that.
        if visit.asked.wants.only_if_cached || !visit.passes {
            return true;
        }
        let (key, now) = (visit.keys.of_flight(), self.cache.stamp());
        !self.memory && !visit.is_known_apart() && self.cache.store.may_look(key, now)
    }

    /// Notes whether the second tier has something of a key, where that alone has answers. One that does not answer
    /// has nothing, or all who do not wait for each other would wait for it.
    fn note_look(&self, visit: &Visit, is_there: bool) {
        if !self.memory {
            let in_vain = (!is_there).then(|| self.cache.stamp());
            self.cache.store.note_look(visit.keys.of_flight(), in_vain);
        }
    }

    /// Whether what a request brings can be stored anywhere.
    pub(super) fn can_store(&self, visit: &Visit) -> bool {
        self.memory || visit.ticket.is_some()
    }

    /// Serves what the second tier had.
    pub(super) fn brought(&self, visit: &Visit, found: &Found, reuse: Reuse) -> Response {
        let (result, detail) = match reuse {
            Reuse::StaleAsWanted => ("stale", "max-stale"),
            Reuse::StaleWhileRevalidate => ("stale", "while-revalidate"),
            _ => ("hit", "redis"),
        };
        visit.note(result, Some(detail));
        let now = self.cache.moment();
        let status = CacheStatus {
            detail: Some(detail),
            ..CacheStatus::hit(NAME, found.facts.ttl(now))
        };
        let (object, facts) = (&found.object, &found.facts);
        self.serving(visit, &object.draft, facts, now, &status)
            .object(object)
    }

    /// Stores an answer where the rule says.
    pub(super) fn put(&self, visit: &Visit, object: &Arc<Object>) {
        visit.note_newer(object);
        if self.memory {
            self.cache.put(object);
        }
        self.wait_again(visit);
        if let Some(ticket) = &visit.ticket {
            let key = visit.keys.of(&object.draft);
            self.note_look(visit, true);
            ticket.store(&self.cache, key, object);
        }
    }

    /// Has the requests of its group wait for each other again: there is something to keep for it. Of the marks
    /// of others what is stored takes those alone away that it shows to be wrong.
    fn wait_again(&self, visit: &Visit) {
        let keys = &visit.keys;
        self.cache.store.wait_again(keys.of_flight(), keys.asker);
    }

    /// Lets other gateways not wait for an answer that is too large for them.
    pub(super) fn let_go_of_large(visit: &mut Visit, draft: &Draft) {
        let length = draft.head.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length| !Ticket::fits(length)) {
            visit.ticket = None;
        }
    }
}

impl Visit {
    /// Leaves its turn, if it has one, to whoever comes next: its own fetch says nothing about others'.
    pub(super) fn leave_turn(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.end(End::Next);
        }
    }
}

/// How soon it is looked again whether another gateway has brought the answer.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long other gateways leave it to one to fetch what is served stale.
const TURN_ASIDE: Duration = Duration::from_secs(5);
