//! Tokens that were taken back before their time.

mod file;
mod list;

use std::sync::Arc;

use self::file::FileRevocations;
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
///
/// A list that can't be read does not hold up anything: its tokens are refused until it can be.
pub(super) fn revocations(config: &Jwt, tools: &Tools) -> Option<Arc<dyn Revocations>> {
    let list = config.revocation.as_ref()?;
    Some(Arc::new(FileRevocations::watch(&config.name, list, tools)))
}
