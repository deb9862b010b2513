//! Requests that the gateway makes on its own account: keys of an issuer, a decision of another
//! service.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{BoxError, BoxFuture};

/// An HTTP client for the gateway's own requests, over `http://` and `https://`.
///
/// A policy gets it from the composition root: the pipeline knows no upstream.
pub trait Subrequest: Send + Sync + 'static {
    /// Sends a request, whose target is a whole URL, and collects the answer.
    ///
    /// No redirect is followed. The deadline covers all of it, connecting and the body included.
    fn send(
        &self,
        request: http::Request<Bytes>,
        limits: SubrequestLimits,
    ) -> BoxFuture<Result<http::Response<Bytes>, SubrequestError>>;
}

/// A shared [`Subrequest`].
pub type SharedSubrequest = Arc<dyn Subrequest>;

/// What one of the gateway's own requests may cost.
#[derive(Clone, Copy, Debug)]
pub struct SubrequestLimits {
    /// From connecting to the body's last byte.
    pub deadline: Duration,
    /// The largest body that is taken.
    pub body: usize,
}

/// Why one of the gateway's own requests has no answer.
#[derive(Debug)]
pub enum SubrequestError {
    /// It took longer than the deadline.
    Timeout,
    /// The answer's body is over the limit.
    TooLarge,
    /// No connection, or it broke.
    Failed(BoxError),
}

impl fmt::Display for SubrequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::Failed(source) => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for SubrequestError {}
