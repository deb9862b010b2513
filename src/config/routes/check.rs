//! What one route says against itself.

mod edges;

use std::collections::HashSet;

use super::shape;
use crate::config::{
    EncodedSlash, HostPattern, PathPattern, PathSegment, Redirect, Rewrite, Route, Target,
    Template, TemplatePart, diagnostic::Finding, path, share::Layers, source::Place,
};

/// Collects findings about single routes.
pub(super) struct Checker<'f> {
    /// What was found.
    pub(super) findings: &'f mut Vec<Finding>,
}

impl Checker<'_> {
    /// Looks at one route.
    pub(super) fn check(&mut self, route: &Route, place: Place, layers: Layers<'_>) {
        let rewrite = layers
            .pick(|keys| &keys.rewrite)
            .map_or(place, |set| set.place);
        let redirect = layers
            .pick(|keys| &keys.redirect)
            .map_or(place, |set| set.place);
        if let Some(template) = &route.rewrite.path {
            self.check_captures(route, template, rewrite);
        }
        if let Target::Redirect(Redirect { to, .. }) = &route.target {
            self.check_captures(route, to, redirect);
        }
        let paths = layers
            .pick(|keys| &keys.path)
            .map_or(place, |set| set.place);
        self.check_doubles(route, paths);
        self.check_encoded(route, paths);
        self.check_strip(route, rewrite);
        self.check_cache(route, layers);
        self.check_edges(route, place, layers);
        let answers = matches!(route.target, Target::Respond(_) | Target::Redirect(_));
        let own = layers.layers[0].and_then(|own| own.rewrite.as_ref());
        if let (true, Some(set)) = (answers, own) {
            let message = "`rewrite` has no effect: the gateway answers itself";
            self.findings.push(Finding::warning(set.key, message));
        }
    }

    fn check_cache(&mut self, route: &Route, layers: Layers<'_>) {
        let (Some(rule), Some(set)) = (&route.cache, layers.pick(|keys| &keys.cache)) else {
            return;
        };
        let own = layers.layers[0].is_some_and(|own| own.cache.is_some());
        let unsaid = rule.has_ttl() && rule.scope.is_none();
        if unsaid && route.auth.is_some() {
            self.findings.push(no_scope(&route.name, set.place));
        }
        if let (true, Target::Respond(_) | Target::Redirect(_)) = (own, &route.target) {
            let message = "`cache` has no effect: the gateway answers itself";
            self.findings.push(Finding::warning(set.key, message));
        }
    }

    /// Refuses what is not captured whichever pattern matched.
    pub(super) fn check_captures(&mut self, route: &Route, template: &Template, place: Place) {
        for part in &template.parts {
            let TemplatePart::Capture(name) = part else {
                continue;
            };
            if is_captured(route, name) {
                continue;
            }
            let message = format!(
                "`${{{name}}}` is not captured by every pattern of the route `{}`",
                route.name
            );
            let help = match name.starts_with("path.") {
                true => "write `{NAME}` or `{*NAME}` in each `path`",
                false => "write `{NAME}.example.com` in each of `hosts`",
            };
            self.findings
                .push(Finding::error(place, message).help(help));
        }
    }

    fn check_doubles(&mut self, route: &Route, paths: Place) {
        let mut shapes = HashSet::new();
        if let Some(double) = route
            .paths
            .iter()
            .find(|path| !shapes.insert(shape(path, route.ignore_case)))
        {
            let message = format!(
                "the route `{}` has the path `{}` twice",
                route.name, double.text
            );
            self.findings.push(Finding::error(paths, message));
        }
        let combinations = route.paths.len().saturating_mul(route.hosts.len().max(1));
        if combinations > MOST_COMBINATIONS {
            let message = format!(
                "the route `{}` combines more than {MOST_COMBINATIONS} hosts and paths",
                route.name
            );
            self.findings.push(Finding::error(paths, message));
        }
    }

    fn check_encoded(&mut self, route: &Route, place: Place) {
        let refused = |path: &&PathPattern| {
            path.segments.iter().any(|segment| match segment {
                PathSegment::Literal(text) => text.contains("%2F") || text.contains("%5C"),
                PathSegment::Capture(_) => false,
            })
        };
        let keeps = route.encoded_slash == EncodedSlash::Keep;
        if let (Some(path), false) = (route.paths.iter().find(refused), keeps) {
            let message = format!(
                "`{}` can never match: encoded slashes are refused",
                path.text
            );
            let help = "write `encoded_slash = \"keep\"` in the route";
            self.findings
                .push(Finding::error(place, message).help(help));
        }
    }

    fn check_strip(&mut self, route: &Route, place: Place) {
        let Rewrite {
            strip_prefix: Some(prefix),
            ..
        } = &route.rewrite
        else {
            return;
        };
        let Ok(prefix) = path::pattern(prefix) else {
            return;
        };
        let never = |path: &&PathPattern| !can_begin_with(path, &prefix);
        if let Some(path) = route.paths.iter().find(never) {
            let message = format!(
                "`strip_prefix` is never there: no path that `{}` takes begins with `{}`",
                path.text, prefix.text
            );
            self.findings.push(Finding::error(place, message));
        }
    }
}

/// Left unsaid, it would have to be guessed whether callers may see each other's answers.
fn no_scope(route: &str, place: Place) -> Finding {
    let message = format!(
        "the route `{route}` knows its callers, and its cache says how long answers are fresh but not for whom"
    );
    Finding::error(place, message).help(
        "write `scope = \"principal\"` in the cache rule: each caller has answers of its own; or \
         `scope = \"shared\"`: only what the upstream marks as public is kept",
    )
}

fn is_captured(route: &Route, name: &str) -> bool {
    if let Some(name) = name.strip_prefix("path.") {
        return route.paths.iter().all(|path| path_captures(path, name));
    }
    let captures = |host: &HostPattern| match host {
        HostPattern::Capture { name: captured, .. } => name.strip_prefix("host.") == Some(captured),
        _ => false,
    };
    !route.hosts.is_empty() && route.hosts.iter().all(captures)
}

fn path_captures(path: &PathPattern, name: &str) -> bool {
    let rest = path.rest.as_ref().and_then(Option::as_deref) == Some(name);
    rest || path.segments.iter().any(|segment| match segment {
        PathSegment::Capture(captured) => &**captured == name,
        PathSegment::Literal(_) => false,
    })
}

/// Whether a path that the pattern takes may begin with the segments of a prefix.
fn can_begin_with(path: &PathPattern, prefix: &PathPattern) -> bool {
    let enough = path.rest.is_some() || path.segments.len() >= prefix.segments.len();
    let mut pairs = path.segments.iter().zip(&prefix.segments);
    enough
        && pairs.all(|pair| match pair {
            (PathSegment::Literal(one), PathSegment::Literal(other)) => {
                one.eq_ignore_ascii_case(other)
            }
            _ => true,
        })
}

/// Each is an entry in the router.
const MOST_COMBINATIONS: usize = 100_000;
