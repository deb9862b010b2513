//! `rewrite`: the path that the upstream sees instead of the client's.
//!
//! It works on the path's normal form and yields one: prefixes are normal, and stripping happens at
//! a segment boundary. The query stays.

use std::sync::Arc;

use bytes::Bytes;
use http::{Uri, uri::PathAndQuery};
use tower::Layer;

use super::render;
use crate::{
    config::{Rewrite, Template},
    exchange::{BoxFuture, Context, Handle, Reason, Rejection, Request, Response, RouteService},
};

/// Puts [`RewritePath`] around a service.
#[derive(Clone, Debug)]
pub struct RewriteLayer(Arc<Rule>);

#[derive(Debug)]
enum Rule {
    Prefix { strip: Box<str>, add: Box<str> },
    Path(Template),
}

impl RewriteLayer {
    /// A route's rule; `None` when the path stays as it is.
    #[must_use]
    pub fn from_config(config: &Rewrite) -> Option<Self> {
        let rule = match (&config.path, &config.strip_prefix, &config.add_prefix) {
            (Some(path), _, _) => Rule::Path(path.clone()),
            (None, None, None) => return None,
            (None, strip, add) => Rule::Prefix {
                strip: strip.clone().unwrap_or_default(),
                add: add.clone().unwrap_or_default(),
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
    fn handle(&self, mut request: Request) -> BoxFuture<Response> {
        let context = Context::of(&request);
        let path = self.rule.apply(request.uri().path(), &context);
        match with_path(request.uri(), path) {
            Some(uri) => {
                *request.uri_mut() = uri;
                self.inner.handle(request)
            }
            // Only a template can fail, by what a capture put into it.
            None => {
                let refusal = Rejection::new(Reason::TargetInvalid).respond(&context);
                Box::pin(std::future::ready(refusal))
            }
        }
    }
}

impl Rule {
    fn apply(&self, path: &str, context: &Context) -> String {
        match self {
            Self::Path(template) => render(template, context),
            Self::Prefix { strip, add } => {
                let rest = strip_segments(path, strip).unwrap_or(path);
                match (rest, &**add) {
                    ("", "") => "/".to_owned(),
                    (rest, add) => format!("{add}{rest}"),
                }
            }
        }
    }
}

/// What follows a prefix, if the prefix ends at a segment's end.
fn strip_segments<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
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
        assert_eq!(strip_segments("/api/v1/items", "/api/v1"), Some("/items"));
        assert_eq!(strip_segments("/api/v1", "/api/v1"), Some(""));
        assert_eq!(strip_segments("/api/v10", "/api/v1"), None);
    }

    #[test]
    fn the_query_stays_when_the_path_changes() {
        let uri = Uri::from_static("/api/items?a=%2F&b");
        let rewritten = with_path(&uri, "/items".into()).unwrap();
        assert_eq!(rewritten, "/items?a=%2F&b");
    }
}
