//! A token bucket by key, for whoever wants to limit something by itself: failed logins, say.

use std::time::Duration;

use super::{
    Algorithm, KeyHasher, Refused, Slot, Standing, Table, TokenBucket, Window, window::nanos,
};

/// A bounded limit of its own. Its memory is that of [`Table`].
pub struct Throttle {
    window: Window,
    table: Table<TokenBucket>,
    hasher: KeyHasher,
}

/// The key may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// How many more would be allowed now.
    pub remaining: u32,
    /// When there will be more.
    pub reset: Duration,
}

/// The key has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// How long, if nothing else comes meanwhile.
    pub retry_after: Duration,
}

impl Throttle {
    /// Allows `quota` in the time `per` by key, all of them at once if need be, for `max_keys` keys
    /// at a time.
    #[must_use]
    pub fn new(quota: u64, per: Duration, max_keys: usize) -> Self {
        Self {
            window: Window::new(quota, per, None),
            table: Table::new(max_keys, None),
            hasher: KeyHasher::default(),
        }
    }

    /// Charges a key; a cost of 0 is free and is allowed. `now` counts from any fixed moment, as
    /// [`Context::began`](crate::exchange::Context::began) does.
    ///
    /// # Errors
    ///
    /// When the key has to wait; it is not charged then.
    pub fn check(&self, key: &[u8], cost: u32, now: Duration) -> Result<Allowed, Denied> {
        let (window, now) = (&self.window, nanos(now));
        let take = |state: &mut TokenBucket| {
            let taken = state.take(window, now, cost);
            let written = taken.is_ok() && cost > 0;
            (taken, written)
        };
        outcome(self.table.update(self.hasher.hash(key), now, take).0)
    }

    /// What [`check`](Self::check) would say, without charging.
    ///
    /// # Errors
    ///
    /// When the key would have to wait.
    pub fn peek(&self, key: &[u8], cost: u32, now: Duration) -> Result<Allowed, Denied> {
        let (window, now) = (&self.window, nanos(now));
        let look = |state: &TokenBucket| state.peek(window, now, cost);
        let known = self.table.read(self.hasher.hash(key), look);
        outcome(known.unwrap_or_else(|| TokenBucket::default().peek(window, now, cost)))
    }

    /// Charges a key for what has happened already. What it does not have is owed, up to what comes
    /// back in the time `most`.
    pub fn charge(&self, key: &[u8], cost: u32, now: Duration, most: Duration) {
        let (window, now, most) = (&self.window, nanos(now), nanos(most));
        let charge = |state: &mut TokenBucket| {
            let owes_more = state.debt(now) < most;
            if owes_more {
                state.charge(window, now, cost);
            }
            ((), owes_more)
        };
        self.table.update(self.hasher.hash(key), now, charge);
    }

    /// Forgets what a key has used: a login that succeeded, say.
    pub fn forget(&self, key: &[u8]) {
        self.table.remove(self.hasher.hash(key));
    }
}

fn outcome(taken: Result<Standing, Refused>) -> Result<Allowed, Denied> {
    let duration = |nanos: Option<u64>| Duration::from_nanos(nanos.unwrap_or_default());
    match taken {
        Ok(standing) => Ok(Allowed {
            remaining: standing.remaining,
            reset: duration(standing.reset),
        }),
        Err(refused) => Err(Denied {
            retry_after: duration(refused.wait),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_denied_after_its_quota_and_allowed_again_when_told() {
        let throttle = Throttle::new(3, Duration::from_secs(60), 100);
        let at = Duration::from_secs;
        for remaining in [2, 1, 0] {
            let allowed = throttle.check(b"alice", 1, at(5)).unwrap();
            assert_eq!(allowed.remaining, remaining);
        }
        let denied = throttle.check(b"alice", 1, at(5)).unwrap_err();
        assert_eq!(denied.retry_after, at(20));
        assert!(throttle.check(b"bob", 1, at(5)).is_ok());
        assert!(throttle.peek(b"alice", 1, at(24)).is_err());
        assert!(throttle.peek(b"alice", 1, at(25)).is_ok());
        assert!(throttle.check(b"alice", 1, at(25)).is_ok());
        assert!(throttle.check(b"alice", 1, at(25)).is_err());
        throttle.forget(b"alice");
        assert_eq!(throttle.check(b"alice", 3, at(25)).unwrap().remaining, 0);
    }

    #[test]
    fn what_has_happened_is_owed_up_to_a_bound() {
        let throttle = Throttle::new(3, Duration::from_secs(60), 100);
        let at = Duration::from_secs;
        for _ in 0..5 {
            throttle.charge(b"alice", 1, at(5), at(600));
        }
        let wait = |now| {
            throttle
                .peek(b"alice", 1, at(now))
                .map_err(|it| it.retry_after)
        };
        assert_eq!(wait(5), Err(at(60)));
        assert!(wait(65).is_ok());
        for _ in 0..1000 {
            throttle.charge(b"alice", 1, at(65), at(600));
        }
        assert_eq!(wait(65), Err(at(560)));
    }
}
