//! What a route's rule decides about the cache.

use std::time::Duration;

use http::HeaderName;

/// Who may be served an answer that was given to a known caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everybody, and so only what the origin allows for that (RFC 9111 3.5); the rest is not
    /// stored.
    #[default]
    Shared,
    /// That caller, who has a store of their own; everybody what the origin allows for that.
    Principal,
}

/// A cache rule, as the policy needs it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who shares answers given to known callers.
    pub scope: Scope,
    /// How long an answer is fresh that says nothing of it. Not for requests with cookies or
    /// answers that set some.
    pub default_ttl: Option<Duration>,
    /// How long an answer is fresh whatever it says, unless that is `no-store` or `private`, or it
    /// sets a cookie. `no-cache` and the prohibitions of stale answers stay in force.
    pub override_ttl: Option<Duration>,
    /// Freshness from `Last-Modified` alone (RFC 9111 4.2.2). Not for requests with cookies.
    pub heuristics: bool,
    /// How long a stale answer is served while it is fetched anew, where the answer does not say
    /// (`stale-while-revalidate`, RFC 5861 3).
    pub stale_while_revalidate: Duration,
    /// How long a stale answer is served instead of a 500, 502, 503 or 504, where the answer does
    /// not say (`stale-if-error`, RFC 5861 4).
    pub stale_if_error: Duration,
    /// How long a stale answer is served when no upstream answers at all: the disconnection of
    /// RFC 9111 4.2.4, which needs no permission of the answer.
    pub stale_if_unreachable: Duration,
    /// How long a stale answer is kept to be validated, when nothing else keeps it longer.
    pub keep: Duration,
    /// Whether answers that set cookies are stored, with their cookies (RFC 9111 7.3).
    pub store_set_cookie: bool,
    /// Whether clients may say what they want (RFC 9111 5.2.1: `no-cache`, `no-store`, `max-age`,
    /// `max-stale`, `min-fresh`, `only-if-cached`). It lets them force work on the origin.
    pub request_directives: bool,
    /// Targeted fields (RFC 9213), the first that is valid and not empty rules.
    pub targeted: Box<[HeaderName]>,
    /// Fields that the gateway writes into requests from what it knows of the caller: an answer that
    /// varies by one is for that caller.
    pub identity_fields: Box<[HeaderName]>,
}

impl Default for Options {
    /// Obeys the origin, and clients in nothing; the store is shared.
    fn default() -> Self {
        Self {
            scope: Scope::Shared,
            default_ttl: None,
            override_ttl: None,
            heuristics: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stale_if_unreachable: HOUR,
            keep: HOUR,
            store_set_cookie: false,
            request_directives: false,
            targeted: Box::new([CDN_CACHE_CONTROL]),
            identity_fields: Box::default(),
        }
    }
}

/// `CDN-Cache-Control` (RFC 9213 3.1).
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const HOUR: Duration = Duration::from_secs(3600);
