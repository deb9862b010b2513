//! Sockets to workers to one connection to a [`Handler`].
//!
//! Listening sockets are bound here, accepted sockets are dealt to the least loaded worker, and each
//! connection is served on its worker from its first byte to its last: HTTP/1.1 by ourselves
//! (`http1.rs`), HTTP/2 by hyper. This room knows no router and no frame: it hands requests to a
//! [`Handler`] and tells an [`Observer`] what requests can't tell.
//!
//! The limits of time are one guard's a connection: an I/O wrapper counts what passes, and one lazily
//! moved timer rules the time of a head, idle time, write stalls, a client that half-closed, and the
//! lingering close (`guard.rs`, `phase.rs`). Draining is ours too (`drain.rs`): idle HTTP/1.1
//! connections stay open for the grace, or requests under way would be lost.
//!
//! Hazards: an upgraded connection is read and written by others; whatever must hold until its end
//! (its place in the counts, the abort) lives in the I/O wrapper, not in the guard.

mod accept;
mod bind;
mod clients;
mod connection;
mod drain;
mod guard;
pub mod http1;
mod http2;
mod hub;
mod io;
mod phase;
mod settings;
mod sniff;
mod state;
mod worker;

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{self, Address},
    exchange::{Connection, Handler, Reason},
};

pub use bind::BindError;
pub use worker::WorkerState;

use bind::Bound;
use hub::{Hub, Server};
use settings::Settings;
use state::Stage;
use worker::Crew;

/// What the listener tells about connections. Every method is called on a worker: keep it cheap.
pub trait Observer: Send + Sync + 'static {
    /// A connection was accepted by the listener of this name (its address as bound).
    fn opened(&self, listener: &str);

    /// A connection that was [`opened`](Self::opened) has ended; a tunnel's with the tunnel.
    fn closed(&self, listener: &str);

    /// A connection was closed before a byte was read.
    fn refused(&self, listener: &str, reason: Reason);

    /// A connection misbehaved: what the parser refused, a head that came too slowly, a client
    /// that stopped reading, a stream too many. One call an event; a client that merely leaves is none.
    fn malformed(&self, connection: &Connection, reason: Reason, detail: &dyn Display);
}

/// What [`Listeners::reconfigure`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconfigured {
    /// Addresses that are listened on since, as bound.
    pub added: Vec<Address>,
    /// Addresses that are no longer listened on, as bound.
    pub removed: Vec<Address>,
    /// Whether the number of workers differs, which takes a restart.
    pub restart_needed: bool,
}

/// The worker threads and the listening sockets.
///
/// Dropping it ends everything without waiting; [`stop`](Self::stop) waits.
pub struct Listeners {
    hub: Arc<Hub>,
    server: Arc<dyn hub::Serve>,
    crew: Crew,
    gates: Arc<Gates>,
}

/// The accept loops.
#[derive(Default)]
struct Gates {
    open: Mutex<Vec<Gate>>,
    /// Ends when every accept loop has closed its socket.
    loops: TaskTracker,
}

/// One accept loop.
struct Gate {
    /// As configured: port 0 stays 0.
    configured: Address,
    bound: Address,
    stop: CancellationToken,
}

impl Listeners {
    /// Binds every address of `config.listen` and starts the workers.
    ///
    /// # Errors
    ///
    /// An address can't be bound, or a worker can't be started. Nothing is left behind then.
    pub fn start<H: Handler>(
        config: &config::Server,
        handler: Arc<H>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, BindError> {
        let bound = bind::all(&config.listen, &config.listen)?;
        let crew = Crew::start(worker_count(config)).map_err(BindError::Worker)?;
        let hub = Arc::new(Hub::new(
            crew.workers().to_vec(),
            Settings::new(config),
            observer,
        ));
        let server = Arc::new(Server::new(Arc::clone(&hub), handler));
        let listeners = Self {
            hub,
            server,
            crew,
            gates: Arc::default(),
        };
        for (configured, socket) in bound {
            listeners.open(configured, socket);
        }
        Ok(listeners)
    }

    /// The addresses as bound: with real ports where the configuration says port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let open = self.gates.lock();
        open.iter().map(|gate| gate.bound.clone()).collect()
    }

    /// Follows a reload: listens on added addresses, closes removed ones (their open connections
    /// stay), and gives new connections the new limits. A drain is too late for it.
    ///
    /// # Errors
    ///
    /// An added address can't be bound; nothing has changed then. An address whose port is still
    /// held by one that is to be removed is such a case.
    pub fn reconfigure(&self, config: &config::Server) -> Result<Reconfigured, BindError> {
        let mut done = Reconfigured {
            restart_needed: worker_count(config) != self.hub.workers().len(),
            ..Reconfigured::default()
        };
        if self.hub.is_draining() {
            return Ok(done);
        }
        let added: Vec<_> = {
            let open = self.gates.lock();
            let known = |address: &&Address| open.iter().any(|gate| gate.configured == **address);
            let listen = config.listen.iter();
            listen.filter(|address| !known(address)).cloned().collect()
        };
        let bound = bind::all(&added, &config.listen)?;
        self.hub.configure(Settings::new(config));
        self.gates.lock().retain(|gate| {
            let kept = config.listen.contains(&gate.configured);
            if !kept {
                gate.stop.cancel();
                done.removed.push(gate.bound.clone());
            }
            kept
        });
        for (configured, socket) in bound {
            done.added.push(socket.address().clone());
            self.open(configured, socket);
        }
        Ok(done)
    }

    /// How busy each worker is.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerState> {
        self.hub
            .workers()
            .iter()
            .map(|worker| worker.load())
            .collect()
    }

    /// Starts the drain and returns at once; [`drained`](Self::drained) tells its end. A second call
    /// changes nothing.
    pub fn drain(&self, drain: &config::Drain) {
        if !self.hub.begin_drain() {
            return;
        }
        // Here and not in the schedule: the next answer is to say it already.
        self.hub.advance(Stage::Draining);
        let schedule = drain::run(
            Arc::clone(&self.hub),
            Arc::clone(&self.gates),
            drain.clone(),
        );
        self.crew.acceptor().spawn(schedule);
    }

    /// Resolves when a drain has ended: every connection is closed, or the deadline has passed and
    /// the rest was aborted. Never without [`drain`](Self::drain) or [`abort`](Self::abort).
    pub async fn drained(&self) {
        self.hub.drained().cancelled().await;
    }

    /// Ends everything now: sockets close, requests and tunnels break off.
    pub fn abort(&self) {
        self.gates.close();
        self.hub.abort();
    }

    /// Ends everything and waits for the worker threads, 5 seconds at most. Then every request has
    /// ended and has been told to the handler. It blocks.
    pub fn stop(&self) {
        self.abort();
        self.crew.join();
    }

    fn open(&self, configured: Address, socket: Bound) {
        let stop = CancellationToken::new();
        self.gates.lock().push(Gate {
            configured,
            bound: socket.address().clone(),
            stop: stop.clone(),
        });
        let accept = accept::run(
            socket,
            Arc::clone(&self.hub),
            Arc::clone(&self.server),
            stop,
        );
        self.gates.loops.spawn_on(accept, self.crew.acceptor());
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.abort();
        self.crew.stop();
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners")
            .field("addresses", &self.addresses())
            .finish_non_exhaustive()
    }
}

impl Gates {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Gate>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops every accept loop.
    fn close(&self) {
        for gate in self.lock().drain(..) {
            gate.stop.cancel();
        }
        self.loops.close();
    }

    /// Stops every accept loop and waits until their sockets are closed.
    async fn closed(&self) {
        self.close();
        self.loops.wait().await;
    }
}

fn worker_count(config: &config::Server) -> usize {
    config.workers.map_or_else(
        // It respects the cgroup's quota.
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    )
}
