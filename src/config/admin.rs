//! `[admin]`: the listener for health, metrics and state.

use std::net::SocketAddr;

use super::Secret;

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `listen`: its own address, never a public one; `None` (`"off"`) for none.
    /// Default `127.0.0.1:9901`.
    pub listen: Option<SocketAddr>,
    /// `token`: asked for as `Authorization: Bearer`; needed when `listen` is not loopback.
    /// `/health` and `/health/ready` are open.
    pub token: Option<Secret>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9901))),
            token: None,
        }
    }
}
