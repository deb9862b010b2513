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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::timeout,
};

use crate::{
    config::{KeyRefresh, KeySet},
    exchange::{BoxFuture, Clock},
    pipeline::Tools,
    telemetry::IssuerMetrics,
};
pub(super) use fetch::KeysAt;
use fetch::{FetchError, Fetched, Fetcher};
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
    flight: Mutex<Flight>,
    /// Told when somebody wants a fetch before it is due.
    wanted: Notify,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    unknown: Mutex<Unknown>,
}

/// The keys that were fetched last.
#[derive(Clone)]
struct Held {
    keys: Arc<KeySet>,
    generation: u64,
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
    pub(super) fn start(name: &Arc<str>, fetcher: Fetcher, timing: &KeyRefresh, tools: &Tools) -> Self {
        let shared = Arc::new(Shared {
            name: Arc::clone(name),
            fetcher,
            timing: timing.clone(),
            clock: tools.clock.clone(),
            metrics: tools.metrics.issuer(name),
            held: ArcSwapOption::empty(),
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

    /// The keys and their generation at a moment; `None` without keys, or when they are too old.
    pub(super) fn at(&self, now: Duration) -> Option<(Arc<KeySet>, u64)> {
        let held = self.shared.held.load();
        let held = held.as_ref()?;
        let usable = now.saturating_sub(held.confirmed) <= self.shared.timing.max_stale;
        usable.then(|| (Arc::clone(&held.keys), held.generation))
    }

    /// Waits for a fetch that may bring the key of that name, or any key if there are none. `None`
    /// when waiting is of no use: the name was looked for already, or it is too early to fetch.
    pub(super) fn fetch(&self, id: Option<&str>) -> Option<BoxFuture<()>> {
        let shared = Arc::clone(&self.shared);
        let mut ended = shared.ended.subscribe();
        let now = shared.clock.now();
        let was_looked_for = |id| shared.unknown().contains(id, now);
        if id.is_some_and(was_looked_for) || !shared.ask(now) {
            return None;
        }
        let id: Option<Box<str>> = id.map(Into::into);
        Some(Box::pin(async move {
            // Too long, or the task has ended: the caller looks again and finds what there is.
            let _ = timeout(shared.timing.wait, ended.changed()).await;
            if let Some(id) = id {
                shared.note_unknown(&id, now);
            }
        }))
    }

    /// How long until the next fetch: when a caller without keys may try again.
    pub(super) fn retry_after(&self) -> Duration {
        let due = self.shared.flight().due;
        let left = due.saturating_sub(self.shared.clock.now());
        left.max(SHORTEST_RETRY)
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
        let mut flight = self.flight();
        flight.running = true;
        flight.began = Some(self.clock.now());
        // Whoever asked just before gets this fetch, and not another one behind it.
        let _ = self.wanted.notified().now_or_never();
    }

    /// Wakes those who wait; tells when the next fetch is due.
    fn end(&self, wait: Duration) -> Duration {
        let mut flight = self.flight();
        flight.running = false;
        flight.due = self.clock.now().saturating_add(wait);
        // Under the lock: who asks from now on waits for another fetch.
        self.ended.send_modify(|ended| *ended += 1);
        flight.due
    }

    /// Takes over what was fetched; tells how long it is good for.
    fn take(&self, fetched: Fetched) -> Duration {
        let running = self.held.load_full();
        let unchanged = running.as_ref().filter(|held| *held.keys == fetched.keys);
        let (keys, generation) = match (unchanged, &running) {
            (Some(held), _) => (Arc::clone(&held.keys), held.generation),
            (None, held) => {
                let before = held.as_ref().map_or(0, |held| held.generation);
                self.changed(&fetched.keys);
                (Arc::new(fetched.keys), before + 1)
            }
        };
        self.metrics.fetched(keys.keys().len(), self.clock.wall());
        self.held.store(Some(Arc::new(Held {
            keys,
            generation,
            confirmed: self.clock.now(),
        })));
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
        let Some(held) = held.as_ref().filter(|held| held.confirmed >= asked) else {
            return;
        };
        if !held.keys.keys().iter().any(|key| key.id.as_deref() == Some(id)) {
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
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
