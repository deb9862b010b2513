//! The demo's backend: a small JSON service with something for every feature of the gateway.
//!
//! It listens on a free loopback port, lives in this process on a thread of its own, and forgets
//! everything when it stops. It stands in for a real service in the demo and in tests; it is
//! plain on purpose and knows nothing of the gateway.

mod catalogue;
mod echo;
mod events;
mod items;
mod socket;
mod trials;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, thread};

use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::exchange::Body;

use catalogue::Catalogue;
use items::Items;

type Request = http::Request<Incoming>;
type Response = http::Response<Body>;

/// What it remembers.
struct Memory {
    items: Items,
    catalogue: Catalogue,
}

/// A running demo backend. It stops when it is dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Backend {
    /// Starts the backend on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no socket or no thread is to be had.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("demo-backend".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        result = serve(listener) => {
                            if let Err(error) = result {
                                tracing::error!(%error, "the demo backend stopped");
                            }
                        }
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the backend's thread was reported by that thread.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let memory = Arc::new(Memory {
        items: Items::with_samples(),
        catalogue: Catalogue::default(),
    });
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&memory)))),
            // Out of descriptors, or a client that left: neither is a reason to stop.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, memory: Arc<Memory>) {
    let service = service_fn(|request| {
        let memory = Arc::clone(&memory);
        async move { Ok::<_, Infallible>(answer(request, &memory).await) }
    });
    // An error here is a client that left, which is its right.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn answer(request: Request, memory: &Memory) -> Response {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method(), segments.as_slice()) {
        (_, ["echo", ..]) => echo::answer(request).await,
        (&Method::GET | &Method::HEAD, [""]) => index(),
        (&Method::GET | &Method::HEAD, ["health"]) => {
            respond(StatusCode::OK, &json!({ "status": "ok" }))
        }
        (&Method::GET | &Method::HEAD, ["slow"]) => trials::slow(request.uri()).await,
        (_, ["fail"]) => trials::fail(request.uri()),
        (&Method::GET, ["events"]) => events::answer(request.uri()),
        (&Method::GET, ["ws"]) => socket::answer(request),
        (&Method::GET | &Method::HEAD, ["catalogue"]) => memory.catalogue.answer(),
        (_, ["items"]) => memory.items.collection(request).await,
        (_, ["items", id]) => memory.items.single(request.method(), id),
        _ => failure(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "The backend has nothing here.",
        ),
    }
}

fn index() -> Response {
    let data = json!([
        "GET /items?limit=20&after=0",
        "POST /items {\"name\": \"...\"}",
        "GET /items/{id}",
        "DELETE /items/{id}",
        "GET /catalogue",
        "GET /slow?ms=1000",
        "ANY /fail?status=500",
        "GET /events?count=60",
        "GET /ws (WebSocket)",
        "ANY /echo",
        "GET /health",
    ]);
    success(StatusCode::OK, &data)
}

/// An answer in the envelope that the gateway uses too.
fn success(status: StatusCode, data: &Value) -> Response {
    respond(status, &json!({ "success": true, "data": data }))
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({ "code": code, "message": message });
    respond(status, &json!({ "success": false, "error": error }))
}

fn method_not_allowed(allow: &'static str) -> Response {
    let message = "The backend does not serve this method here.";
    let answer = failure(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        message,
    );
    with_header(answer, header::ALLOW, HeaderValue::from_static(allow))
}

fn respond(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::full(format!("{value}\n")));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static("application/json");
    with_header(response, header::CONTENT_TYPE, media_type)
}

fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

/// A whole number in the query, held within `range`; `default` when it is absent or no number.
fn number(uri: &Uri, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(default)
        .clamp(*range.start(), *range.end())
}

/// How long accepting rests after an error.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests;
