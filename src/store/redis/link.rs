//! A server, and the connections of the workers to it.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire,
            Ordering::Relaxed, Ordering::Release,
        },
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use base64::{Engine, engine::general_purpose::STANDARD};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError,
    RedisResult, TlsCertificates, Value,
    aio::{MultiplexedConnection, PubSubSink, PubSubStream},
    io::tcp::TcpSettings,
};
use tokio::{
    sync::{Notify, futures::Notified},
    time::timeout,
};

use super::{Away, Lane, cluster::Cluster};
use crate::config;

/// Whom to connect to.
pub(super) enum Target {
    Single(Arc<Node>),
    Cluster(Box<Cluster>),
    /// The configuration has been checked, so this does not happen; it is as good as away.
    None,
}

impl Target {
    pub(super) fn new(config: &config::Redis, workers: usize) -> Self {
        if config.url.iter().any(|url| url.tls) {
            // The driver takes the process's provider. Another one that is there already is fine.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let clients = match clients(config) {
            Ok(clients) => clients,
            Err(error) => {
                tracing::error!(cause = error.category(), "Redis can't be used");
                return Self::None;
            }
        };
        let mut nodes = clients
            .into_iter()
            .map(|client| Arc::new(Node::new(client, workers)));
        match config.is_cluster() {
            true => Self::Cluster(Box::new(Cluster::new(nodes.collect()))),
            false => nodes.next().map_or(Self::None, Self::Single),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Drops all connections for one purpose. Calls that are under way go on until their deadlines.
    pub(super) fn disconnect(&self, lane: Lane) {
        match self {
            Self::Single(node) => node.disconnect(lane),
            Self::Cluster(cluster) => cluster.disconnect(lane),
            Self::None => {}
        }
    }
}

/// A server.
pub(super) struct Node {
    client: Client,
    /// One a worker, and one for the control runtime; then the same again for stored answers.
    slots: Box<[Slot]>,
    counts: Rest,
    answers: Rest,
    /// Whether the log has said that it is away, since it last answered in time.
    is_named: AtomicBool,
    /// When the log last said so, in milliseconds; 0 is never.
    named: AtomicU64,
}

/// How a server is left alone for one purpose: who is slow with large answers may be fine with what is
/// short.
#[derive(Default)]
struct Rest {
    /// Until when nobody tries to connect, in milliseconds.
    until: AtomicU64,
    /// Whether it has been left alone since it last answered in time.
    is_away: AtomicBool,
    /// How often since then it took a connection and answered nothing over it.
    silences: AtomicU32,
}

impl Rest {
    fn is_on(&self, now: u64) -> bool {
        now < self.until.load(Relaxed)
    }

    fn begin(&self, now: u64, long: u64) {
        self.until.fetch_max(now + long, Relaxed);
        self.is_away.store(true, Relaxed);
    }
}

impl Node {
    fn new(client: Client, workers: usize) -> Self {
        Self {
            client,
            slots: (0..2 * (workers + 1)).map(|_| Slot::default()).collect(),
            counts: Rest::default(),
            answers: Rest::default(),
            is_named: AtomicBool::new(false),
            named: AtomicU64::new(0),
        }
    }

    /// Another node of the same cluster.
    ///
    /// # Errors
    ///
    /// When there can be nobody at that address.
    pub(super) fn other(&self, (host, port): (&str, u16)) -> RedisResult<Self> {
        let info = self.client.get_connection_info();
        let host = host.to_owned();
        let address = match info.addr() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        let client = Client::open(info.clone().set_addr(address))?;
        Ok(Self::new(client, self.slots.len() / 2 - 1))
    }

    /// Where it is.
    pub(super) fn place(&self) -> (&str, u16) {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (host.as_str(), *port)
            }
            _ => ("", 0),
        }
    }

    pub(super) fn slot(&self, (lane, worker): (Lane, usize)) -> &Slot {
        // There is one at least in each half.
        let slots = self.half(lane);
        &slots[worker.min(slots.len() - 1)]
    }

    fn half(&self, lane: Lane) -> &[Slot] {
        let (counts, answers) = self.slots.split_at(self.slots.len() / 2);
        match lane {
            Lane::Counts => counts,
            Lane::Answers => answers,
        }
    }

    pub(super) fn disconnect(&self, lane: Lane) {
        for slot in self.half(lane) {
            slot.link.store(None);
        }
    }

    /// A new connection, on the runtime that asks. It belongs to the generation in which it is ready.
    ///
    /// # Errors
    ///
    /// When there is none to be had: nobody is there, or who is takes no such password.
    pub(super) async fn connect(&self, generation: &AtomicU64) -> Result<Arc<Link>, Away> {
        // All times are ours.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let Ok(connected) = timeout(CONNECTING, connecting).await else {
            return Err(Away::Unreachable);
        };
        let wire = connected.map_err(|error| away(&error))?;
        let generation = generation.load(Relaxed);
        Ok(Arc::new(Link {
            wire,
            generation,
            unanswered: AtomicU32::new(0),
        }))
    }

    /// A connection that hears a channel.
    pub(super) async fn subscribe(&self, channel: &str) -> Option<(PubSubSink, PubSubStream)> {
        let subscribing = async {
            let (mut sink, stream) = self.client.get_async_pubsub().await?.split();
            sink.subscribe(channel).await?;
            RedisResult::Ok((sink, stream))
        };
        timeout(CONNECTING, subscribing).await.ok()?.ok()
    }

    fn rest_of(&self, lane: Lane) -> &Rest {
        match lane {
            Lane::Counts => &self.counts,
            Lane::Answers => &self.answers,
        }
    }

    /// Leaves it alone for a while: whoever asks for it waits for nothing.
    pub(super) fn rest(&self, lane: Lane, now: u64) {
        self.rest_of(lane).begin(now, REST);
    }

    /// The same where it takes connections and answers too late: each time longer, since each new
    /// connection would cost it more than it can do.
    pub(super) fn rest_longer(&self, lane: Lane, now: u64) {
        let rest = self.rest_of(lane);
        // One time for all workers.
        if !rest.is_on(now) {
            let before = rest.silences.fetch_add(1, Relaxed).min(MOST_DOUBLED);
            rest.begin(now, REST << before);
        }
        rest.is_away.store(true, Relaxed);
    }

    /// Whether it has been left alone for that purpose and has not answered in time since.
    pub(super) fn is_left(&self, lane: Lane) -> bool {
        self.rest_of(lane).is_away.load(Relaxed)
    }

    /// Whether it is of no use: who answers what is short is there, however slow the rest is.
    pub(super) fn is_away(&self) -> bool {
        self.is_left(Lane::Counts)
    }

    /// Notes that it has answered in time.
    pub(super) fn answered(&self, lane: Lane) {
        let rest = self.rest_of(lane);
        rest.silences.store(0, Relaxed);
        rest.is_away.store(false, Relaxed);
        if lane == Lane::Counts {
            self.is_named.store(false, Relaxed);
        }
    }

    /// Whether the log is to say that it is away: once, and not again and again where it comes and goes.
    pub(super) fn is_to_be_named(&self, now: u64) -> bool {
        if !self.is_away() || self.is_named.load(Relaxed) {
            return false;
        }
        let last = self.named.load(Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= NAMED;
        // Another worker may find the same.
        let claim = || {
            self.named
                .compare_exchange(last, now.max(1), Relaxed, Relaxed)
        };
        let is_ours = is_due && claim().is_ok();
        if is_ours {
            self.is_named.store(true, Relaxed);
        }
        is_ours
    }

    /// Whether it is left alone.
    pub(super) fn is_resting(&self, lane: Lane, now: u64) -> bool {
        self.rest_of(lane).is_on(now)
    }

    /// Ends the rest.
    pub(super) fn wake(&self) {
        for lane in Lane::BOTH {
            self.rest_of(lane).until.store(0, Relaxed);
        }
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
fn clients(config: &config::Redis) -> RedisResult<Vec<Client>> {
    let certificates = config
        .ca_file
        .as_deref()
        .map(|certificates| TlsCertificates {
            client_tls: None,
            root_cert: Some(pem(certificates)),
        });
    let urls = config.url.iter().map(|url| url.url.expose());
    urls.map(|url| {
        let node = url.into_connection_info()?.set_tcp_settings(tcp());
        match &certificates {
            Some(certificates) => Client::build_with_tls(node, certificates.clone()),
            None => Client::open(node),
        }
    })
    .collect()
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
    wire: MultiplexedConnection,
    generation: u64,
    /// Calls that have waited in vain since the last answer.
    unanswered: AtomicU32,
}

impl Link {
    /// Sends a command; several may be under way.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let value = self.wire.clone().send_packed_command(command).await?;
        self.answer(value)
    }

    /// Sends a command about a key that is on its way to that node.
    pub(super) async fn send_asking(&self, command: &Cmd) -> RedisResult<Value> {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let values = self.wire.clone().send_packed_commands(&both, 1, 1).await?;
        self.answer(values.into_iter().next().unwrap_or(Value::Nil))
    }

    fn answer(&self, value: Value) -> RedisResult<Value> {
        if self.unanswered.load(Relaxed) != 0 {
            self.unanswered.store(0, Relaxed);
        }
        match value {
            Value::ServerError(error) => Err(error.into()),
            value => Ok(value),
        }
    }

    /// Notes that a call has waited in vain; which one in a row that is.
    pub(super) fn unanswered(&self) -> u32 {
        self.unanswered.fetch_add(1, Relaxed) + 1
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

    /// Drops a connection that broke, unless it has been replaced. Calls that are under way on it go on.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        let ours = self.link.load();
        let same = ours.as_ref().is_some_and(|ours| Arc::ptr_eq(ours, link));
        if same {
            self.link.compare_and_swap(&ours, None);
        }
    }
}

/// How long connecting may take, names and TLS included.
const CONNECTING: Duration = Duration::from_secs(1);
/// For how long, in milliseconds, nobody tries to connect to a node of a cluster where that has failed.
const REST: u64 = 250;
/// How often that is doubled for one that is slow: up to four seconds.
const MOST_DOUBLED: u32 = 4;
/// Milliseconds until the log names the same node again.
const NAMED: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn node() -> Node {
        Node::new(Client::open("redis://127.0.0.1:1").unwrap(), 1)
    }

    #[test]
    fn who_answers_too_late_again_and_again_is_left_alone_for_longer_each_time() {
        let (node, lane) = (node(), Lane::Counts);
        let rested = |now: u64| (now..).find(|&at| !node.is_resting(lane, at)).unwrap() - now;
        let mut now = 1;
        for rest in [250, 500, 1_000, 2_000, 4_000, 4_000] {
            node.rest_longer(lane, now);
            // Another worker finds the same.
            node.rest_longer(lane, now);
            assert_eq!(rested(now), rest);
            now += rest;
        }
        node.answered(lane);
        node.rest_longer(lane, now);
        assert_eq!(rested(now), 250);
    }

    #[test]
    fn who_is_slow_with_stored_answers_is_left_alone_by_no_limit() {
        let node = node();
        node.rest_longer(Lane::Answers, 1);
        assert!(node.is_resting(Lane::Answers, 1) && node.is_left(Lane::Answers));
        assert!(!node.is_resting(Lane::Counts, 1) && !node.is_away());
        assert!(!node.is_to_be_named(1));
        node.answered(Lane::Counts);
        assert!(node.is_left(Lane::Answers), "nothing of that has come");
        node.rest_longer(Lane::Answers, 251);
        assert!(node.is_resting(Lane::Answers, 750), "twice as long");
        node.rest(Lane::Counts, 251);
        assert!(node.is_away());
        node.answered(Lane::Answers);
        assert!(node.is_away(), "nothing short has come");
    }

    #[test]
    fn a_node_that_comes_and_goes_is_named_once_a_minute() {
        let (node, lane) = (node(), Lane::Counts);
        node.rest(lane, 1);
        assert!(node.is_to_be_named(1));
        assert!(!node.is_to_be_named(100_000), "it has not answered since");
        node.answered(lane);
        assert!(!node.is_to_be_named(100_000), "it is there");
        node.rest(lane, 100_000);
        assert!(node.is_to_be_named(100_000));
        node.answered(lane);
        node.rest(lane, 110_000);
        assert!(!node.is_to_be_named(110_000));
        assert!(node.is_to_be_named(160_000), "it is away still");
    }

    #[test]
    fn no_command_waits_for_the_acknowledgement_of_another() {
        let text = "[redis]\nurl = 'redis://127.0.0.1:1'\n[routes.all]\nrespond = {}";
        let config = Config::parse("test.toml", text).unwrap().config;
        let clients = clients(&config.redis.unwrap()).unwrap();
        assert!(clients[0].get_connection_info().tcp_settings().nodelay());
    }
}
