//! `[cache]` and `[cache_rules.*]`: what is kept of upstreams' answers, and for how long.

use std::time::Duration;

use http::HeaderName;
use toml::de::DeValue;

use super::{
    decode::{
        Choice, Flag, Format, Node, Off, OneOrList, OptionOf, OrWord, Problem, Reader, Show, Size,
        TableNode, Text, Time, Word, nearest, quoted, table,
    },
    diagnostic::Finding,
    header::{FieldName, is_credential},
};

table! {
    /// `[cache]`: the memory in which answers are kept, one for all routes. Routes keep nothing unless they say `cache`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Cache ["cache", check check_cache] {
        /// `memory`: what all stored answers may take together: bodies, header fields, keys and bookkeeping.
        pub memory: u64 => Size<u64, { 1 << 20 }, { 1 << 46 }> = 256 << 20,
        /// `max_object`: the largest body that is stored; a quarter of `memory` at most.
        pub max_object: u64 => Size<u64, 1, { 1 << 40 }> = 8 << 20,
        /// `share_purges`: purges reach all gateways with the same `[redis]` and this key. A gateway
        /// that was cut off from Redis forgets what it has stored when it is back.
        pub share_purges: bool => Flag = false,
    }
}

fn check_cache(cache: &Cache, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let most = cache.memory / SHARE_OF_ONE;
    if cache.max_object <= most {
        return;
    }
    let key = match table.has("max_object") {
        true => "max_object",
        false => "memory",
    };
    let message = "`max_object`: one answer may take a quarter of `memory` at most";
    let help = format!(
        "write `max_object = {}`, or more `memory`",
        Size::<u64, 0, { u64::MAX }>::show(&most)
    );
    let place = table.value_place(key, reader);
    reader.report(Finding::error(place, message).help(help));
}

/// Where answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheTier {
    /// In this process.
    Memory,
    /// In the Redis that gateways share.
    Redis,
}

impl Word for CacheTier {
    const WORDS: &'static [(&'static str, Self)] =
        &[("memory", Self::Memory), ("redis", Self::Redis)];
}

/// Who may be served what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheScope {
    /// Everybody. What a known caller got is stored only where the upstream says that it is for all
    /// (RFC 9111 3.5).
    Shared,
    /// The caller who got it; callers without credentials share theirs.
    Principal,
}

impl Word for CacheScope {
    const WORDS: &'static [(&'static str, Self)] =
        &[("shared", Self::Shared), ("principal", Self::Principal)];
}

/// Which part of the query tells answers apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheQuery {
    /// `"as_is"`: all of it, as it came.
    #[default]
    AsIs,
    /// `"sorted"`: all of it, in whatever order.
    Sorted,
    /// `["page", "q"]`: these parameters, in whatever order; others make no difference.
    Only(Box<[Box<str>]>),
}

table! {
    /// `[cache_rules.NAME]`: what is kept of the answers of the routes that say `cache = "NAME"`.
    /// Whatever the rule, GET and HEAD alone are answered out of the cache, and what the upstream
    /// forbids (`no-store`, `private`) is never stored.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CacheRule ["cache_rules.NAME", check check_rule] {
        /// `store`: where answers are kept: `"memory"` is this process, `"redis"` what all gateways with
        /// the same `[redis]` share; a list of both looks into the memory first. With `"redis"` purges
        /// reach all of them, as `share_purges` says.
        pub store: Vec<CacheTier> => OneOrList<Choice<CacheTier>> = vec![CacheTier::Memory],
        /// `scope`: who may be served what is stored: `"shared"` is everybody, `"principal"` the
        /// caller who got it. Needed beside a TTL where callers are known.
        pub scope: Option<CacheScope> => OptionOf<Choice<CacheScope>> = None; "`\"shared\"`",
        /// `default_ttl`: how long an answer is fresh of which the upstream does not say it; never
        /// that to a request with cookies.
        pub default_ttl: Option<Duration> => OptionOf<Time> = None; "not at all",
        /// `override_ttl`: how long an answer is fresh whatever `max-age` says; `no-store`, `private`
        /// and `Set-Cookie` stand above it.
        pub override_ttl: Option<Duration> => OptionOf<Time> = None; "as the upstream says",
        /// `heuristics`: whether an answer without a lifetime is fresh for a tenth of the time since its
        /// `Last-Modified`; never that to a request with cookies.
        pub heuristics: bool => Flag = false,
        /// `stale_while_revalidate`: how long behind its lifetime an answer is served while one
        /// request asks for a new one; where the upstream does not say it.
        pub stale_while_revalidate: Option<Duration> => OptionOf<Time> = None; "as the upstream says",
        /// `stale_if_error`: how long behind its lifetime an answer stands in for a 500, 502, 503 or
        /// 504; where the upstream does not say it.
        pub stale_if_error: Option<Duration> => OptionOf<Time> = None; "as the upstream says",
        /// `stale_on_error`: how long behind its lifetime an answer stands in while the upstream
        /// gives none; never where it says `must-revalidate` or the like.
        pub stale_on_error: Option<Duration> => OrWord<Time, Off> = Some(Duration::from_secs(60)),
        /// `set_cookie`: whether answers with `Set-Cookie` are stored, cookies included.
        pub set_cookie: bool => Flag = false,
        /// `request_directives`: whether clients are obeyed that ask for fresh answers
        /// (`Cache-Control: no-cache` and its kin): it lets them make the upstream work.
        pub request_directives: bool => Flag = false,
        /// `targeted`: response fields that stand above `Cache-Control`, the first first (RFC 9213).
        pub targeted: Vec<HeaderName> => FieldNames = vec![CDN_CACHE_CONTROL]; "`[\"cdn-cache-control\"]`",
        /// `query`: what of the query tells answers apart: `"as_is"` and `"sorted"` all of it, a
        /// list the parameters that it names.
        pub query: CacheQuery => QueryKey = CacheQuery::AsIs,
        /// `key_headers`: request header fields that tell answers apart beside those of `Vary`.
        pub key_headers: Vec<HeaderName> => KeyHeaders = Vec::new(); "`[]`",
        /// `zone`: what stands in the key for the upstream: with it the upstreams of a `split` share
        /// what is stored. Purges and unsafe methods reach every zone.
        pub zone: Option<String> => OptionOf<ZoneName> = None; "the upstream's name",
        /// `wait`: how long a request waits for the head of an answer that another is fetching, before it asks itself.
        pub wait: Option<Duration> => OrWord<Time, Off> = Some(Duration::from_secs(5)),
        /// `show_key`: whether `Cache-Status` shows the key; for debugging.
        pub show_key: bool => Flag = false,
    }
}

impl CacheRule {
    /// Whether answers are kept where gateways share them.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.store.contains(&CacheTier::Redis)
    }

    /// Whether the gateway itself says how long answers are fresh.
    pub(super) fn has_ttl(&self) -> bool {
        self.default_ttl.is_some() || self.override_ttl.is_some() || self.heuristics
    }
}

fn check_rule(rule: &CacheRule, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if rule.store.is_empty() {
        let place = table.value_place("store", reader);
        let finding = Finding::error(place, "`store`: the rule stores nowhere")
            .help("write `store = \"memory\"`, or leave `cache` out of the route");
        reader.report(finding);
    }
    if rule.default_ttl.is_some() && rule.override_ttl.is_some() {
        let place = table.value_place("default_ttl", reader);
        let finding = Finding::warning(place, "`default_ttl` has no effect beside `override_ttl`");
        reader.report(finding);
    }
}

struct FieldNames;

impl Format for FieldNames {
    type Value = Vec<HeaderName>;

    fn expected() -> String {
        "a list of header fields".to_owned()
    }

    fn example() -> String {
        "[\"cdn-cache-control\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<HeaderName>> {
        OneOrList::<FieldName>::read(node, reader)
    }
}

/// Header fields that may be part of a key.
struct KeyHeaders;

impl Format for KeyHeaders {
    type Value = Vec<HeaderName>;

    fn expected() -> String {
        FieldNames::expected()
    }

    fn example() -> String {
        "[\"x-tenant\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<HeaderName>> {
        OneOrList::<KeyHeader>::read(node, reader)
    }
}

struct KeyHeader;

impl Format for KeyHeader {
    type Value = HeaderName;

    fn expected() -> String {
        FieldName::expected()
    }

    fn example() -> String {
        FieldName::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
        let name = FieldName::read(node, reader)?;
        if is_credential(&name) {
            let problem = Problem::what("credentials are kept out of keys")
                .help("write `scope = \"principal\"` to keep callers apart");
            return reader.refuse(node, &Self::expected(), problem);
        }
        Some(name)
    }
}

struct ZoneName;

impl Format for ZoneName {
    type Value = String;

    fn expected() -> String {
        "a name".to_owned()
    }

    fn example() -> String {
        "\"shop\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| {
            let sane = !text.is_empty() && !text.chars().any(char::is_control);
            sane.then(|| text.to_owned()).ok_or_else(Problem::plain)
        })
    }
}

/// `"as_is"`, `"sorted"`, or a list of parameters.
struct QueryKey;

impl Format for QueryKey {
    type Value = CacheQuery;

    fn expected() -> String {
        "\"as_is\", \"sorted\" or a list of parameters".to_owned()
    }

    fn example() -> String {
        "[\"page\", \"q\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<CacheQuery> {
        if let DeValue::Array(_) = node.value {
            let names = OneOrList::<Text>::read(node, reader)?;
            return Some(CacheQuery::Only(
                names.into_iter().map(Into::into).collect(),
            ));
        }
        reader.parse(node, &Self::expected(), |text| match text {
            "as_is" => Ok(CacheQuery::AsIs),
            "sorted" => Ok(CacheQuery::Sorted),
            other => Err(match nearest(other, ["as_is", "sorted"].into_iter()) {
                Some(near) => Problem::plain().help(format!("did you mean {}?", quoted(near))),
                None => Problem::plain().help(format!("one parameter: `[{}]`", quoted(other))),
            }),
        })
    }
}

impl Show for QueryKey {
    fn show(value: &CacheQuery) -> String {
        match value {
            CacheQuery::AsIs => quoted("as_is"),
            CacheQuery::Sorted => quoted("sorted"),
            CacheQuery::Only(names) => {
                let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
                format!("[{}]", names.join(", "))
            }
        }
    }
}

/// What a route says about caching.
#[derive(Clone, Debug)]
pub(super) enum CacheUse {
    /// `"off"`: nothing, whatever the group says.
    Off,
    /// The name of a rule.
    Named(String),
    /// A rule of its own.
    Own(Box<CacheRule>),
}

/// The format of a [`CacheUse`].
pub(super) struct CacheKey;

impl Format for CacheKey {
    type Value = CacheUse;

    fn expected() -> String {
        "the name of a cache rule, \"off\", or a table as `[cache_rules.NAME]` has it".to_owned()
    }

    fn example() -> String {
        "\"api\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<CacheUse> {
        match node.value {
            DeValue::Table(_) => {
                let rule = super::decode::Sub::<CacheRule>::read(node, reader)?;
                Some(CacheUse::Own(Box::new(rule)))
            }
            DeValue::Boolean(_) => {
                let help = "write `cache = {}` for a rule with every default, or `cache = \"off\"`";
                reader.wrong(node, &Self::expected(), Some(help.to_owned()))
            }
            _ => reader.parse(node, &Self::expected(), |text| match text {
                "off" => Ok(CacheUse::Off),
                name => Ok(CacheUse::Named(name.to_owned())),
            }),
        }
    }
}

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// The part of the memory that one answer may take, as a divisor: one may not wash out the others.
const SHARE_OF_ONE: u64 = 4;
