//! An ordinary origin: hyper's server with a closure.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

use super::Authority;

/// The body of an origin's answers.
pub type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// A whole body.
pub fn full(bytes: impl Into<Bytes>) -> BoxBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that is fed from elsewhere, frame by frame; it ends when the sender is dropped, and breaks
/// off at an error.
pub fn chunks() -> (mpsc::Sender<std::io::Result<Frame<Bytes>>>, BoxBody) {
    let (sender, mut receiver) = mpsc::channel(1);
    let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, StreamBody::new(stream).boxed_unsync())
}

/// 200 with a body.
pub fn reply(bytes: impl Into<Bytes>) -> Response<BoxBody> {
    Response::new(full(bytes))
}

/// An HTTP server. It stops listening, and drops its connections, when it is dropped.
pub struct Server {
    place: Place,
    protocol: &'static str,
    connections: Arc<AtomicUsize>,
    accept: JoinHandle<()>,
}

enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Server {
    /// Serves HTTP/1.1.
    pub async fn http1<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::http1_at(any, handler).await
    }

    /// Serves HTTP/1.1, and has this answer for the only request.
    pub async fn once(answer: Response<BoxBody>) -> Self {
        let answer = Arc::new(Mutex::new(Some(answer)));
        Self::http1(move |_| {
            let answer = answer.lock().expect("no panic").take();
            let answer = answer.expect("one request");
            async move { answer }
        })
        .await
    }

    /// Serves HTTP/1.1 at an address, such as that of a server which has gone.
    pub async fn http1_at<F, Fut>(address: SocketAddr, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        Self::tcp(listener, "http", move |stream| {
            serve_http1(stream, handler.clone())
        })
    }

    /// Serves HTTP/1.1 over TLS, with a certificate of that authority for `localhost`.
    pub async fn https<F, Fut>(authority: &Authority, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let acceptor = authority.acceptor("localhost");
        Self::tcp(listener, "https", move |stream| {
            let (acceptor, handler) = (acceptor.clone(), handler.clone());
            async move {
                // Whoever does not trust the certificate leaves half-way.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve_http1(stream, handler).await;
                }
            }
        })
    }

    /// Serves HTTP/2 with prior knowledge.
    pub async fn h2c<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        Self::h2c_with(200, handler).await
    }

    /// Serves HTTP/2, so many streams at once on a connection.
    pub async fn h2c_with<F, Fut>(streams: u32, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::h2c_on(any, streams, handler).await
    }

    /// Serves HTTP/2 at an address, such as that of a server which has gone.
    pub async fn h2c_at<F, Fut>(address: SocketAddr, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        Self::h2c_on(address, 200, handler).await
    }

    async fn h2c_on<F, Fut>(address: SocketAddr, streams: u32, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        Self::tcp(listener, "h2c", move |stream| {
            serve_http2(stream, streams, handler.clone())
        })
    }

    /// Serves HTTP/1.1 on a unix socket in a directory.
    pub fn unix<F, Fut>(directory: &Path, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        let path = directory.join("origin.sock");
        let listener = UnixListener::bind(&path).expect("a free path");
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        let accept = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(serve_http1(stream, handler.clone()));
            }
        });
        Self {
            place: Place::Unix(path),
            protocol: "unix",
            connections,
            accept,
        }
    }

    fn tcp<F, Fut>(listener: TcpListener, protocol: &'static str, serve: F) -> Self
    where
        F: Fn(tokio::net::TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("an address");
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        let accept = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                counted.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(serve(stream));
            }
        });
        Self {
            place: Place::Tcp(address),
            protocol,
            connections,
            accept,
        }
    }

    /// Its URL for `upstream` and `servers`.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Tcp(address) if self.protocol == "https" => {
                format!("https://localhost:{}", address.port())
            }
            Place::Tcp(address) => format!("{}://{address}", self.protocol),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Its address, if it has one.
    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) => *address,
            Place::Unix(_) => panic!("a unix socket has no address"),
        }
    }

    /// Stops listening and drops the connections; the address is free then.
    pub async fn stop(mut self) {
        self.accept.abort();
        let _ = (&mut self.accept).await;
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn serve_http1<S, F, Fut>(stream: S, handler: F)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<BoxBody>>,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    let connection = builder
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.with_upgrades().await;
}

async fn serve_http2<S, F, Fut>(stream: S, streams: u32, handler: F)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<BoxBody>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(streams);
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An answer with these fields and a number as its body.
pub fn numbered(count: usize, fields: &[(&str, &str)]) -> Response<BoxBody> {
    answer(200, fields, count.to_string())
}

/// An answer with these fields.
pub fn answer(status: u16, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Response<BoxBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(full(body)).expect("an answer")
}
