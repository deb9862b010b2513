//! The admin listener's connections.

use std::{
    any::Any, convert::Infallible, future::poll_fn, io, net::TcpListener as StdListener, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Layer, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{config, exchange::BoxError};

use super::{
    Gateway,
    answer::{Answer, Refusal},
    endpoint::Endpoints,
};

/// Serves until `shutdown`, then lets answers under way end, for a second at most.
///
/// # Errors
///
/// When the listener can't be used on this runtime.
pub async fn serve(
    listener: StdListener,
    config: &config::Admin,
    gateway: Arc<dyn Gateway>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let endpoints = Arc::new(Endpoints::new(gateway, config.token.clone()));
    let connections = TaskTracker::new();
    shutdown
        .run_until_cancelled(accept(&listener, &endpoints, &connections, &shutdown))
        .await;
    drop(listener);
    connections.close();
    let _ = timeout(GRACE, connections.wait()).await;
    Ok(())
}

/// Accepts for ever. At the cap new connections wait in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    endpoints: &Arc<Endpoints>,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let endpoints = Arc::clone(endpoints);
                connections.spawn(connection(stream, endpoints, shutdown.clone(), slot));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener could not accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection. Its life is bounded, or clients that take no byte would hold every slot.
async fn connection(
    stream: TcpStream,
    endpoints: Arc<Endpoints>,
    shutdown: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper's timer for the head runs while the connection is idle, too.
        .header_read_timeout(HEAD_OR_IDLE)
        .max_buf_size(BUFFER)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| answer(Arc::clone(&endpoints), request)),
        );
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        // Its errors are the client's: nothing to tell.
        _ = serving.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = sleep(LONGEST_LIFE) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, poll_fn(|cx| serving.as_mut().poll(cx))).await;
}

async fn answer(
    endpoints: Arc<Endpoints>,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = BoxError>>, Infallible> {
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let endpoints = Arc::clone(&endpoints);
        async move { Ok::<_, Infallible>(endpoints.answer(request).await) }
    });
    let guarded = CatchPanicLayer::custom(panicked).layer(service);
    guarded.oneshot(request).await
}

fn panicked(_: Box<dyn Any + Send>) -> Answer {
    tracing::error!("an admin endpoint panicked");
    Refusal::internal().into()
}

pub(super) const MOST_CONNECTIONS: usize = 64;
const HEAD_OR_IDLE: Duration = Duration::from_secs(15);
const LONGEST_LIFE: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BUFFER: usize = 64 << 10;
