//! One connection of HTTP/1.1.
//!
//! hyper's server can tell neither a length beside chunks nor a bare line feed, can't send interim
//! answers, holds a buffer for every idle connection, and costs 3 to 8 % more for a small request.
//! HTTP/2 is hyper's.
//!
//! ```text
//! conversation  requests and answers, one pair at a time
//! head          a request's head and what it says to us         RFC 9112 2 to 6
//! received      a request's body, on its way to its reader
//! answer        an answer's head and its body's framing
//! refusal       the answer to what is no request
//! switched      the socket behind a 101
//! ```

mod answer;
mod conversation;
mod date;
mod head;
mod received;
mod refusal;
mod switched;

use std::{future::Future, sync::Arc};

use conversation::Conversation;
pub(super) use date::Date;
pub use head::{Head, HeadLimits, Refused};

use super::{connection::Serving, guard::Guard, io::Io};
use crate::exchange::Handler;

/// Serves the connection, up to an upgrade.
///
/// What the future is made of is put together outside of it: an argument of an `async fn` has a
/// second place in its future, and idle connections would pay for it.
pub(super) fn serve<'a, H: Handler>(
    serving: Serving<'a, H>,
    guard: Guard<'a>,
    io: Io,
) -> impl Future<Output = ()> + Send + 'a {
    let state = Arc::clone(serving.state);
    let connection = Arc::clone(serving.connection);
    let handler = Arc::clone(&serving.server.handler);
    let ask = move |request| {
        state.note_call();
        handler.handle(request, &connection)
    };
    let limits = serving.settings.heads;
    let date = serving.worker.date();
    let conversation = Conversation::new(io, limits, date, serving.connection, ask);
    let served = Box::pin(conversation);
    guard.serve(served, move |end| serving.tell(end))
}
