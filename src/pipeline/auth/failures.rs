//! How often a client may present what was made up.
//!
//! Counted by client address (of IPv6 the first 64 bits, which one household has to itself), before
//! any hash or signature is made. Only what looks like guessing counts: a credential that has
//! expired was once a good one.
//!
//! Hazards: many clients may share an address, and one of them that guesses must not lock out the
//! others for good. So nothing is locked: the address has a quota that comes back steadily, good
//! credentials cost nothing of it, and who is known already (a key, a remembered token) is let in
//! all the time. A first login waits for the quota, that is seconds, unless somebody goes on
//! guessing from the same address, or has made many guesses at once there: those are owed.

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{
    config::Auth,
    exchange::{Context, Reason},
    store::Throttle,
};

/// The failures of all clients.
pub struct Failures {
    quota: (u64, Duration),
    throttle: Throttle,
}

impl Failures {
    /// As configured; the running one goes on if its quota did not change.
    pub(super) fn from_config(config: &Auth, running: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let quota = config.failures?;
        let unchanged = running.filter(|running| running.quota == quota);
        Some(unchanged.map_or_else(|| Arc::new(Self::new(quota)), Arc::clone))
    }

    fn new(quota: (u64, Duration)) -> Self {
        Self {
            quota,
            throttle: Throttle::new(quota.0, quota.1, MOST_ADDRESSES),
        }
    }

    /// How long the client's address has to wait; `None` when it may try.
    pub(super) fn wait(&self, context: &Context) -> Option<Duration> {
        let key = network(context.client);
        let denied = self.throttle.peek(&key, 1, context.began()).err()?;
        Some(denied.retry_after)
    }

    /// Counts a request, if one of its credentials was refused as made up.
    pub(super) fn note(&self, mut refusals: impl Iterator<Item = Reason>, context: &Context) {
        if refusals.any(|reason| MADE_UP.contains(&reason)) {
            let (key, now) = (network(context.client), context.clock.now());
            let most = self.quota.1.saturating_mul(MOST_OWED);
            // Guesses that came at the same time all saw a quota that was not used up: it is owed.
            self.throttle.charge(&key, 1, now, most);
        }
    }
}

/// What one client has to itself: an IPv4 address, or 64 bits of an IPv6 address.
fn network(address: IpAddr) -> [u8; 9] {
    let mut key = [0; 9];
    match address.to_canonical() {
        IpAddr::V4(address) => {
            key[0] = 4;
            key[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            key[0] = 6;
            key[1..].copy_from_slice(&address.octets()[..8]);
        }
    }
    key
}

/// Reasons that a credential which was once good does not give. A service of external auth does not
/// say why it refuses: it may be asked many times, and by whoever likes.
const MADE_UP: [Reason; 10] = [
    Reason::ExternalUnauthorized,
    Reason::ApiKeyMalformed,
    Reason::ApiKeyUnknown,
    Reason::BasicMalformed,
    Reason::BasicWrong,
    Reason::JwtMalformed,
    Reason::JwtTooLarge,
    Reason::JwtWrongAlgorithm,
    Reason::JwtUnknownKey,
    Reason::JwtBadSignature,
];
/// How often the time of the quota an address may have to wait: others may share it.
const MOST_OWED: u32 = 3;
/// Addresses that are counted at a time, a few megabytes; the table forgets who owes least.
const MOST_ADDRESSES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        network(one.parse().unwrap()) == network(other.parse().unwrap())
    }

    #[test]
    fn an_ipv6_client_is_its_first_64_bits() {
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
    }
}
