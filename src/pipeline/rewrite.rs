//! `rewrite`: the path that the upstream sees instead of the client's.
//!
//! It works on the path's normal form and yields one: prefixes are normal, and stripping happens at
//! a segment boundary. The query stays.

use std::sync::Arc;

use bytes::Bytes;
use http::{Uri, uri::PathAndQuery};
use percent_encoding::percent_decode_str;
use tower::Layer;

use super::render;
use crate::{
    config::{Route, Template, TemplatePart},
    exchange::{BoxFuture, Context, Handle, Reason, Rejection, Request, Response, RouteService},
};

/// Puts [`RewritePath`] around a service.
#[derive(Clone, Debug)]
pub struct RewriteLayer(Arc<Rule>);

#[derive(Debug)]
enum Rule {
    Prefix {
        strip: Box<str>,
        add: Box<str>,
        ignore_case: bool,
    },
    Path(Template),
}

impl RewriteLayer {
    /// A route's rule; `None` when the path stays as it is.
    #[must_use]
    pub fn from_config(route: &Route) -> Option<Self> {
        let config = &route.rewrite;
        let rule = match (&config.path, &config.strip_prefix, &config.add_prefix) {
            (Some(path), _, _) => Rule::Path(without_query(path)),
            (None, None, None) => return None,
            (None, strip, add) => Rule::Prefix {
                strip: strip.clone().unwrap_or_default(),
                add: add.clone().unwrap_or_default(),
                ignore_case: route.ignore_case,
            },
        };
        Some(Self(Arc::new(rule)))
    }
}

impl Layer<RouteService> for RewriteLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(RewritePath {
            rule: Arc::clone(&self.0),
            inner,
        })
    }
}

/// Rewrites the path and hands the request on.
struct RewritePath {
    rule: Arc<Rule>,
    inner: RouteService,
}

impl Handle for RewritePath {
    fn handle(&self, mut request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let path = self.rule.apply(request.uri().path(), context);
        match with_path(request.uri(), path) {
            Some(uri) => {
                *request.uri_mut() = uri;
                self.inner.handle(request, context)
            }
            // Only a template can fail, by what a capture put into it.
            None => {
                let refusal = Rejection::new(Reason::TargetInvalid).respond(context);
                Box::pin(std::future::ready(refusal))
            }
        }
    }
}

impl Rule {
    fn apply(&self, path: &str, context: &Context) -> String {
        match self {
            Self::Path(template) => render(template, context),
            Self::Prefix {
                strip,
                add,
                ignore_case,
            } => {
                let rest = strip_segments(path, strip, *ignore_case).unwrap_or(path);
                match (rest, &**add) {
                    ("", "") => "/".to_owned(),
                    (rest, add) => format!("{add}{rest}"),
                }
            }
        }
    }
}

/// What follows a prefix, if the prefix ends at a segment's end.
///
/// The router finds a literal in every spelling (`/a%3Ab` is `/a:b`), so it is stripped in every
/// spelling: else the server would see a path that nobody meant it to serve.
fn strip_segments<'a>(path: &'a str, prefix: &str, ignore_case: bool) -> Option<&'a str> {
    let mut rest = path;
    for segment in prefix.split('/').skip(1) {
        let behind = rest.strip_prefix('/')?;
        let end = behind.find('/').unwrap_or(behind.len());
        if !is_same(&behind[..end], segment, ignore_case) {
            return None;
        }
        rest = &behind[end..];
    }
    Some(rest)
}

/// Whether two segments are one when their escapes are read. An escaped slash is not a slash, but
/// no segment has a plain one.
fn is_same(one: &str, other: &str, ignore_case: bool) -> bool {
    if one == other {
        return true;
    }
    let (one, other) = (percent_decode_str(one), percent_decode_str(other));
    match ignore_case {
        true => one
            .map(|byte| byte.to_ascii_lowercase())
            .eq(other.map(|byte| byte.to_ascii_lowercase())),
        false => one.eq(other),
    }
}

/// The query stays by itself. Named by the template it would stand there twice, and once as the client
/// sent it: with the credential that has been taken out of it.
fn without_query(path: &Template) -> Template {
    let parts = path.parts.iter();
    let parts = parts.filter(|part| **part != TemplatePart::Query);
    Template {
        parts: parts.cloned().collect(),
    }
}

fn with_path(uri: &Uri, path: String) -> Option<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let target = PathAndQuery::from_maybe_shared(Bytes::from(target)).ok()?;
    target.path().starts_with('/').then(|| target.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_stripped_at_a_segments_end_only() {
        let strip = |path| strip_segments(path, "/api/v1", false);
        assert_eq!(strip("/api/v1/items"), Some("/items"));
        assert_eq!(strip("/api/v1"), Some(""));
        assert_eq!(strip("/api/v10"), None);
        assert_eq!(strip("/api"), None);
        assert_eq!(strip_segments("/items", "", false), Some("/items"));
    }

    #[test]
    fn a_prefix_is_stripped_in_every_spelling_that_the_router_takes() {
        assert_eq!(
            strip_segments("/a%3Ab/x%2Fy", "/a:b", false),
            Some("/x%2Fy")
        );
        assert_eq!(strip_segments("/A:B/x", "/a:b", true), Some("/x"));
        assert_eq!(strip_segments("/A:B/x", "/a:b", false), None);
        assert_eq!(strip_segments("/a%2Fb", "/a/b", false), None);
    }

    #[test]
    fn the_query_stays_when_the_path_changes() {
        let uri = Uri::from_static("/api/items?a=%2F&b");
        let rewritten = with_path(&uri, "/items".into()).unwrap();
        assert_eq!(rewritten, "/items?a=%2F&b");
    }
}
