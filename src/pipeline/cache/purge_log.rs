//! How what is stored in Redis is told to have been purged.
//!
//! A purge must hold for three things: what this process has in memory, what stands in Redis, and what
//! anybody is just fetching. The first is [`purge`](super::purge)'s, by moments on this process's
//! clock. Those mean nothing to another process, so for Redis there are two other orders:
//!
//! - **A URL** has a guard in Redis, a random text which its answers were stored under. To purge the URL is to
//!   delete the guard; a soft purge changes the part of it that tells when the answers became stale.
//!   So a URL that an unsafe request has changed is no entry of the log, and many are one command.
//! - **All else** (prefixes, hosts, routes, tags, everything) is numbered by Redis in a log, whose last
//!   entries it keeps. An answer carries the number of the last entry that its gateway had followed when
//!   its fetch began; whoever finds it compares it with all entries of higher numbers.
//!
//! Whoever looks into Redis reads the guard and the number of the log's last entry together with
//! the answer, and follows the log up to there before it judges: being cut off from messages makes a
//! gateway slower, and never wrong. What it can't follow (the log has a new name, or no longer
//! reaches back so far) it takes for purged.
//!
//! Following an entry is a purge at a moment of this process, in the order of the log. So the number
//! that an answer carries becomes a moment, the one at which that entry was followed, and the cells
//! and bans of `purge` do for answers of all gateways.
//!
//! A purge that was asked for here holds here at once, before Redis knows of it. Until it does
//! nothing that may be older is taken out of Redis: `unsaid` has the moments of such purges. Its lock is
//! held from before such a purge reads its moment until what it purges is marked. So whoever looks has
//! either asked before, and began before that moment, or finds both.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    purge::{Aim, Stamp},
    purge_message::Message,
    shared::Cache,
    unsaid::{AllUnsaid, Unsaid},
};
use crate::store::{Away, LogHead, LogPart, Redis, SOFT};

/// The log of purges as this process has followed it.
#[derive(Debug)]
pub(super) struct PurgeLog {
    /// Who we are in it: a number that no other has.
    pub(super) us: u64,
    state: Mutex<State>,
    /// One follows at a time.
    following: tokio::sync::Mutex<()>,
    unsaid: AllUnsaid,
}

#[derive(Debug, Default)]
struct State {
    followed: Option<Followed>,
    /// How far it had come before it was to be followed from its beginning.
    before: Option<LogHead>,
    /// When everything in memory was purged, before the log is followed from its beginning.
    joined: Option<Stamp>,
}

#[derive(Debug)]
struct Followed {
    head: LogHead,
    /// When its last entries were followed; the last of these is the last of the log.
    moments: VecDeque<Stamp>,
}

impl PurgeLog {
    pub(super) fn new() -> Self {
        Self {
            us: fastrand::u64(..),
            state: Mutex::default(),
            following: tokio::sync::Mutex::default(),
            unsaid: AllUnsaid::default(),
        }
    }

    /// That of a cache that takes the place of one which may still have to tell the same Redis of purges.
    pub(super) fn beside(&self) -> Self {
        Self {
            unsaid: self.unsaid.beside(),
            ..Self::new()
        }
    }

    /// Has a purge made, and notes that Redis does not know of it. `purge` makes it and tells its moment.
    pub(super) fn announce(&self, purge: impl FnOnce() -> Stamp) -> Unsaid {
        self.unsaid.announce(purge)
    }

    /// Notes that Redis knows of it.
    pub(super) fn said(&self, unsaid: Unsaid) {
        self.unsaid.said(unsaid);
    }

    /// Since when there are purges that Redis may not know of. A look is to have read its own moment
    /// before it asks.
    pub(super) fn unsaid_since(&self) -> Stamp {
        self.unsaid.since()
    }

    /// The moment from which on purges concern what was fetched when the log had come so far; `None`
    /// when that is not known any more.
    pub(super) fn moment_of(&self, birth: LogHead) -> Option<Stamp> {
        let state = self.state_locked();
        let followed = state.followed.as_ref()?;
        if followed.head.name != birth.name {
            return None;
        }
        let ago = usize::try_from(followed.head.last.checked_sub(birth.last)?).ok()?;
        let index = followed.moments.len().checked_sub(ago + 1)?;
        followed.moments.get(index).map(|moment| moment + 1)
    }

    /// Forgets how far it has come: it will be followed from its beginning. Everything in memory has
    /// been purged at that moment.
    pub(super) fn join(&self, at: Stamp) {
        let mut state = self.state_locked();
        let known = state.followed.take().map(|known| known.head);
        state.before = known.or(state.before);
        state.joined = Some(at);
    }

    /// Follows the log, at least up to where somebody has seen it. Where it has come to.
    ///
    /// # Errors
    ///
    /// When Redis gives no usable answer.
    pub(super) async fn follow(
        &self,
        cache: &Cache,
        (redis, worker): (&Arc<Redis>, usize),
        seen: Option<LogHead>,
    ) -> Result<LogHead, Away> {
        if let Some(head) = self.has_come_to(seen) {
            return Ok(head);
        }
        // Behind a Redis that hangs nobody waits longer than for Redis itself.
        let alone = timeout(redis.timeout(), self.following.lock()).await;
        let _alone = alone.map_err(|_| Away::Timeout)?;
        if let Some(head) = self.has_come_to(seen) {
            return Ok(head);
        }
        let known = self.head();
        let mut part = redis.since(worker, known).await?;
        if let Some(before) = self.went_back(part.head) {
            // Told so, Redis begins a new one.
            part = redis.since(worker, Some(before)).await?;
        }
        self.state_locked().take(cache, &part, self.us);
        Ok(part.head)
    }

    fn has_come_to(&self, seen: Option<LogHead>) -> Option<LogHead> {
        seen.filter(|_| self.head() == seen)
    }

    fn head(&self) -> Option<LogHead> {
        let state = self.state_locked();
        state.followed.as_ref().map(|known| known.head)
    }

    /// How far we had come, when Redis has lost a part of that: it was restored, and what it says now
    /// under the same name is not what it had said.
    fn went_back(&self, head: LogHead) -> Option<LogHead> {
        let before = self.state_locked().before?;
        (before.name == head.name && before.last > head.last).then_some(before)
    }

    /// Notes an entry of our own, which has been made before. When another came between, the log is
    /// to be followed.
    pub(super) fn numbered(&self, head: LogHead, at: Stamp) {
        let mut state = self.state_locked();
        let Some(known) = state.followed.as_mut() else {
            return;
        };
        let next = known.head.name == head.name && known.head.last + 1 == head.last;
        if next && known.moments.back().is_some_and(|last| *last < at) {
            known.push(at);
        }
    }

    fn state_locked(&self) -> MutexGuard<'_, State> {
        // Whole after a panic elsewhere: moments are added behind the purge that they are of.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Purges what the entries say, in their order, each at a moment of its own.
    fn take(&mut self, cache: &Cache, part: &LogPart, us: u64) {
        let before = LogHead {
            last: part.head.last - part.entries.len() as u64,
            ..part.head
        };
        let joined = self.joined.take();
        let mut is_news = true;
        let known = match self.followed.as_mut().filter(|known| known.head == before) {
            Some(known) => known,
            None => {
                is_news = false;
                let from = joined.unwrap_or_else(|| {
                    // What has been missed may concern everything that is here.
                    let at = cache.stamp();
                    cache.forget_at(&Aim::Everything, false, at);
                    at
                });
                self.followed.insert(Followed {
                    head: before,
                    moments: VecDeque::from([from]),
                })
            }
        };
        for entry in &part.entries {
            let last = known.moments.back().copied().unwrap_or_default();
            let at = cache.stamp().max(last + 1);
            // What is not ours purges nothing, but it has its number.
            if let Some(message) = Message::read(entry) {
                for aim in &message.aims {
                    cache.forget_at(aim, message.soft, at);
                }
                if is_news && message.asked && message.from != us {
                    cache.count_purge();
                }
            }
            known.push(at);
        }
    }
}

impl Followed {
    fn push(&mut self, at: Stamp) {
        self.head.last += 1;
        self.moments.push_back(at);
        if self.moments.len() > MOST_MOMENTS {
            self.moments.pop_front();
        }
    }
}

/// The tags of a URL: of its answers where all of the query counts, and where not all of it does.
pub(super) fn url_tags(host: &str, target: &str) -> [String; 2] {
    let path = target.split('?').next().unwrap_or_default();
    [url_tag(host, target, true), url_tag(host, path, false)]
}

/// What a URL's keys in Redis have in common: 128 bits of a digest.
pub(super) fn url_tag(host: &str, target: &str, whole: bool) -> String {
    let mut digest = Sha256::new();
    digest.update([u8::from(whole)]);
    digest.update((host.len() as u64).to_be_bytes());
    digest.update(host);
    digest.update(target);
    hex(&digest.finalize())
}

/// The key of a URL's guard.
pub(super) fn guard_key(prefix: &str, tag: &str) -> String {
    format!("{prefix}cache:{{{tag}}}:guard")
}

/// The first half of a digest.
pub(super) fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(32);
    for byte in digest.iter().take(16) {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What a guard is told of a soft purge: a number that no other has, and when answers became stale.
pub(super) fn soft_purge(millis: u64) -> [u8; SOFT] {
    let mut soft = [0; SOFT];
    // Never the zero that stands for none.
    soft[..8].copy_from_slice(&fastrand::u64(1..).to_be_bytes());
    soft[8..].copy_from_slice(&millis.to_be_bytes());
    soft
}

/// Entries whose moments are remembered. What is older is taken for purged.
const MOST_MOMENTS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NAME: u64 = 7;

    fn head(last: u64) -> LogHead {
        LogHead { name: NAME, last }
    }

    /// A log whose entries up to 5 were followed, the last two at these moments.
    fn followed() -> PurgeLog {
        let log = PurgeLog::new();
        log.state_locked().followed = Some(Followed {
            head: head(5),
            moments: VecDeque::from([100, 200, 300]),
        });
        log
    }

    #[test]
    fn an_answer_is_concerned_by_what_was_followed_behind_its_number() {
        let log = followed();
        assert_eq!(log.moment_of(head(5)), Some(301));
        assert_eq!(log.moment_of(head(3)), Some(101));
    }

    #[test]
    fn an_answer_of_which_too_little_is_known_has_no_moment() {
        let log = followed();
        assert_eq!(
            log.moment_of(head(2)),
            None,
            "older than what is remembered"
        );
        assert_eq!(log.moment_of(head(6)), None, "newer than what was followed");
        let other = LogHead { name: 8, last: 5 };
        assert_eq!(log.moment_of(other), None, "of another log");
        log.join(400);
        assert_eq!(log.moment_of(head(5)), None);
    }

    #[test]
    fn our_own_entry_is_followed_when_no_other_came_between() {
        let log = followed();
        log.numbered(head(6), 350);
        assert_eq!(log.moment_of(head(6)), Some(351));
        // 7 was another's: it has to be followed first.
        log.numbered(head(8), 360);
        assert_eq!(log.moment_of(head(8)), None);
        // And so has what was made before the last one was followed.
        log.numbered(head(7), 340);
        assert_eq!(log.moment_of(head(7)), None);
    }

    #[test]
    fn a_log_that_went_back_while_nobody_listened_is_noticed() {
        let log = followed();
        assert_eq!(log.went_back(head(3)), None, "Redis itself sees it");
        for at in [400, 500] {
            log.join(at);
            assert_eq!(log.went_back(head(3)), Some(head(5)));
            assert_eq!(log.went_back(head(5)), None);
            assert_eq!(log.went_back(LogHead { name: 8, last: 3 }), None);
        }
    }

    #[test]
    fn a_urls_tags_differ_by_host_target_and_how_much_of_it_counts() {
        let tags = [
            url_tag("a", "/x", true),
            url_tag("a", "/x", false),
            url_tag("a/", "x", true),
            url_tag("b", "/x", true),
            url_tag("a", "/x?y", true),
        ];
        let different: BTreeSet<_> = tags.iter().collect();
        assert_eq!(different.len(), tags.len());
        assert_eq!(url_tags("a", "/x?y"), [tags[4].clone(), tags[1].clone()]);
        assert!(tags.iter().all(|tag| tag.len() == 32));
    }
}
