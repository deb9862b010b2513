//! A timer that is cheap to move.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that can be moved on every request without touching the timer wheel.
///
/// Tokio's `Sleep` takes a lock and walks the wheel for each reset. A deadline here is only a
/// number: the registered timer is left where it is, and when it fires too early it is armed once
/// more for what remains. A deadline that moves forward all the time (idle times do) so costs one
/// registration per period instead of one per request.
#[derive(Debug, Default)]
pub struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: Option<Instant>,
}

impl LazyTimer {
    /// Sets the deadline `after` from `now`.
    pub fn arm(&mut self, now: Instant, after: Duration) {
        self.deadline = now.checked_add(after);
    }

    /// Forgets the deadline.
    pub fn disarm(&mut self) {
        self.deadline = None;
    }

    /// Whether a deadline is set.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.deadline.is_some()
    }

    /// Ready when the deadline has passed; pending for ever while none is set.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // A registration for later than the deadline would fire too late; one for earlier is kept.
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
