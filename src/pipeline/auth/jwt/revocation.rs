//! Tokens that were taken back before their time.

use std::sync::Arc;

use crate::{config::Jwt, pipeline::Tools};

/// What was taken back. Asked at every request, remembered tokens included: it must be a look-up in
/// memory.
pub trait Revocations: Send + Sync + 'static {
    /// Whether a token is revoked by its `jti`, or all tokens of its subject are.
    fn check(&self, id: Option<&str>, subject: &str) -> Revocation;
}

/// What [`Revocations`] say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Neither is revoked.
    Clear,
    /// One of them is.
    Revoked,
    /// The list is too old to tell; the token is refused then.
    Unknown,
}

/// The revocations that a configuration names.
pub(super) fn revocations(_: &Jwt, _: &Tools) -> Option<Arc<dyn Revocations>> {
    None
}
