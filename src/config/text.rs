//! Secrets and per-request text templates.

use std::{fmt, sync::Arc};

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides a value.
    #[must_use]
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself, for comparing or sending only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Text with `${name}` parts that are filled in per request; `$$` is a dollar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The parts in order.
    pub parts: Vec<TemplatePart>,
}

impl Template {
    /// Whether it tells who calls.
    #[must_use]
    pub fn names_principal(&self) -> bool {
        let names = |part| matches!(part, &(TemplatePart::Principal | TemplatePart::Caller));
        self.parts.iter().any(names)
    }

    /// What of it is text as it stands.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Literal(text) => Some(&**text),
            _ => None,
        })
    }

    /// Whether it may differ between requests for one URL.
    #[must_use]
    pub fn tells_requests_apart(&self) -> bool {
        use TemplatePart::{Caller, ClientIp, Principal, Query, RequestId};
        // Of the query not all may be in the URL as it is told apart.
        let apart = |part| matches!(part, &(ClientIp | RequestId | Principal | Caller | Query));
        self.parts.iter().any(apart)
    }
}

/// One part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text as it stands.
    Literal(Box<str>),
    /// `${client_ip}`.
    ClientIp,
    /// `${request_id}`.
    RequestId,
    /// `${principal}`: who calls, as the method that found out knows it.
    Principal,
    /// `${caller}`: the same with the method's name, `jwt.customers:alice`.
    Caller,
    /// `${route}`: the route's name.
    Route,
    /// `${scheme}`: `http` or `https`, as the client sees it.
    Scheme,
    /// `${host}`: the request's host without its port.
    Host,
    /// `${path}`: the path in its normal form.
    Path,
    /// `${query}`: the query with its `?`, empty without one.
    Query,
    /// `${host.name}` or `${path.name}`: what a pattern of the route captured; the text is the
    /// whole name with its prefix.
    Capture(Arc<str>),
}
