//! `tollgate demo`.
pub mod backend;
