//! `permissions`, `roles` and `claims`: whether the caller may do this.
//!
//! It stands behind authentication, since it reads the principal, and before limits by caller, so
//! that what is not allowed does not use up a quota. All three must hold; what is not known to be
//! allowed is denied, an anonymous caller too. The client is told 403 and nothing of the rules; the log
//! is told what was missing. A caller with a bearer token is told that the token does not reach so far
//! (RFC 6750 3.1), but not what would.
//!
//! Which roles grant which permission is settled when the configuration is loaded. A decision looks
//! the caller's roles up in a small set and makes no text; only a denial does.
//!
//! ```toml
//! permissions = { GET = "orders:read", "*" = "orders:write" }
//! claims = { tenant = "${host.tenant}" }
//! ```

mod claims;
mod permissions;

use std::{fmt, sync::Arc};

use http::{HeaderValue, header::WWW_AUTHENTICATE};
use tower::Layer;

use crate::{
    config::{Access, ClaimRule, Demand, RoleDemand},
    exchange::{
        Asked, BoxFuture, Context, Handle, Principal, Reason, Rejection, Request, Response,
        RouteService,
    },
};
use permissions::{Holders, PermissionRules};

/// Puts a route's rules around a service.
#[derive(Clone, Debug)]
pub struct RbacLayer {
    rules: Arc<Rules>,
    enforce: bool,
}

impl RbacLayer {
    /// A route's rules; `None` when it has none.
    #[must_use]
    pub fn from_config(access: &Access) -> Option<Self> {
        access.needs_principal().then(|| Self {
            rules: Arc::new(Rules::from_config(access)),
            enforce: access.rbac.enforce,
        })
    }
}

impl Layer<RouteService> for RbacLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(Rbac {
            rules: Arc::clone(&self.rules),
            enforce: self.enforce,
            inner,
        })
    }
}

struct Rbac {
    rules: Arc<Rules>,
    enforce: bool,
    inner: RouteService,
}

impl Handle for Rbac {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let asked = Asked {
            method: request.method(),
            path: request.uri().path(),
            headers: request.headers(),
        };
        let Err(denial) = self.rules.decide(&asked, context) else {
            return self.inner.handle(request, context);
        };
        context.explain(denial.to_string());
        if !self.enforce {
            context.would_refuse(Reason::RbacDenied);
            return self.inner.handle(request, context);
        }
        Box::pin(std::future::ready(refusal(context).respond(context)))
    }
}

fn refusal(context: &Context) -> Rejection {
    let refusal = Rejection::new(Reason::RbacDenied);
    let principal = context.principal();
    match principal.is_some_and(|principal| principal.method.starts_with(JWT)) {
        true => refusal.header(WWW_AUTHENTICATE, INSUFFICIENT_SCOPE),
        false => refusal,
    }
}

/// The rules of one route, compiled.
#[derive(Debug)]
pub struct Rules {
    permissions: Option<PermissionRules>,
    roles: Option<(RoleDemand, Holders)>,
    claims: Vec<ClaimRule>,
}

/// Why a request is denied; its text is for the log alone.
#[derive(Clone, Copy, Debug)]
pub enum Denial<'r> {
    /// Nobody was identified, and somebody must be.
    Anonymous,
    /// No rule is for this method.
    Method,
    /// These permissions were asked for.
    Permission(&'r Demand),
    /// One of these roles was asked for.
    Role(&'r RoleDemand),
    /// The claim is not there, or has another value.
    Claim(&'r ClaimRule),
}

impl Rules {
    /// Compiles a route's rules.
    #[must_use]
    pub fn from_config(access: &Access) -> Self {
        let roles = access.roles.as_ref();
        Self {
            permissions: access
                .permissions
                .as_ref()
                .map(PermissionRules::from_config),
            roles: roles.map(|demand| (demand.clone(), Holders::new(&demand.held_by))),
            claims: access.claims.clone(),
        }
    }

    /// Whether the caller may do what is asked.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn decide(&self, asked: &Asked<'_>, context: &Context) -> Result<(), Denial<'_>> {
        let principal = context.principal().ok_or(Denial::Anonymous)?;
        if let Some(permissions) = &self.permissions {
            permissions.decide(asked, principal)?;
        }
        if let Some((demand, holders)) = &self.roles
            && !holders.include(principal)
        {
            return Err(Denial::Role(demand));
        }
        let wrong = |rule: &&ClaimRule| !claims::holds(rule, principal, context);
        match self.claims.iter().find(wrong) {
            Some(rule) => Err(Denial::Claim(rule)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Denial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("the caller is not known"),
            Self::Method => f.write_str("no rule is for this method"),
            Self::Permission(demand) => write!(f, "permission needed: {demand}"),
            Self::Role(demand) => write!(f, "role needed: {demand}"),
            Self::Claim(rule) => write!(f, "claim needed: {rule}"),
        }
    }
}

impl Holders {
    /// Whether the caller has one of the roles.
    fn include(&self, principal: &Principal) -> bool {
        principal.roles.iter().any(|role| self.contains(role))
    }
}

/// How the names of methods begin whose credentials are bearer tokens.
const JWT: &str = "jwt.";
/// Without `scope`, which would tell the rule.
const INSUFFICIENT_SCOPE: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"tollgate\", error=\"insufficient_scope\"");

#[cfg(test)]
mod tests;
