//! `[routes.*]`, `[groups.*]` and `[defaults]`, merged.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;

use super::Template;

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
    /// `max_body`; `None` is `"unlimited"`. Default 10 MiB. Upgrades and gRPC are exempt unless the
    /// route itself sets it.
    pub max_body: Option<u64>,
    /// Whether the route itself (not its group or the defaults) sets `max_body`.
    pub max_body_is_own: bool,
    /// `[routes.NAME.timeouts]`.
    pub timeouts: Timeouts,
    /// `encoded_slash`.
    pub encoded_slash: EncodedSlash,
    /// `upgrade`: whether WebSocket and other upgrades pass. Default true.
    pub upgrade: bool,
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
    /// The segments, in the percent-encoded normal form that the router matches.
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

/// `respond`: an answer of the gateway's own.
#[derive(Clone, Debug)]
pub struct Respond {
    /// `status`. Default 200.
    pub status: StatusCode,
    /// `headers`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `body`. Its media type is `text/plain; charset=utf-8` unless `headers` says otherwise.
    pub body: Bytes,
}

/// `redirect`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `to`: the Location.
    pub to: Template,
    /// `status`: 301, 302, 303, 307 or 308 (default).
    pub status: StatusCode,
}

/// `rewrite`: what the upstream sees instead.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// `strip_prefix`: taken off the path at a segment boundary; normal form, no slash at its end.
    pub strip_prefix: Option<Box<str>>,
    /// `add_prefix`: put before the path; normal form, no slash at its end.
    pub add_prefix: Option<Box<str>>,
    /// `path`: the whole path; excludes the other two.
    pub path: Option<Template>,
    /// `host`.
    pub host: HostRewrite,
}

/// The Host that the upstream sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// `"preserve"`: the client's.
    #[default]
    Preserve,
    /// `"server"`: the server's own, from its URL.
    Server,
    /// Any other text.
    Literal(HeaderValue),
}

/// `timeouts`; `None` is `"off"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `response`: from the request until the answer's head. Default 30 s.
    pub response: Option<Duration>,
    /// `idle`: between two bytes of a body, either way. Default 60 s.
    pub idle: Option<Duration>,
    /// `total`: until the answer's last byte. Off by default.
    pub total: Option<Duration>,
    /// `tunnel_idle`: without a byte either way after an upgrade. Default 5 min.
    pub tunnel_idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            response: Some(Duration::from_secs(30)),
            idle: Some(Duration::from_secs(60)),
            total: None,
            tunnel_idle: Some(Duration::from_secs(300)),
        }
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
