//! Who calls: what authentication found out, in one form for all of its methods.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use serde_json::Value;

use super::fields::exact_value;

/// A caller that has been authenticated.
///
/// Made once per credential and shared by its requests where the method remembers credentials.
/// `Debug` shows the name only: claims may hold personal data.
#[derive(Clone)]
pub struct Principal {
    /// The method by its full name: `jwt.customers`, `api_keys.partners`.
    pub method: Arc<str>,
    /// Who, as the method knows it: a token's `sub`, a key's id, a user's name.
    pub subject: Box<str>,
    /// `jwt.customers:alice`: unique over all methods; what limits tell callers apart by.
    pub name: Arc<str>,
    /// What caches tell callers apart by: the name, and behind it a digest of what else the credential
    /// says. The upstream may get the credential too, and answer for another tenant or scope of one
    /// subject otherwise.
    pub caller: Arc<str>,
    /// The subject as a header value, where it can be one that says just this.
    pub subject_header: Option<HeaderValue>,
    /// The roles that the credential names.
    pub roles: Box<[Box<str>]>,
    /// Permissions that the credential carries itself, beside those of its roles.
    pub permissions: Box<[Box<str>]>,
    /// The claims of a token; `Null` where a method has none.
    pub claims: Value,
    /// When the credential expires.
    pub expires: Option<SystemTime>,
    /// Quotas of the credential's own, so many requests in such a time; they take the place of
    /// those of a limit by caller.
    pub quotas: Box<[(u64, Duration)]>,
}

impl Principal {
    /// A caller without roles, claims or expiry.
    #[must_use]
    pub fn new(method: &Arc<str>, subject: &str) -> Self {
        let name: Arc<str> = format!("{method}:{subject}").into();
        Self {
            method: Arc::clone(method),
            subject: subject.into(),
            caller: Arc::clone(&name),
            name,
            subject_header: exact_value(subject),
            roles: Box::default(),
            permissions: Box::default(),
            claims: Value::Null,
            expires: None,
            quotas: Box::default(),
        }
    }

    /// The claim at a path of names.
    #[must_use]
    pub fn claim(&self, path: &[Box<str>]) -> Option<&Value> {
        path.iter()
            .try_fold(&self.claims, |value, name| value.get(&**name))
    }

    /// Whether the credential names a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|known| &**known == role)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_found_by_its_path_and_debug_does_not_show_it() {
        let mut principal = Principal::new(&"jwt.customers".into(), "alice");
        principal.claims = serde_json::json!({ "realm": { "roles": ["a"] }, "email": "a@b.test" });
        let path = |names: &[&str]| -> Vec<Box<str>> { names.iter().map(|&n| n.into()).collect() };
        assert_eq!(
            principal.claim(&path(&["realm", "roles"])),
            Some(&serde_json::json!(["a"]))
        );
        assert_eq!(principal.claim(&path(&["realm", "none"])), None);
        assert_eq!(&*principal.name, "jwt.customers:alice");
        assert!(!format!("{principal:?}").contains("a@b.test"));
    }
}
