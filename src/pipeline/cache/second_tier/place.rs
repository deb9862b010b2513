//! Under which keys the answers to a request stand.
//!
//! All of them hold the digest of the URL in braces, so that one node of a cluster has them.

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{
    super::{
        Visit,
        codec::MARK,
        key::Key,
        policy::{Audience, Nominated},
        purge_log::{guard_key, hex, url_tag},
    },
    SecondTier,
};

/// Where the answers of one request stand.
pub(in crate::pipeline::cache) struct Place {
    pub(super) tag: String,
    pub(super) guard: String,
    /// Those of everybody, behind those of the caller if it has any.
    pub(super) shelves: Vec<Shelf>,
}

/// Where the answers stand that are for everybody, or for one caller.
pub(super) struct Shelf {
    /// Its key in Redis.
    pub(super) name: String,
    /// What that is a digest of.
    pub(super) key: Vec<u8>,
    pub(super) audience: Audience,
}

impl SecondTier {
    /// Where the answers to a request stand. `whole` tells whether all of the query counts.
    pub(in crate::pipeline::cache) fn place(&self, visit: &Visit, whole: bool) -> Place {
        let target = &*visit.target;
        let target = match whole {
            true => target,
            false => target.split('?').next().unwrap_or_default(),
        };
        let prefix = self.redis.prefix();
        let tag = url_tag(&visit.host, target, whole);
        let shelf = |key: &Key, audience| Shelf::new((prefix, &tag), key, audience);
        let callers = visit.keys.caller.as_ref();
        let callers = callers.map(|key| shelf(key, Audience::Caller));
        let everyones = shelf(&visit.keys.everyone, Audience::Everyone);
        Place {
            guard: guard_key(prefix, &tag),
            shelves: callers.into_iter().chain([everyones]).collect(),
            tag,
        }
    }
}

impl Place {
    /// The key of the turn for what a request waits for.
    pub(super) fn lease(&self, nominated: Option<&Nominated>, visit: &Visit) -> String {
        // Those of one caller wait for each other, where callers have answers of their own.
        let name = match (self.shelves.first(), nominated) {
            (Some(shelf), Some(nominated)) => shelf.variant(nominated, &visit.headers),
            (Some(shelf), None) => shelf.name.clone(),
            (None, _) => self.guard.clone(),
        };
        match &visit.keys.waiting {
            // Of others than those of its kind it waits for none here either.
            Some((_, kind)) => format!("{name}:{kind}:turn"),
            None => name + ":turn",
        }
    }
}

impl Shelf {
    /// That of a key, among those of a URL.
    pub(super) fn new((prefix, tag): (&str, &str), key: &Key, audience: Audience) -> Self {
        let key = key.canonical();
        // Gateways of another version have values of their own beside it, which they would else take for none
        // and write over, and so would each of theirs.
        let digest = Sha256::new().chain_update(MARK).chain_update(&key);
        Self {
            name: format!("{prefix}cache:{{{tag}}}:{}", hex(&digest.finalize())),
            key,
            audience,
        }
    }

    /// The key of the variant that a request selects.
    pub(super) fn variant(&self, nominated: &Nominated, request: &HeaderMap) -> String {
        self.variant_of(nominated, nominated.key(request).as_bytes())
    }

    pub(super) fn variant_of(&self, nominated: &Nominated, variant: &[u8]) -> String {
        let mut digest = Sha256::new();
        for name in nominated.names() {
            digest.update(name.as_str());
            digest.update([0]);
        }
        digest.update([0, u8::from(nominated.is_by_identity())]);
        digest.update(variant);
        format!("{}+{}", self.name, hex(&digest.finalize()))
    }
}
