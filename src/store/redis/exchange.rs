//! A command and its answer, over the connection of a worker.

use std::{
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::{Duration, Instant},
};

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::timeout;

use super::{
    Away, Failure, Lane, Redis, Reply,
    breaker::Weight,
    cluster::Waiting,
    link::{Link, Node, Target},
};

/// A command, and how it is sent.
#[derive(Clone, Copy)]
pub(super) struct Ask<'c> {
    pub(super) command: &'c Cmd,
    /// A second time where the connection turns out to be broken: it may then have been done twice.
    pub(super) again: bool,
    /// About a key that is on its way to another node, to that one.
    pub(super) asking: bool,
    /// How long it waits for a connection.
    pub(super) patience: Duration,
}

impl Redis {
    pub(super) async fn exchange(
        self: &Arc<Self>,
        at: (Lane, usize),
        ask: Ask<'_>,
    ) -> Result<Reply, Failure> {
        let answer = match &self.target {
            Target::Single(node) => self.ask_node(at, node, ask).await?,
            Target::Cluster(cluster) => Box::pin(self.ask_cluster(at, cluster, ask)).await?,
            Target::None => return Err(Failure::new(Away::Unreachable, Weight::Opens)),
        };
        match answer.map_err(|error| cause(&error)) {
            Ok(value) => Ok(Reply::Value(value)),
            Err(Cause::NoScript) => Ok(Reply::NoScript),
            Err(cause) => Err(self.failure(cause)),
        }
    }

    /// What a node answers.
    pub(super) async fn ask_node(
        self: &Arc<Self>,
        at: (Lane, usize),
        node: &Arc<Node>,
        ask: Ask<'_>,
    ) -> Result<RedisResult<Value>, Failure> {
        let link = match self.current(at, node) {
            Some(link) => link,
            None => Box::pin(self.link(at, node, ask.patience)).await?,
        };
        let answer = self.send_over(&link, at, node, ask).await;
        // Redis, or what stands between, has closed it while it was idle: that is no failure yet.
        match ask.again && is_broken(&answer) {
            true => Box::pin(self.ask_again(at, node, ask)).await,
            false => Ok(answer),
        }
    }

    async fn ask_again(
        self: &Arc<Self>,
        at: (Lane, usize),
        node: &Arc<Node>,
        ask: Ask<'_>,
    ) -> Result<RedisResult<Value>, Failure> {
        let link = self.link(at, node, ask.patience).await?;
        let answer = self.send_over(&link, at, node, ask).await;
        if self.is_cluster() && is_broken(&answer) {
            // It closes new ones, too: else one would be made for each call.
            self.leave_alone(node, &[at.0], Away::Unreachable);
        }
        Ok(answer)
    }

    /// The same over a connection, which is dropped when it is of no use any more.
    async fn send_over(
        self: &Arc<Self>,
        link: &Arc<Link>,
        at: (Lane, usize),
        node: &Node,
        ask: Ask<'_>,
    ) -> RedisResult<Value> {
        let mut waiting = Waiting {
            redis: self,
            at,
            node,
            link,
            began: Instant::now(),
            is_over: false,
        };
        let answer = match ask.asking {
            true => Box::pin(link.send_asking(ask.command)).await,
            false => link.send(ask.command).await,
        };
        waiting.is_over = true;
        let is_useless = match answer.as_ref().err().map(cause) {
            Some(Cause::Connection(_)) => true,
            // Another server has taken over, and a new connection may lead to that one. What this one
            // refuses without writing it would go on to answer. The nodes of a cluster tell who it is.
            Some(Cause::Replica) => !self.is_cluster(),
            _ => false,
        };
        if is_useless {
            node.slot(at).forget(link);
        } else if node.is_left(at.0) && waiting.began.elapsed() < self.timeout {
            node.answered(at.0);
        }
        answer
    }

    /// What one node answers where no request waits for it, so that an error of its own opens no breaker.
    pub(super) async fn ask_beside(
        self: &Arc<Self>,
        node: &Arc<Node>,
        command: &Cmd,
        patience: Duration,
    ) -> Result<Value, Away> {
        let ask = Ask {
            command,
            again: true,
            asking: false,
            patience,
        };
        let asking = self.ask_node((Lane::Counts, usize::MAX), node, ask);
        match timeout(patience, asking).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(self.failure(cause(&error)).away),
            Ok(Err(failure)) => Err(failure.away),
            Err(_) => Err(Away::Timeout),
        }
    }

    /// What the breaker makes of an error of the driver.
    pub(super) fn failure(&self, cause: Cause) -> Failure {
        match cause {
            Cause::Connection(Away::Unreachable) => {
                Failure::new(Away::Unreachable, self.unreachable())
            }
            Cause::Connection(away) => Failure::new(away, Weight::Counts),
            Cause::Replica if !self.is_cluster() => Failure::new(Away::Refused, Weight::Opens),
            Cause::Key => Failure::new(Away::Refused, Weight::Nothing),
            Cause::Slots => self.parted(),
            Cause::NoScript | Cause::Replica | Cause::Answer => {
                Failure::new(Away::Refused, Weight::Counts)
            }
        }
    }

    /// Who was taken for one server has slots as a cluster has. Decisions go by themselves from now on, each
    /// with the keys of one slot.
    fn parted(&self) -> Failure {
        if !self.has_slots.swap(true, SeqCst) {
            tracing::warn!(
                "Redis has slots as a cluster has, and `url` names one server: limits ask it for each request by itself"
            );
        }
        // Several calls may be under way that find it out.
        Failure::new(Away::Refused, Weight::Nothing)
    }

    /// What it says that there is no connection. Of a cluster it is one node's, whose keys others
    /// don't wait for: whoever reads the map notes that no node can be reached.
    fn unreachable(&self) -> Weight {
        match self.is_cluster() {
            true => Weight::Nothing,
            false => Weight::Opens,
        }
    }

    /// A call that has run into its deadline. Of a cluster what waits for a node is weighed by itself.
    pub(super) fn late(&self) -> Failure {
        let weight = match self.is_cluster() {
            true => Weight::Nothing,
            false => Weight::Counts,
        };
        Failure::new(Away::Timeout, weight)
    }

    /// The worker's connection. Who comes first makes it; the others wait for it, each as long as its
    /// own deadline says, and it goes on when they have left. One that takes longer to make holds up
    /// nobody who comes later, and opens no breaker: the new connections of all workers would be
    /// dropped with it, and be made again, and again.
    async fn link(
        self: &Arc<Self>,
        at: (Lane, usize),
        node: &Arc<Node>,
        patience: Duration,
    ) -> Result<Arc<Link>, Failure> {
        if let Some(link) = self.current(at, node) {
            return Ok(link);
        }
        let slot = node.slot(at);
        let away = || Failure::new(slot.failure(), self.unreachable());
        let (made, now) = (slot.made(), self.now());
        if node.is_resting(at.0, now) {
            self.reread();
            return Err(away());
        }
        let connecting = Failure::new(Away::Timeout, Weight::Nothing);
        match slot.begin(now) {
            None => self.connect(at, node),
            Some(since) if Duration::from_millis(now.saturating_sub(since)) > patience => {
                self.reread();
                return Err(connecting);
            }
            Some(_) => {}
        }
        timeout(patience, made).await.map_err(|_| connecting)?;
        self.current(at, node).ok_or_else(away)
    }

    /// The same, where it is there.
    fn current(&self, at: (Lane, usize), node: &Node) -> Option<Arc<Link>> {
        node.slot(at)
            .current(self.way(at.0).generation.load(Relaxed))
    }

    fn connect(self: &Arc<Self>, at: (Lane, usize), node: &Arc<Node>) {
        let (redis, node) = (Arc::clone(self), Arc::clone(node));
        tokio::spawn(async move {
            let link = node.connect(&redis.way(at.0).generation).await;
            if let Err(away) = &link {
                if redis.is_cluster() {
                    redis.leave_alone(&node, &Lane::BOTH, *away);
                }
                redis.failed(at.0, Failure::new(*away, redis.unreachable()));
            }
            node.slot(at).finish(link);
        });
    }
}

/// What an error of the driver says about the connection.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    NoScript,
    /// It is of no use any more.
    Connection(Away),
    /// It leads to a server that takes no writes, not yet or not any more.
    Replica,
    /// It is fine, and so are other keys: another program has taken this one, or a cluster is moving its
    /// slot. Whoever asks for it again and again takes nobody else out of Redis.
    Key,
    /// It is fine, and not for keys of several slots.
    Slots,
    /// It is fine.
    Answer,
}

fn is_broken(answer: &RedisResult<Value>) -> bool {
    let broken = |error| matches!(cause(error), Cause::Connection(Away::Unreachable));
    answer.as_ref().is_err_and(broken)
}

pub(super) fn cause(error: &RedisError) -> Cause {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => Cause::NoScript,
        ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown,
        ) => Cause::Replica,
        ErrorKind::Server(ServerErrorKind::TryAgain) => Cause::Key,
        ErrorKind::Server(ServerErrorKind::CrossSlot) => Cause::Slots,
        ErrorKind::Extension if error.code() == Some("WRONGTYPE") => Cause::Key,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Cause::Connection(Away::Garbage),
        _ if error.is_io_error() || error.is_unrecoverable_error() => {
            Cause::Connection(Away::Unreachable)
        }
        _ => Cause::Answer,
    }
}
