//! `[rate_limits.*]`: how much who may ask for.

mod check;
mod key;
mod quota;
mod who;

use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::{
    decode::{
        Choice, Count, Flag, Format, Node, OneOrList, OptionOf, Problem, Reader, Word, table,
    },
    header::FieldName,
    source::Place,
};
pub use check::LARGEST_EXACT;
use check::check_limit;
use key::KeyName;
pub use key::LimitKey;
pub use quota::Quota;
use quota::Quotas;
pub(super) use quota::quota;
pub use who::LimitedWho;
use who::{Exempted, Overrides};

/// `[rate_limits.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The table's name: identity for reload, metrics, logs and the fields of answers.
    pub name: Arc<str>,
    /// `key`: by what callers are told apart; one part at least.
    pub key: Vec<LimitKey>,
    /// `quota`: one window at least, four at most.
    pub quota: Vec<Quota>,
    /// `algorithm`. Default token bucket.
    pub algorithm: LimitAlgorithm,
    /// `bucket`: the whole size of a token bucket. Default: the quota.
    pub bucket: Option<u32>,
    /// `exact`: a sliding window that keeps every request.
    pub exact: bool,
    /// `anonymous`: the quota of callers without a principal; empty is that of all.
    pub anonymous: Vec<Quota>,
    /// `[rate_limits.NAME.overrides]`: other quotas, by principal or role.
    pub overrides: Vec<(LimitedWho, Vec<Quota>)>,
    /// `on_missing_key`: what becomes of requests without a key.
    pub on_missing_key: MissingKey,
    /// The networks of `exempt`.
    pub exempt_networks: Vec<IpNet>,
    /// The principals and roles of `exempt`.
    pub exempt_callers: Vec<LimitedWho>,
    /// `per = "route"`: each route counts by itself.
    pub per_route: bool,
    /// `cost_header`: the field of an answer that tells what the request has cost.
    pub cost_header: Option<HeaderName>,
    /// `headers`: the fields by which answers tell how the limit stands.
    pub headers: LimitHeaders,
    /// `enforce`: false counts and logs only.
    pub enforce: bool,
    /// `ipv6_prefix`: how many bits of an IPv6 address tell callers apart.
    pub ipv6_prefix: u8,
    /// `max_keys`: keys that are held at a time.
    pub max_keys: usize,
    /// `show_keys`: the admin listener shows keys in the clear.
    pub show_keys: bool,
    /// `store`: where it is counted.
    pub store: LimitStore,
    /// `on_store_error`: what decides while Redis does not.
    pub on_store_error: OnStoreError,
    /// `lease`: how many a gateway takes of Redis at a time.
    pub lease: u32,
}

impl RateLimit {
    /// Whether the limit needs to know who calls, and so stands after authentication.
    #[must_use]
    pub fn is_by_caller(&self) -> bool {
        self.key.iter().any(LimitKey::needs_caller)
    }

    /// Whether its key tells callers apart by who they are: those at least who have that part.
    #[must_use]
    pub fn tells_callers_apart(&self) -> bool {
        self.key.iter().any(LimitKey::tells_callers_apart)
    }

    /// Whether each caller is counted by itself, over some time: then a quota that a credential brings
    /// takes the place of the limit's own.
    #[must_use]
    pub fn takes_brought_quotas(&self) -> bool {
        !self.algorithm.is_held() && self.tells_callers_apart()
    }

    /// Whether some callers have other quotas than the rest.
    #[must_use]
    pub fn has_tiers(&self) -> bool {
        let said = !self.anonymous.is_empty() || !self.overrides.is_empty();
        said || self.takes_brought_quotas()
    }

    /// The most that one request may cost: the smallest bucket, quota or tier.
    #[must_use]
    pub fn smallest(&self) -> u32 {
        let smallest = self.counts().min().unwrap_or(1);
        self.bucket.map_or(smallest, |bucket| bucket.min(smallest))
    }

    /// The largest quota or tier.
    #[must_use]
    pub fn largest(&self) -> u32 {
        self.counts().max().unwrap_or(1)
    }

    /// Whether `exempt` has every address of IPv4, or every one of IPv6.
    pub(super) fn spares_a_family(&self) -> bool {
        who::families(&self.exempt_networks) != (false, false)
    }

    fn counts(&self) -> impl Iterator<Item = u32> {
        let overrides = self.overrides.iter().flat_map(|(_, quotas)| quotas);
        let quotas = self.quota.iter().chain(&self.anonymous).chain(overrides);
        quotas.map(|quota| quota.count)
    }
}

/// `algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitAlgorithm {
    /// `"token_bucket"`: a steady rate and so many at once. The default.
    #[default]
    TokenBucket,
    /// `"sliding_window"`: so many in a window that ends now.
    SlidingWindow,
    /// `"fixed_window"`: so many from one tick of the clock to the next.
    FixedWindow,
    /// `"concurrency"`: so many at a time.
    Concurrency,
}

impl LimitAlgorithm {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let known = Self::WORDS.iter().find(|(_, algorithm)| *algorithm == self);
        known.map_or("", |(word, _)| word)
    }

    /// Whether what is taken is held until the request is over, and not used up.
    #[must_use]
    pub fn is_held(self) -> bool {
        self == Self::Concurrency
    }
}

impl Word for LimitAlgorithm {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("token_bucket", Self::TokenBucket),
        ("sliding_window", Self::SlidingWindow),
        ("fixed_window", Self::FixedWindow),
        ("concurrency", Self::Concurrency),
    ];
}

/// `on_missing_key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// `"client_ip"`: they are counted by the client's address. The default.
    #[default]
    ClientIp,
    /// `"skip"`: they are not limited.
    Skip,
    /// `"refuse"`: they are refused.
    Refuse,
}

impl Word for MissingKey {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("client_ip", Self::ClientIp),
        ("skip", Self::Skip),
        ("refuse", Self::Refuse),
    ];
}

/// `headers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitHeaders {
    /// `"draft"`: `RateLimit` and `RateLimit-Policy`
    /// (draft-ietf-httpapi-ratelimit-headers-11). The default.
    #[default]
    Draft,
    /// `"legacy"`: `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    Legacy,
    /// `"both"`.
    Both,
    /// `"off"`.
    Off,
}

impl LimitHeaders {
    /// Whether the draft's fields are sent.
    #[must_use]
    pub fn draft(self) -> bool {
        matches!(self, Self::Draft | Self::Both)
    }

    /// Whether the older fields are sent.
    #[must_use]
    pub fn legacy(self) -> bool {
        matches!(self, Self::Legacy | Self::Both)
    }
}

impl Word for LimitHeaders {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("draft", Self::Draft),
        ("legacy", Self::Legacy),
        ("both", Self::Both),
        ("off", Self::Off),
    ];
}

/// `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Limit,
    Route,
}

impl Word for Per {
    const WORDS: &'static [(&'static str, Self)] =
        &[("limit", Self::Limit), ("route", Self::Route)];
}

/// `store`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitStore {
    /// `"memory"`: each gateway counts by itself. The default.
    #[default]
    Memory,
    /// `"redis"`: all gateways with the same `[redis]` count together.
    Redis,
}

impl Word for LimitStore {
    const WORDS: &'static [(&'static str, Self)] =
        &[("memory", Self::Memory), ("redis", Self::Redis)];
}

/// `on_store_error`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreError {
    /// `"local"`: the same limit, counted in this process. The default.
    #[default]
    Local,
    /// `"allow"`: requests pass.
    Allow,
    /// `"deny"`: requests are refused.
    Deny,
}

impl Word for OnStoreError {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("local", Self::Local),
        ("allow", Self::Allow),
        ("deny", Self::Deny),
    ];
}

table! {
    /// `[rate_limits.NAME]`: how much who may ask for. Routes name it in `rate_limits`; it is one
    /// counter for all of them unless `per` says otherwise. A limit whose key needs the caller stands
    /// after authentication, any other before it.
    #[derive(Clone, Debug)]
    pub(super) struct RateLimitKeys ["rate_limits.NAME", check check_limit] {
        /// `key`: by what callers are told apart; several parts of a list together make one key.
        /// `"caller"` is the principal, or the client's address where there is none; the others are
        /// `"client_ip"`, `"principal"`, `"api_key"`, `"role"` (the first), `"claim:NAME"`,
        /// `"header:NAME"`, `"cookie:NAME"`, `"host"`, `"host.NAME"` and `"path.NAME"` (what a
        /// pattern captured), `"route"` and `"method"`.
        key: Vec<(LimitKey, Place)> => OneOrList<KeyName> = Vec::new(); "needed",
        /// `quota`: so many in such a time, or a list of up to four that must all hold; for
        /// `"concurrency"` a number.
        quota: Vec<Quota> => Quotas = Vec::new(); "needed",
        /// `algorithm`: how it is counted.
        algorithm: LimitAlgorithm => Choice<LimitAlgorithm> = LimitAlgorithm::TokenBucket,
        /// `bucket`: the whole size of a token bucket: how many may come at once.
        bucket: Option<u32> => OptionOf<Count<u32, 1, { u32::MAX as u64 }>> = None; "the quota",
        /// `exact`: a sliding window that keeps the moment of every request, for quotas up to 1000.
        exact: bool => Flag = false,
        /// `anonymous`: the quota of callers without a principal.
        anonymous: Vec<Quota> => Quotas = Vec::new(); "that of all",
        /// `overrides`: other quotas, by principal (`"api_keys.partners:partner-7"`) or role
        /// (`"role:gold"`). The principal's own comes first, then that of its best role.
        overrides: Vec<(LimitedWho, Vec<Quota>, Place)> => Overrides = Vec::new(); "none",
        /// `on_missing_key`: what becomes of requests that have no key: they are counted by the
        /// client's address, not limited, or refused.
        on_missing_key: MissingKey => Choice<MissingKey> = MissingKey::ClientIp,
        /// `exempt`: who is not limited: networks, and, for a limit by caller, principals and roles.
        exempt: Vec<(Exempted, Place)> => OneOrList<who::ExemptName> = Vec::new(); "nobody",
        /// `per`: whether the routes share one counter or each has its own.
        per: Per => Choice<Per> = Per::Limit,
        /// `cost_header`: the field of an answer that tells what the request has cost. It is charged,
        /// or given back, when the answer begins, and may go into debt.
        cost_header: Option<HeaderName> => OptionOf<FieldName> = None; "none",
        /// `headers`: how answers tell how the limit stands: `RateLimit` and `RateLimit-Policy`, the
        /// older `X-RateLimit-*`, both, or not at all.
        headers: LimitHeaders => Choice<LimitHeaders> = LimitHeaders::Draft,
        /// `enforce`: `false` counts and logs only.
        enforce: bool => Flag = true,
        /// `ipv6_prefix`: how many bits of an IPv6 address tell callers apart: a customer usually has
        /// a whole /64.
        ipv6_prefix: u32 => Count<u32, 1, 128> = 64,
        /// `max_keys`: how many keys are held at a time. A newcomer to a full table takes the place
        /// and the debt of one that owes little.
        max_keys: usize => Count<usize, 1, 100_000_000> = 100_000,
        /// `show_keys`: the admin listener shows keys in the clear instead of their hashes. They are
        /// then kept in memory.
        show_keys: bool => Flag = false,
        /// `store`: where it is counted: `"memory"` is each gateway by itself, `"redis"` all gateways
        /// with the same `[redis]` together.
        store: LimitStore => Choice<LimitStore> = LimitStore::Memory,
        /// `on_store_error`: what decides while Redis does not: the same limit in each gateway's
        /// memory, or everything is let through, or refused. One of `"concurrency"` counts what the
        /// gateway itself holds in any case.
        on_store_error: OnStoreError => Choice<OnStoreError> = OnStoreError::Local,
        /// `lease`: how many a gateway takes of Redis at a time and gives out by itself. It saves
        /// round trips; each gateway may let through so many less one more than the quota,
        /// for each tier.
        lease: u32 => Count<u32, 1, 1_000_000> = 1,
    }
}

impl RateLimitKeys {
    /// Where a part of the key stands.
    pub(super) fn place_of(&self, key: &LimitKey) -> Option<Place> {
        let found = self.key.iter().find(|(known, _)| known == key);
        found.map(|(_, place)| *place)
    }

    /// The roles of `overrides` and `exempt`, and where they stand.
    pub(super) fn roles(&self) -> impl Iterator<Item = (&str, Place)> {
        self.who().filter_map(|(who, place)| match who {
            LimitedWho::Role(role) => Some((&**role, place)),
            LimitedWho::Principal(_) => None,
        })
    }

    /// The principals of `overrides` and `exempt`, and where they stand.
    pub(super) fn principals(&self) -> impl Iterator<Item = (&str, Place)> {
        self.who().filter_map(|(who, place)| match who {
            LimitedWho::Principal(name) => Some((&**name, place)),
            LimitedWho::Role(_) => None,
        })
    }

    fn who(&self) -> impl Iterator<Item = (&LimitedWho, Place)> {
        let overrides = self.overrides.iter().map(|(who, _, place)| (who, *place));
        let exempt = self
            .exempt
            .iter()
            .filter_map(|(member, place)| match member {
                Exempted::Who(who) => Some((who, *place)),
                Exempted::Network(_) => None,
            });
        overrides.chain(exempt)
    }

    /// The limit of that name.
    pub(super) fn named(self, name: Arc<str>) -> RateLimit {
        let (exempt_networks, exempt_callers) = who::divided(self.exempt);
        let overrides = self.overrides.into_iter();
        let overrides = overrides.map(|(who, quotas, _)| (who, quotas));
        RateLimit {
            name,
            key: self.key.into_iter().map(|(key, _)| key).collect(),
            quota: self.quota,
            algorithm: self.algorithm,
            bucket: self.bucket,
            exact: self.exact,
            anonymous: self.anonymous,
            overrides: overrides.collect(),
            on_missing_key: self.on_missing_key,
            exempt_networks,
            exempt_callers,
            per_route: self.per == Per::Route,
            cost_header: self.cost_header,
            headers: self.headers,
            enforce: self.enforce,
            // In range by its format.
            ipv6_prefix: u8::try_from(self.ipv6_prefix).unwrap_or(64),
            max_keys: self.max_keys,
            show_keys: self.show_keys,
            store: self.store,
            on_store_error: self.on_store_error,
            lease: self.lease,
        }
    }
}

/// The name of a limit, in a route.
#[derive(Clone, Debug)]
pub(super) struct LimitReference {
    /// The name.
    pub(super) name: Arc<str>,
    /// Where it stands.
    pub(super) place: Place,
}

/// The format of a [`LimitReference`].
pub(super) struct LimitName;

impl Format for LimitName {
    type Value = LimitReference;

    fn expected() -> String {
        "the name of a rate limit".to_owned()
    }

    fn example() -> String {
        "\"public_api\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<LimitReference> {
        let name = reader.parse(node, &Self::expected(), |text| match text {
            "" => Err(Problem::plain()),
            text => Ok(text.into()),
        })?;
        let place = node.place;
        Some(LimitReference { name, place })
    }
}
