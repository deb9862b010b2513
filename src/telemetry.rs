//! What the gateway tells about itself: metrics, the access log's writer and the application log.
//!
//! Handles are looked up once, when a configuration is loaded; a request then costs atomic
//! additions only. Labels come from the configuration, never from a request, and the number of
//! series is capped.

mod cells;
mod external;
mod families;
mod file;
mod holders;
mod issuer;
pub mod json;
mod limit;
mod listener;
mod log;
mod metrics;
mod output;
mod redis;
mod remembered;
mod route;
mod series;
mod server;
mod singles;
pub mod timestamp;
mod writer;

pub use external::{ExternalMetrics, ExternalResult};
pub use file::FileMetrics;
pub use issuer::IssuerMetrics;
pub use limit::{LimitDecision, LimitMetrics, TableMetrics};
pub use listener::ListenerMetrics;
pub use log::{LogHandle, init};
pub use metrics::Metrics;
pub use prometheus::{IntCounter, IntGauge};
pub use redis::{RedisMetrics, SecondTierMetrics};
pub use remembered::MemoryMetrics;
pub use route::{AuthMetrics, RouteMetrics};
pub use server::{OpenConnection, ServerMetrics};
pub use writer::AccessLogWriter;
