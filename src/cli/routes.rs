//! `tollgate routes`: the routes in the order in which they are tried.
//!
//! The order of specificity, which the router follows: an exact host over a longer wildcard over any
//! host; then the path segment by segment, a literal over `{x}` over the rest; then a method list
//! over none; then more conditions; then `priority`.

use std::{cmp::Reverse, path::Path};

use super::output::{self, Outcome};
use crate::config::{Config, HostPattern, PathPattern, PathSegment, Route, Target};

pub(super) fn run(file: &Path) -> Outcome {
    let loaded = output::load(file)?;
    output::say(&table(&loaded.config))
}

/// One line for each host and path of each route.
fn table(config: &Config) -> String {
    let mut entries: Vec<Entry<'_>> = config.routes.iter().flat_map(entries).collect();
    entries.sort_by_cached_key(Entry::rank);
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(entries.iter().map(Entry::row));
    output::aligned(&rows)
}

/// A route at one of its hosts and paths.
struct Entry<'a> {
    route: &'a Route,
    host: Option<&'a HostPattern>,
    path: &'a PathPattern,
}

fn entries(route: &Route) -> impl Iterator<Item = Entry<'_>> {
    let any = route.hosts.is_empty().then_some(None);
    let hosts = route.hosts.iter().map(Some).chain(any);
    hosts.flat_map(move |host| {
        let paths = route.paths.iter();
        paths.map(move |path| Entry { route, host, path })
    })
}

/// Smaller is tried first.
type Rank<'a> = (HostRank<'a>, Vec<Step<'a>>, Reverse<(bool, usize, i32)>);

/// Kind, length of what a wildcard spells out, depth of the wildcard, and the text for order's sake.
type HostRank<'a> = (u8, Reverse<usize>, u8, &'a str);

/// One step along a path; the variants stand in their order of precedence.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step<'a> {
    End,
    Literal(&'a str),
    Capture,
    Rest,
}

impl<'a> Entry<'a> {
    fn rank(&self) -> Rank<'a> {
        (
            host_rank(self.host),
            steps(self.path),
            Reverse(self.claim()),
        )
    }

    /// What decides between routes at the same host and path.
    fn claim(&self) -> (bool, usize, i32) {
        let conditions = self.route.match_headers.len() + self.route.match_query.len();
        (
            self.route.methods.is_some(),
            conditions,
            self.route.priority,
        )
    }

    fn row(&self) -> [String; 6] {
        [
            self.host.map_or("*".to_owned(), HostPattern::to_string),
            self.path.text.to_string(),
            self.demands(),
            output::auth(self.route),
            self.route.name.to_string(),
            target_text(&self.route.target),
        ]
    }

    /// Methods and conditions: `GET POST x-canary ?version`.
    fn demands(&self) -> String {
        let methods = self.route.methods.as_deref().unwrap_or_default();
        let methods = methods.iter().map(ToString::to_string);
        let headers = self.route.match_headers.iter();
        let headers = headers.map(|(name, _)| format!("{name}:"));
        let query = self.route.match_query.iter();
        let query = query.map(|(name, _)| format!("?{name}"));
        let all: Vec<String> = methods.chain(headers).chain(query).collect();
        match all.is_empty() {
            true => "any".to_owned(),
            false => all.join(" "),
        }
    }
}

fn host_rank(host: Option<&HostPattern>) -> HostRank<'_> {
    match host {
        Some(HostPattern::Exact(host)) => (0, Reverse(0), 0, host),
        Some(HostPattern::OneLabel(suffix) | HostPattern::Capture { suffix, .. }) => {
            (1, Reverse(suffix.len()), 0, suffix)
        }
        Some(HostPattern::AnyDepth(suffix)) => (1, Reverse(suffix.len()), 1, suffix),
        None => (2, Reverse(0), 0, ""),
    }
}

fn steps(path: &PathPattern) -> Vec<Step<'_>> {
    let last = match path.rest {
        Some(_) => Step::Rest,
        None => Step::End,
    };
    let segments = path.segments.iter().map(|segment| match segment {
        PathSegment::Literal(text) => Step::Literal(text),
        PathSegment::Capture(_) => Step::Capture,
    });
    segments.chain([last]).collect()
}

fn target_text(target: &Target) -> String {
    match target {
        Target::Upstream(name) => format!("upstream {name}"),
        Target::Split(parts) => {
            let parts: Vec<String> = parts
                .iter()
                .map(|(name, weight)| format!("{name} {weight}"))
                .collect();
            format!("split {}", parts.join(", "))
        }
        Target::Respond(respond) => format!("respond {}", respond.status.as_u16()),
        Target::Redirect(redirect) => format!("redirect {}", redirect.status.as_u16()),
    }
}

const HEADINGS: [&str; 6] = [
    "HOST",
    "PATH",
    "METHODS AND CONDITIONS",
    "AUTH",
    "ROUTE",
    "TARGET",
];
