//! Text to checked values: `gateway.toml` and what it means.
//!
//! This room imports no other. A [`Config`] that exists is valid: names resolve, routes can be told
//! apart, values are in range. One file per table.

mod address;
mod admin;
mod auth;
mod condition;
mod conflicts;
mod cors;
mod decode;
mod diagnostic;
mod document;
mod edits;
mod header;
mod host;
mod loading;
mod log;
mod mask;
mod path;
mod reference;
mod rewrite;
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

pub use admin::Admin;
pub use cors::{Cors, Fields, Origin};
pub use auth::{
    Auth, AuthRule, ClaimPath, CredentialPlace, Jwt, KeySet, KeysFrom, VerificationKey,
};
pub use diagnostic::{Diagnostic, Diagnostics, Related, Severity};
pub use edits::{RequestEdits, ResponseEdits};
pub use loading::Loaded;
pub use log::{AccessLog, Log, QueryLogging};
pub use reference::reference;
pub use rewrite::{HostRewrite, Rewrite};
pub use route::{
    EncodedSlash, HostPattern, PathPattern, PathSegment, Redirect, Route, Target, Timeouts,
    ValueMatch,
};
pub use security::{Frame, ReferrerPolicy, SecurityHeaders};
pub use server::{Address, Drain, Http2, Limits, Server};
pub use subrequests::{Certificates, Subrequests};
pub use target::Respond;
pub use text::{Secret, Template, TemplatePart};
pub use upstream::{HealthCheck, ServerUrl, Upstream, UpstreamProtocol, UpstreamServer};
pub use validation::{BodySchema, MediaRange, Validation};

use std::{collections::BTreeMap, sync::Arc};

/// A whole, checked configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `[server]`: where clients connect, and what they may cost.
    pub server: Server,
    /// `[admin]`: health, metrics and state.
    pub admin: Admin,
    /// `[log]`: application and access log.
    pub log: Log,
    /// `[subrequests]`: the gateway's own requests.
    pub subrequests: Subrequests,
    /// `[auth.*]`: how callers show who they are.
    pub auth: Auth,
    /// `[upstreams.*]`, and one for each inline URL, named by that URL.
    pub upstreams: BTreeMap<Arc<str>, Upstream>,
    /// `[routes.*]` with `[groups.*]` and `[defaults]` merged in, in the order of their names.
    pub routes: Vec<Route>,
}
