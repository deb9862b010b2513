//! What surrounds every request, whatever route it takes.

pub mod host;
pub mod target;
