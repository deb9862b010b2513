//! The response cache (RFC 9111).

pub mod policy;
