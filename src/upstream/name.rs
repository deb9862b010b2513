//! The addresses of a server's name.
//!
//! The system's resolver blocks a thread and can't be called off. So a name is looked up by one
//! thread at a time, of its own, however many connections are opened to it: were each of them to ask
//! for itself, the lookups of a DNS outage would pile up in front of those behind it. An answer
//! holds for [`FRESH`], and for [`KEPT`] while a newer one can't be had.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// What is known of one name, for all workers.
#[derive(Debug, Default)]
pub(super) struct Name {
    known: Mutex<Known>,
    /// Told when a lookup has ended.
    ended: Notify,
}

type Addresses = Arc<[SocketAddr]>;

#[derive(Debug, Default)]
struct Known {
    good: Option<(Instant, Addresses)>,
    bad: Option<(Instant, io::ErrorKind, String)>,
    looking: bool,
}

/// What to do about a name.
#[derive(Debug)]
struct Plan {
    /// Somebody has to look it up.
    look: bool,
    /// What to go by; `None` means to wait for the lookup.
    result: Option<io::Result<Addresses>>,
}

impl Name {
    /// The addresses of `host`, which must be the same at every call.
    ///
    /// # Errors
    ///
    /// When the name can't be looked up. It waits as long as the resolver does: put a limit on it.
    pub(super) async fn resolve(self: &Arc<Self>, host: &str, port: u16) -> io::Result<Addresses> {
        self.resolve_by(|| {
            let host = host.to_owned();
            move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
        })
        .await
    }

    async fn resolve_by<L>(self: &Arc<Self>, lookup: impl Fn() -> L) -> io::Result<Addresses>
    where
        L: FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    {
        loop {
            // Before the look at what is known: an end in between is not missed.
            let ended = self.ended.notified();
            let plan = self.known().plan(Instant::now());
            if plan.look {
                self.start(lookup());
            }
            match plan.result {
                Some(result) => return result,
                None => ended.await,
            }
        }
    }

    fn start(
        self: &Arc<Self>,
        lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) {
        let name = Arc::clone(self);
        let thread = thread::Builder::new().name("lookup".to_owned());
        let spawned = thread.spawn(move || name.end(lookup()));
        if let Err(error) = spawned {
            self.end(Err(error));
        }
    }

    fn end(&self, result: io::Result<Vec<SocketAddr>>) {
        self.known().learn(result, Instant::now());
        self.ended.notify_waiters();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing that is done under the lock can panic half-way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn plan(&mut self, now: Instant) -> Plan {
        let age = |then: Instant| now.saturating_duration_since(then);
        let failed = self.bad.as_ref().filter(|(at, ..)| age(*at) < FAILED);
        let good = self.good.as_ref().filter(|(at, _)| age(*at) < KEPT);
        let fresh = good.is_some_and(|(at, _)| age(*at) < FRESH);
        let look = !fresh && failed.is_none() && !self.looking;
        let result = match (good, failed) {
            // While a newer one is looked up, nobody waits for it.
            (Some((_, addresses)), _) => Some(Ok(Arc::clone(addresses))),
            (None, Some((_, kind, text))) => Some(Err(io::Error::new(*kind, text.clone()))),
            (None, None) => None,
        };
        self.looking |= look;
        Plan { look, result }
    }

    fn learn(&mut self, result: io::Result<Vec<SocketAddr>>, now: Instant) {
        self.looking = false;
        match result {
            Ok(addresses) if addresses.is_empty() => {
                let text = "the name has no address".to_owned();
                self.bad = Some((now, io::ErrorKind::AddrNotAvailable, text));
            }
            Ok(addresses) => {
                self.good = Some((now, addresses.into()));
                self.bad = None;
            }
            Err(error) => self.bad = Some((now, error.kind(), error.to_string())),
        }
    }
}

/// How long an answer is not asked for again.
const FRESH: Duration = Duration::from_secs(5);
/// How long a failure is not tried again.
const FAILED: Duration = Duration::from_secs(1);
/// How long an answer is used while there is no newer one.
const KEPT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    };

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn looked_up(known: &mut Known, now: Instant, port: u16) {
        assert!(known.plan(now).look);
        known.learn(Ok(vec![address(port)]), now);
    }

    fn failed(known: &mut Known, now: Instant) {
        assert!(known.plan(now).look);
        known.learn(Err(io::Error::other("no such host")), now);
    }

    fn ports(plan: Plan) -> (bool, Option<u16>) {
        let result = plan.result.map(|result| result.map(|it| it[0].port()));
        (plan.look, result.and_then(Result::ok))
    }

    #[test]
    fn an_answer_is_used_until_a_newer_one_is_there() {
        let (mut known, start) = (Known::default(), Instant::now());
        looked_up(&mut known, start, 1);
        assert_eq!(ports(known.plan(start + FRESH / 2)), (false, Some(1)));
        assert_eq!(ports(known.plan(start + FRESH)), (true, Some(1)));
        assert_eq!(ports(known.plan(start + FRESH)), (false, Some(1)));
        known.learn(Ok(vec![address(2)]), start + FRESH);
        assert_eq!(ports(known.plan(start + FRESH)), (false, Some(2)));
    }

    #[test]
    fn an_outage_is_bridged_for_a_while_and_then_told() {
        let (mut known, start) = (Known::default(), Instant::now());
        looked_up(&mut known, start, 1);
        failed(&mut known, start + FRESH);
        assert_eq!(ports(known.plan(start + FRESH)), (false, Some(1)));
        failed(&mut known, start + KEPT);
        let plan = known.plan(start + KEPT);
        let error = plan.result.unwrap().unwrap_err();
        assert_eq!((plan.look, &*error.to_string()), (false, "no such host"));
        looked_up(&mut known, start + KEPT + FAILED, 2);
    }

    #[test]
    fn an_old_answer_is_not_used_while_a_lookup_takes_its_time() {
        let (mut known, start) = (Known::default(), Instant::now());
        looked_up(&mut known, start, 1);
        assert_eq!(ports(known.plan(start + KEPT)), (true, None));
        assert_eq!(ports(known.plan(start + KEPT)), (false, None));
    }

    #[tokio::test]
    async fn many_who_ask_start_one_lookup() {
        let name = Arc::new(Name::default());
        let calls = Arc::new(AtomicUsize::new(0));
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let ask = || {
            name.resolve_by(|| {
                let (calls, released) = (Arc::clone(&calls), Arc::clone(&released));
                move || {
                    calls.fetch_add(1, SeqCst);
                    let _ = released.lock().unwrap().recv();
                    Ok(vec![address(7)])
                }
            })
        };
        let all = futures_util::future::join_all((0..100).map(|_| ask()));
        let release = async {
            tokio::task::yield_now().await;
            release.send(()).unwrap();
        };
        let (all, ()) = tokio::join!(all, release);
        assert!(
            all.iter()
                .all(|it| it.as_ref().unwrap()[..] == [address(7)])
        );
        assert_eq!(calls.load(SeqCst), 1);
    }
}
