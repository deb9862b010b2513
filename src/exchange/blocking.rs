//! Work that keeps a processor busy for long (password hashes, large checks), done beside the
//! workers.
//!
//! One small pool for the whole process: so many threads, so many jobs in the queue, and no more.
//! What does not fit is refused at once, since a queue that only grows answers nobody in time.
//! Threads start when there is work and end when there is none: a gateway that never asks has none.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

/// The pool. A clone is the same one; its threads end with the last clone.
#[derive(Clone)]
pub struct Blocking(Arc<Owner>);

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// The queue is full.
    #[error("too much work is waiting")]
    Busy,
    /// It panicked, or the process is ending.
    #[error("the work was given up")]
    Lost,
}

/// Closes the pool when the last handle goes; the threads hold the pool only.
struct Owner(Arc<Pool>);

struct Pool {
    most_threads: usize,
    most_waiting: usize,
    queue: Mutex<Queue>,
    woken: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that have a job.
    busy: usize,
    closed: bool,
}

/// It tells the pool when its work is done, before it tells who waits: the next job of a caller who
/// has its result must find the thread free.
type Job = Box<dyn FnOnce(&Pool) + Send>;

impl Blocking {
    /// A pool of so many threads at most, and so many jobs that wait for one.
    #[must_use]
    pub fn new(threads: usize, waiting: usize) -> Self {
        Self(Arc::new(Owner(Arc::new(Pool {
            most_threads: threads.max(1),
            most_waiting: waiting,
            queue: Mutex::default(),
            woken: Condvar::new(),
        }))))
    }

    /// As many threads as the machine has processors to spare, and a queue of a few seconds.
    #[must_use]
    pub fn for_this_machine() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = (processors / 2).clamp(1, MOST_THREADS);
        Self::new(threads, threads * WAITING_PER_THREAD)
    }

    /// Does some work, unless nobody waits for it any more when its turn comes.
    ///
    /// # Errors
    ///
    /// When the queue is full, or the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undone> {
        let (sender, receiver) = oneshot::channel();
        let job = move |pool: &Pool| {
            let wanted = !sender.is_closed();
            // The panic hook has told of a panic; who waits is told by its channel.
            let result = wanted.then(|| catch_unwind(AssertUnwindSafe(work)));
            pool.locked().busy -= 1;
            if let Some(Ok(result)) = result {
                // Who asked may have left meanwhile.
                let _ = sender.send(result);
            }
        };
        self.0.0.add(Box::new(job))?;
        receiver.await.map_err(|_| Undone::Lost)
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blocking")
    }
}

impl Pool {
    fn add(self: &Arc<Self>, job: Job) -> Result<(), Undone> {
        let mut queue = self.locked();
        let free = self.most_threads - queue.busy;
        if queue.jobs.len() >= self.most_waiting + free {
            return Err(Undone::Busy);
        }
        queue.jobs.push_back(job);
        let idle = queue.threads - queue.busy;
        if queue.jobs.len() > idle && queue.threads < self.most_threads {
            queue.threads += 1;
            drop(queue);
            self.start_thread();
        } else {
            self.woken.notify_one();
        }
        Ok(())
    }

    fn start_thread(self: &Arc<Self>) {
        let pool = Arc::clone(self);
        let name = "tollgate-blocking".to_owned();
        let started = thread::Builder::new().name(name).spawn(move || pool.work());
        if let Err(error) = started {
            tracing::error!(%error, "a thread can't be started");
            let mut queue = self.locked();
            queue.threads -= 1;
            // With no thread at all nobody would ever take the jobs: who waits is told.
            if queue.threads == 0 {
                queue.jobs.clear();
            }
        }
    }

    /// The life of a thread.
    fn work(&self) {
        while let Some(job) = self.next() {
            job(self);
        }
    }

    /// The next job; `None` when the thread should end.
    fn next(&self) -> Option<Job> {
        let mut queue = self.locked();
        while queue.jobs.is_empty() && !queue.closed {
            let (woken, waited) = self
                .woken
                .wait_timeout(queue, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if waited.timed_out() && queue.jobs.is_empty() {
                break;
            }
        }
        let job = queue.jobs.pop_front().filter(|_| !queue.closed);
        match job {
            Some(_) => queue.busy += 1,
            None => queue.threads -= 1,
        }
        job
    }

    fn locked(&self) -> MutexGuard<'_, Queue> {
        // No job runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.locked().closed = true;
        self.0.woken.notify_all();
    }
}

/// More would only take the processors from the workers.
const MOST_THREADS: usize = 4;
/// A password hash takes a quarter of a second: four seconds of them.
const WAITING_PER_THREAD: usize = 16;
const IDLE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A job that runs until it is released.
    fn held() -> (impl FnOnce() + Send + 'static, mpsc::Sender<()>) {
        let (release, released) = mpsc::channel();
        (move || released.recv().unwrap_or_default(), release)
    }

    #[tokio::test]
    async fn work_is_done_and_its_result_comes_back() {
        let pool = Blocking::new(2, 4);
        assert_eq!(pool.run(|| 6 * 7).await, Ok(42));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let pool = Blocking::new(1, 1);
        let (work, release) = held();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(work).await }
        });
        tokio::task::yield_now().await;
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| ()).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(pool.run(|| ()).await, Err(Undone::Busy));
        drop(release);
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(second.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_harms_nobody_else() {
        let pool = Blocking::new(1, 4);
        let fails = || -> u8 { panic!("on purpose") };
        assert_eq!(pool.run(fails).await, Err(Undone::Lost));
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_skipped() {
        let pool = Blocking::new(1, 4);
        let (work, release) = held();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(work).await }
        });
        tokio::task::yield_now().await;
        let (tell, told) = mpsc::channel();
        let left = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || tell.send(())).await }
        });
        tokio::task::yield_now().await;
        left.abort();
        let _ = left.await;
        drop(release);
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(pool.run(|| 1).await, Ok(1));
        assert!(told.try_recv().is_err());
    }
}
