//! Where an issuer's keys come from.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jsonwebtoken::Algorithm;
use smallvec::SmallVec;

use super::super::jwks::{Fetcher, Jwks, KeysAt};
use crate::{
    config::{Jwt, KeySet, KeysFrom, VerificationKey},
    exchange::{BoxFuture, Watched, WatchedFile},
    pipeline::Tools,
};

/// The keys of one issuer, now. Asked for every token that is not remembered.
pub trait KeySource: Send + Sync + 'static {
    /// Counts up whenever keys were taken away or replaced; a remembered token of another generation
    /// is verified anew. Read for every request: it must be one load.
    fn generation(&self) -> u64;

    /// The keys for a token's `kid` and `alg`, out of those that are configured for `alg`.
    fn lookup(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup;

    /// When it makes sense to try again while there are no keys, if that is known.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// What a [`KeySource`] says.
pub enum Lookup {
    /// The keys to try; at least one.
    Found(SmallVec<[Arc<VerificationKey>; 1]>),
    /// The issuer has no such key.
    Unknown,
    /// There are no keys: none could be fetched yet, or they are too old to be used.
    Unavailable,
    /// They are being fetched. It must not resolve to `Pending` again.
    Pending(BoxFuture<Lookup>),
}

impl Lookup {
    /// Looks into a set; a handful of nameless keys are tried at most.
    #[must_use]
    pub fn within(keys: &KeySet, id: Option<&str>, algorithm: Algorithm) -> Self {
        let found: SmallVec<_> = keys.find(id, algorithm).take(MOST_TRIED).cloned().collect();
        match found.is_empty() {
            true => Self::Unknown,
            false => Self::Found(found),
        }
    }
}

/// The source that a configuration names. Keys that are fetched are not waited for.
pub(super) fn source(config: &Jwt, tools: &Tools) -> Arc<dyn KeySource> {
    let at = match (&config.keys, &config.issuer) {
        (KeysFrom::Fixed(keys), _) => return Arc::new(Fixed(keys.clone())),
        (KeysFrom::JwksFile(path), _) => return Arc::new(FileKeys::watch(path, config, tools)),
        (KeysFrom::JwksUrl(url), _) => KeysAt::Url(url.clone()),
        // A checked configuration has an issuer then; the metadata of none are at no URL.
        (KeysFrom::Discovery, issuer) => KeysAt::Issuer(issuer.clone().unwrap_or_default()),
    };
    let fetcher = Fetcher {
        client: Arc::clone(&tools.subrequest),
        at,
        algorithms: config.algorithms.clone(),
        timeout: config.refresh.timeout,
    };
    Arc::new(Jwks::start(&config.name, fetcher, &config.refresh, tools))
}

/// Keys that stand in the configuration: they change with a reload, which
/// makes a new source.
pub struct Fixed(pub KeySet);

impl KeySource for Fixed {
    fn generation(&self) -> u64 {
        0
    }

    fn lookup(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        Lookup::within(&self.0, id, algorithm)
    }
}

/// Keys in a file, which is read again when it changes.
struct FileKeys {
    keys: Watched<KeySet>,
    generation: Arc<AtomicU64>,
}

impl FileKeys {
    fn watch(path: &Path, config: &Jwt, tools: &Tools) -> Self {
        let generation = Arc::<AtomicU64>::default();
        let (counted, metrics) = (Arc::clone(&generation), tools.metrics.file(&config.name));
        let file = WatchedFile {
            owner: Arc::clone(&config.name),
            path: path.to_owned(),
            most: LARGEST_FILE,
            report: Box::new(move |usable| {
                metrics.was_read(usable);
                // Told when the new keys are in place: a token that was verified with the old ones
                // must not be remembered under the new number.
                counted.fetch_add(u64::from(usable), Ordering::Release);
            }),
        };
        let algorithms = config.algorithms.clone();
        let parse = move |text: &str| KeySet::from_jwks(text, &algorithms);
        Self {
            keys: tools.files.watch(file, parse),
            generation,
        }
    }
}

impl KeySource for FileKeys {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn lookup(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        match &*self.keys.get() {
            Some(keys) => Lookup::within(keys, id, algorithm),
            None => Lookup::Unavailable,
        }
    }
}

/// Each costs a verification.
const MOST_TRIED: usize = 4;
const LARGEST_FILE: u64 = 1 << 20;
