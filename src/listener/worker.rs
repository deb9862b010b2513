//! Worker threads, each with a runtime and its connections.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::runtime::{self, Handle, Runtime};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    Observer,
    clients::Place,
    http1::Date,
    state::{Stage, State},
};
use crate::exchange::Connection;

/// How busy a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Its number, as in [`Connection::worker`] and in its thread's name.
    pub index: usize,
    /// Open connections, tunnels included.
    pub connections: usize,
    /// HTTP/2 streams under way.
    pub streams: usize,
}

/// One worker: its runtime and its open connections.
#[derive(Debug)]
pub(super) struct Worker {
    index: usize,
    handle: Handle,
    tracker: TaskTracker,
    streams: AtomicUsize,
    /// Bytes that the heads of HTTP/2 requests take which have no answer yet.
    heads: AtomicUsize,
    date: Date,
    registry: Mutex<Registry>,
}

/// Open connections. It is locked when a connection opens, is identified or closes, and in a drain.
#[derive(Debug, Default)]
struct Registry {
    stage: Stage,
    last: u64,
    open: HashMap<u64, Arc<State>>,
}

impl Worker {
    fn new(index: usize, handle: Handle) -> Self {
        Self {
            index,
            handle,
            tracker: TaskTracker::new(),
            streams: AtomicUsize::new(0),
            heads: AtomicUsize::new(0),
            date: Date::default(),
            registry: Mutex::default(),
        }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn date(&self) -> &Date {
        &self.date
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn load(&self) -> WorkerState {
        WorkerState {
            index: self.index,
            connections: self.tracker.len(),
            streams: self.streams.load(Relaxed),
        }
    }

    /// Takes in a connection; it counts until its permit is dropped.
    pub(super) fn admit(
        self: &Arc<Self>,
        listener: &Arc<str>,
        place: Option<Place>,
        observer: &Arc<dyn Observer>,
    ) -> (Arc<State>, Permit) {
        let token = self.tracker.token();
        let mut registry = self.registry();
        registry.last += 1;
        let id = registry.last;
        let state = Arc::new(State::new(registry.stage));
        registry.open.insert(id, Arc::clone(&state));
        drop(registry);
        observer.opened(listener);
        let permit = Permit {
            worker: Arc::clone(self),
            id,
            listener: Arc::clone(listener),
            observer: Arc::clone(observer),
            _place: place,
            _token: token,
        };
        (state, permit)
    }

    /// Makes a connection known to a drain.
    pub(super) fn identify(&self, state: &State, connection: &Arc<Connection>) {
        let _registry = self.registry();
        state.identify(connection);
    }

    /// Moves every connection, and those to come, on to a stage of the drain. No way back.
    pub(super) fn advance(&self, stage: Stage) {
        let mut registry = self.registry();
        registry.stage = registry.stage.max(stage);
        for state in registry.open.values() {
            state.advance(registry.stage);
        }
    }

    /// Resolves when no connection is open.
    pub(super) async fn idle(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    pub(super) fn stream_opened(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    pub(super) fn stream_closed(&self) {
        self.streams.fetch_sub(1, Relaxed);
    }

    pub(super) fn heads(&self) -> usize {
        self.heads.load(Relaxed)
    }

    pub(super) fn head_came(&self, size: usize) {
        self.heads.fetch_add(size, Relaxed);
    }

    pub(super) fn head_gone(&self, size: usize) {
        self.heads.fetch_sub(size, Relaxed);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the open ones. It lives in the I/O wrapper, so it follows an upgrade.
#[derive(Debug)]
pub(super) struct Permit {
    worker: Arc<Worker>,
    id: u64,
    listener: Arc<str>,
    observer: Arc<dyn Observer>,
    /// Among its client's, where these are counted.
    _place: Option<Place>,
    /// Dropped after [`Drop::drop`]: who waits for the last connection finds it reported.
    _token: TaskTrackerToken,
}

impl std::fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl Permit {
    pub(super) fn listener(&self) -> &Arc<str> {
        &self.listener
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Dropped behind the lock.
        let _state = self.worker.registry().open.remove(&self.id);
        self.observer.closed(&self.listener);
    }
}

/// The worker threads, and the thread that accepts for them when there are several.
pub(super) struct Crew {
    workers: Vec<Arc<Worker>>,
    acceptor: Handle,
    stop: CancellationToken,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Disconnected when every thread has ended. The mutex is only there to make it `Sync`.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Crew {
    /// Starts `count` workers. With one it accepts for itself, without any hand-over.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (alive, ended) = mpsc::channel();
        let mut threads = Vec::with_capacity(count + 1);
        let mut start = |name: String| {
            let runtime = runtime()?;
            let handle = runtime.handle().clone();
            threads.push(spawn(name, runtime, stop.clone(), alive.clone())?);
            io::Result::Ok(handle)
        };
        let worker = |index| {
            start(format!("tollgate-worker-{index}"))
                .map(|handle| Arc::new(Worker::new(index, handle)))
        };
        let workers: Vec<_> = (0..count).map(worker).collect::<io::Result<_>>()?;
        let acceptor = match &*workers {
            [only] => only.handle.clone(),
            _ => start("tollgate-accept".to_owned())?,
        };
        Ok(Self {
            workers,
            acceptor,
            stop,
            threads: Mutex::new(threads),
            ended: Mutex::new(ended),
        })
    }

    pub(super) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    /// The runtime that accepts.
    pub(super) fn acceptor(&self) -> &Handle {
        &self.acceptor
    }

    /// Lets the threads end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Lets the threads end and waits for them, within [`JOIN`].
    pub(super) fn join(&self) {
        self.stop();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(JOIN) {
            tracing::warn!("a worker does not end; leaving it behind");
            return;
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        // Blocking work belongs to one shared, bounded pool, not to each worker.
        .max_blocking_threads(1)
        .build()
}

fn spawn(
    name: String,
    runtime: Runtime,
    stop: CancellationToken,
    alive: mpsc::Sender<()>,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        runtime.block_on(stop.cancelled());
        // Every task is dropped; what runs on the blocking thread is not waited for.
        runtime.shutdown_background();
        drop(alive);
    })
}

/// How long a thread may take to end.
const JOIN: Duration = Duration::from_secs(5);
