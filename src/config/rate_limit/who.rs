//! Who has a quota of its own, or none: `overrides` and `exempt`.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use super::{Format, Node, Place, Problem, Quota, Quotas, Reader};
use crate::config::address::network;

/// A principal, or everybody of a role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitedWho {
    /// By its whole name: `jwt.customers:alice`.
    Principal(Box<str>),
    /// `role:gold`.
    Role(Box<str>),
}

/// A member of `exempt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exempted {
    Network(IpNet),
    Who(LimitedWho),
}

/// Networks, and principals and roles.
pub(super) fn divided(exempt: Vec<(Exempted, Place)>) -> (Vec<IpNet>, Vec<LimitedWho>) {
    let (mut networks, mut callers) = (Vec::new(), Vec::new());
    for (member, _) in exempt {
        match member {
            Exempted::Network(network) => networks.push(network),
            Exempted::Who(who) => callers.push(who),
        }
    }
    (networks, callers)
}

/// Whether networks together are all of IPv4, and all of IPv6.
pub(super) fn families(networks: &[IpNet]) -> (bool, bool) {
    let together = IpNet::aggregate(&networks.to_vec());
    let is_all = |network: &&IpNet| network.prefix_len() == 0;
    let all = || together.iter().filter(is_all);
    (
        all().any(|network| matches!(network, IpNet::V4(_))),
        all().any(|network| matches!(network, IpNet::V6(_))),
    )
}

/// `overrides = { "role:gold" = "20000/1h" }`.
pub(super) struct Overrides;

impl Format for Overrides {
    type Value = Vec<(LimitedWho, Vec<Quota>, Place)>;

    fn expected() -> String {
        "a table of principals or roles, and quotas".to_owned()
    }

    fn example() -> String {
        "{ \"role:gold\" = \"20000/1h\" }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let DeValue::Table(table) = node.value else {
            let help = format!("for example `overrides = {}`", Self::example());
            return reader.wrong(node, &Self::expected(), Some(help));
        };
        let scope = node.inner(&[], reader);
        let read: Vec<_> = table
            .iter()
            .map(|entry| one(Node::child(entry, &scope, reader), reader))
            .collect();
        read.into_iter().collect()
    }
}

fn one(node: Node<'_>, reader: &mut Reader<'_>) -> Option<(LimitedWho, Vec<Quota>, Place)> {
    let who = match who(node.name) {
        Ok(who) => Some(who),
        // The value of a dotted key that was meant as one name is a table.
        Err(_) if matches!(node.value, DeValue::Table(_)) => {
            let help = format!(
                "a dot separates tables: write the name in quotes: `\"{}....\"`",
                node.name
            );
            return reader.wrong(node, &Quotas::expected(), Some(help));
        }
        Err(problem) => {
            let at_key = Node {
                place: node.key,
                ..node
            };
            reader.refuse(at_key, WHO, problem)
        }
    };
    let quotas = Quotas::read(node, reader)?;
    Some((who?, quotas, node.key))
}

/// A member of `exempt`.
pub(super) struct ExemptName;

impl Format for ExemptName {
    type Value = (Exempted, Place);

    fn expected() -> String {
        format!("a network such as \"10.0.0.0/8\", {WHO}")
    }

    fn example() -> String {
        "\"10.0.0.0/8\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<(Exempted, Place)> {
        let member = reader.parse(node, &Self::expected(), exempted)?;
        Some((member, node.place))
    }
}

fn exempted(text: &str) -> Result<Exempted, Problem> {
    let is_network = text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    match is_network {
        true => network(text).map(Exempted::Network),
        false => who(text).map(Exempted::Who),
    }
}

fn who(text: &str) -> Result<LimitedWho, Problem> {
    match text.split_once(':') {
        Some(("role", role)) if !role.is_empty() => Ok(LimitedWho::Role(role.into())),
        // `METHOD.NAME:SUBJECT`.
        Some((method, subject)) if method.contains('.') && !subject.is_empty() => {
            Ok(LimitedWho::Principal(text.into()))
        }
        _ => {
            let help = "a principal is named with its method: `\"jwt.customers:alice\"`; a role is `\"role:gold\"`";
            Err(Problem::what("this names nobody").help(help))
        }
    }
}

const WHO: &str = "a principal such as \"jwt.customers:alice\", or a role such as \"role:gold\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_the_one_that_clients_are_known_by() {
        let known = |text| match exempted(text) {
            Ok(Exempted::Network(network)) => network.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(known("::ffff:10.0.0.0/104"), "10.0.0.0/8");
        assert_eq!(known("::ffff:192.0.2.7"), "192.0.2.7/32");
        let help = exempted("10.0.0.1/8").unwrap_err().help;
        assert_eq!(help.as_deref(), Some("write `\"10.0.0.0/8\"`"));
    }

    #[test]
    fn halves_together_are_the_whole() {
        let of = |networks: &[&str]| {
            let networks: Vec<IpNet> = networks.iter().map(|it| it.parse().unwrap()).collect();
            families(&networks)
        };
        assert_eq!(of(&["0.0.0.0/0"]), (true, false));
        assert_eq!(of(&["8000::/1", "10.0.0.0/8", "::/1"]), (false, true));
        assert_eq!(of(&["128.0.0.0/1", "::/0", "0.0.0.0/1"]), (true, true));
        assert_eq!(of(&["128.0.0.0/1", "0.0.0.0/2", "::/1"]), (false, false));
        assert_eq!(of(&[]), (false, false));
    }

    #[test]
    fn networks_principals_and_roles_are_told_apart() {
        assert!(matches!(exempted("10.0.0.0/8"), Ok(Exempted::Network(_))));
        assert!(matches!(exempted("2001:db8::1"), Ok(Exempted::Network(_))));
        let principal = LimitedWho::Principal("jwt.a:urn:x".into());
        assert_eq!(exempted("jwt.a:urn:x"), Ok(Exempted::Who(principal)));
        assert_eq!(who("role:gold"), Ok(LimitedWho::Role("gold".into())));
        for wrong in ["gold", "alice:", "role:", "", "jwt:alice"] {
            assert!(exempted(wrong).is_err(), "{wrong:?}");
        }
    }
}
