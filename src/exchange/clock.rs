//! The time, which a test can move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};

/// The clocks that policies ask: what expires, how old an answer is, how much of a quota is left.
///
/// Timers on the path of a request do not use it. A clone shows, and moves, the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    /// None for the real clock, which costs nothing more.
    moved: Option<Arc<Moved>>,
}

/// What a test has added, and who waits for more.
#[derive(Debug, Default)]
struct Moved {
    nanos: AtomicU64,
    sleepers: Notify,
}

impl Clock {
    /// The real time.
    #[must_use]
    pub fn system() -> Self {
        Self {
            origin: Instant::now(),
            moved: None,
        }
    }

    /// A clock that [`advance`](Self::advance) moves, beside going on by itself.
    #[must_use]
    pub fn movable() -> Self {
        Self {
            moved: Some(Arc::default()),
            ..Self::system()
        }
    }

    /// Moves the time forward; the real clock does not move.
    pub fn advance(&self, by: Duration) {
        if let Some(moved) = &self.moved {
            let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            moved.nanos.fetch_add(nanos, Ordering::SeqCst);
            moved.sleepers.notify_waiters();
        }
    }

    /// Sleeps until [`now`](Self::now) has come that far; a test that moves the clock wakes it.
    pub async fn sleep_until(&self, moment: Duration) {
        while let Some(left) = moment
            .checked_sub(self.now())
            .filter(|left| !left.is_zero())
        {
            let Some(moved) = &self.moved else {
                return tokio::time::sleep(left).await;
            };
            let woken = moved.sleepers.notified();
            // The clock may have been moved between the look at it and the wait for that.
            if self.now() < moment {
                let _ = tokio::time::timeout(left, woken).await;
            }
        }
    }

    /// The wall clock: for what names a date.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_add(self.moved()).unwrap_or(now)
    }

    /// The time since the process began, which never goes back: for what counts durations.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.since_origin(Instant::now())
    }

    /// The same for a moment that has been read already, such as
    /// [`Context::started`](super::Context::started).
    #[must_use]
    pub fn since_origin(&self, moment: Instant) -> Duration {
        let since = moment.saturating_duration_since(self.origin);
        match &self.moved {
            None => since,
            Some(moved) => since.saturating_add(moved.by()),
        }
    }

    fn moved(&self) -> Duration {
        let moved = self.moved.as_ref();
        moved.map_or(Duration::ZERO, |moved| moved.by())
    }
}

impl Moved {
    fn by(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_clock_moves_for_all_of_its_clones() {
        let clock = Clock::movable();
        let (before, wall) = (clock.now(), clock.wall());
        clock.clone().advance(Duration::from_secs(3600));
        assert!(clock.now() >= before + Duration::from_secs(3600));
        assert!(clock.wall() >= wall + Duration::from_secs(3599));
    }

    #[tokio::test]
    async fn a_moved_clock_wakes_who_sleeps_by_it() {
        let clock = Clock::movable();
        let until = clock.now() + Duration::from_secs(3600);
        let sleeper = clock.clone();
        let sleeping = tokio::spawn(async move { sleeper.sleep_until(until).await });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1800));
        tokio::task::yield_now().await;
        assert!(!sleeping.is_finished());
        clock.advance(Duration::from_secs(1800));
        sleeping.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_real_clock_sleeps_as_a_timer_does() {
        let clock = Clock::system();
        let until = clock.now() + Duration::from_secs(60);
        clock.sleep_until(until).await;
        assert!(clock.now() >= until);
    }
}
