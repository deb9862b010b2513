//! Deadlines of a worker's calls.
//!
//! A timer of its own for each call would be the one of its runtime that ends next, and the runtime has
//! to be told of that: two system calls a call. So there is one for all that are under way. It ticks, and
//! at a tick those end that have taken too long. It stops when there has been no call for a while.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::sleep};

/// The calls of one runtime.
#[derive(Default)]
pub(super) struct Deadlines {
    ticks: Notify,
    is_ticking: AtomicBool,
    calls: AtomicUsize,
}

/// A call that is under way.
struct UnderWay<'d>(&'d Deadlines);

/// The task that ticks. Where it ends with its runtime the next call makes another.
struct Ticking {
    deadlines: Arc<Deadlines>,
    has_stopped: bool,
}

impl Deadlines {
    /// What a call has come to; `None` where at a tick it has taken `most` already. It began just now.
    pub(super) async fn within<T>(
        self: &Arc<Self>,
        (began, most): (Instant, Duration),
        tick: Duration,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let _under_way = UnderWay::new(self);
        let mut call = pin!(call);
        let mut ticked = pin!(self.ticks.notified());
        self.start(tick);
        std::future::poll_fn(|task| {
            if let Poll::Ready(outcome) = call.as_mut().poll(task) {
                return Poll::Ready(Some(outcome));
            }
            while ticked.as_mut().poll(task).is_ready() {
                if began.elapsed() >= most {
                    return Poll::Ready(None);
                }
                ticked.set(self.ticks.notified());
            }
            Poll::Pending
        })
        .await
    }

    fn start(self: &Arc<Self>, tick: Duration) {
        // The call has been counted before this is looked at: a task that is about to stop sees it.
        if !self.is_ticking.load(SeqCst) && !self.is_ticking.swap(true, SeqCst) {
            let ticking = Ticking {
                deadlines: Arc::clone(self),
                has_stopped: false,
            };
            tokio::spawn(ticking.run(tick));
        }
    }
}

impl Ticking {
    async fn run(mut self, tick: Duration) {
        let mut quiet = Duration::ZERO;
        while !self.has_stopped {
            sleep(tick).await;
            self.deadlines.ticks.notify_waiters();
            quiet = match self.deadlines.calls.load(Relaxed) {
                0 => quiet + tick,
                _ => Duration::ZERO,
            };
            self.has_stopped = quiet >= QUIET && self.stops();
        }
    }

    /// Stops, unless a call has come meanwhile that relies on this task.
    fn stops(&self) -> bool {
        let Deadlines {
            is_ticking, calls, ..
        } = &*self.deadlines;
        is_ticking.store(false, SeqCst);
        calls.load(SeqCst) == 0 || is_ticking.swap(true, SeqCst)
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        if !self.has_stopped {
            self.deadlines.is_ticking.store(false, SeqCst);
        }
    }
}

impl<'d> UnderWay<'d> {
    fn new(deadlines: &'d Deadlines) -> Self {
        deadlines.calls.fetch_add(1, SeqCst);
        Self(deadlines)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

/// How long it ticks on without a call.
const QUIET: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::time::timeout;

    const TICK: Duration = Duration::from_millis(2);

    async fn within<T>(
        deadlines: &Arc<Deadlines>,
        most: Duration,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        deadlines.within((Instant::now(), most), TICK, call).await
    }

    #[tokio::test]
    async fn a_call_ends_at_the_tick_at_which_its_time_is_over_and_no_other_does() {
        let deadlines = Arc::<Deadlines>::default();
        let (short, long) = (20 * TICK, Duration::from_secs(60));
        let began = Instant::now();
        let other = Arc::clone(&deadlines);
        let waits = tokio::spawn(async move { within(&other, long, pending::<()>()).await });
        assert_eq!(within(&deadlines, short, pending::<()>()).await, None);
        assert!(began.elapsed() >= short);
        assert!(!waits.is_finished());
        assert_eq!(within(&deadlines, short, ready(1)).await, Some(1));
        waits.abort();
        assert!(waits.await.is_err());
        assert_eq!(deadlines.calls.load(SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_calls_the_ticking_stops_and_the_next_call_begins_it_anew() {
        let deadlines = Arc::<Deadlines>::default();
        for _ in 0..3 {
            assert_eq!(within(&deadlines, TICK, ready(1)).await, Some(1));
            assert!(deadlines.is_ticking.load(SeqCst));
            sleep(QUIET + 10 * TICK).await;
            assert!(!deadlines.is_ticking.load(SeqCst));
        }
    }

    #[test]
    fn a_runtime_that_ends_leaves_the_ticking_to_the_next_call() {
        let deadlines = Arc::<Deadlines>::default();
        for _ in 0..3 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            let call = within(&deadlines, TICK, pending::<()>());
            let guarded = async { timeout(Duration::from_secs(60), call).await };
            assert_eq!(runtime.unwrap().block_on(guarded), Ok(None));
        }
    }
}
