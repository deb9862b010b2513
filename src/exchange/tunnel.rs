//! How a tunnel gets from where it is opened to where it is logged.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{BoxFuture, Reason};

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelEnd {
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Whether both sides closed in order.
    pub complete: bool,
    /// Why the gateway closed it, if neither side did.
    pub cut: Option<Reason>,
}

/// A tunnel that is ready to run, in the extensions of a 101 answer.
///
/// Whoever opened it knows how to run it; only the frame knows when the request, and so its log
/// line, is over. The frame takes the future and runs it.
#[derive(Clone)]
pub struct Tunnel(Arc<Mutex<Option<BoxFuture<TunnelEnd>>>>);

impl Tunnel {
    /// Wraps the future that copies both ways.
    pub fn new(run: impl Future<Output = TunnelEnd> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::pin(run)))))
    }

    /// The future, once.
    #[must_use]
    pub fn take(&self) -> Option<BoxFuture<TunnelEnd>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tunnel")
    }
}
