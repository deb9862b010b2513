//! Connections that wait for their next request.
//!
//! One list per worker, each behind its own mutex that only that worker takes on the hot path. The
//! last one in is the first one out, so a quiet pool shrinks: the oldest age out at the bottom.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2;
use tokio::time::Instant;

use super::{http1, name::Name};
use crate::exchange::{Body, LazyTimer};

/// An HTTP/1.1 connection, and the timer that serves its exchanges.
pub(super) struct Http1Connection {
    pub(super) connection: Box<http1::Connection>,
    pub(super) timer: LazyTimer,
}

struct Idle {
    connection: Http1Connection,
    /// Since when, as the sweeper noticed: reading the clock for each request is not worth it.
    since: Option<Instant>,
}

/// The connections of one server.
pub(super) struct Pool {
    /// What its name stands for, unless it is an address.
    pub(super) name: Arc<Name>,
    workers: Box<[Worker]>,
}

#[derive(Default)]
struct Worker {
    idle: Mutex<Vec<Idle>>,
    streams: Mutex<Vec<Http2Connection>>,
    /// Held while an HTTP/2 connection is opened, so that a burst opens one and not a hundred.
    opening: tokio::sync::Mutex<()>,
}

impl Pool {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            name: Arc::default(),
            workers: (0..workers.max(1)).map(|_| Worker::default()).collect(),
        }
    }

    fn worker(&self, worker: usize) -> &Worker {
        &self.workers[worker % self.workers.len()]
    }

    /// The youngest idle connection that is still open.
    pub(super) fn take(
        &self,
        worker: usize,
        now: Instant,
        keep: Duration,
    ) -> Option<Http1Connection> {
        let mut idle = lock(&self.worker(worker).idle);
        while let Some(mut candidate) = idle.pop() {
            let waited = candidate
                .since
                .map(|since| now.saturating_duration_since(since));
            let usable = waited.is_none_or(|waited| waited < keep);
            if usable && !candidate.connection.connection.is_stale() {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps a connection for its next request; drops it (which closes it) when enough wait.
    pub(super) fn put(&self, worker: usize, connection: Http1Connection, most: usize) {
        let mut idle = lock(&self.worker(worker).idle);
        if idle.len() < most {
            idle.push(Idle {
                connection,
                since: None,
            });
        }
    }

    /// An HTTP/2 connection with a free stream.
    pub(super) fn stream(&self, worker: usize) -> Option<Http2Stream> {
        let mut connections = lock(&self.worker(worker).streams);
        connections.retain(|connection| !connection.sender.is_closed());
        connections.iter().find_map(Http2Connection::stream)
    }

    /// Waits for the right to open an HTTP/2 connection on this worker.
    pub(super) async fn opening(&self, worker: usize) -> tokio::sync::MutexGuard<'_, ()> {
        self.worker(worker).opening.lock().await
    }

    /// Shares a new HTTP/2 connection.
    pub(super) fn share(&self, worker: usize, connection: Http2Connection) {
        lock(&self.worker(worker).streams).push(connection);
    }

    /// Connections that wait for a request, over all workers.
    pub(super) fn idle(&self) -> usize {
        self.workers
            .iter()
            .map(|worker| lock(&worker.idle).len())
            .sum()
    }

    /// Closes what has waited for longer than `keep`; zero closes all that waits.
    pub(super) fn sweep(&self, keep: Duration) {
        let now = Instant::now();
        for worker in &self.workers {
            lock(&worker.idle).retain_mut(|idle| {
                let since = *idle.since.get_or_insert(now);
                now.saturating_duration_since(since) < keep
                    && !idle.connection.connection.is_stale()
            });
            lock(&worker.streams).retain(|connection| !connection.expired(keep));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here leaves the list whole, even if something above it panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An HTTP/2 connection that several exchanges share.
pub(super) struct Http2Connection {
    sender: http2::SendRequest<Body>,
    state: Arc<Http2State>,
}

struct Http2State {
    open: AtomicUsize,
    limit: AtomicUsize,
    /// When the last stream ended, for ageing out.
    quiet_since: Mutex<Instant>,
}

/// Where the connection's driver tells how many streams the peer takes.
pub(super) struct PeerLimit(Arc<Http2State>);

impl PeerLimit {
    pub(super) fn set(&self, streams: usize) {
        self.0
            .limit
            .store(streams.min(MOST_STREAMS), Ordering::Relaxed);
    }
}

impl Http2Connection {
    pub(super) fn new(sender: http2::SendRequest<Body>) -> (Self, PeerLimit) {
        let state = Arc::new(Http2State {
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            quiet_since: Mutex::new(Instant::now()),
        });
        let limit = PeerLimit(Arc::clone(&state));
        (Self { sender, state }, limit)
    }

    /// A stream, unless the peer's limit is reached: beyond it hyper would queue without bound.
    pub(super) fn stream(&self) -> Option<Http2Stream> {
        let limit = self.state.limit.load(Ordering::Relaxed);
        if self.sender.is_closed() || self.state.open.load(Ordering::Relaxed) >= limit {
            return None;
        }
        self.state.open.fetch_add(1, Ordering::Relaxed);
        Some(Http2Stream {
            sender: self.sender.clone(),
            permit: StreamPermit(Arc::clone(&self.state)),
        })
    }

    fn expired(&self, keep: Duration) -> bool {
        let quiet = self.state.open.load(Ordering::Relaxed) == 0;
        self.sender.is_closed() || (quiet && lock(&self.state.quiet_since).elapsed() >= keep)
    }
}

/// The right to one stream of a shared connection.
pub(super) struct Http2Stream {
    pub(super) sender: http2::SendRequest<Body>,
    pub(super) permit: StreamPermit,
}

/// One stream in use.
pub(super) struct StreamPermit(Arc<Http2State>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        *lock(&self.0.quiet_since) = Instant::now();
    }
}

/// Streams that we put on one connection even if its peer takes more.
pub(super) const MOST_STREAMS: usize = 100;
