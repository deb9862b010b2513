//! `origins` of a route: pages of which origins may use the credentials that a browser sends by
//! itself.

use toml::de::DeValue;

use super::{
    Config, Origin,
    cors::OriginText,
    decode::{Format, Node, OneOrList, Problem, Reader},
};

/// `origins` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRule {
    /// `"any"`: nothing is checked.
    pub any: bool,
    /// `"same-host"`: pages of the host that is asked.
    pub same_host: bool,
    /// Pages of these origins.
    pub others: Vec<Origin>,
    /// Whether only requests with a credential that browsers send by themselves are checked: the
    /// rule is the default, and not the route's own.
    pub only_credentials: bool,
}

/// The format of an [`OriginRule`].
pub(super) struct Origins;

impl Format for Origins {
    type Value = OriginRule;

    fn expected() -> String {
        "\"same-host\", \"any\", or a list of origins".to_owned()
    }

    fn example() -> String {
        "[\"same-host\", \"https://app.example.com\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<OriginRule> {
        let members = OneOrList::<Member>::read(node, reader)?;
        let rule = OriginRule {
            any: members.contains(&Origin::Any),
            same_host: members.contains(&same_host()),
            others: members
                .iter()
                .filter(|one| **one != Origin::Any && **one != same_host())
                .cloned()
                .collect(),
            only_credentials: false,
        };
        if members.is_empty() || (rule.any && members.len() > 1) {
            let what = match members.is_empty() {
                true => "an empty list denies every page",
                false => "\"any\" can't stand in a list",
            };
            return reader.refuse(node, &Self::expected(), Problem::what(what));
        }
        Some(rule)
    }
}

struct Member;

impl Format for Member {
    type Value = Origin;

    fn expected() -> String {
        Origins::expected()
    }

    fn example() -> String {
        Origins::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Origin> {
        match node.value {
            DeValue::String(text) if text == "any" => Some(Origin::Any),
            DeValue::String(text) if text == SAME_HOST => Some(same_host()),
            DeValue::String(text) if text == "*" => {
                let help = "write `\"any\"` if every page may act as its reader".to_owned();
                reader.wrong(node, &Self::expected(), Some(help))
            }
            _ => OriginText::read(node, reader),
        }
    }
}

/// The word in the place of an origin; no origin is written so.
fn same_host() -> Origin {
    Origin::Exact(SAME_HOST.into())
}

impl Config {
    /// Gives routes that take a credential which browsers send by themselves the rule
    /// `"same-host"` where they have none. What their `cors` lets act with credentials passes too.
    pub(super) fn guard_origins(&mut self) {
        for route in &mut self.routes {
            let auth = route.auth.as_ref();
            let guarded = auth.is_some_and(|rule| self.auth.is_sent_by_browsers(rule));
            if guarded && route.origins.is_none() {
                let cors = route.cors.as_ref().filter(|cors| cors.credentials);
                route.origins = Some(OriginRule {
                    any: false,
                    same_host: true,
                    others: cors.map(|cors| cors.origins.clone()).unwrap_or_default(),
                    only_credentials: true,
                });
            }
        }
    }
}

const SAME_HOST: &str = "same-host";
