//! `permissions` compiled: what is asked of a method, and which roles answer it.

use std::sync::Arc;

use hashbrown::HashSet;

use super::Denial;
use crate::{
    config::{ByMethod, Demand, Needed, Permission, Permissions},
    exchange::{Asked, Principal},
};

/// The rules of one route.
#[derive(Debug)]
pub(super) enum PermissionRules {
    /// One for every method.
    Always(Rule),
    /// By method.
    ByMethod(ByMethod<Rule>),
}

/// What is asked, beside how it was written.
#[derive(Debug)]
pub(super) struct Rule {
    demand: Demand,
    test: Test,
}

#[derive(Debug)]
enum Test {
    /// To be known.
    Authenticated,
    /// One of the permissions: the roles that grant any of them, in one set.
    Any(Holders, Vec<Permission>),
    /// All of the permissions.
    All(Vec<(Holders, Permission)>),
}

/// Names of roles.
#[derive(Debug)]
pub(super) struct Holders(HashSet<Arc<str>, foldhash::fast::RandomState>);

impl Holders {
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> Self {
        Self(names.into_iter().cloned().collect())
    }

    pub(super) fn contains(&self, role: &str) -> bool {
        self.0.contains(role)
    }
}

impl PermissionRules {
    pub(super) fn from_config(permissions: &Permissions) -> Self {
        match permissions {
            Permissions::Always(demand) => Self::Always(Rule::new(demand)),
            Permissions::ByMethod(demands) => Self::ByMethod(demands.map(Rule::new)),
        }
    }

    pub(super) fn decide(
        &self,
        asked: &Asked<'_>,
        principal: &Principal,
    ) -> Result<(), Denial<'_>> {
        let (rule, other) = match self {
            Self::Always(rule) => (rule, None),
            Self::ByMethod(rules) => {
                let rules = rules.of(asked.method, asked.path, || asked.is_call());
                rules.ok_or(Denial::Method)?
            }
        };
        rule.decide(principal)?;
        other.map_or(Ok(()), |other| other.decide(principal))
    }
}

impl Rule {
    fn new(demand: &Demand) -> Self {
        Self {
            demand: demand.clone(),
            test: Test::new(demand),
        }
    }

    fn decide(&self, principal: &Principal) -> Result<(), Denial<'_>> {
        match self.test.holds(principal) {
            true => Ok(()),
            false => Err(Denial::Permission(&self.demand)),
        }
    }
}

impl Test {
    fn new(demand: &Demand) -> Self {
        match demand {
            Demand::Authenticated => Self::Authenticated,
            Demand::Any(needed) => Self::Any(
                Holders::new(needed.iter().flat_map(|one| &one.granted_by)),
                needed.iter().map(|one| one.permission.clone()).collect(),
            ),
            Demand::All(needed) => Self::All(needed.iter().map(holders).collect()),
        }
    }

    fn holds(&self, principal: &Principal) -> bool {
        match self {
            Self::Authenticated => true,
            Self::Any(holders, permissions) => {
                holders.include(principal) || permissions.iter().any(|one| carries(principal, one))
            }
            Self::All(all) => all.iter().all(|(holders, permission)| {
                holders.include(principal) || carries(principal, permission)
            }),
        }
    }
}

fn holders(needed: &Needed) -> (Holders, Permission) {
    (Holders::new(&needed.granted_by), needed.permission.clone())
}

/// Whether the credential itself carries a permission.
fn carries(principal: &Principal, permission: &Permission) -> bool {
    let mut grants = principal.permissions.iter();
    grants.any(|grant| permission.is_granted_by(grant))
}
