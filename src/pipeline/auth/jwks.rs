//! The keys of an issuer, fetched from its URL and kept fresh beside requests.
//!
//! One task on the control runtime does all fetching, so there is one fetch at a time whoever asks.
//! It starts with the first configuration that names the issuer and holds up nothing: only requests
//! that need these keys wait, and not for long. Keys are fetched anew before they expire; while the
//! provider is away the old ones serve, up to `max_stale`. A token that names an unknown key has
//! them fetched at once, but not more often than `cooldown` allows: anybody can make up names.
//!
//! The generation counts changes of the keys, not fetches, so that what was verified with keys that
//! are still the same need not be verified again.

mod fetch;
mod schedule;
mod unknown;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use jsonwebtoken::Algorithm;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::timeout,
};

use super::jwt::keys::{KeySource, Lookup};
use crate::{
    config::{KeyRefresh, KeySet},
    exchange::{BoxFuture, Clock},
    pipeline::Tools,
    telemetry::IssuerMetrics,
};
use fetch::{FetchError, Fetched};
pub(super) use fetch::{Fetcher, KeysAt};
use unknown::Unknown;

/// The keys of one issuer. Dropping it ends the fetching.
pub(super) struct Jwks {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    /// Whose keys: `jwt.customers`.
    name: Arc<str>,
    fetcher: Fetcher,
    timing: KeyRefresh,
    clock: Clock,
    metrics: IssuerMetrics,
    held: ArcSwapOption<Held>,
    /// Counts changes of the keys. Written behind them: a token that was verified with the old ones
    /// must not be remembered under the new number.
    generation: AtomicU64,
    flight: Mutex<Flight>,
    /// Told when somebody wants a fetch before it is due.
    wanted: Notify,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    unknown: Mutex<Unknown>,
}

/// The keys that were fetched last.
struct Held {
    keys: Arc<KeySet>,
    /// When a fetch confirmed them last.
    confirmed: Duration,
}

/// What the fetching task is about.
#[derive(Default)]
struct Flight {
    /// A fetch is under way, or has been asked for.
    running: bool,
    /// When the last one began.
    began: Option<Duration>,
    /// When the next one is due.
    due: Duration,
}

impl Jwks {
    /// Starts to fetch the keys of an issuer.
    pub(super) fn start(
        name: &Arc<str>,
        fetcher: Fetcher,
        timing: &KeyRefresh,
        tools: &Tools,
    ) -> Self {
        let shared = Arc::new(Shared {
            name: Arc::clone(name),
            fetcher,
            timing: timing.clone(),
            clock: tools.clock.clone(),
            metrics: tools.metrics.issuer(name),
            held: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            // The task fetches as soon as it runs, which may be after the first request.
            flight: Mutex::new(Flight {
                running: true,
                ..Flight::default()
            }),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
            unknown: Mutex::default(),
        });
        let task = tools.control.spawn(keep_fresh(Arc::clone(&shared)));
        Self {
            shared,
            task: task.abort_handle(),
        }
    }
}

impl KeySource for Jwks {
    fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    fn lookup(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        let shared = &self.shared;
        let now = shared.clock.now();
        let found = shared.lookup(id, algorithm, now);
        let awaited = match &found {
            Lookup::Unavailable => None,
            Lookup::Unknown if id.is_some_and(|id| !shared.has(id)) => id,
            _ => return found,
        };
        let Some(fetched) = shared.fetch(awaited, now) else {
            // A fetch may have ended since the first look: then it is the reason that there is no other.
            return shared.lookup(id, algorithm, now);
        };
        let (shared, id) = (Arc::clone(shared), id.map(Box::<str>::from));
        Lookup::Pending(Box::pin(async move {
            fetched.await;
            shared.lookup(id.as_deref(), algorithm, shared.clock.now())
        }))
    }

    fn retry_after(&self) -> Option<Duration> {
        let due = self.shared.flight().due;
        Some(
            due.saturating_sub(self.shared.clock.now())
                .max(SHORTEST_RETRY),
        )
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jwks").field(&self.shared.name).finish()
    }
}

/// Fetches for ever, when it is due or wanted.
async fn keep_fresh(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        shared.begin();
        // A key that makes a parser panic must not end the fetching for good.
        let fetch = AssertUnwindSafe(shared.fetcher.fetch()).catch_unwind();
        let wait = match fetch.await.unwrap_or(Err(FetchError::Panicked)) {
            Ok(fetched) => {
                failures = 0;
                shared.take(fetched)
            }
            Err(error) => {
                failures += 1;
                shared.failed(&error, failures)
            }
        };
        let due = shared.end(wait);
        tokio::select! {
            () = shared.wanted.notified() => {}
            () = shared.clock.sleep_until(due) => {}
        }
    }
}

impl Shared {
    fn lookup(&self, id: Option<&str>, algorithm: Algorithm, now: Duration) -> Lookup {
        match &*self.held.load() {
            Some(held) if !self.is_too_old(held, now) => Lookup::within(&held.keys, id, algorithm),
            _ => Lookup::Unavailable,
        }
    }

    fn is_too_old(&self, held: &Held, now: Duration) -> bool {
        now.saturating_sub(held.confirmed) > self.timing.max_stale
    }

    /// Whether there is a key of that name, for whatever algorithm.
    fn has(&self, id: &str) -> bool {
        let is_named = |held: &Arc<Held>| {
            let mut keys = held.keys.keys().iter();
            keys.any(|key| key.id.as_deref() == Some(id))
        };
        self.held.load().as_ref().is_some_and(is_named)
    }

    /// Waits for a fetch that may bring the key of that name, or any key if none is named. `None`
    /// when waiting is of no use: the name was looked for already, or it is too early to fetch.
    fn fetch(self: &Arc<Self>, id: Option<&str>, now: Duration) -> Option<BoxFuture<()>> {
        let mut ended = self.ended.subscribe();
        if id.is_some_and(|id| self.unknown().contains(id, now)) {
            self.metrics.unknown_remembered.inc();
            return None;
        }
        let is_coming = self.ask(now);
        if id.is_some() {
            match is_coming {
                true => self.metrics.unknown_fetched.inc(),
                false => self.metrics.unknown_in_cooldown.inc(),
            }
        }
        if !is_coming {
            return None;
        }
        let (shared, id) = (Arc::clone(self), id.map(Box::<str>::from));
        Some(Box::pin(async move {
            // Too long, or the task has ended: the caller looks again and finds what there is.
            let _ = timeout(shared.timing.wait, ended.changed()).await;
            if let Some(id) = id {
                shared.note_unknown(&id, now);
            }
        }))
    }

    /// Asks for a fetch; `false` when none is under way and the last one is too short a time ago.
    fn ask(&self, now: Duration) -> bool {
        let mut flight = self.flight();
        let cool = |began| now.saturating_sub(began) >= self.timing.cooldown;
        if !flight.running && flight.began.is_none_or(cool) {
            flight.running = true;
            self.wanted.notify_one();
        }
        flight.running
    }

    fn begin(&self) {
        self.drop_too_old();
        let mut flight = self.flight();
        flight.running = true;
        flight.began = Some(self.clock.now());
        // Whoever asked just before gets this fetch, and not another one behind it.
        let _ = self.wanted.notified().now_or_never();
    }

    /// Tokens that were verified with keys too old to be used are not to be remembered either.
    fn drop_too_old(&self) {
        let held = self.held.load_full();
        if held.is_some_and(|held| self.is_too_old(&held, self.clock.now())) {
            self.held.store(None);
            self.generation.fetch_add(1, Ordering::Release);
            self.metrics.lost();
            let issuer = &self.name;
            tracing::error!(%issuer, "the issuer's keys are too old and could not be fetched again");
        }
    }

    /// Wakes those who wait; tells when the next fetch is due.
    fn end(&self, wait: Duration) -> Duration {
        let now = self.clock.now();
        let held = self.held.load();
        // Looked at when they become too old, too.
        let expiry = held
            .as_ref()
            .map(|held| held.confirmed.saturating_add(self.timing.max_stale));
        let expiry = expiry.map_or(Duration::MAX, |expiry| expiry.saturating_add(TICK));
        let mut flight = self.flight();
        flight.running = false;
        flight.due = now.saturating_add(wait).min(expiry);
        // Under the lock: who asks from now on waits for another fetch.
        self.ended.send_modify(|ended| *ended += 1);
        flight.due
    }

    /// Takes over what was fetched; tells how long it is good for.
    fn take(&self, fetched: Fetched) -> Duration {
        let running = self.held.load_full();
        let unchanged = running.filter(|held| *held.keys == fetched.keys);
        let is_new = unchanged.is_none();
        let keys = unchanged.map_or_else(|| Arc::new(fetched.keys), |held| Arc::clone(&held.keys));
        self.metrics.fetched(keys.keys().len(), self.clock.wall());
        let confirmed = self.clock.now();
        let held = Held {
            keys: Arc::clone(&keys),
            confirmed,
        };
        self.held.store(Some(Arc::new(held)));
        if is_new {
            self.generation.fetch_add(1, Ordering::Release);
            self.changed(&keys);
        }
        schedule::after_success(fetched.max_age, &self.timing, fastrand::f64())
    }

    fn changed(&self, keys: &KeySet) {
        self.unknown().clear();
        let (issuer, keys) = (&self.name, keys.keys().len());
        tracing::info!(%issuer, keys, "the issuer's keys are new");
    }

    fn failed(&self, error: &FetchError, failures: u32) -> Duration {
        self.metrics.failed();
        let (issuer, kept) = (&self.name, self.held.load().is_some());
        tracing::warn!(%issuer, %error, failures, kept, "the issuer's keys could not be fetched");
        schedule::after_failure(failures, fastrand::f64())
    }

    /// Remembers a name that a fetch did not bring. What a failed fetch would have brought is open.
    fn note_unknown(&self, id: &str, asked: Duration) {
        let held = self.held.load();
        let was_fetched = held.as_ref().is_some_and(|held| held.confirmed >= asked);
        if was_fetched && !self.has(id) {
            let until = self.clock.now().saturating_add(UNKNOWN_FOR);
            self.unknown().remember(id, until);
        }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        // Whole after a panic elsewhere: nothing in between its writes can panic.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unknown(&self) -> MutexGuard<'_, Unknown> {
        // Forgetting a name, or knowing it twice, does no harm.
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a name that no key has is not looked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(300);
/// Just behind a moment.
const TICK: Duration = Duration::from_millis(1);
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
