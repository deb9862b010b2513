//! `ip`: which client addresses may use a route.
//!
//! It stands before everything but CORS: it costs least, and an address that is not admitted should
//! learn nothing from what comes after. The address is that of the client behind trusted proxies,
//! the same that the log shows. `deny` stands above `allow`. Behind an IPv4-mapped IPv6 address
//! (RFC 4291 section 2.5.5.2) stands the IPv4 address, in rules and for clients alike.
//!
//! A set out of a file that could never be read admits nobody: not by `allow`, and not past `deny`.
//!
//! ```toml
//! ip = { allow = ["@office", "192.0.2.0/24"], deny = ["192.0.2.7"] }
//! ```

mod ranges;
mod set;

use std::{net::IpAddr, sync::Arc};

use tower::Layer;

pub use ranges::Ranges;
pub use set::{IpSet, IpSets};

use crate::{
    config::{Access, IpList, IpRules},
    exchange::{BoxFuture, Context, Handle, Reason, Rejection, Request, Response, RouteService},
};

/// Puts a route's rules on addresses around a service.
#[derive(Clone, Debug)]
pub struct IpLayer(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    allow: Option<Networks>,
    deny: Networks,
    enforce: bool,
}

/// Networks of a rule: its own and those of sets.
#[derive(Debug)]
struct Networks {
    own: Ranges,
    sets: Vec<Arc<IpSet>>,
    /// Whether a set that is named is not there; a checked configuration has none.
    incomplete: bool,
}

/// Why an address is denied; its text is for the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denial {
    Listed,
    NotListed,
    Unknown,
}

impl IpLayer {
    /// A route's rules; `None` when it has none.
    #[must_use]
    pub fn from_config(access: &Access, sets: &IpSets) -> Option<Self> {
        let rules = access.ip.as_ref()?;
        Some(Self(Arc::new(Rules::new(rules, sets))))
    }
}

impl Layer<RouteService> for IpLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        let rules = Arc::clone(&self.0);
        RouteService::new(IpGuard { rules, inner })
    }
}

struct IpGuard {
    rules: Arc<Rules>,
    inner: RouteService,
}

impl Handle for IpGuard {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let Err(denial) = self.rules.decide(context.client) else {
            return self.inner.handle(request, context);
        };
        context.explain(denial.as_str());
        if !self.rules.enforce {
            context.would_refuse(Reason::IpDenied);
            return self.inner.handle(request, context);
        }
        let refusal = Rejection::new(Reason::IpDenied).respond(context);
        Box::pin(std::future::ready(refusal))
    }
}

impl Rules {
    fn new(rules: &IpRules, sets: &IpSets) -> Self {
        Self {
            allow: rules.allow.as_ref().map(|list| Networks::new(list, sets)),
            deny: Networks::new(&rules.deny, sets),
            enforce: rules.enforce,
        }
    }

    fn decide(&self, address: IpAddr) -> Result<(), Denial> {
        match self.deny.contain(address) {
            Some(true) => return Err(Denial::Listed),
            Some(false) => {}
            None => return Err(Denial::Unknown),
        }
        match &self.allow {
            // A part that is known and has the address is enough to let it in.
            Some(allow) if allow.contain(address) != Some(true) => Err(Denial::NotListed),
            _ => Ok(()),
        }
    }
}

impl Networks {
    fn new(list: &IpList, sets: &IpSets) -> Self {
        let known: Vec<_> = list.sets.iter().filter_map(|name| sets.get(name)).collect();
        Self {
            own: Ranges::new(list.networks.iter().copied()),
            incomplete: known.len() < list.sets.len(),
            sets: known,
        }
    }

    /// Whether an address is in one of the networks; `None` when it is in none of those that are
    /// known, and not all are.
    fn contain(&self, address: IpAddr) -> Option<bool> {
        let mut unknown = self.incomplete;
        let in_set = |set: &Arc<IpSet>| {
            let found = set.contains(address);
            unknown |= found.is_none();
            found == Some(true)
        };
        let found = self.own.contains(address) || self.sets.iter().any(in_set);
        match (found, unknown) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }
}

impl Denial {
    fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "the address is denied",
            Self::NotListed => "the address is not among those that are allowed",
            Self::Unknown => "a set of denied addresses could not be read",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> Rules {
        let list = |texts: &[&str]| IpList {
            networks: texts.iter().map(|text| text.parse().unwrap()).collect(),
            sets: Vec::new(),
        };
        let rules = IpRules {
            allow: allow.map(list),
            deny: list(deny),
            enforce: true,
        };
        Rules::new(&rules, &IpSets::default())
    }

    fn decide(rules: &Rules, address: &str) -> Result<(), Denial> {
        rules.decide(address.parse().unwrap())
    }

    #[test]
    fn deny_stands_above_allow() {
        let rules = rules(Some(&["192.0.2.0/24"]), &["192.0.2.7/32"]);
        assert_eq!(decide(&rules, "192.0.2.6"), Ok(()));
        assert_eq!(decide(&rules, "192.0.2.7"), Err(Denial::Listed));
        assert_eq!(decide(&rules, "198.51.100.1"), Err(Denial::NotListed));
    }

    #[test]
    fn without_allow_everybody_else_is_admitted() {
        let rules = rules(None, &["2001:db8::/32"]);
        assert_eq!(decide(&rules, "192.0.2.6"), Ok(()));
        assert_eq!(decide(&rules, "2001:db8::1"), Err(Denial::Listed));
    }

    #[test]
    fn a_mapped_address_is_the_one_that_it_maps() {
        let denied = rules(None, &["192.0.2.0/24"]);
        assert_eq!(decide(&denied, "::ffff:192.0.2.9"), Err(Denial::Listed));
        let mapped = rules(Some(&["::ffff:192.0.2.0/120"]), &[]);
        assert_eq!(decide(&mapped, "192.0.2.9"), Ok(()));
        assert_eq!(decide(&mapped, "192.0.3.9"), Err(Denial::NotListed));
    }

    #[test]
    fn a_set_that_is_not_known_admits_nobody() {
        let list = IpList {
            networks: vec!["192.0.2.0/24".parse().unwrap()],
            sets: vec!["none".into()],
        };
        let (allow, deny) = (Some(list.clone()), IpList::default());
        let rules = |allow, deny| {
            let rules = IpRules {
                allow,
                deny,
                enforce: true,
            };
            Rules::new(&rules, &IpSets::default())
        };
        let allowing = rules(allow, deny);
        assert_eq!(decide(&allowing, "192.0.2.1"), Ok(()), "by what is known");
        assert_eq!(decide(&allowing, "198.51.100.1"), Err(Denial::NotListed));
        let denying = rules(None, list);
        assert_eq!(decide(&denying, "198.51.100.1"), Err(Denial::Unknown));
    }
}
