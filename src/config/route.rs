//! `[routes.*]`, `[groups.*]` and `[defaults]`, merged.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, Method, StatusCode};
use regex::Regex;

use super::{
    Access, AuthRule, CacheRule, ClaimRule, Cors, OriginRule, Rbac, RequestEdits, Respond,
    ResponseEdits, Rewrite, SecurityHeaders, Template, Validation,
    access::{Claims, IpKeys, PermissionsKey},
    auth::{Member, MemberFormat},
    cache::{CacheKey, CacheUse},
    condition::{HeaderConditions, QueryConditions},
    cors::{CorsRule, CorsUse},
    decode::{
        Choice, Count, Flag, Int, Keyed, Off, OneOrList, OrWord, Set, Size, Sub, Time, Unlimited,
        Word, table,
    },
    host::Host,
    origins::Origins,
    path::Path,
    rate_limit::{LimitName, LimitReference},
    role::{RoleName, RoleReference},
    security::Strictness,
    share::{GroupName, Item, Items, MethodName, OneItem},
    target::{RedirectTo, Reference, Split, UpstreamName},
};

/// `[routes.NAME]` with its group and the defaults merged in.
#[derive(Clone, Debug)]
pub struct Route {
    /// The table's name: identity for reload, metrics and logs.
    pub name: Arc<str>,
    /// `hosts`; empty is any host.
    pub hosts: Vec<HostPattern>,
    /// `path`: one or a list. Default `/**`.
    pub paths: Vec<PathPattern>,
    /// `path_case = "insensitive"`.
    pub ignore_case: bool,
    /// `methods`; `None` is any. HEAD follows GET.
    pub methods: Option<Vec<Method>>,
    /// `match_headers`: all must hold.
    pub match_headers: Vec<(HeaderName, ValueMatch)>,
    /// `match_query`: all must hold; names are percent-decoded.
    pub match_query: Vec<(Box<str>, ValueMatch)>,
    /// `priority`: breaks ties, higher first. Default 0.
    pub priority: i32,
    /// Exactly one of `upstream`, `split`, `respond`, `redirect`.
    pub target: Target,
    /// `rewrite`.
    pub rewrite: Rewrite,
    /// `max_body`; `None` is `"unlimited"`. Default 10 MiB. gRPC calls are exempt unless the
    /// route itself sets it, the bytes of a tunnel always.
    pub max_body: Option<u64>,
    /// Whether the route itself (not its group or the defaults) sets `max_body`.
    pub max_body_is_own: bool,
    /// `[routes.NAME.timeouts]`.
    pub timeouts: Timeouts,
    /// `rate_limits`: names in [`super::Config::rate_limits`]; all must hold.
    pub rate_limits: Vec<Arc<str>>,
    /// `cost`: how much of each limit a request takes. Default 1.
    pub cost: u32,
    /// `encoded_slash`.
    pub encoded_slash: EncodedSlash,
    /// `override_headers`.
    pub override_headers: OverrideHeaders,
    /// `odd_header_names`.
    pub odd_header_names: OddHeaderNames,
    /// `upgrade`: whether WebSocket and other upgrades pass. Default true.
    pub upgrade: bool,
    /// `cors`: the `[cors.*]` table that it names, or its own; `None` is `"off"`.
    pub cors: Option<Cors>,
    /// `security_headers`; `None` is `"off"`.
    pub security_headers: Option<SecurityHeaders>,
    /// `request_headers`.
    pub request_headers: RequestEdits,
    /// `response_headers`.
    pub response_headers: ResponseEdits,
    /// `validation`; `None` is `"off"`.
    pub validation: Option<Validation>,
    /// Whether the route itself (not its group or the defaults) sets `validation`.
    pub validation_is_own: bool,
    /// `auth`: who may call; `None` is everybody.
    pub auth: Option<AuthRule>,
    /// `forward_credentials`: whether the upstream gets the credential; `None` leaves it to each way
    /// to authenticate.
    pub forward_credentials: Option<bool>,
    /// `close_on_token_expiry`: whether a tunnel ends when the caller's credential expires.
    pub close_on_token_expiry: bool,
    /// `origins`; also where nothing is written, on routes that take credentials which browsers
    /// send by themselves.
    pub origins: Option<OriginRule>,
    /// `permissions`, `roles`, `claims`, `rbac` and `ip`.
    pub access: Access,
    /// `cache`: the rule by which answers are kept; `None` keeps nothing.
    pub cache: Option<Arc<CacheRule>>,
}

/// A pattern of `hosts`, in lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// `api.example.com`, or an address; an IPv6 address in brackets.
    Exact(Box<str>),
    /// `*.example.com`: exactly one label in front; the text is `example.com`.
    OneLabel(Box<str>),
    /// `**.example.com`: one label or more in front; the text is `example.com`.
    AnyDepth(Box<str>),
    /// `{tenant}.example.com`: one label, captured.
    Capture {
        /// The name in braces.
        name: Arc<str>,
        /// What follows the captured label and its dot.
        suffix: Box<str>,
    },
}

/// A pattern of `path`: segments, and perhaps a rest.
///
/// `/login` is `[Literal("login")]`; `/items/` keeps its slash as a last empty literal;
/// `/admin/**` is `[Literal("admin")]` with an unnamed rest and takes `/admin`, `/admin/` and all below.
/// `/` is one empty literal and `/**` is no segment with a rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// As written, for messages.
    pub text: Box<str>,
    /// The segments, in the percent-encoded normal form that the router matches: `:` also where
    /// `%3A` is written.
    pub segments: Vec<PathSegment>,
    /// `/**` (`Some(None)`) or `/{*name}` (`Some(Some(name))`) at the end.
    pub rest: Option<Option<Arc<str>>>,
}

/// One segment of a [`PathPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSegment {
    /// Text.
    Literal(Box<str>),
    /// `{name}`: one segment that is not empty.
    Capture(Arc<str>),
}

/// A condition on the value of a header or a query parameter.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// `"1"`: equal.
    Exact(Box<str>),
    /// `{ prefix = "..." }`.
    Prefix(Box<str>),
    /// `{ regex = "..." }`: the whole value.
    Regex(Regex),
    /// `{ present = true }` or `false`.
    Present(bool),
    /// `{ media_type = "application/vnd.x.v2+json" }`: that type stands in the list with a weight
    /// above 0 by name; `*/*` and nothing at all fall to the less specific route.
    MediaType(Box<str>),
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub enum Target {
    /// `upstream`: a name in [`super::Config::upstreams`].
    Upstream(Arc<str>),
    /// `split = { a = 90, b = 10 }`: names with relative weights.
    Split(Vec<(Arc<str>, u32)>),
    /// `respond = { status = 200, body = "..." }`.
    Respond(Respond),
    /// `redirect = "..."` or `{ to = "...", status = 308 }`.
    Redirect(Redirect),
}

/// `redirect`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `to`: the Location.
    pub to: Template,
    /// `status`: 301, 302, 303, 307 or 308 (default).
    pub status: StatusCode,
}

table! {
    /// `timeouts`: how long a request may take. A route's table replaces that of its group and of
    /// the defaults as a whole.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Timeouts ["routes.NAME.timeouts"] {
        /// `response`: from the last byte of the request until the answer's head.
        pub response: Option<Duration> => OrWord<Time, Off> = Some(Duration::from_secs(30)),
        /// `idle`: between two bytes of a body, either way.
        pub idle: Option<Duration> => OrWord<Time, Off> = Some(Duration::from_secs(60)),
        /// `total`: until the answer's last byte.
        pub total: Option<Duration> => OrWord<Time, Off> = None,
        /// `tunnel_idle`: without a byte either way after an upgrade.
        pub tunnel_idle: Option<Duration> => OrWord<Time, Off> = Some(Duration::from_secs(300)),
        /// `tunnel_lifetime`: from an upgrade until its tunnel is closed, however much passes through.
        pub tunnel_lifetime: Option<Duration> => OrWord<Time, Off> = None,
    }
}

/// What becomes of `%2F` and `%5C` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    /// `"refuse"`: 400. The default.
    #[default]
    Refuse,
    /// `"keep"`: they stay encoded and belong to their segment.
    Keep,
}

impl Word for EncodedSlash {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("keep", Self::Keep)];
}

/// What becomes of header fields by which a client asks the server to take its request for one of
/// another method, or to another path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverrideHeaders {
    /// `"strip"`: the upstream does not get them. The default.
    #[default]
    Strip,
    /// `"keep"`: they pass.
    Keep,
}

impl Word for OverrideHeaders {
    const WORDS: &'static [(&'static str, Self)] = &[("strip", Self::Strip), ("keep", Self::Keep)];
}

/// What becomes of request fields whose names servers may read as others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OddHeaderNames {
    /// `"drop"`: the upstream does not get them. The default.
    #[default]
    Drop,
    /// `"keep"`: they pass, but for those that may be read as what no client may say.
    Keep,
}

impl Word for OddHeaderNames {
    const WORDS: &'static [(&'static str, Self)] = &[("drop", Self::Drop), ("keep", Self::Keep)];
}

/// `path_case`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathCase {
    Sensitive,
    Insensitive,
}

impl Word for PathCase {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("sensitive", Self::Sensitive),
        ("insensitive", Self::Insensitive),
    ];
}

/// The default of `max_body`.
pub(super) const DEFAULT_MAX_BODY: u64 = 10 << 20;

/// A key that need not be set.
pub(super) type Key<T> = Option<Set<T>>;

table! {
    /// `[routes.NAME]`: what to do with the requests that match. The most specific route wins,
    /// whatever the order in the file.
    #[derive(Clone, Debug)]
    pub(super) struct RouteKeys ["routes.NAME"] {
        /// `group`: the `[groups.*]` table whose keys are taken where the route has none.
        pub(super) group: Key<String> => Keyed<GroupName> = None; "none",
        /// `hosts`: which hosts; without a port.
        pub(super) hosts: Key<Vec<Item<super::HostPattern>>> => Keyed<Items<Host>> = None; "any host",
        /// `path`: one or a list: exact, with segments, or with everything below.
        pub(super) path: Key<Vec<PathPattern>> => Keyed<OneOrList<Path>> = None; "`\"/**\"`",
        /// `path_case`: whether upper and lower case differ in paths.
        pub(super) path_case: Key<PathCase> => Keyed<Choice<PathCase>> = None; "`\"sensitive\"`",
        /// `methods`: which methods; HEAD follows GET. Another method on the path is 405.
        pub(super) methods: Key<Vec<Item<Method>>> => Keyed<Items<MethodName>> = None; "any method",
        /// `match_headers`: conditions on header fields; all must hold.
        pub(super) match_headers: Key<Vec<(HeaderName, ValueMatch)>> => Keyed<HeaderConditions> = None; "none",
        /// `match_query`: conditions on query parameters; all must hold.
        pub(super) match_query: Key<Vec<(Box<str>, ValueMatch)>> => Keyed<QueryConditions> = None; "none",
        /// `priority`: breaks ties between routes that are equally specific, higher first.
        pub(super) priority: Key<i32> => Keyed<Int> = None; "`0`",
        /// `upstream`: where requests go: the name of an upstream, or the URL of a server. Exactly
        /// one of `upstream`, `split`, `respond` and `redirect` is needed.
        pub(super) upstream: Key<Reference> => Keyed<UpstreamName> = None; "none",
        /// `split`: several upstreams with relative weights.
        pub(super) split: Key<Vec<(Reference, u32)>> => Keyed<Split> = None; "none",
        /// `respond`: an answer of the gateway's own.
        pub(super) respond: Key<Respond> => Keyed<Sub<Respond>> = None; "none",
        /// `redirect`: a location, or a table.
        pub(super) redirect: Key<Redirect> => Keyed<RedirectTo> = None; "none",
        /// `rewrite`: what the upstream sees instead.
        pub(super) rewrite: Key<Rewrite> => Keyed<Sub<Rewrite>> = None; "nothing",
        /// `max_body`: the largest request body. gRPC calls are exempt unless the route
        /// itself sets it. What passes through a tunnel (`upgrade`) is never limited.
        pub(super) max_body: Key<Option<u64>> =>
            Keyed<OrWord<Size<u64, 0, { u64::MAX }>, Unlimited>> = None; "`\"10MiB\"`",
        /// `timeouts`: how long a request may take.
        pub(super) timeouts: Key<Timeouts> => Keyed<Sub<Timeouts>> = None; "see there",
        /// `rate_limits`: the limits that must all hold; an empty list is none.
        pub(super) rate_limits: Key<Vec<Item<LimitReference>>> =>
            Keyed<OneOrList<OneItem<LimitName>>> = None; "none",
        /// `cost`: how much of each limit a request takes.
        pub(super) cost: Key<u32> => Keyed<Count<u32, 1, 1_000_000>> = None; "`1`",
        /// `encoded_slash`: what becomes of `%2F` and `%5C` in a path: `"refuse"` answers 400,
        /// `"keep"` leaves them encoded.
        pub(super) encoded_slash: Key<EncodedSlash> => Keyed<Choice<EncodedSlash>> = None; "`\"refuse\"`",
        /// `override_headers`: what becomes of header fields that ask a server to take the request for
        /// one of another method (`X-HTTP-Method-Override`, `X-Method-Override`, `X-HTTP-Method`),
        /// to another path (`X-Original-URL`, `X-Original-URI`, `X-Rewrite-URL`, `X-Envoy-Original-Path`)
        /// or to another host (`X-Host`, `X-HTTP-Host-Override`, `X-Backend-Host`, `X-Original-Host`,
        /// `X-HTTP-DestinationURL`), to leave out its own checks (`X-Middleware-Subrequest`) or to ask by
        /// the client's proxy (`Proxy`): past rules that saw what was sent.
        /// `"strip"` takes them out, `"keep"` lets them pass.
        pub(super) override_headers: Key<OverrideHeaders> =>
            Keyed<Choice<OverrideHeaders>> = None; "`\"strip\"`",
        /// `odd_header_names`: what becomes of header fields whose names have anything but letters,
        /// digits and hyphens (`my_key`): many servers read other signs as hyphens.
        /// `"drop"` takes them out, `"keep"` lets those pass that can't be read as a field of the
        /// connection, of a proxy, of `[auth.*]` or of the rules of routes. What is answered so is not cached.
        pub(super) odd_header_names: Key<OddHeaderNames> =>
            Keyed<Choice<OddHeaderNames>> = None; "`\"drop\"`",
        /// `upgrade`: whether WebSocket and other upgrades pass.
        pub(super) upgrade: Key<bool> => Keyed<Flag> = None; "`true`",
        /// `cors`: pages of which other origins may call: the name of a `[cors.*]` table, or a
        /// table.
        pub(super) cors: Key<Option<CorsUse>> => Keyed<OrWord<CorsRule, Off>> = None; "`\"off\"`",
        /// `security_headers`: what browsers are told to be strict about.
        pub(super) security_headers: Key<Option<SecurityHeaders>> => Keyed<Strictness> = None; "`\"off\"`",
        /// `request_headers`: header fields that the upstream gets instead of what the client sent.
        pub(super) request_headers: Key<RequestEdits> => Keyed<Sub<RequestEdits>> = None; "none",
        /// `response_headers`: header fields that the client gets instead of what the target
        /// answered.
        pub(super) response_headers: Key<ResponseEdits> => Keyed<Sub<ResponseEdits>> = None; "none",
        /// `validation`: what a request must look like before it is forwarded.
        pub(super) validation: Key<Option<Validation>> => Keyed<OrWord<Sub<Validation>, Off>> = None; "`\"off\"`",
        /// `auth`: who may call: a name, or a list of which any one suffices. `{ all = [...] }` asks
        /// for all of several, `"anonymous"` in a list admits requests without any credential, and
        /// `"public"` alone admits everybody. Needed as soon as there is any `[auth.*]`.
        pub(super) auth: Key<Vec<Item<Member>>> => Keyed<Items<MemberFormat>> = None; "everybody",
        /// `forward_credentials`: whether the upstream gets the credential too. Without this key each
        /// `[auth.*]` says it for itself.
        pub(super) forward_credentials: Key<bool> => Keyed<Flag> = None; "see there",
        /// `close_on_token_expiry`: whether a WebSocket or another tunnel is closed when the caller's
        /// credential expires.
        pub(super) close_on_token_expiry: Key<bool> => Keyed<Flag> = None; "`false`",
        /// `origins`: pages of which origins may send unsafe methods and open WebSockets: `"same-host"`,
        /// origins, or `"any"`. It is the default where cookies or passwords are taken, which browsers
        /// add to what any page sends.
        pub(super) origins: Key<OriginRule> => Keyed<Origins> = None; "`\"same-host\"` with cookies",
        /// `permissions`: what the caller must be allowed to do: one permission, a list of which one is
        /// enough, `{ all = [...] }`, or a table of these by method. HEAD follows GET, `"rpc:GetOrder"`
        /// is a call of a gRPC method, `"*"` all others; a method without a rule is denied. `"authenticated"`
        /// asks only that the caller is known.
        pub(super) permissions: Key<PermissionsKey> => Keyed<PermissionsKey> = None; "none",
        /// `roles`: the caller must have one of these.
        pub(super) roles: Key<Vec<Item<RoleReference>>> => Keyed<Items<RoleName>> = None; "none",
        /// `claims`: claims of the caller's token and the values that they must have; a list of values
        /// is any of them. A dotted key is a path.
        pub(super) claims: Key<Vec<ClaimRule>> => Keyed<Claims> = None; "none",
        /// `rbac`: how `permissions`, `roles` and `claims` are applied.
        pub(super) rbac: Key<Rbac> => Keyed<Sub<Rbac>> = None; "`{ enforce = true }`",
        /// `ip`: which client addresses may use the route.
        pub(super) ip: Key<IpKeys> => Keyed<Sub<IpKeys>> = None; "everybody",
        /// `cache`: which of the `[cache_rules.*]` says what is kept of the answers; a table is a
        /// rule of the route's own, `"off"` keeps nothing.
        pub(super) cache: Key<CacheUse> => Keyed<CacheKey> = None; "`\"off\"`",
    }
}

/// As it is written in the file.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::OneLabel(suffix) => write!(f, "*.{suffix}"),
            Self::AnyDepth(suffix) => write!(f, "**.{suffix}"),
            Self::Capture { name, suffix } => write!(f, "{{{name}}}.{suffix}"),
        }
    }
}
