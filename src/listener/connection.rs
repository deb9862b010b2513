//! One connection, from the accepted socket to its end.

use std::{fmt::Display, sync::Arc};

use socket2::Socket;
use tokio::time::Instant;

use super::{
    guard::{End, Guard},
    http1, http2,
    hub::Server,
    io::{Io, Stream},
    settings::Settings,
    sniff::{Sniffed, sniff},
    state::State,
    worker::{Permit, Worker},
};
use crate::exchange::{Connection, Handler, LazyTimer, Peer, Protocol, Reason};

/// A socket that has its worker.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    pub(super) listener: Arc<str>,
    pub(super) worker: Arc<Worker>,
    pub(super) settings: Arc<Settings>,
    pub(super) state: Arc<State>,
    pub(super) permit: Permit,
}

/// Serves one connection. It runs on the connection's worker.
pub(super) async fn serve<H: Handler>(server: Arc<Server<H>>, accepted: Accepted) {
    let Accepted {
        socket,
        peer,
        listener,
        worker,
        settings,
        state,
        permit,
    } = accepted;
    let stream = match Stream::new(socket, peer) {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%listener, %error, "an accepted socket is unusable"),
    };
    let mut timer = LazyTimer::default();
    timer.arm(Instant::now(), settings.limits.header_timeout);
    let mut io = Io::new(stream, Arc::clone(&state), permit);

    let (protocol, late) = match sniff(&mut io, &state, &mut timer).await {
        Sniffed::Protocol(protocol) => (protocol, false),
        Sniffed::Timeout => (Protocol::Http1, true),
        Sniffed::Gone => return,
    };
    let connection = Connection::new(worker.index(), listener, peer, false, protocol);
    let connection = Arc::new(connection);
    worker.identify(&state, &connection);
    let guard = Guard::new(&state, &settings.limits, timer, protocol);
    let served = Serving {
        server: &server,
        settings: &settings,
        state: &state,
        connection: &connection,
        worker: &worker,
    };
    let end = match protocol {
        _ if late => End::Timeout(Reason::HeaderTimeout),
        Protocol::Http1 => http1::serve(served, guard, io).await,
        // Boxed, or every connection of HTTP/1.1 would be as large.
        Protocol::Http2 => Box::pin(http2::serve(served, guard, io)).await,
    };
    if let Some((reason, detail)) = complaint(&end) {
        server.hub.observer().malformed(&connection, reason, detail);
    }
}

/// What serving a connection takes, whatever the protocol.
pub(super) struct Serving<'a, H> {
    pub(super) server: &'a Server<H>,
    pub(super) settings: &'a Settings,
    pub(super) state: &'a Arc<State>,
    pub(super) connection: &'a Arc<Connection>,
    pub(super) worker: &'a Arc<Worker>,
}

/// What there is to say about the end, if it was the client's fault.
fn complaint(end: &End) -> Option<(Reason, &dyn Display)> {
    match end {
        End::Timeout(reason) => Some((*reason, reason_text(*reason))),
        End::Served(Err(error)) => fault(error).map(|reason| (reason, error as &dyn Display)),
        End::Served(Ok(())) | End::Dropped => None,
    }
}

fn reason_text(reason: Reason) -> &'static dyn Display {
    match reason {
        Reason::HeaderTimeout => &"the head did not arrive in time",
        _ => &"the client took no byte of the answer in time",
    }
}

/// A client that leaves, and an answer that breaks off, are no fault: the frame logs those requests.
fn fault(error: &hyper::Error) -> Option<Reason> {
    if error.is_parse_too_large() {
        return Some(too_large(error));
    }
    (error.is_parse() || http2::is_protocol_error(error)).then_some(Reason::Malformed)
}

/// hyper answered 414 or 431; only its debug text tells which.
fn too_large(error: &hyper::Error) -> Reason {
    if format!("{error:?}").contains("UriTooLong") {
        Reason::TargetTooLong
    } else {
        Reason::HeadTooLarge
    }
}
