//! One limit as it runs, shared by its routes.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderName;
use quick_cache::sync::Cache;

use super::{
    key::{KeyBytes, Part, Subject, key_of_text},
    lease::InAdvance,
    shared::Shared,
    tier::Tier,
};
use crate::{
    config::{
        LARGEST_EXACT, LimitAlgorithm, LimitKey, LimitStore, LimitedWho, MissingKey, Quota,
        RateLimit,
    },
    exchange::{Clock, Context, Principal, Request},
    store::{
        Counters, Counting, FixedWindow, InFlight, KeyHash, KeyHasher, Redis, SlidingLog,
        SlidingWindow, TokenBucket, nanos,
    },
    telemetry::{Metrics, TableMetrics},
};

/// A limit and its counters.
pub struct Limit {
    pub(super) config: RateLimit,
    pub(super) counters: Arc<LimitCounters>,
    /// Whether it counts by the client's address, and by nothing else.
    by_address: bool,
    /// Set when it is counted in Redis; the counters are then for when that is away.
    pub(super) shared: Option<Shared>,
    tier: Arc<Tier>,
    anonymous: Option<Arc<Tier>>,
    principals: HashMap<Box<str>, Arc<Tier>>,
    /// The most generous first.
    roles: Vec<(Box<str>, Arc<Tier>)>,
    /// Tiers of principals that bring quotas of their own.
    brought: Cache<Box<[(u64, Duration)]>, Arc<Tier>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

/// What is asked of a limit for one request.
pub(super) struct Ask {
    pub(super) key: KeyHash,
    /// The caller's quota, where that is another than the limit's own, which is borrowed: a clone of it
    /// would be a write to a count that all workers share.
    other_tier: Option<Arc<Tier>>,
    /// What was taken in advance for it.
    pub(super) in_advance: InAdvance,
}

/// Whether, and by what, a request is counted.
pub(super) enum Asked {
    /// It is counted.
    Ask(Ask),
    /// It is exempt, or has no key and is let through.
    Skip,
    /// It has no key and is refused.
    NoKey,
}

impl Ask {
    /// The quota of whom the request is counted for.
    pub(super) fn tier<'a>(&'a self, limit: &'a Limit) -> &'a Arc<Tier> {
        limit.tier_or_own(self.other_tier.as_ref())
    }
}

impl Limit {
    /// A limit; the counters of the running one live on where they still count the same.
    pub(super) fn new(
        config: &RateLimit,
        clock: &Clock,
        metrics: &Arc<Metrics>,
        running: Option<&Self>,
        redis: Option<&Arc<Redis>>,
    ) -> Self {
        let kept = running.filter(|running| running.counts_like(config));
        let counters = kept.map(|running| Arc::clone(&running.counters));
        let counters = counters.unwrap_or_else(|| {
            Arc::new(LimitCounters::new(
                config,
                clock,
                metrics.limit_table(&config.name),
            ))
        });
        let tier = Tier::new(config.into(), &config.quota, config.bucket);
        let other = |quotas: &[Quota]| Tier::beside(&tier, config.into(), quotas);
        let anonymous = (!config.anonymous.is_empty()).then(|| other(&config.anonymous));
        let (mut principals, mut roles) = (HashMap::new(), Vec::new());
        for (who, quotas) in &config.overrides {
            match who {
                LimitedWho::Principal(name) => drop(principals.insert(name.clone(), other(quotas))),
                LimitedWho::Role(role) => roles.push((role.clone(), other(quotas))),
            }
        }
        roles.sort_by_key(|(_, tier)| std::cmp::Reverse(tier.generosity()));
        Self {
            tier,
            anonymous,
            principals,
            roles,
            brought: Cache::new(MOST_BROUGHT),
            counters,
            by_address: matches!(*config.key, [LimitKey::ClientIp]) && !config.per_route,
            shared: match config.store {
                LimitStore::Memory => None,
                LimitStore::Redis => Shared::new(config, redis),
            },
            config: config.clone(),
            metrics: Arc::clone(metrics),
            clock: clock.clone(),
        }
    }

    /// Whether it goes on with this Redis, or needs none.
    pub(super) fn counts_in(&self, redis: Option<&Arc<Redis>>) -> bool {
        let ours = self.shared.as_ref().map(|shared| &shared.redis);
        ours.is_none_or(|ours| redis.is_some_and(|redis| Arc::ptr_eq(ours, redis)))
    }

    /// Whether it stands behind authentication.
    pub(super) fn is_by_caller(&self) -> bool {
        self.config.is_by_caller()
    }

    /// Whether what is taken of it is held until the request is over, and not used up.
    pub(super) fn is_held(&self) -> bool {
        self.config.algorithm.is_held()
    }

    /// The header fields that it counts by.
    pub fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.config.key.iter().filter_map(|key| match key {
            LimitKey::Header(name) => Some(name),
            _ => None,
        })
    }

    /// By what a request is counted, and how much it may. `ignore_case` is what the route says about
    /// paths.
    pub(super) fn ask(&self, request: &Request, context: &Context, ignore_case: bool) -> Asked {
        if self.is_exempt(context) {
            return Asked::Skip;
        }
        let subject = Subject {
            request,
            context,
            ipv6_prefix: self.config.ipv6_prefix,
            ignore_case,
        };
        // Nobody has another quota then: who calls is not known yet.
        if self.by_address {
            let hash = |hasher: &KeyHasher| subject.address_hash(hasher);
            return Asked::Ask(self.question(hash, None, subject));
        }
        let mut bytes = KeyBytes::new();
        let of_one = match self.key(subject, &mut bytes) {
            Ok(of_one) => of_one,
            Err(asked) => return asked,
        };
        let (who, other) = self.tier_of(context.principal().map(|principal| &**principal));
        let tier = self.tier_or_own(other.as_ref());
        if let Some(apart) = self.apart(of_one, who, tier) {
            Part::Bytes(apart).write(&mut bytes);
        }
        let hash = |hasher: &KeyHasher| hasher.hash(&bytes);
        Asked::Ask(self.question(hash, other, subject))
    }

    /// The question about a key that `hash` hashes.
    fn question(
        &self,
        hash: impl Fn(&KeyHasher) -> KeyHash,
        other_tier: Option<Arc<Tier>>,
        subject: Subject<'_>,
    ) -> Ask {
        let tier = self.tier_or_own(other_tier.as_ref());
        let leases = self.shared.as_ref().and_then(|it| it.leases.as_ref());
        let in_advance = leases.map_or(InAdvance::Never, |it| it.find(&hash, tier));
        let key = match &in_advance {
            InAdvance::Held(lease) => lease.key,
            InAdvance::Never | InAdvance::Not(_) => hash(&self.counters.hasher),
        };
        self.counters.show(key, || self.shown(subject));
        Ask {
            key,
            other_tier,
            in_advance,
        }
    }

    /// The limit's own quota.
    pub(super) fn tier(&self) -> &Arc<Tier> {
        &self.tier
    }

    fn tier_or_own<'a>(&'a self, other: Option<&'a Arc<Tier>>) -> &'a Arc<Tier> {
        other.unwrap_or(&self.tier)
    }

    /// The keys that an operator may mean, and the quota by which each is told: by its hash, or by its
    /// value where the key has one part. A value can look like a hash, and may be several keys: of
    /// callers who are counted apart, and of clients that have no key but their address.
    pub(super) fn keys_named(&self, text: &str) -> Vec<(KeyHash, &Tier)> {
        let meant = self.meant(text);
        let hash = KeyHash::parse(text).map(|hash| (hash, meant.1));
        let mut named: Vec<_> = hash.into_iter().collect();
        let [key] = &*self.config.key else {
            return named;
        };
        if self.config.per_route {
            return named;
        }
        let of_text = |key: &LimitKey| key_of_text(key, text, self.config.ipv6_prefix);
        let mut values = vec![(of_text(key), key.tells_callers_apart())];
        if self.config.on_missing_key == MissingKey::ClientIp {
            values.push((of_text(&LimitKey::ClientIp), false));
        }
        values.dedup_by(|next, first| next.0 == first.0);
        for (value, of_one) in &values {
            for (apart, tier) in self.counted_as(*of_one, meant) {
                let mut value = value.clone();
                if let Some(apart) = apart {
                    Part::Bytes(apart).write(&mut value);
                }
                named.push((self.counters.hasher.hash(&value), tier));
            }
        }
        named
    }

    /// Whom an operator names, where it is not all, and what they may, as far as the name tells: a
    /// principal, or callers without one. What a credential brings is known to nobody but it.
    fn meant(&self, text: &str) -> (Option<&str>, &Tier) {
        let own = (None, &*self.tier);
        if self.config.key.len() > 1 || !self.config.tells_callers_apart() {
            return own;
        }
        if let Some((name, tier)) = self.principals.get_key_value(text) {
            return (Some(&**name), &**tier);
        }
        match &self.anonymous {
            Some(anonymous) if text.parse::<IpAddr>().is_ok() => (Some(""), &**anonymous),
            _ => own,
        }
    }

    /// What is written behind a key that is counted apart from others with the same parts. Where several
    /// callers share it, those of whom a quota was said are counted by themselves: a faster rate would
    /// pay off the others' debt too. Else one caller may have two tiers, by two tokens; those of the same
    /// times count together. What a credential brings is always the same. No time pays off what is held.
    fn apart<'a>(&self, of_one: bool, who: Option<&'a str>, tier: &'a Tier) -> Option<&'a [u8]> {
        match of_one || self.is_held() {
            true => tier.apart.as_deref(),
            false => who.map(str::as_bytes),
        }
    }

    /// In which ways a key may be counted, each once, and by which quota: that of whom the operator
    /// means, the limit's own, and those of all who are counted apart.
    fn counted_as<'a>(
        &'a self,
        of_one: bool,
        meant: (Option<&'a str>, &'a Tier),
    ) -> Vec<(Option<&'a [u8]>, &'a Tier)> {
        let roles = self.roles.iter();
        let roles = roles.map(|(role, tier)| (Some(&**role), &**tier));
        let anonymous = self.anonymous.iter().map(|tier| (Some(""), &**tier));
        let principals = self.principals.iter();
        let principals = principals.map(|(name, tier)| (Some(&**name), &**tier));
        let others = roles.chain(anonymous).chain(principals);
        let all = [meant, (None, &*self.tier)].into_iter().chain(others);
        let mut seen = HashSet::new();
        all.map(|(who, tier)| (self.apart(of_one, who, tier), tier))
            .filter(|(apart, _)| seen.insert(*apart))
            .collect()
    }

    /// Whether a limit of that configuration can go on with these counters: it tells the same keys
    /// apart in the same way. A changed quota is no obstacle: every state knows its own.
    fn counts_like(&self, config: &RateLimit) -> bool {
        let identity = |config: &RateLimit| {
            (
                config.key.clone(),
                config.algorithm,
                config.exact,
                windows(config),
                times(config),
                config.per_route,
                config.ipv6_prefix,
                config.show_keys,
                config.store,
            )
        };
        identity(&self.config) == identity(config)
    }

    fn is_exempt(&self, context: &Context) -> bool {
        let networks = &self.config.exempt_networks;
        if networks
            .iter()
            .any(|network| network.contains(&context.client))
        {
            return true;
        }
        let callers = &self.config.exempt_callers;
        let Some(principal) = context.principal().filter(|_| !callers.is_empty()) else {
            return false;
        };
        callers.iter().any(|who| match who {
            LimitedWho::Principal(name) => **name == *principal.name,
            LimitedWho::Role(role) => principal.has_role(role),
        })
    }

    /// Writes the key; tells whether it is that of one caller: several without the part that tells them
    /// apart may have one address. Without a key, what becomes of the request.
    fn key(&self, subject: Subject<'_>, bytes: &mut KeyBytes) -> Result<bool, Asked> {
        if self.config.per_route {
            subject.part(&LimitKey::Route).write(bytes);
        }
        let mut of_one = false;
        for key in &self.config.key {
            let mut part = subject.part(key);
            if part.is_missing() {
                part = match self.config.on_missing_key {
                    MissingKey::ClientIp => subject.address(),
                    MissingKey::Skip => return Err(Asked::Skip),
                    MissingKey::Refuse => return Err(Asked::NoKey),
                };
            } else {
                of_one |= key.tells_callers_apart();
            }
            part.write(bytes);
        }
        Ok(of_one)
    }

    /// The key as an operator reads it.
    fn shown(&self, subject: Subject<'_>) -> String {
        let mut text = String::new();
        if self.config.per_route {
            subject.part(&LimitKey::Route).show(&mut text);
        }
        for key in &self.config.key {
            if !text.is_empty() {
                text.push(',');
            }
            match subject.part(key) {
                part if part.is_missing() => subject.address().show(&mut text),
                part => part.show(&mut text),
            }
        }
        text
    }

    /// What was said of the principal itself comes first, then what it brings, then its best role.
    /// Tells besides of whom that was said, where it was not of all. `None` for the quota: the limit's own.
    fn tier_of<'a>(
        &'a self,
        principal: Option<&'a Principal>,
    ) -> (Option<&'a str>, Option<Arc<Tier>>) {
        let Some(principal) = principal.filter(|_| self.is_by_caller()) else {
            return self.tier_of_nobody();
        };
        let name = &*principal.name;
        if let Some(named) = self.principals.get(name) {
            return (Some(name), Some(Arc::clone(named)));
        }
        if let Some(brought) = self.brought_by(principal) {
            return (None, Some(brought));
        }
        let role = self.roles.iter().find(|(role, _)| principal.has_role(role));
        match role {
            Some((role, tier)) => (Some(role), Some(Arc::clone(tier))),
            None => (None, None),
        }
    }

    fn tier_of_nobody(&self) -> (Option<&str>, Option<Arc<Tier>>) {
        match self.anonymous.as_ref().filter(|_| self.is_by_caller()) {
            Some(anonymous) => (Some(""), Some(Arc::clone(anonymous))),
            None => (None, None),
        }
    }

    /// Quotas of a credential's own: they take the place of those of a limit that counts each caller
    /// by itself.
    fn brought_by(&self, principal: &Principal) -> Option<Arc<Tier>> {
        let quotas = &*principal.quotas;
        if quotas.is_empty() || !self.config.takes_brought_quotas() {
            return None;
        }
        if let Some(tier) = self.brought.get(quotas) {
            return Some(tier);
        }
        // An exact window keeps every request, so it keeps to what the configuration allows one.
        let most = match self.config.exact {
            true => LARGEST_EXACT,
            false => u32::MAX,
        };
        let of = |&(count, per): &(u64, Duration)| Quota {
            count: u32::try_from(count).unwrap_or(u32::MAX).clamp(1, most),
            per: Some(per),
        };
        let list: Vec<_> = quotas.iter().take(MOST_WINDOWS).map(of).collect();
        let tier = Tier::brought((&self.config).into(), &list);
        self.brought.insert(quotas.into(), Arc::clone(&tier));
        Some(tier)
    }
}

/// What outlives a changed quota: the counters of one limit.
pub(super) struct LimitCounters {
    pub(super) counting: Box<dyn Counting>,
    hasher: KeyHasher,
    /// The wall clock's time when the process's clock said 0. Read once: windows begin at full
    /// minutes, and a wall clock that is set moves none.
    epoch: u64,
    /// The figures of the keys that make room, in the table and with leases.
    pub(super) table: TableMetrics,
    /// Keys in the clear, where the operator asked for that.
    shown: Option<Cache<KeyHash, Box<str>>>,
}

impl LimitCounters {
    fn new(config: &RateLimit, clock: &Clock, table: TableMetrics) -> Self {
        let wall = clock.wall().duration_since(SystemTime::UNIX_EPOCH);
        let epoch = wall.unwrap_or_default().saturating_sub(clock.now());
        let most_shown = config.max_keys.min(MOST_SHOWN);
        Self {
            counting: counting(config, table.clone()),
            table,
            hasher: match config.store {
                LimitStore::Memory => KeyHasher::default(),
                LimitStore::Redis => KeyHasher::shared(),
            },
            epoch: nanos(epoch),
            shown: config.show_keys.then(|| Cache::new(most_shown)),
        }
    }

    /// A moment of the process's clock as the counters count.
    pub(super) fn at(&self, moment: Duration) -> u64 {
        self.epoch.saturating_add(nanos(moment))
    }

    /// The key in the clear, if it is kept.
    pub(super) fn shown(&self, key: KeyHash) -> Option<Box<str>> {
        self.shown.as_ref()?.get(&key)
    }

    /// Keeps the key in the clear, where that is asked for.
    fn show(&self, key: KeyHash, shown: impl FnOnce() -> String) {
        let Some(keys) = &self.shown else { return };
        if keys.peek(&key).is_none() {
            // A key is as long as the client wants.
            let text: String = shown().chars().take(LONGEST_SHOWN).collect();
            keys.insert(key, text.into());
        }
    }
}

fn counting(config: &RateLimit, table: TableMetrics) -> Box<dyn Counting> {
    let (keys, table) = (config.max_keys, Some(table));
    match (config.algorithm, config.exact, windows(config)) {
        (LimitAlgorithm::TokenBucket, _, 1) => {
            Box::new(Counters::<TokenBucket, 1>::new(keys, table))
        }
        (LimitAlgorithm::TokenBucket, ..) => {
            Box::new(Counters::<TokenBucket, MOST_WINDOWS>::new(keys, table))
        }
        (LimitAlgorithm::SlidingWindow, true, 1) => {
            Box::new(Counters::<SlidingLog, 1>::new(keys, table))
        }
        (LimitAlgorithm::SlidingWindow, true, _) => {
            Box::new(Counters::<SlidingLog, MOST_WINDOWS>::new(keys, table))
        }
        (LimitAlgorithm::SlidingWindow, false, 1) => {
            Box::new(Counters::<SlidingWindow, 1>::new(keys, table))
        }
        (LimitAlgorithm::SlidingWindow, false, _) => {
            Box::new(Counters::<SlidingWindow, MOST_WINDOWS>::new(keys, table))
        }
        (LimitAlgorithm::FixedWindow, _, 1) => {
            Box::new(Counters::<FixedWindow, 1>::new(keys, table))
        }
        (LimitAlgorithm::FixedWindow, ..) => {
            Box::new(Counters::<FixedWindow, MOST_WINDOWS>::new(keys, table))
        }
        (LimitAlgorithm::Concurrency, ..) => Box::new(Counters::<InFlight, 1>::new(keys, table)),
    }
}

/// Room for windows: one, where no caller can have more.
fn windows(config: &RateLimit) -> usize {
    let overrides = config.overrides.iter().map(|(_, quotas)| quotas.len());
    let most = overrides
        .chain([config.quota.len(), config.anonymous.len()])
        .max();
    match most {
        Some(1) if !config.takes_brought_quotas() => 1,
        _ => MOST_WINDOWS,
    }
}

/// The times of the windows wherever there are several: they are told apart by their places, so a
/// place must not come to count another time.
fn times(config: &RateLimit) -> Vec<Vec<Option<Duration>>> {
    let overrides = config.overrides.iter().map(|(_, quotas)| quotas);
    let lists = overrides.chain([&config.quota, &config.anonymous]);
    let several = lists.filter(|quotas| quotas.len() > 1);
    several
        .map(|quotas| quotas.iter().map(|quota| quota.per).collect())
        .collect()
}

/// Windows of one limit, as the configuration has it.
const MOST_WINDOWS: usize = 4;
/// Different sets of quotas that credentials bring.
const MOST_BROUGHT: usize = 1_000;
/// Keys that are kept in the clear for the operator, and how much of each.
const MOST_SHOWN: usize = 10_000;
const LONGEST_SHOWN: usize = 200;
