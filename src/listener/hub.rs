//! What all accept loops and connections share.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::{
    Observer,
    clients::{Clients, TooMany},
    connection::{self, Accepted, Socket},
    io::Stream,
    settings::Settings,
    state::Stage,
    worker::Worker,
};
use crate::exchange::{Handler, Peer, Reason};

/// Workers, settings and the drain's progress.
pub(super) struct Hub {
    workers: Vec<Arc<Worker>>,
    settings: ArcSwap<Settings>,
    clients: Arc<Clients>,
    observer: Arc<dyn Observer>,
    /// Where dealing starts to look, so that equals take turns.
    turn: AtomicUsize,
    draining: AtomicBool,
    drained: CancellationToken,
}

impl Hub {
    pub(super) fn new(
        workers: Vec<Arc<Worker>>,
        settings: Settings,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            workers,
            settings: ArcSwap::from_pointee(settings),
            clients: Arc::default(),
            observer,
            turn: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            drained: CancellationToken::new(),
        }
    }

    pub(super) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    pub(super) fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// Gives connections to come other settings.
    pub(super) fn configure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Whether this call is the first.
    pub(super) fn begin_drain(&self) -> bool {
        !self.draining.swap(true, Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Cancelled when a drain or an abort has ended.
    pub(super) fn drained(&self) -> &CancellationToken {
        &self.drained
    }

    pub(super) fn advance(&self, stage: Stage) {
        for worker in &self.workers {
            worker.advance(stage);
        }
    }

    pub(super) fn abort(&self) {
        self.advance(Stage::Aborted);
        self.drained.cancel();
    }

    /// Resolves when no connection is open.
    pub(super) async fn idle(&self) {
        for worker in &self.workers {
            worker.idle().await;
        }
    }

    /// Deals an accepted socket to a worker, or closes it when there are too many.
    pub(super) fn take(
        &self,
        server: &Arc<dyn Serve>,
        stream: Stream,
        peer: Peer,
        listener: &Arc<str>,
    ) {
        let settings = self.settings.load_full();
        if self.connections() >= settings.limits.max_connections {
            self.observer.refused(listener, Reason::TooManyConnections);
            return;
        }
        let place = match self.clients.admit(peer, &settings) {
            Ok(place) => place,
            Err(TooMany) => {
                let reason = Reason::TooManyClientConnections;
                return self.observer.refused(listener, reason);
            }
        };
        let socket = match self.hand_over(stream) {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%listener, %error, "a socket is lost"),
        };
        let worker = Arc::clone(self.least_loaded());
        let (state, permit) = worker.admit(listener, place, &self.observer);
        Arc::clone(server).spawn(Accepted {
            socket,
            peer,
            worker,
            settings,
            state,
            permit,
        });
    }

    /// Open connections of all workers.
    pub(super) fn connections(&self) -> usize {
        let open = |worker: &Arc<Worker>| worker.load().connections;
        self.workers.iter().map(open).sum()
    }

    /// Open HTTP/2 streams of all workers.
    pub(super) fn streams(&self) -> usize {
        let open = |worker: &Arc<Worker>| worker.load().streams;
        self.workers.iter().map(open).sum()
    }

    /// Bytes that the heads of unanswered HTTP/2 requests of all workers take.
    pub(super) fn heads(&self) -> usize {
        self.workers.iter().map(|worker| worker.heads()).sum()
    }

    /// The only worker accepts on its own runtime, so its sockets stay there.
    fn hand_over(&self, stream: Stream) -> io::Result<Socket> {
        match self.workers.len() {
            1 => Ok(Socket::Here(stream)),
            _ => stream.detach().map(Socket::Moving),
        }
    }

    /// A connection weighs one, a stream of HTTP/2 too: one busy connection of HTTP/2 is as much
    /// work as many of HTTP/1.1.
    fn least_loaded(&self) -> &Arc<Worker> {
        let first = self.turn.fetch_add(1, Relaxed) % self.workers.len();
        let (before, after) = self.workers.split_at(first);
        let weight = |worker: &&Arc<Worker>| {
            let load = worker.load();
            load.connections + load.streams
        };
        after
            .iter()
            .chain(before)
            .min_by_key(weight)
            .unwrap_or(&self.workers[first])
    }
}

/// Serves accepted sockets; it hides the handler's type from the accept loops.
pub(super) trait Serve: Send + Sync {
    /// Spawns the connection on its worker.
    fn spawn(self: Arc<Self>, accepted: Accepted);
}

/// The handler and what its connections share.
pub(super) struct Server<H> {
    pub(super) hub: Arc<Hub>,
    pub(super) handler: Arc<H>,
}

impl<H: Handler> Server<H> {
    pub(super) fn new(hub: Arc<Hub>, handler: Arc<H>) -> Self {
        Self { hub, handler }
    }
}

impl<H: Handler> Serve for Server<H> {
    fn spawn(self: Arc<Self>, accepted: Accepted) {
        let worker = Arc::clone(&accepted.worker);
        // On the worker's own thread this is a push to its local queue, else it is the hand-over.
        worker.handle().spawn(connection::serve(self, accepted));
    }
}
