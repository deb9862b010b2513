//! Who may use a route: `permissions`, `roles`, `claims` and `ip`, with all names resolved.

mod claims;
mod ip;
mod permissions;

use std::{collections::BTreeMap, fmt, sync::Arc};

use http::Method;
use ipnet::IpNet;

use super::{
    Permission, Template,
    decode::{Flag, table},
};

pub(super) use claims::Claims;
pub(super) use ip::{IpKeys, IpListKey, IpSetKeys, ip_sets};
pub use ip::{IpSet, LARGEST_NETWORKS, parse_networks};
pub(super) use permissions::{AllKeys, DemandKey, MethodKey, PermissionsKey, Wanted};

/// Who may use a route, beyond its `auth`. All of it must hold.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `permissions`.
    pub permissions: Option<Permissions>,
    /// `roles`: one of them.
    pub roles: Option<RoleDemand>,
    /// `claims`: each must hold.
    pub claims: Vec<ClaimRule>,
    /// `rbac`: whether the three above are enforced.
    pub rbac: Rbac,
    /// `ip`.
    pub ip: Option<IpRules>,
}

impl Access {
    /// Whether a caller must be known.
    #[must_use]
    pub fn needs_principal(&self) -> bool {
        self.permissions.is_some() || self.roles.is_some() || !self.claims.is_empty()
    }
}

table! {
    /// `rbac`: how `permissions`, `roles` and `claims` of a route are applied.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Rbac ["routes.NAME.rbac"] {
        /// `enforce`: with `false` a denied request passes; the log and the metrics tell that it
        /// would have been refused.
        pub enforce: bool => Flag = true,
    }
}

/// `permissions`.
#[derive(Clone, Debug)]
pub enum Permissions {
    /// For every method.
    Always(Demand),
    /// By method; what is not listed is denied.
    ByMethod(ByMethod<Demand>),
}

/// Rules by method.
#[derive(Clone, Debug)]
pub struct ByMethod<T> {
    /// `GET = ...`; HEAD follows GET where it has none of its own. A handful: looked through one by
    /// one.
    pub methods: Vec<(Method, T)>,
    /// `"rpc:GetOrder" = ...`: gRPC calls, by the path's last segment.
    pub rpc: BTreeMap<Box<str>, T>,
    /// `"*" = ...`: everything else.
    pub rest: Option<T>,
}

impl<T> ByMethod<T> {
    /// The rules for a request, all of which must hold; `None` when it is denied for want of one.
    ///
    /// A call has the rule of its name, which stands in for `"*"`; a rule for POST that was written
    /// holds too, since a client chooses what a request looks like. Whatever else has such a name at
    /// its end has both rules: it may be the same call in another form, or concern a thing of that
    /// name in somebody's REST API.
    #[must_use]
    pub fn of(
        &self,
        method: &Method,
        path: &str,
        is_call: impl FnOnce() -> bool,
    ) -> Option<(&T, Option<&T>)> {
        match self.by_rpc(path) {
            None => Some((self.of_method(method)?, None)),
            Some((rule, true)) if is_call() => Some((rule, self.by_name(method))),
            Some((rule, _)) => Some((rule, Some(self.of_method(method)?))),
        }
    }

    /// The rule of the call that a path names, and whether it spells the name as the rule does. gRPC
    /// tells upper and lower case apart; servers that route as ASP.NET Core does take no account of it,
    /// nor of a slash or empty segments at the end, and would run the call by the rule for everything else.
    fn by_rpc(&self, path: &str) -> Option<(&T, bool)> {
        if self.rpc.is_empty() {
            return None;
        }
        if let Some(rule) = self.rpc.get(rpc_name(path)) {
            return Some((rule, true));
        }
        let mut segments = path.rsplit('/').map(without_parameters);
        let name = segments.find(|name| !name.is_empty()).unwrap_or_default();
        let mut rules = self.rpc.iter();
        let (_, rule) = rules.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some((rule, false))
    }

    /// The rule for a method where the path has none.
    #[must_use]
    pub fn of_method(&self, method: &Method) -> Option<&T> {
        self.by_name(method)
            .or_else(|| match *method {
                Method::HEAD => self.by_name(&Method::GET),
                _ => None,
            })
            .or(self.rest.as_ref())
    }

    fn by_name(&self, method: &Method) -> Option<&T> {
        let known = self.methods.iter().find(|(known, _)| known == method);
        known.map(|(_, rule)| rule)
    }

    /// The same rules as something else.
    #[must_use]
    pub fn map<U>(&self, make: impl Fn(&T) -> U) -> ByMethod<U> {
        let (methods, rpc) = (self.methods.iter(), self.rpc.iter());
        ByMethod {
            methods: methods
                .map(|(method, rule)| (method.clone(), make(rule)))
                .collect(),
            rpc: rpc.map(|(name, rule)| (name.clone(), make(rule))).collect(),
            rest: self.rest.as_ref().map(make),
        }
    }
}

impl<T> Default for ByMethod<T> {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            rpc: BTreeMap::new(),
            rest: None,
        }
    }
}

/// What is asked of a caller.
#[derive(Clone, Debug)]
pub enum Demand {
    /// `"authenticated"`: to be known.
    Authenticated,
    /// One of these permissions.
    Any(Vec<Needed>),
    /// `{ all = [...] }`: all of them.
    All(Vec<Needed>),
}

/// A permission that a route asks for.
#[derive(Clone, Debug)]
pub struct Needed {
    /// Its name.
    pub permission: Permission,
    /// The roles that grant it.
    pub granted_by: Vec<Arc<str>>,
}

/// `roles`.
#[derive(Clone, Debug)]
pub struct RoleDemand {
    /// The roles as written; one is enough.
    pub any: Vec<Arc<str>>,
    /// These and the roles that include them.
    pub held_by: Vec<Arc<str>>,
}

/// One entry of `claims`.
#[derive(Clone, Debug)]
pub struct ClaimRule {
    /// Where the claim stands: names from the outermost object inwards.
    pub path: Vec<Box<str>>,
    /// The values of which the claim must have one, or, when it is a list, hold one.
    pub any: Vec<ClaimValue>,
    /// The value as written, for messages.
    pub written: Box<str>,
}

/// What a claim is compared with. Kinds are never converted, but for one case: a template is text
/// even where it stands for a number, so it equals an integer whose decimal form it is.
#[derive(Clone, Debug)]
pub enum ClaimValue {
    /// This text.
    Text(Box<str>),
    /// A text that the request fills in. Empty, it equals nothing.
    Template(Template),
    /// This integer.
    Integer(i64),
    /// This boolean.
    Bool(bool),
}

/// `ip`.
#[derive(Clone, Debug)]
pub struct IpRules {
    /// `allow`: only these; `None` is everybody.
    pub allow: Option<IpList>,
    /// `deny`: not these; it stands above `allow`.
    pub deny: IpList,
    /// `enforce`.
    pub enforce: bool,
}

/// Networks, inline and by the names of sets.
#[derive(Clone, Debug, Default)]
pub struct IpList {
    /// Networks and addresses.
    pub networks: Vec<IpNet>,
    /// `@name`: keys of [`super::Config::ip_sets`].
    pub sets: Vec<Arc<str>>,
}

/// As a person reads it: `orders:read or orders:admin`.
impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authenticated => f.write_str("any caller that is known"),
            Self::Any(needed) => join(f, " or ", needed.iter().map(|one| &one.permission)),
            Self::All(needed) => join(f, " and ", needed.iter().map(|one| &one.permission)),
        }
    }
}

/// `admin or auditor`.
impl fmt::Display for RoleDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, " or ", self.any.iter())
    }
}

/// `realm.tenant = "${host.tenant}"`.
impl fmt::Display for ClaimRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.path.join("."), self.written)
    }
}

/// The path's last segment without a parameter: a server that ignores `;x` runs the method.
fn rpc_name(path: &str) -> &str {
    without_parameters(path.rfind('/').map_or(path, |slash| &path[slash + 1..]))
}

/// Up to its first semicolon, escaped or not. The path is in its normal form.
fn without_parameters(segment: &str) -> &str {
    let plain = segment.split(';').next().unwrap_or(segment);
    plain.split("%3B").next().unwrap_or(plain)
}

fn join<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    between: &str,
    items: impl Iterator<Item = T>,
) -> fmt::Result {
    for (at, item) in items.enumerate() {
        let between = if at == 0 { "" } else { between };
        write!(f, "{between}{item}")?;
    }
    Ok(())
}
