//! How a client's side of a tunnel gets from its connection to whoever opens the tunnel.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// The client's side of a tunnel: its socket, and what it sent right behind its request.
pub type Upgraded = Box<dyn Duplex>;

/// A promise of the client's side, in the extensions of a request that asks to switch protocols.
///
/// It is kept when the 101 has been written and the request's body is over; it is broken when the
/// answer is another one, or the connection ends.
#[derive(Clone)]
pub struct Upgrade(Arc<Mutex<Option<oneshot::Receiver<Upgraded>>>>);

/// A promise, and what keeps it.
#[must_use]
pub fn upgrade() -> (oneshot::Sender<Upgraded>, Upgrade) {
    let (sender, receiver) = oneshot::channel();
    (sender, Upgrade(Arc::new(Mutex::new(Some(receiver)))))
}

impl Upgrade {
    /// The promise, once.
    #[must_use]
    pub fn take(&self) -> Option<oneshot::Receiver<Upgraded>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}
