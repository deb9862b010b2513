//! One connection of HTTP/1.1.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use http_body::Body;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::http1::UpgradeableConnection,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;

use super::{
    connection::Serving,
    guard::{Guard, Served},
    io::Io,
};
use crate::exchange::{BodyError, Handler};

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
    let service = service_fn(move |request| {
        state.note_call();
        handler.handle(request, &connection)
    });
    let http1 = &serving.settings.http1;
    let served = Box::pin(
        http1
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades(),
    );
    guard.serve(served, move |end| serving.tell(end))
}

impl<S, B> Served for UpgradeableConnection<TokioIo<Io>, S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Error = BodyError> + 'static,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
