//! `[log]`: the application log and the access log.

use std::path::PathBuf;

use http::HeaderName;

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    /// `level`: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,tollgate::upstream=debug`.
    pub level: String,
    /// `[log.access]`.
    pub access: AccessLog,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            access: AccessLog::default(),
        }
    }
}

/// What becomes of a query's values in the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryLogging {
    /// Names are kept, values become `***`.
    #[default]
    Mask,
    /// As it came.
    Keep,
    /// The query is left out.
    Drop,
}

/// `[log.access]`: one line a request.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// `enabled`. On by default.
    pub enabled: bool,
    /// `file`: reopened on SIGUSR1; standard output by default.
    pub file: Option<PathBuf>,
    /// `sample`: the share of requests that is logged, 0.0 to 1.0; errors (5xx and every refusal)
    /// always are.
    pub sample: f64,
    /// `query`: `mask` (default), `keep` or `drop`.
    pub query: QueryLogging,
    /// `request_headers`: more request header fields to log; credentials are refused here.
    pub request_headers: Vec<HeaderName>,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            enabled: true,
            file: None,
            sample: 1.0,
            query: QueryLogging::Mask,
            request_headers: Vec::new(),
        }
    }
}
