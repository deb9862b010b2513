//! The `tollgate` command.
pub mod demo;
