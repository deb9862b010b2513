//! `[roles.*]`: what callers may do, by the names that their credentials carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Permission,
    decode::{Entry, Format, Node, OneOrList, Problem, Reader, nearest, quoted_key, table},
    diagnostic::Finding,
    permission::Grant,
    routes::unknown_name,
    source::Place,
};

/// `[roles.NAME]` with everything that it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// What it grants, its own and that of the roles that it includes; names that may hold `*`.
    pub permissions: Vec<Arc<str>>,
    /// The roles that it includes, directly or not.
    pub includes: Vec<Arc<str>>,
}

/// All roles by their names.
pub(super) type Roles = BTreeMap<Arc<str>, Role>;

table! {
    /// `[roles.NAME]`: what callers may do whose credential names this role.
    #[derive(Clone, Debug)]
    pub(super) struct RoleKeys ["roles.NAME"] {
        /// `permissions`: what the role may do; `*` stands for whole segments, as in `orders:*`.
        pub(super) permissions: Vec<Arc<str>> => OneOrList<Grant> = Vec::new(); "none",
        /// `includes`: roles that this one includes: who has this one has them too.
        pub(super) includes: Vec<RoleReference> => OneOrList<RoleName> = Vec::new(); "none",
    }
}

/// The name of a role, where something asks for it.
#[derive(Clone, Debug)]
pub(super) struct RoleReference {
    /// The name.
    pub(super) name: Arc<str>,
    /// Where it stands.
    pub(super) place: Place,
}

/// The format of a [`RoleReference`].
pub(super) struct RoleName;

impl Format for RoleName {
    type Value = RoleReference;

    fn expected() -> String {
        "the name of a role".to_owned()
    }

    fn example() -> String {
        "\"editor\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<RoleReference> {
        let name = reader.parse(node, &Self::expected(), |text| match text {
            "" => Err(Problem::plain()),
            text => Ok(text.into()),
        })?;
        let place = node.place;
        Some(RoleReference { name, place })
    }
}

/// Resolves what roles include, and reports what they can't.
pub(super) fn resolve(
    written: &BTreeMap<Arc<str>, Entry<RoleKeys>>,
    findings: &mut Vec<Finding>,
) -> Roles {
    let book = Book { written };
    book.check(findings);
    let resolve = |name: &Arc<str>| (Arc::clone(name), book.resolve(name));
    written.keys().map(resolve).collect()
}

/// The roles that grant a permission.
pub(super) fn granting(roles: &Roles, permission: &Permission) -> Vec<Arc<str>> {
    let grants = |role: &Role| {
        let mut grants = role.permissions.iter();
        grants.any(|grant| permission.is_granted_by(grant))
    };
    let names = roles.iter().filter(|(_, role)| grants(role));
    names.map(|(name, _)| Arc::clone(name)).collect()
}

/// The role itself, defined or not, and those that include it.
pub(super) fn including(roles: &Roles, wanted: &Arc<str>) -> Vec<Arc<str>> {
    let others = roles
        .iter()
        .filter(|(name, role)| *name != wanted && role.includes.contains(wanted));
    let others = others.map(|(name, _)| Arc::clone(name));
    std::iter::once(Arc::clone(wanted)).chain(others).collect()
}

/// What to write in the place of a role that no table defines. `prefix` stands before the name where it
/// was found: `role:` in limits.
pub(super) fn help_with_unknown<'n>(
    name: &str,
    prefix: &str,
    known: impl Iterator<Item = &'n str>,
) -> String {
    nearest(name, known).map_or_else(
        || format!("define it, if only by name: `[roles.{}]`", quoted_key(name)),
        |near| format!("did you mean `\"{prefix}{near}\"`?"),
    )
}

struct Book<'a> {
    written: &'a BTreeMap<Arc<str>, Entry<RoleKeys>>,
}

impl<'a> Book<'a> {
    /// Unknown names, and roles that include themselves.
    fn check(&self, findings: &mut Vec<Finding>) {
        let known = self.written.keys().map(|name| &**name);
        for (name, entry) in self.written {
            for included in &entry.value.includes {
                if !self.written.contains_key(&included.name) {
                    let (wanted, place) = (&included.name, included.place);
                    findings.push(unknown_name("role", wanted, place, known.clone(), "roles"));
                }
            }
            findings.extend(self.circle(name));
        }
    }

    /// The finding about a role that includes itself; of all roles in a circle, the first by name
    /// tells it.
    fn circle(&self, name: &'a Arc<str>) -> Option<Finding> {
        let came_from = self.reach(name);
        let mut path = vec![&**name];
        let mut at = came_from.get(name)?;
        while at.name != name {
            path.push(at.name);
            at = came_from.get(&at.name)?;
        }
        path.push(name);
        path.reverse();
        if path.iter().any(|member| *member < &**name) {
            return None;
        }
        let first = self.written[name].value.includes.iter();
        let first = first.clone().find(|it| path.get(1) == Some(&&*it.name))?;
        let message = match path.as_slice() {
            [_, _] => format!("the role `{name}` includes itself"),
            path => format!("the role `{name}` includes itself: {}", path.join(" > ")),
        };
        Some(Finding::error(first.place, message).help("take one of these `includes` out"))
    }

    /// All roles that can be reached, each with the one that it was reached from.
    fn reach(&self, name: &'a Arc<str>) -> BTreeMap<&'a Arc<str>, Step<'a>> {
        let mut reached = BTreeMap::new();
        let mut open = vec![name];
        while let Some(from) = open.pop() {
            let Some(entry) = self.written.get(from) else {
                continue;
            };
            for included in &entry.value.includes {
                if !reached.contains_key(&included.name) {
                    reached.insert(&included.name, Step { name: from });
                    open.push(&included.name);
                }
            }
        }
        reached
    }

    fn resolve(&self, name: &'a Arc<str>) -> Role {
        let reached = self.reach(name);
        let includes: Vec<_> = reached.keys().filter(|it| **it != name).copied().collect();
        let all = std::iter::once(name).chain(includes.iter().copied());
        let permissions: BTreeSet<_> = all
            .filter_map(|name| self.written.get(name))
            .flat_map(|entry| entry.value.permissions.iter().cloned())
            .collect();
        Role {
            permissions: permissions.into_iter().collect(),
            includes: includes.into_iter().cloned().collect(),
        }
    }
}

/// Where a search came from.
struct Step<'a> {
    name: &'a Arc<str>,
}
