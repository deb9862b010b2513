//! One worker's connection to Redis.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use base64::{Engine, engine::general_purpose::STANDARD};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, RedisError, RedisResult,
    TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSubSink, PubSubStream},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
};
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};
use tokio::{
    sync::{Notify, futures::Notified},
    time::timeout,
};

use super::Away;
use crate::config;

/// Whom to connect to.
pub(super) enum Target {
    Single(Box<Client>),
    /// The second for messages, which any node passes on to all.
    Cluster(Box<ClusterClient>, Vec<Client>),
    /// The configuration has been checked, so this does not happen; it is as good as away.
    None,
}

impl Target {
    pub(super) fn new(config: &config::Redis) -> Self {
        if config.url.iter().any(|url| url.tls) {
            // The driver takes the process's provider. Another one that is there already is fine.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let certificates = config
            .ca_file
            .as_deref()
            .map(|certificates| TlsCertificates {
                client_tls: None,
                root_cert: Some(pem(certificates)),
            });
        let target = match config.is_cluster() {
            true => nodes(config, certificates.as_ref()).and_then(|nodes| {
                let cluster = cluster(config, certificates)?;
                Ok(Self::Cluster(Box::new(cluster), nodes))
            }),
            false => nodes(config, certificates.as_ref()).map(|nodes| {
                nodes
                    .into_iter()
                    .next()
                    .map_or(Self::None, |node| Self::Single(Box::new(node)))
            }),
        };
        target.unwrap_or_else(|error| {
            tracing::error!(cause = error.category(), "Redis can't be used");
            Self::None
        })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(..))
    }

    /// A new connection, on the runtime that asks. It belongs to the generation in which it is ready.
    ///
    /// # Errors
    ///
    /// When there is none to be had: nobody is there, or who is takes no such password.
    pub(super) async fn connect(&self, generation: &AtomicU64) -> Result<Arc<Link>, Away> {
        let connecting = async {
            match self {
                Self::Single(client) => {
                    // All times are ours.
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(None)
                        .set_response_timeout(None);
                    let link = client.get_multiplexed_async_connection_with_config(&config);
                    link.await.map(Wire::Single).map_err(|error| away(&error))
                }
                Self::Cluster(client, _) => {
                    let link = client.get_async_connection().await;
                    link.map(Wire::Cluster).map_err(|error| away(&error))
                }
                Self::None => Err(Away::Unreachable),
            }
        };
        let connected = timeout(CONNECTING, connecting).await;
        let wire = connected.unwrap_or(Err(Away::Unreachable))?;
        let generation = generation.load(Relaxed);
        Ok(Arc::new(Link { wire, generation }))
    }

    /// A connection that hears a channel; of a cluster's nodes the first that lets us.
    pub(super) async fn subscribe(&self, channel: &str) -> Option<(PubSubSink, PubSubStream)> {
        let clients = match self {
            Self::Single(client) => std::slice::from_ref(&**client),
            Self::Cluster(_, nodes) => nodes,
            Self::None => &[],
        };
        for client in clients {
            let subscribing = async {
                let (mut sink, stream) = client.get_async_pubsub().await?.split();
                sink.subscribe(channel).await?;
                RedisResult::Ok((sink, stream))
            };
            if let Ok(Ok(subscription)) = timeout(CONNECTING, subscribing).await {
                return Some(subscription);
            }
        }
        None
    }
}

/// Why there is no connection.
fn away(error: &RedisError) -> Away {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::Server(_) => Away::Refused,
        _ => Away::Unreachable,
    }
}

/// Each address by itself.
fn nodes(
    config: &config::Redis,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<Vec<Client>> {
    let urls = config.url.iter().map(|url| url.url.expose());
    urls.map(|url| {
        let node = url.into_connection_info()?.set_tcp_settings(tcp());
        match certificates {
            Some(certificates) => Client::build_with_tls(node, certificates.clone()),
            None => Client::open(node),
        }
    })
    .collect()
}

fn cluster(
    config: &config::Redis,
    certificates: Option<TlsCertificates>,
) -> RedisResult<ClusterClient> {
    let urls = config.url.iter().map(|url| url.url.expose());
    let mut builder = ClusterClient::builder(urls)
        .retries(REDIRECTS)
        .min_retry_wait(1)
        .max_retry_wait(10)
        .connection_timeout(CONNECTING)
        .response_timeout(config.timeout)
        .tcp_settings(tcp());
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build()
}

/// A command does not wait in the kernel until the one before has been acknowledged, nor the end of a
/// long one until its beginning has: requests wait for all of them, and the driver would have it so.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// The driver reads PEM alone.
fn pem(certificates: &[rustls::pki_types::CertificateDer<'_>]) -> Vec<u8> {
    let block = |certificate: &rustls::pki_types::CertificateDer<'_>| {
        let text = STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    certificates
        .iter()
        .map(block)
        .collect::<String>()
        .into_bytes()
}

/// A connection.
pub(super) struct Link {
    wire: Wire,
    generation: u64,
}

enum Wire {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Whether it leads to one server, whichever that is.
    pub(super) fn is_single(&self) -> bool {
        matches!(self.wire, Wire::Single(_))
    }

    /// Sends a command; several may be under way.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let value = match &self.wire {
            // Not by the trait, which would box it.
            Wire::Single(wire) => wire.clone().send_packed_command(command).await,
            Wire::Cluster(wire) => wire.clone().req_packed_command(command).await,
        };
        match value? {
            Value::ServerError(error) => Err(error.into()),
            value => Ok(value),
        }
    }
}

/// The place of a worker's connection.
#[derive(Default)]
pub(super) struct Slot {
    link: ArcSwapOption<Link>,
    /// Since when it is being made, in milliseconds; 0 is not.
    connecting: AtomicU64,
    /// Whether the last one was refused.
    refused: AtomicBool,
    made: Notify,
}

impl Slot {
    /// The connection, unless the breaker has opened since it was made.
    pub(super) fn current(&self, generation: u64) -> Option<Arc<Link>> {
        let link = self.link.load();
        let link = link.as_ref().filter(|link| link.generation == generation)?;
        Some(Arc::clone(link))
    }

    /// Resolves when connecting has ended. To be asked for before [`begin`](Self::begin).
    pub(super) fn made(&self) -> Notified<'_> {
        self.made.notified()
    }

    /// Since when another makes the connection; `None` when that is up to the caller.
    pub(super) fn begin(&self, now: u64) -> Option<u64> {
        let begun = self
            .connecting
            .compare_exchange(0, now.max(1), AcqRel, Acquire);
        begun.err()
    }

    /// Ends what [`begin`](Self::begin) began.
    pub(super) fn finish(&self, link: Result<Arc<Link>, Away>) {
        let refused = matches!(link, Err(Away::Refused));
        self.refused.store(refused, Relaxed);
        self.link.store(link.ok());
        self.connecting.store(0, Release);
        self.made.notify_waiters();
    }

    /// Why the last connection has not come about.
    pub(super) fn failure(&self) -> Away {
        match self.refused.load(Relaxed) {
            true => Away::Refused,
            false => Away::Unreachable,
        }
    }

    /// Drops a connection that broke, unless it has been replaced. That of a cluster mends itself.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        let ours = self.link.load();
        let same = ours.as_ref().is_some_and(|ours| Arc::ptr_eq(ours, link));
        if same && link.is_single() {
            self.link.compare_and_swap(&ours, None);
        }
    }
}

/// How long connecting may take, names and TLS included.
const CONNECTING: Duration = Duration::from_secs(1);
/// How often a command of a cluster may be sent elsewhere, all within its deadline.
const REDIRECTS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn no_command_waits_for_the_acknowledgement_of_another() {
        let text = "[redis]\nurl = 'redis://127.0.0.1:1'\n[routes.all]\nrespond = {}";
        let config = Config::parse("test.toml", text).unwrap().config;
        let nodes = nodes(&config.redis.unwrap(), None).unwrap();
        assert!(nodes[0].get_connection_info().tcp_settings().nodelay());
    }
}
