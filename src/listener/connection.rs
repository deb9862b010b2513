//! One connection, from the accepted socket to its end.

use std::{error::Error, fmt::Display, io, sync::Arc};

use tokio::time::Instant;

use super::{
    guard::{Broken, End, Guard, LATE_HEAD},
    http1, http2,
    hub::Server,
    io::{Detached, Io, Stream},
    settings::Settings,
    sniff::{Sniffed, sniff},
    state::State,
    worker::{Permit, Worker},
};
use crate::exchange::{Connection, Handler, LazyTimer, Peer, Protocol, Reason};

/// An accepted socket.
pub(super) enum Socket {
    /// Its runtime is the worker's.
    Here(Stream),
    /// On its way to the worker's runtime.
    Moving(Detached),
}

impl Socket {
    fn ready(self) -> io::Result<Stream> {
        let stream = match self {
            Self::Here(stream) => stream,
            Self::Moving(socket) => Stream::attach(socket)?,
        };
        stream.set_nodelay()?;
        Ok(stream)
    }
}

/// A socket that has its worker.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    pub(super) worker: Arc<Worker>,
    pub(super) settings: Arc<Settings>,
    pub(super) state: Arc<State>,
    pub(super) permit: Permit,
}

/// Serves one connection. It runs on the connection's worker.
pub(super) fn serve<H: Handler>(
    server: Arc<Server<H>>,
    accepted: Accepted,
) -> impl Future<Output = ()> + Send + 'static {
    let worker = Arc::clone(&accepted.worker);
    let settings = Arc::clone(&accepted.settings);
    let state = Arc::clone(&accepted.state);
    // Boxed, and out here: it is over before the first request, and its room is given back. What an
    // `async` block takes in stays in its future to the end.
    let opening = Box::pin(open(accepted));
    async move {
        let Some((io, timer, connection, late)) = opening.await else {
            return;
        };
        let protocol = connection.protocol;
        let guard = Guard::new(&state, &settings.limits, timer, protocol);
        let serving = Serving {
            server: &server,
            settings: &settings,
            state: &state,
            connection: &connection,
            worker: &worker,
        };
        match protocol {
            _ if late => serving.tell(&LATE_HEAD),
            // Boxed, both: what an idle connection holds is the larger of them, and what came before.
            Protocol::Http1 => Box::pin(http1::serve(serving, guard, io)).await,
            Protocol::Http2 => Box::pin(http2::serve(serving, guard, io)).await,
        }
    }
}

/// Registers the socket with the worker's runtime and finds out what the client speaks; whether
/// that took too long. `None` when the client is gone.
async fn open(accepted: Accepted) -> Option<(Io, LazyTimer, Arc<Connection>, bool)> {
    let Accepted {
        socket,
        peer,
        worker,
        settings,
        state,
        permit,
    } = accepted;
    let listener = Arc::clone(permit.listener());
    let stream = match socket.ready() {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%listener, %error, "an accepted socket is unusable");
            return None;
        }
    };
    let mut timer = LazyTimer::default();
    timer.arm(Instant::now(), settings.limits.header_timeout);
    let mut io = Io::new(stream, Arc::clone(&state), permit);
    let (protocol, late) = match sniff(&mut io, &state, &mut timer).await {
        Sniffed::Protocol(protocol) => (protocol, false),
        Sniffed::Timeout => (Protocol::Http1, true),
        Sniffed::Gone => return None,
    };
    let connection = Connection::new(worker.index(), listener, peer, false, protocol);
    let connection = Arc::new(connection);
    worker.identify(&state, &connection);
    Some((io, timer, connection, late))
}

/// What serving a connection takes, whatever the protocol.
pub(super) struct Serving<'a, H> {
    pub(super) server: &'a Server<H>,
    pub(super) settings: &'a Settings,
    pub(super) state: &'a Arc<State>,
    pub(super) connection: &'a Arc<Connection>,
    pub(super) worker: &'a Arc<Worker>,
}

impl<H: Handler> Serving<'_, H> {
    /// Tells how the connection ended, if it is worth telling. Before it counts as closed: who waits
    /// for the last one finds everything told.
    pub(super) fn tell(&self, end: &End) {
        if let Some((reason, detail)) = complaint(end) {
            let observer = self.server.hub.observer();
            observer.malformed(self.connection, reason, detail);
        }
    }
}

/// What there is to say about the end, if it was the client's fault.
fn complaint(end: &End) -> Option<(Reason, &dyn Display)> {
    match end {
        End::Fault(reason, detail) => Some((*reason, detail)),
        End::Served(Err(Broken::Refused(refused))) => Some((refused.reason, &refused.detail)),
        End::Served(Err(Broken::Http2(error))) => {
            // A client that leaves, and an answer that breaks off, are no fault: the frame logs them.
            http2::is_protocol_error(error).then(|| (Reason::Malformed, detail(error)))
        }
        End::Served(Ok(()) | Err(Broken::Lost)) | End::Dropped => None,
    }
}

/// Of HTTP/2 hyper itself tells only that there was an error.
fn detail(error: &hyper::Error) -> &dyn Display {
    match error.source() {
        Some(cause) => cause as &dyn Display,
        None => error,
    }
}
