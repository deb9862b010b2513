//! `permissions` of a route as written: a name, a list, `{ all = [...] }`, or one of these a method.

use http::Method;
use toml::de::DeValue;

use super::super::{
    Permission,
    decode::{Format, Node, OneOrList, Problem, Reader, Sub, TableNode, nearest, table},
    diagnostic::Finding,
    permission::{AUTHENTICATED, PermissionName},
    share::method,
    source::Place,
};

/// A permission and where it is asked for.
#[derive(Clone, Debug)]
pub(in crate::config) struct Wanted {
    /// The permission.
    pub(in crate::config) permission: Permission,
    /// Where its name stands.
    pub(in crate::config) place: Place,
}

/// What is asked for, as written.
#[derive(Clone, Debug)]
pub(in crate::config) enum DemandKey {
    Authenticated,
    Any(Vec<Wanted>),
    All(Vec<Wanted>),
}

/// `permissions` as written.
#[derive(Clone, Debug)]
pub(in crate::config) enum PermissionsKey {
    Always(DemandKey),
    ByMethod(Vec<(MethodKey, Place, DemandKey)>),
}

/// The key of a rule by method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum MethodKey {
    /// `GET`.
    Method(Method),
    /// `"rpc:GetOrder"`.
    Rpc(Box<str>),
    /// `"*"`.
    Rest,
}

impl Format for PermissionsKey {
    type Value = Self;

    fn expected() -> String {
        "the name of a permission, a list, `{ all = [...] }`, or a table of methods".to_owned()
    }

    fn example() -> String {
        "{ GET = \"orders:read\", \"*\" = \"orders:write\" }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Table(table) = node.value else {
            return DemandKey::read(node, reader).map(Self::Always);
        };
        let scope = node.inner(&[], reader);
        if table.contains_key("all") {
            let mut children = table.iter().map(|entry| Node::child(entry, &scope, reader));
            return match children.find(|child| method_key(child.name).is_ok()) {
                Some(method) => refuse_beside_all(method, reader),
                None => DemandKey::read(node, reader).map(Self::Always),
            };
        }
        if table.is_empty() {
            let problem = Problem::what("a table without methods denies everybody");
            return reader.refuse(node, &Self::expected(), problem);
        }
        let rules: Vec<_> = table
            .iter()
            .map(|entry| rule(Node::child(entry, &scope, reader), reader))
            .collect();
        let rules: Option<Vec<_>> = rules.into_iter().collect();
        rules.map(Self::ByMethod)
    }
}

fn refuse_beside_all<T>(method: Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
    let name = method.name;
    let message = format!("`all` is for every method: `{name}` can't stand beside it");
    let help = format!("write `{name} = {{ all = [...] }}`");
    reader.report(Finding::error(method.key, message).help(help));
    None
}

fn rule(node: Node<'_>, reader: &mut Reader<'_>) -> Option<(MethodKey, Place, DemandKey)> {
    let key = match method_key(node.name) {
        Ok(key) => Some(key),
        Err(problem) => {
            let plain = || format!("`{}` is no method", node.name);
            let message = problem.what.unwrap_or_else(plain);
            let help = problem.help.unwrap_or_else(|| METHODS.to_owned());
            reader.report(Finding::error(node.key, message).help(help));
            None
        }
    };
    let demand = DemandKey::read(node, reader);
    Some((key?, node.key, demand?))
}

fn method_key(name: &str) -> Result<MethodKey, Problem> {
    if name == "*" {
        return Ok(MethodKey::Rest);
    }
    if let Some(method) = name.strip_prefix("rpc:") {
        let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let sane = !method.is_empty() && method.chars().all(in_name);
        let problem = || {
            Problem::what("`rpc:` is followed by the name of a method alone")
                .help("as in `\"rpc:GetOrder\" = \"orders:read\"`, without the service")
        };
        return sane
            .then(|| MethodKey::Rpc(method.into()))
            .ok_or_else(problem);
    }
    if nearest(name, ["all"].into_iter()).is_some() {
        return Err(Problem::plain().help("write `all`"));
    }
    method(name).map(MethodKey::Method)
}

impl Format for DemandKey {
    type Value = Self;

    fn expected() -> String {
        "the name of a permission, a list, or `{ all = [...] }`".to_owned()
    }

    fn example() -> String {
        PermissionName::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) if text == AUTHENTICATED => Some(Self::Authenticated),
            DeValue::Table(_) => {
                let all = Sub::<AllKeys>::read(node, reader)?.all;
                (!all.is_empty()).then_some(Self::All(all))
            }
            DeValue::String(_) | DeValue::Array(_) => Names::read(node, reader).map(Self::Any),
            _ => reader.wrong(node, &Self::expected(), None),
        }
    }
}

table! {
    /// `permissions` that must all be there.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct AllKeys ["routes.NAME.permissions", check check_all] {
        /// `all`: every one of these is needed.
        pub(in crate::config) all: Vec<Wanted> => Names = Vec::new(); "needed",
    }
}

fn check_all(_: &AllKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if table.is_empty() {
        let message = format!("`{}`: a table has `all`", table.node.name);
        let help = "write `{ all = [\"orders:read\", \"orders:export\"] }`";
        reader.report(Finding::error(table.node.place, message).help(help));
    }
}

/// Names of permissions, one at least.
pub(in crate::config) struct Names;

impl Format for Names {
    type Value = Vec<Wanted>;

    fn expected() -> String {
        OneOrList::<PermissionName>::expected()
    }

    fn example() -> String {
        OneOrList::<PermissionName>::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Wanted>> {
        let names = OneOrList::<Placed>::read(node, reader)?;
        if names.is_empty() {
            let problem = Problem::what("an empty list denies everybody");
            let help = format!("write `\"{AUTHENTICATED}\"` for any caller that is known");
            return reader.refuse(node, &Self::expected(), problem.help(help));
        }
        Some(names)
    }
}

struct Placed;

impl Format for Placed {
    type Value = Wanted;

    fn expected() -> String {
        PermissionName::expected()
    }

    fn example() -> String {
        PermissionName::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Wanted> {
        let permission = PermissionName::read(node, reader)?;
        let place = node.place;
        Some(Wanted { permission, place })
    }
}

const METHODS: &str =
    "a key is a method such as `GET`, `\"rpc:GetOrder\"`, or `\"*\"` for all others";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_methods_rpc_names_and_a_star() {
        assert_eq!(method_key("GET"), Ok(MethodKey::Method(Method::GET)));
        assert_eq!(
            method_key("rpc:GetOrder"),
            Ok(MethodKey::Rpc("GetOrder".into()))
        );
        assert_eq!(method_key("*"), Ok(MethodKey::Rest));
        for (wrong, help) in [
            ("get", "write `\"GET\"`"),
            ("al", "write `all`"),
            (
                "rpc:orders.v1/Get",
                "as in `\"rpc:GetOrder\" = \"orders:read\"`, without the service",
            ),
        ] {
            assert_eq!(method_key(wrong).unwrap_err().help.as_deref(), Some(help));
        }
        assert!(method_key("rpc:").is_err() && method_key("TRACE").is_err());
    }
}
