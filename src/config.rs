//! Text to checked values: `gateway.toml` and what it means.
//!
//! This room imports no other. A [`Config`] that exists is valid: names resolve, routes can be told
//! apart, values are in range. One file per table.

mod access;
mod address;
mod admin;
mod auth;
mod cache;
mod condition;
mod conflicts;
mod cors;
mod decode;
mod diagnostic;
mod document;
mod edits;
mod header;
mod host;
mod htpasswd;
mod key_quotas;
mod key_routes;
mod key_source;
mod keys_file;
mod loading;
mod log;
mod mask;
mod moment;
mod origin_set;
mod origins;
mod path;
mod permission;
mod quota;
mod rate_limit;
mod redis;
mod reference;
mod rewrite;
mod role;
mod route;
mod routes;
mod security;
mod server;
mod server_url;
mod share;
mod source;
mod subrequests;
mod target;
mod text;
mod upstream;
mod validation;

pub use access::{
    Access, ByMethod, ClaimRule, ClaimValue, Demand, IpList, IpRules, IpSet, LARGEST_NETWORKS,
    Needed, Permissions, Rbac, RoleDemand, parse_networks,
};
pub use address::{network_of, unmapped};
pub use admin::Admin;
pub use auth::{
    ApiKeys, Auth, AuthRule, Basic, ClaimPath, CredentialPlace, External, Fact, Jwt, KeyRefresh,
    KeyScheme, KeySet, KeysFrom, RevocationList, RevocationSource, VerificationKey,
};
pub use cache::{Cache, CacheQuery, CacheRule, CacheScope, CacheTier};
pub use cors::{Cors, Fields, Origin};
pub use diagnostic::{Diagnostic, Diagnostics, Related, Severity};
pub use edits::{RequestEdits, ResponseEdits};
pub use htpasswd::{Htpasswd, PasswordHash};
pub use key_source::{KeySource, RouteSources};
pub use keys_file::{KeyHash, KeysFile, StoredKey};
pub use loading::Loaded;
pub use log::{AccessLog, Log, LogFormat, QueryLogging};
pub use moment::{date_of, moment_of};
pub use origin_set::OriginSet;
pub use origins::OriginRule;
pub use permission::Permission;
pub use quota::quota_of;
pub use rate_limit::{
    LARGEST_EXACT, LimitAlgorithm, LimitHeaders, LimitKey, LimitStore, LimitedWho, MissingKey,
    OnStoreError, Quota, RateLimit,
};
pub use redis::{Redis, RedisUrl};
pub use reference::reference;
pub use rewrite::{HostRewrite, Rewrite};
pub use role::Role;
pub use route::{
    EncodedSlash, HostPattern, OddHeaderNames, OverrideHeaders, PathPattern, PathSegment, Redirect,
    Route, Target, Timeouts, ValueMatch,
};
pub use security::{Frame, ReferrerPolicy, SecurityHeaders};
pub use server::{Address, Drain, Http2, Limits, Server, TrustedHeaders};
pub use subrequests::{Certificates, Subrequests};
pub use target::Respond;
pub use text::{Secret, Template, TemplatePart};
pub use upstream::{HealthCheck, ServerUrl, Upstream, UpstreamProtocol, UpstreamServer};
pub use validation::{BodySchema, MediaRange, Validation};

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderName;

/// A whole, checked configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `[server]`: where clients connect, and what they may cost.
    pub server: Server,
    /// `[admin]`: health, metrics and state.
    pub admin: Admin,
    /// `[log]`: application and access log.
    pub log: Log,
    /// `[cache]`: the memory in which answers are kept.
    pub cache: Cache,
    /// `[auth.*]`: how callers show who they are.
    pub auth: Auth,
    /// `[roles.*]`, with what they include.
    pub roles: BTreeMap<Arc<str>, Role>,
    /// `[ip_sets.*]`.
    pub ip_sets: BTreeMap<Arc<str>, IpSet>,
    /// `[subrequests]`: the gateway's own requests.
    pub subrequests: Subrequests,
    /// `[redis]`: what several gateways share, if there is one.
    pub redis: Option<Redis>,
    /// `[upstreams.*]`, and one for each inline URL, named by that URL.
    pub upstreams: BTreeMap<Arc<str>, Upstream>,
    /// `[rate_limits.*]`.
    pub rate_limits: BTreeMap<Arc<str>, RateLimit>,
    /// `[routes.*]` with `[groups.*]` and `[defaults]` merged in, in the order of their names.
    pub routes: Vec<Route>,
    /// Where the keys of each route come from, by its name. Beside the routes, since a key that moves
    /// to a group makes no other route of it.
    pub route_sources: BTreeMap<Arc<str>, RouteSources>,
}

impl Config {
    /// The header fields that tell an upstream who calls, on whichever route: no client may send
    /// them. In the order of their names, each once.
    #[must_use]
    pub fn identity_headers(&self) -> Vec<HeaderName> {
        let routes = self.routes.iter();
        let set = routes.flat_map(|route| route.request_headers.identity_headers());
        let mut headers = self.auth.identity_headers();
        headers.extend(set.filter_map(|name| {
            // Servers read `x_user` and `x-user` as one name: this takes the plain one out of what clients
            // send, and odd ones that may be read as it go with the odd names of the route.
            HeaderName::try_from(name.as_str().replace('_', "-")).ok()
        }));
        in_order(headers)
    }

    /// The header fields that conditions of routes are about, of whichever route. In the order of their
    /// names, each once.
    #[must_use]
    pub fn matched_headers(&self) -> Vec<HeaderName> {
        let routes = self.routes.iter();
        let conditions = routes.flat_map(|route| &route.match_headers);
        in_order(conditions.map(|(name, _)| name.clone()).collect())
    }
}

/// Names in order, each once.
fn in_order(mut names: Vec<HeaderName>) -> Vec<HeaderName> {
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    names
}
