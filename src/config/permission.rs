//! Names of what may be done, and what grants them.
//!
//! A permission is a name in segments, `orders:read`. What grants it may hold `*` as a whole
//! segment: the last one stands for every rest of one segment at least, one before it for exactly one
//! segment. So `orders:*` grants `orders:read` and `orders:lines:read`, but not `orders`, and never
//! `orders-archive:read`.

use std::{fmt, sync::Arc};

use super::decode::{Format, Node, Problem, Reader};

/// The name of something that may be done: `orders:read`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission(Arc<str>);

impl Permission {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a grant, a name that may hold `*`, covers this permission.
    #[must_use]
    pub fn is_granted_by(&self, grant: &str) -> bool {
        grants(grant, &self.0)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn grants(grant: &str, permission: &str) -> bool {
    let mut wanted = permission.split(':');
    let mut parts = grant.split(':').peekable();
    while let Some(part) = parts.next() {
        let Some(segment) = wanted.next() else {
            return false;
        };
        match part {
            "*" if parts.peek().is_none() => return true,
            "*" => {}
            part if part == segment => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

/// A permission that a route asks for: a name without wildcards.
pub(super) struct PermissionName;

impl Format for PermissionName {
    type Value = Permission;

    fn expected() -> String {
        "the name of a permission such as \"orders:read\"".to_owned()
    }

    fn example() -> String {
        "\"orders:read\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Permission> {
        reader.parse(node, &Self::expected(), |text| {
            if text.contains('*') {
                return Err(
                    Problem::what("a route asks for one permission by its whole name")
                        .help("wildcards stand in `[roles.NAME]`: they grant, they don't ask"),
                );
            }
            check(text).map(|()| Permission(text.into()))
        })
    }
}

/// What a role grants: a name, perhaps with wildcards.
pub(super) struct Grant;

impl Format for Grant {
    type Value = Arc<str>;

    fn expected() -> String {
        "a permission such as \"orders:read\", \"orders:*\" or \"*\"".to_owned()
    }

    fn example() -> String {
        "\"orders:*\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Arc<str>> {
        reader.parse(node, &Self::expected(), |text| {
            let partial = |part: &str| part.contains('*') && part != "*";
            if text.split(':').any(partial) {
                return Err(Problem::what("`*` stands for whole segments")
                    .help("segments are separated by `:`, as in `orders:*`"));
            }
            check(text).map(|()| text.into())
        })
    }
}

/// Names go into logs and into tokens: visible ASCII, no segment empty.
fn check(name: &str) -> Result<(), Problem> {
    let in_name = |byte: u8| byte.is_ascii_graphic() && !b"\"\\,".contains(&byte);
    if name == AUTHENTICATED {
        let what =
            format!("`{AUTHENTICATED}` is no permission: it asks for a caller that is known");
        return Err(Problem::what(what).help("as in `permissions = { GET = \"authenticated\" }`"));
    }
    if name.len() > LONGEST {
        return Err(Problem::what(format!(
            "a permission has {LONGEST} bytes at most"
        )));
    }
    if !name.bytes().all(in_name) || name.split(':').any(str::is_empty) {
        return Err(Problem::plain().help("segments of visible characters, separated by `:`"));
    }
    Ok(())
}

/// The word for "any caller that is known".
pub(super) const AUTHENTICATED: &str = "authenticated";

const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wildcard_stands_for_whole_segments() {
        for (grant, permission, granted) in [
            ("orders:read", "orders:read", true),
            ("orders:read", "orders:write", false),
            ("*", "orders", true),
            ("*", "orders:lines:read", true),
            ("orders:*", "orders:read", true),
            ("orders:*", "orders:lines:read", true),
            ("orders:*", "orders", false),
            ("orders:*", "orders-archive:read", false),
            ("*:read", "orders:read", true),
            ("*:read", "orders:lines:read", false),
            ("orders:*:read", "orders:lines:read", true),
            ("orders:*:read", "orders:lines:write", false),
            ("orders", "orders:read", false),
            ("orders:read", "orders", false),
            ("", "orders", false),
            ("Orders:read", "orders:read", false),
        ] {
            assert_eq!(grants(grant, permission), granted, "{grant} {permission}");
        }
    }

    #[test]
    fn a_name_has_segments_that_are_not_empty() {
        for name in [
            "orders:read",
            "admin",
            "https://example.test/scope",
            "a.b:c_d-e",
        ] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", ":", "a:", ":a", "a b", "a,b", "authenticated", "\u{fc}"] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert!(check(&"a".repeat(LONGEST + 1)).is_err());
    }

    /// The same by the definition: a star that is not last is one segment, the last is one or more.
    fn reference(grant: &[&str], permission: &[&str]) -> bool {
        match (grant, permission) {
            ([], []) => true,
            (["*"], [_, ..]) => true,
            ([part, grant @ ..], [segment, permission @ ..]) => {
                (*part == "*" || part == segment) && reference(grant, permission)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_its_definition(
            grant in proptest::collection::vec("[ab*]", 1..5),
            permission in proptest::collection::vec("[ab]", 1..5),
        ) {
            let parts: Vec<&str> = grant.iter().map(String::as_str).collect();
            let segments: Vec<&str> = permission.iter().map(String::as_str).collect();
            prop_assert_eq!(
                grants(&grant.join(":"), &permission.join(":")),
                reference(&parts, &segments)
            );
        }

        #[test]
        fn no_grant_makes_the_matcher_panic(grant: String, permission: String) {
            let granted = grants(&grant, &permission);
            // Nothing but a star ever grants more than its own name.
            prop_assert!(!granted || grant == permission || grant.contains('*'));
        }
    }
}
