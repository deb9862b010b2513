//! What a route is told beside where its requests go: which they are, what becomes of their header
//! fields, which bodies pass, and which pages may call.

mod browser;
mod cors;
mod headers;
mod router;
mod validation;

#[path = "../support/mod.rs"]
mod support;
