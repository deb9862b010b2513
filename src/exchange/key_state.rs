//! An API key as an operator may see it.

use std::time::SystemTime;

/// What is told about an API key: never the key, and never its hash.
#[derive(Clone, Debug)]
pub struct KeyState {
    /// The name of its principal: `api_keys.partners:partner-7`.
    pub name: String,
    /// The key's id in its file.
    pub id: String,
    /// The roles of whoever shows it.
    pub roles: Vec<String>,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// From when it is good.
    pub not_before: Option<SystemTime>,
    /// Until when it is good.
    pub expires: Option<SystemTime>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it was used last, to the second, since the process began.
    pub last_used: Option<SystemTime>,
}
