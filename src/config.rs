//! Text to checked values: `gateway.toml` and what it means.
//!
//! This room imports no other. A [`Config`] that exists is valid: names resolve, routes can be told
//! apart, values are in range. One file per table.

mod admin;
mod diagnostic;
mod loading;
mod log;
mod mask;
mod route;
mod server;
mod source;
mod text;
mod upstream;

pub use admin::Admin;
pub use diagnostic::{Diagnostic, Diagnostics, Related, Severity};
pub use loading::Loaded;
pub use log::{AccessLog, Log, QueryLogging};
pub use route::{
    EncodedSlash, HostPattern, HostRewrite, PathPattern, PathSegment, Redirect, Respond, Rewrite,
    Route, Target, Timeouts, ValueMatch,
};
pub use server::{Address, Drain, Http2, Limits, Server};
pub use text::{Secret, Template, TemplatePart};
pub use upstream::{HealthCheck, ServerUrl, Upstream, UpstreamProtocol, UpstreamServer};

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
    /// `[upstreams.*]`, and one for each inline URL, named by that URL.
    pub upstreams: BTreeMap<Arc<str>, Upstream>,
    /// `[routes.*]` with `[groups.*]` and `[defaults]` merged in, in the order of their names.
    pub routes: Vec<Route>,
}
