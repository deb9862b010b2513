//! The client for the gateway's own requests: keys of an issuer, decisions of another service.
//!
//! An ordinary pooled client, since none of this is on the path of a proxied body. A connection is
//! driven by the runtime that opened it, so that a busy service of external auth loads the workers
//! and not the control thread. Names are looked up on the control runtime's blocking threads: a
//! worker has only one.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use crate::{
    config,
    exchange::{BoxError, BoxFuture, Subrequest, SubrequestError, SubrequestLimits},
};

type Client = legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// The gateway's own client. A clone shares its connections.
pub(super) struct OwnClient {
    client: ArcSwap<Configured>,
    resolver: Resolver,
}

/// A client and what it was made from.
struct Configured {
    config: config::Subrequests,
    client: Client,
}

impl OwnClient {
    /// A client whose names are looked up on that runtime's blocking threads.
    pub(super) fn new(config: &config::Subrequests, lookups: Handle) -> Self {
        let resolver = Resolver {
            lookups,
            permits: Arc::new(Semaphore::new(LOOKUPS)),
        };
        Self {
            client: ArcSwap::from_pointee(Configured::new(config, &resolver)),
            resolver,
        }
    }

    /// Trusts whom a new configuration trusts. Connections stay when nothing changed.
    pub(super) fn reconfigure(&self, config: &config::Subrequests) {
        if self.client.load().config != *config {
            let configured = Configured::new(config, &self.resolver);
            self.client.store(Arc::new(configured));
        }
    }
}

impl Subrequest for OwnClient {
    fn send(
        &self,
        mut request: Request<Bytes>,
        limits: SubrequestLimits,
    ) -> BoxFuture<Result<Response<Bytes>, SubrequestError>> {
        let client = self.client.load().client.clone();
        request.headers_mut().entry(USER_AGENT).or_insert(OWN_NAME);
        Box::pin(async move {
            let exchange = exchange(&client, request.map(Full::new), limits.body);
            let answer = timeout(limits.deadline, exchange).await;
            answer.unwrap_or(Err(SubrequestError::Timeout))
        })
    }
}

async fn exchange(
    client: &Client,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<Response<Bytes>, SubrequestError> {
    let answer = client
        .request(request)
        .await
        .map_err(|error| failed(&error))?;
    let (head, body) = answer.into_parts();
    Ok(Response::from_parts(head, collect(body, most).await?))
}

async fn collect(body: Incoming, most: usize) -> Result<Bytes, SubrequestError> {
    // A length that is told is believed before a byte of it is read.
    if body.size_hint().lower() > most as u64 {
        return Err(SubrequestError::TooLarge);
    }
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(SubrequestError::TooLarge),
        Err(error) => Err(SubrequestError::Failed(error)),
    }
}

/// hyper's own words end at "client error (Connect)"; the cause below tells more.
fn failed(error: &legacy::Error) -> SubrequestError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    SubrequestError::Failed(BoxError::from(text))
}

impl Configured {
    fn new(config: &config::Subrequests, resolver: &Resolver) -> Self {
        let mut http = HttpConnector::new_with_resolver(resolver.clone());
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(config))
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(HEAD_BYTES)
            .http2_max_header_list_size(HEAD_LIST_BYTES)
            .build(connector);
        Self {
            config: config.clone(),
            client,
        }
    }
}

/// One provider, named: rustls would otherwise look for one that the process has installed.
fn tls(config: &config::Subrequests) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if config.public_roots {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    // The configuration has read them as certificates already; one that is no root is of no use.
    roots.add_parsable_certificates(
        config
            .ca_file
            .iter()
            .flat_map(|certificates| certificates.iter())
            .cloned(),
    );
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        // aws-lc's default provider has suites and groups for TLS 1.2 and 1.3.
        .expect("the provider supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Looks names up away from the workers, a few at a time: a dead name server must not take all of
/// the control runtime's blocking threads.
#[derive(Clone)]
struct Resolver {
    lookups: Handle,
    permits: Arc<Semaphore>,
}

impl tower::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { lookups, permits } = self.clone();
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let lookup = lookups.spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                // Given back by the thread: a request that gave up waiting does not end the lookup.
                drop(permit);
                found
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

const OWN_NAME: HeaderValue =
    HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
/// The deadline of a request rules; this lets a second address have its turn within it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_PER_HOST: usize = 32;
/// Of an answer's head on HTTP/1.1, and on HTTP/2.
const HEAD_BYTES: usize = 64 << 10;
const HEAD_LIST_BYTES: u32 = 64 << 10;
/// Names that are looked up at the same time.
const LOOKUPS: usize = 2;

#[cfg(test)]
mod tests;
