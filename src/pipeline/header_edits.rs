//! `request_headers` and `response_headers`: what a route changes in the fields of a message.
//!
//! They stand behind authentication, so that the principal is known, and outside the cache, which
//! keeps what the upstream said. What the gateway itself refuses is left alone: a `Cache-Control`
//! meant for pages must not make a 401 storable.
//!
//! A field whose value can't be filled in is left out, and so is what the other side sent under that
//! name: a path may hold what no field may, and nobody may be authenticated. The upstream must never
//! take a client's own text for what it was promised.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tower::Layer;

use super::render;
use crate::{
    config::{Route, Template, TemplatePart},
    exchange::{BoxFuture, Context, Handle, Request, Response, RouteService, fields::exact_value},
};

/// Puts [`EditHeaders`] around a service.
#[derive(Clone)]
pub struct HeaderEditsLayer(Arc<Both>);

struct Both {
    request: Edits,
    response: Edits,
}

impl HeaderEditsLayer {
    /// A route's edits; `None` when it has none.
    #[must_use]
    pub fn from_config(route: &Route) -> Option<Self> {
        let (request, response) = (&route.request_headers, &route.response_headers);
        let both = Both {
            request: Edits::new(&request.remove, &request.set, &request.add),
            response: Edits::new(&response.remove, &response.set, &response.add),
        };
        let empty = both.request.is_empty() && both.response.is_empty();
        (!empty).then(|| Self(Arc::new(both)))
    }
}

impl Layer<RouteService> for HeaderEditsLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(EditHeaders {
            edits: Arc::clone(&self.0),
            inner,
        })
    }
}

/// Edits the request's fields, and then those of its answer.
struct EditHeaders {
    edits: Arc<Both>,
    inner: RouteService,
}

impl Handle for EditHeaders {
    fn handle(&self, mut request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        self.edits.request.apply(request.headers_mut(), context);
        let answer = self.inner.handle(request, context);
        if self.edits.response.is_empty() {
            return answer;
        }
        let (edits, context) = (Arc::clone(&self.edits), Arc::clone(context));
        Box::pin(async move {
            let mut response = answer.await;
            if !response.body().is_own() {
                edits.response.apply(response.headers_mut(), &context);
            }
            response
        })
    }
}

/// Changes in their order: out, set, added.
struct Edits {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, Value)]>,
    add: Box<[(HeaderName, Value)]>,
}

impl Edits {
    fn new(
        remove: &[HeaderName],
        set: &[(HeaderName, Template)],
        add: &[(HeaderName, Template)],
    ) -> Self {
        let values = |fields: &[(HeaderName, Template)]| {
            let fields = fields.iter();
            fields
                .map(|(name, template)| (name.clone(), Value::new(template)))
                .collect()
        };
        Self {
            remove: remove.into(),
            set: values(set),
            add: values(add),
        }
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    fn apply(&self, headers: &mut HeaderMap, context: &Context) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            match value.fill(context) {
                Some(value) => headers.insert(name, value),
                None => headers.remove(name),
            };
        }
        for (name, value) in &self.add {
            if let Some(value) = value.fill(context) {
                headers.append(name, value);
            }
        }
    }
}

/// A value, as far as it is known beforehand.
enum Value {
    Static(HeaderValue),
    RequestId,
    Principal,
    Caller,
    Filled(Template),
}

impl Value {
    fn new(template: &Template) -> Self {
        match template.parts.as_slice() {
            [] => Self::Static(HeaderValue::from_static("")),
            [TemplatePart::Literal(text)] => {
                // The configuration's check has seen that it is one.
                HeaderValue::from_str(text).map_or(Self::Filled(template.clone()), Self::Static)
            }
            [TemplatePart::RequestId] => Self::RequestId,
            [TemplatePart::Principal] => Self::Principal,
            [TemplatePart::Caller] => Self::Caller,
            _ => Self::Filled(template.clone()),
        }
    }

    /// `None` when it is not the value of a header field, or tells of a caller whom nobody knows.
    fn fill(&self, context: &Context) -> Option<HeaderValue> {
        match self {
            Self::Static(value) => Some(value.clone()),
            Self::RequestId => Some(context.id.header().clone()),
            Self::Principal => context.principal()?.subject_header.clone(),
            Self::Caller => {
                let principal = context.principal()?;
                // A blank in front of the subject would be a part of the value.
                principal.subject_header.as_ref()?;
                exact_value(&principal.name)
            }
            Self::Filled(template) => {
                if template.names_principal() && context.principal().is_none() {
                    return None;
                }
                HeaderValue::try_from(render(template, context)).ok()
            }
        }
    }
}
