//! temp
pub mod key;
mod body; mod fill; mod flights; mod purge; mod store;
