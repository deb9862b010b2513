//! The routes at one path, and which of them serves a request.

use std::{cmp::Reverse, sync::Arc};

use http::{HeaderValue, Method};

use super::{
    Lookup,
    condition::{Conditions, Quality},
    vary::Vary,
};
use crate::config::{HostPattern, PathPattern, PathSegment, Route};

/// What a route asks of a request beyond host and path.
#[derive(Debug)]
pub(super) struct Rule {
    methods: Option<Box<[Method]>>,
    conditions: Conditions,
    priority: i32,
    /// A pattern has a path parameter.
    parameters: bool,
}

/// The order of routes at one path; greater is more specific.
type Rank = (bool, usize, i32);

/// What decides between routes of the same rank: a method listed by its own name before HEAD by way
/// of GET, then the weight that the client gave the media type.
type Fit = (bool, Quality);

impl Rule {
    pub(super) fn new(route: &Route) -> Self {
        Self {
            methods: route.methods.as_deref().map(Box::from),
            conditions: Conditions::new(route),
            priority: route.priority,
            parameters: route.paths.iter().any(has_parameter),
        }
    }

    /// Whether the route was written for paths with parameters.
    pub(super) fn means_parameters(&self) -> bool {
        self.parameters
    }

    fn rank(&self) -> Rank {
        let listed = self.methods.is_some();
        (listed, self.conditions.count(), self.priority)
    }

    /// Whether the method is served, and if so whether by its own name.
    fn serves(&self, method: &Method) -> Option<bool> {
        match self.methods.as_deref() {
            None => Some(true),
            Some(methods) if methods.contains(method) => Some(true),
            Some(methods) if *method == Method::HEAD && methods.contains(&Method::GET) => {
                Some(false)
            }
            Some(_) => None,
        }
    }
}

/// A route at one of its hosts and paths.
#[derive(Debug)]
pub(super) struct Candidate {
    rule: usize,
    captures: Box<[Capture]>,
}

#[derive(Debug)]
struct Capture {
    /// With its prefix: `host.tenant`, `path.id`.
    name: Arc<str>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The host's first label.
    Host,
    /// The segment with this index.
    Segment(usize),
    /// All from the segment with this index on.
    Rest(usize),
}

impl Candidate {
    /// `rule`: the index of the route's rule; `None` is any host.
    pub(super) fn new(rule: usize, host: Option<&HostPattern>, path: &PathPattern) -> Self {
        let capture = |kind: &str, name: &str, source| Capture {
            name: format!("{kind}.{name}").into(),
            source,
        };
        let host = host.and_then(|host| match host {
            HostPattern::Capture { name, .. } => Some(capture("host", name, Source::Host)),
            _ => None,
        });
        let segments = path.segments.iter().enumerate();
        let segments = segments.filter_map(|(index, segment)| match segment {
            PathSegment::Capture(name) => Some(capture("path", name, Source::Segment(index))),
            PathSegment::Literal(_) => None,
        });
        let rest = path.rest.iter().flatten();
        let rest = rest.map(|name| capture("path", name, Source::Rest(path.segments.len())));
        Self {
            rule,
            captures: host.into_iter().chain(segments).chain(rest).collect(),
        }
    }

    pub(super) fn rule(&self) -> usize {
        self.rule
    }

    /// Takes what the patterns captured out of a host and a path that match.
    pub(super) fn captures(&self, host: &str, path: &str) -> Vec<(Arc<str>, Box<str>)> {
        let take = |source: &Source| match *source {
            Source::Host => host.split('.').next(),
            // The text before the first slash is no segment, hence one more each.
            Source::Segment(index) => path.split('/').nth(index + 1),
            Source::Rest(index) => path.splitn(index + 2, '/').nth(index + 1),
        };
        let captures = self.captures.iter();
        captures
            .map(|it| (Arc::clone(&it.name), take(&it.source).unwrap_or("").into()))
            .collect()
    }
}

/// What a terminal says to a request that reached it.
#[derive(Debug)]
pub(super) enum Verdict<'t> {
    /// This route serves it.
    Serve(&'t Candidate),
    /// Routes would, but for the method; the methods for `Allow`, and the most specific route.
    MethodNotAllowed(HeaderValue, &'t Candidate),
}

impl Verdict<'_> {
    /// The rule of its route.
    pub(super) fn rule(&self) -> usize {
        match self {
            Self::Serve(candidate) | Self::MethodNotAllowed(_, candidate) => candidate.rule(),
        }
    }
}

/// Patterns spell it so, however it was written.
fn has_parameter(pattern: &PathPattern) -> bool {
    let mut segments = pattern.segments.iter();
    segments.any(|segment| matches!(segment, PathSegment::Literal(text) if text.contains(';')))
}

/// The routes whose patterns end at one place.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    candidates: Vec<Candidate>,
    vary: Option<Box<Vary>>,
}

impl Terminal {
    pub(super) fn add(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
    }

    /// Puts the candidates in order, the most specific first; equal ones stay in the order in which
    /// they came.
    pub(super) fn finish(&mut self, rules: &[Rule]) {
        self.candidates.shrink_to_fit();
        self.candidates
            .sort_by_key(|candidate| Reverse(rules[candidate.rule].rank()));
        let rules = self.candidates.iter().map(|it| &rules[it.rule]);
        let names = rules.flat_map(|rule| rule.conditions.header_names().cloned());
        self.vary = Vary::new(names).map(Box::new);
    }

    /// The headers that decide between the routes here and those at a less specific place.
    pub(super) fn vary(&self) -> Option<&Vary> {
        self.vary.as_deref()
    }

    /// Chooses the route; `None` when no route's conditions hold.
    pub(super) fn judge(&self, rules: &[Rule], lookup: &Lookup<'_>) -> Option<Verdict<'_>> {
        let method = lookup.preflight.unwrap_or(lookup.method);
        let mut best: Option<(Rank, Fit, &Candidate)> = None;
        let mut held = None;
        for candidate in &self.candidates {
            let rule = &rules[candidate.rule];
            if best.is_some_and(|(rank, ..)| rule.rank() < rank) {
                break;
            }
            let Some(quality) = rule.conditions.hold(lookup) else {
                continue;
            };
            held.get_or_insert(candidate);
            let Some(by_name) = rule.serves(method) else {
                continue;
            };
            let fit = (by_name, quality);
            if best.is_none_or(|(_, best, _)| fit > best) {
                best = Some((rule.rank(), fit, candidate));
            }
        }
        match (best, held) {
            (Some((.., candidate)), _) => Some(Verdict::Serve(candidate)),
            (None, Some(held)) => {
                let allow = self.allow(rules, lookup);
                Some(Verdict::MethodNotAllowed(allow, held))
            }
            (None, None) => None,
        }
    }

    /// The methods of the routes whose conditions hold (RFC 9110 section 10.2.1), in order of their
    /// names.
    fn allow(&self, rules: &[Rule], lookup: &Lookup<'_>) -> HeaderValue {
        let rules = self.candidates.iter().map(|it| &rules[it.rule]);
        let holding = rules.filter(|rule| rule.conditions.hold(lookup).is_some());
        let mut methods: Vec<&str> = holding
            .flat_map(|rule| rule.methods.iter().flatten())
            .map(Method::as_str)
            .collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        methods.dedup();
        // Methods are tokens, so the list is valid; an empty one would say "none".
        HeaderValue::try_from(methods.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }
}
