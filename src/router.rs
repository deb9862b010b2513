//! Host, path, method and conditions to a route.
//!
//! The most specific route wins, whatever the order in the file: an exact host over a longer wildcard
//! over any host; then the path segment by segment, a literal over `{x}` over the rest; at one path a
//! method list over none, then more conditions, then `priority`. So a route can be added without
//! reading all others.
//!
//! - A **condition** that does not hold takes its route out of the running: a less specific one
//!   serves, if need be on a less specific path or host.
//! - A **method** that does not fit does not: at the best path with a route whose conditions hold, a
//!   method that none of them serves is refused with 405. Falling through would hand `DELETE` on a
//!   guarded path to the catch-all beside it.
//! - **`/admin/**`** takes `/admin`, `/admin/` and all below. A wildcard that leaves the bare prefix to
//!   its neighbour is an authentication bypass.
//! - **Literals match in every spelling**: `/items:batch` is found by `/items%3Abatch` too, because
//!   the server behind decodes either. What is forwarded and captured stays as it came.
//! - **Parameters belong to a segment**: `/admin;x` is not `/admin` here, and is behind servers that cut
//!   them off. [`Router::hides_another_route`] tells where that makes a difference.
//!
//! A lookup costs one hash per segment, however many routes there are, and allocates nothing unless
//! the route captures or the path needs another spelling. It visits each node of the tree once at
//! most and goes no deeper than the longest pattern, so a hostile path can't make it dear.

mod candidate;
mod condition;
mod hosts;
mod media_type;
mod spelling;
#[cfg(test)]
mod tests;
mod tree;
mod vary;

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, Method};

use self::{
    candidate::{Candidate, Rule, Terminal, Verdict},
    hosts::Hosts,
    spelling::Spelled,
    tree::Tree,
    vary::Varies,
};
use crate::{config, exchange::target};

/// What a route is looked up by.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The host in lower case, without port and trailing dot.
    pub host: &'a str,
    /// The path in normal form; it begins with a slash.
    pub path: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// The request's method.
    pub method: &'a Method,
    /// The request's header fields.
    pub headers: &'a HeaderMap,
    /// The method that a CORS preflight asks for. It is routed like the request that it precedes:
    /// by that method, and header conditions count as met, since a preflight has not got those
    /// headers yet.
    pub preflight: Option<&'a Method>,
}

/// What a [`Lookup`] comes to.
#[derive(Debug)]
pub enum Found<'r, T> {
    /// A route serves the request.
    Route {
        /// What was handed to [`Router::build`] with the route.
        payload: &'r T,
        /// What the route's patterns captured, under `host.NAME` and `path.NAME`, spelt as in the
        /// lookup's path. Not allocated when there is none.
        captures: Vec<(Arc<str>, Box<str>)>,
        /// The request headers that the choice depended on, for `Vary` of the answer: those of the
        /// chosen route's rivals too, whose absence led here.
        vary: Option<HeaderValue>,
    },
    /// The best path does not serve the method.
    MethodNotAllowed {
        /// The methods that it serves, for `Allow`.
        allow: HeaderValue,
        /// What was handed in with the most specific of the routes that serve other methods.
        payload: &'r T,
    },
    /// No route matches.
    NotFound,
}

/// All routes, compiled. It never changes; a reload builds another.
pub struct Router<T> {
    hosts: Hosts,
    tree: Tree,
    rules: Vec<Rule>,
    payloads: Vec<T>,
}

impl<T> Router<T> {
    /// Compiles routes; each comes with what a lookup shall give back for it.
    ///
    /// Of two routes that can't be told apart the first wins; the configuration's check does not let
    /// them come this far.
    pub fn build<'c>(routes: impl IntoIterator<Item = (&'c config::Route, T)>) -> Self {
        let mut router = Self {
            hosts: Hosts::default(),
            tree: Tree::default(),
            rules: Vec::new(),
            payloads: Vec::new(),
        };
        for (route, payload) in routes {
            router.add(route, payload);
        }
        router.tree.finish(&router.rules);
        router
    }

    fn add(&mut self, route: &config::Route, payload: T) {
        let index = self.rules.len();
        self.rules.push(Rule::new(route));
        self.payloads.push(payload);
        let hosts: Vec<_> = match route.hosts.as_slice() {
            [] => vec![None],
            hosts => hosts.iter().map(Some).collect(),
        };
        for host in hosts {
            let root = self.hosts.root(host, &mut self.tree);
            for path in &route.paths {
                let candidate = Candidate::new(index, host, path);
                self.tree.add(root, path, route.ignore_case, candidate);
            }
        }
    }

    /// Finds the route that serves a request.
    #[must_use]
    pub fn find(&self, lookup: &Lookup<'_>) -> Found<'_, T> {
        let mut varies = Varies::default();
        let verdict = self.judge(lookup, |terminal| {
            if lookup.preflight.is_none() {
                varies.consult(terminal.vary());
            }
        });
        match verdict {
            None => Found::NotFound,
            Some(Verdict::MethodNotAllowed(allow, candidate)) => Found::MethodNotAllowed {
                allow,
                payload: &self.payloads[candidate.rule()],
            },
            Some(Verdict::Serve(candidate)) => Found::Route {
                payload: &self.payloads[candidate.rule()],
                captures: candidate.captures(lookup.host, lookup.path),
                vary: varies.value(),
            },
        }
    }

    /// Whether servers that cut parameters off a path would take the request for one of another route:
    /// `/admin;x` and `/;x/admin` for `/admin`. A route that has a semicolon in a pattern means it.
    #[must_use]
    pub fn hides_another_route(&self, lookup: &Lookup<'_>) -> bool {
        let Some(cut) = target::without_parameters(lookup.path) else {
            return false;
        };
        let cut = Lookup {
            path: &cut,
            ..*lookup
        };
        match (self.rule_of(lookup), self.rule_of(&cut)) {
            (Some(rule), Some(other)) => rule != other && !self.rules[rule].means_parameters(),
            _ => false,
        }
    }

    /// The rule that decides about a request, if only to refuse its method.
    fn rule_of(&self, lookup: &Lookup<'_>) -> Option<usize> {
        let verdict = self.judge(lookup, |_| {})?;
        Some(verdict.rule())
    }

    /// What the routes say to a request; `ask` sees each terminal that is asked on the way.
    fn judge<'r>(
        &'r self,
        lookup: &Lookup<'_>,
        mut ask: impl FnMut(&'r Terminal),
    ) -> Option<Verdict<'r>> {
        let path = Spelled::new(lookup.path, self.tree.folds());
        self.hosts.matching(lookup.host).find_map(|root| {
            self.tree.walk(root, &path, |terminal| {
                ask(terminal);
                terminal.judge(&self.rules, lookup)
            })
        })
    }
}

impl<T> fmt::Debug for Router<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("routes", &self.rules.len())
            .finish_non_exhaustive()
    }
}
