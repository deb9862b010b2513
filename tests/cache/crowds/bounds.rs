//! How often a crowd may ask the upstream, as the documentation of the cache tells it.
//!
//! ```text
//! what the answers are                      fetches of the crowd        in series
//! for several requests                      one                         one
//! validated by each request                 one for each                two: who waited for the first asks then
//! an anonymous one was nobody else's just   one for each: they do not   one, or two: who waited for that
//!   now, and is not told from the crowd's     wait for each other         answer asks then
//! ```
//!
//! Beside an attacker there is one more in series, which it leads: for another variant, as far as anybody can
//! tell before its answer is there. Where answers name the fields by which they vary to those alone who send
//! them, there is one for each of these fields.

use super::{
    CROWD,
    attacker::{Move, Odd},
    upstream::{IF_SENT, Policy},
};

/// What holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Fetches that requests of the crowd lead.
    pub(super) fetches: usize,
    /// Those of all fetches it may wait for that come one behind another.
    pub(super) rounds: usize,
}

/// What the gateway may know of a URL.
#[derive(Clone, Debug)]
pub(super) struct Past {
    /// Whether a request that nothing tells from the crowd's but a bad value has made a fetch, so few seconds ago
    /// that those do not wait for each other if its answer was nobody else's.
    is_parted: bool,
    /// How long ago that was.
    ago: u64,
    /// Whether the crowd has got an answer that is for it.
    is_known: bool,
}

impl Past {
    pub(super) fn none() -> Self {
        Self {
            is_parted: false,
            ago: 0,
            is_known: false,
        }
    }

    /// These moves, so many seconds ago.
    pub(super) fn of(moves: &[Move], ago: u64) -> Self {
        Self {
            is_parted: moves.iter().any(is_bad) && ago < PASS,
            ago,
            is_known: false,
        }
    }

    /// The same when a crowd has got its answers, and so many seconds later.
    pub(super) fn crowd_was_there(&mut self, later: u64) {
        self.ago += later;
        self.is_parted &= self.ago < PASS;
        self.is_known = true;
    }
}

/// Whether its answer may be learnt of all who name nobody. A client that names somebody is of another kind, and
/// HEAD makes no fetch.
fn is_bad(one: &Move) -> bool {
    one.is_anonymous() && one.leads() && one.has(Odd::Bad)
}

/// What holds for a crowd that comes behind all that.
pub(super) fn behind(policy: Policy, past: &Past) -> Bound {
    let has_price = match policy {
        Policy::SettingCookies => true,
        // As soon as it is known by what answers vary, others are told from the bad one.
        Policy::PrivateVariant => !past.is_known,
        // What finds fault with its own request parts nobody who comes later.
        _ => false,
    };
    bound(policy, past.is_parted && has_price)
}

/// What holds for one beside which the attacker goes on so.
pub(super) fn beside(policy: Policy, past: &Past, moves: &[Move]) -> Bound {
    let is_met = moves.iter().any(is_bad);
    let has_price = match policy {
        Policy::SettingCookies => past.is_parted || is_met,
        Policy::PrivateVariant => (past.is_parted || is_met) && !past.is_known,
        // Who waits for that answer asks for itself.
        Policy::FindingFault => is_met,
        _ => false,
    };
    let bound = bound(policy, has_price);
    let led_by_it = match policy {
        Policy::VaryingIfSent => IF_SENT.len(),
        _ => 1,
    };
    Bound {
        rounds: bound.rounds + led_by_it,
        ..bound
    }
}

fn bound(policy: Policy, is_parted: bool) -> Bound {
    match (policy.is_for_several(), is_parted) {
        (true, false) => Bound {
            fetches: 1,
            rounds: 1 + LEEWAY,
        },
        (true, true) => Bound {
            fetches: CROWD,
            rounds: 1 + LEEWAY,
        },
        (false, _) => Bound {
            fetches: CROWD,
            rounds: 2 + LEEWAY,
        },
    }
}

/// For how many seconds those do not wait for each other of whose answers one was nobody else's.
const PASS: u64 = 5;
/// Of a crowd on a busy machine some come later than others, and ask later then. In series they would all be.
const LEEWAY: usize = 3;
