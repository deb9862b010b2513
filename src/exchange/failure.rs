//! What can go wrong on the far side, and what that allows.

use std::{fmt, future::Future, sync::Arc};

use super::{BoxError, Context, Reason, Request, Response};

/// Whether a failed attempt may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing was sent: any request may be repeated.
    Always,
    /// Something may have been done: only what is idempotent may be repeated.
    IfIdempotent,
    /// Never: the answer began, the time is up, or the request itself is at fault.
    Never,
}

/// A failed attempt to get an answer from an upstream.
#[derive(Debug)]
pub struct UpstreamError {
    /// What the client is told.
    pub reason: Reason,
    /// Whether to try again.
    pub retry: Retry,
    /// What the log is told.
    pub source: Option<BoxError>,
}

impl UpstreamError {
    /// A failure without a cause worth telling.
    #[must_use]
    pub fn new(reason: Reason, retry: Retry) -> Self {
        Self {
            reason,
            retry,
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UpstreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The zone below `rescue`: answers, or a typed failure that retry and breakers understand.
pub trait UpstreamService: Send + Sync + 'static {
    /// Sends the request on.
    fn call(
        &self,
        request: Request,
        context: &Arc<Context>,
    ) -> impl Future<Output = Result<Response, UpstreamError>> + Send;
}
