//! The keys of a file, ready to be looked up.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::SystemTime};

use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::uses::{LastUse, Uses};
use crate::{
    config::{KeyHash, KeysFile, StoredKey},
    exchange::{Context, KeyState, Principal, Reason, api_key::KeyDigest},
    pipeline::auth::method::Grant,
};

/// Keys by their hashes.
pub struct KeyTable {
    by_hash: HashMap<[u8; 32], Shown, RandomState>,
    keys: Vec<Arc<Key>>,
}

/// What a hash leads to: a key, or one that it has replaced.
struct Shown {
    key: Arc<Key>,
    grant: Arc<Grant>,
    /// Until when a replaced key is good.
    until: Option<SystemTime>,
}

/// One key.
struct Key {
    principal: Arc<Principal>,
    created: Option<SystemTime>,
    not_before: Option<SystemTime>,
    expires: Option<SystemTime>,
    revoked: bool,
    routes: Box<[Box<str>]>,
    networks: Box<[IpNet]>,
    used: Arc<LastUse>,
}

impl KeyTable {
    /// The keys of a file; `method` is the full name of whose they are.
    pub(super) fn new(method: &Arc<str>, file: &KeysFile, uses: &Uses) -> Self {
        let uses = uses.of(file.keys.keys());
        let mut table = Self {
            by_hash: HashMap::with_capacity_and_hasher(file.keys.len(), RandomState::default()),
            keys: Vec::with_capacity(file.keys.len()),
        };
        for (id, stored) in &file.keys {
            let used = uses.get(id).map(Arc::clone).unwrap_or_default();
            let principal = principal(method, id, stored, stored.expires);
            let key = Arc::new(Key::new(&principal, stored, used));
            for (hash, until) in &stored.previous {
                let earlier = stored.expires.map_or(*until, |expires| expires.min(*until));
                let principal = self::principal(method, id, stored, Some(earlier));
                table.insert(hash, &key, &principal, Some(*until));
            }
            table.insert(&stored.hash, &key, &principal, None);
            table.keys.push(key);
        }
        table
    }

    fn insert(
        &mut self,
        hash: &KeyHash,
        key: &Arc<Key>,
        principal: &Arc<Principal>,
        until: Option<SystemTime>,
    ) {
        let grant = Arc::new(Grant {
            principal: Arc::clone(principal),
            headers: Box::default(),
        });
        let key = Arc::clone(key);
        self.by_hash.insert(hash.0, Shown { key, grant, until });
    }

    /// The keys of a file, for whoever measures how they are looked up.
    #[must_use]
    pub fn of(method: &Arc<str>, file: &KeysFile) -> Self {
        Self::new(method, file, &Uses::default())
    }

    /// The grant of the key with a digest, if it is good for a request.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn admit(&self, digest: &KeyDigest, context: &Context) -> Result<Arc<Grant>, Reason> {
        let shown = self.by_hash.get(&digest.bytes());
        let shown = shown.ok_or(Reason::ApiKeyUnknown)?;
        let key = &shown.key;
        let route = context.route().map(|route| &**route);
        key.check(context.started_at, shown.until)?;
        key.check_place(route, context.client)?;
        key.used.note(context.started_at);
        Ok(Arc::clone(&shown.grant))
    }

    pub(super) fn states(&self) -> Vec<KeyState> {
        self.keys.iter().map(|key| key.state()).collect()
    }
}

impl Key {
    fn new(principal: &Arc<Principal>, stored: &StoredKey, used: Arc<LastUse>) -> Self {
        Self {
            principal: Arc::clone(principal),
            created: stored.created,
            not_before: stored.not_before,
            expires: stored.expires,
            revoked: stored.revoked.is_some(),
            routes: boxed(&stored.routes),
            networks: stored.cidrs.clone().into(),
            used,
        }
    }

    fn check(&self, now: SystemTime, until: Option<SystemTime>) -> Result<(), Reason> {
        let past = |moment: Option<SystemTime>| moment.is_some_and(|moment| moment <= now);
        if self.revoked {
            return Err(Reason::ApiKeyRevoked);
        }
        if past(self.expires) || past(until) {
            return Err(Reason::ApiKeyExpired);
        }
        match self.not_before.is_some_and(|from| from > now) {
            true => Err(Reason::ApiKeyNotYetValid),
            false => Ok(()),
        }
    }

    /// Whether the key may be used on a route and from an address.
    fn check_place(&self, route: Option<&str>, client: IpAddr) -> Result<(), Reason> {
        let mut routes = self.routes.iter();
        let route = self.routes.is_empty() || routes.any(|allowed| route == Some(&**allowed));
        let from = |network: &IpNet| network.contains(&client);
        let network = self.networks.is_empty() || self.networks.iter().any(from);
        match route && network {
            true => Ok(()),
            false => Err(Reason::ApiKeyNotAllowedHere),
        }
    }

    fn state(&self) -> KeyState {
        let principal = &self.principal;
        KeyState {
            name: principal.name.to_string(),
            id: principal.subject.to_string(),
            roles: principal.roles.iter().map(ToString::to_string).collect(),
            created: self.created,
            not_before: self.not_before,
            expires: self.expires,
            revoked: self.revoked,
            last_used: self.used.get(),
        }
    }
}

/// Who shows the key: made once, so that a request makes nothing.
fn principal(
    method: &Arc<str>,
    id: &str,
    stored: &StoredKey,
    expires: Option<SystemTime>,
) -> Arc<Principal> {
    Arc::new(Principal {
        roles: boxed(&stored.roles),
        permissions: boxed(&stored.permissions),
        expires,
        quotas: stored.quota.clone().into(),
        ..Principal::new(method, id)
    })
}

fn boxed(words: &[String]) -> Box<[Box<str>]> {
    words.iter().map(|word| word.as_str().into()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::exchange::{
        Clock, Connection, ContextParts, Peer, Protocol, RequestHead, RequestId, TraceContext,
        api_key,
    };

    fn stored(hash: [u8; 32]) -> StoredKey {
        StoredKey {
            hash: KeyHash(hash),
            previous: Vec::new(),
            roles: Vec::new(),
            permissions: Vec::new(),
            created: None,
            not_before: None,
            expires: None,
            revoked: None,
            routes: Vec::new(),
            cidrs: Vec::new(),
            quota: Vec::new(),
        }
    }

    fn context() -> Context {
        let connection = Connection::new(0, "http".into(), Peer::Unix, false, Protocol::Http1);
        let clock = Clock::system();
        let started_at = clock.wall();
        Context::new(ContextParts {
            connection: Arc::new(connection),
            id: RequestId::generate(started_at),
            trace: TraceContext::generate(),
            client: Peer::Unix.ip(),
            forwarded_for: None,
            scheme: "http",
            forwarded_host: None,
            head: RequestHead::default(),
            clock,
            started_at,
        })
    }

    #[test]
    fn one_key_is_found_among_a_hundred_thousand() {
        let digest = || api_key::hash(api_key::generate().unwrap().as_bytes()).unwrap();
        let (mine, elsewhere) = (digest(), digest());
        let mut random = fastrand::Rng::with_seed(7);
        let mut keys = BTreeMap::from([(Arc::from("mine"), stored(mine.bytes()))]);
        for number in 1..100_000 {
            let mut hash = [0; 32];
            random.fill(&mut hash);
            keys.insert(Arc::from(number.to_string()), stored(hash));
        }
        let table = KeyTable::of(&"api_keys.partners".into(), &KeysFile { keys });
        let grant = table.admit(&mine, &context()).unwrap();
        assert_eq!(&*grant.principal.subject, "mine");
        let unknown = table.admit(&elsewhere, &context()).unwrap_err();
        assert_eq!(unknown, Reason::ApiKeyUnknown);
    }
}
