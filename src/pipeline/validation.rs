//! `validation`: what a request must look like before it is forwarded.
//!
//! It stands behind authentication and limits, which cost less and tell strangers nothing, and
//! before header edits, which may add what a client should have sent. First the parameters, then the
//! media type, then the body.
//!
//! What is judged must be what the upstream will read. So a body that a schema is to judge must be
//! JSON by its `Content-Type`, without a content coding; a name that stands twice in an object is a
//! fault, since parsers differ in which one counts; and of a parameter that occurs several times
//! every value must fit.
//!
//! gRPC calls are left alone by `content_types` unless the route itself has it. Upgrades have no
//! body here. In shadow mode (`enforce = false`) everything passes, and is noted.

mod content;
mod gather;
mod json;
mod memory;
mod parameters;

use std::sync::Arc;

use http::{
    HeaderValue,
    header::{ACCEPT, RETRY_AFTER},
};
use http_body::Body as _;
use tower::Layer;

pub use memory::Judge;

use self::{
    content::ContentTypes,
    gather::{Gathered, gather},
    json::Fault,
    parameters::Parameters,
};
use crate::{
    config::{BodySchema, Route},
    exchange::{
        BodyFault, BoxFuture, Context, Handle, Reason, Rejection, Request, Response, RouteService,
    },
};

/// Puts validation around a service.
#[derive(Clone)]
pub struct ValidationLayer(Arc<Rules>);

struct Rules {
    parameters: Parameters,
    /// What a body's media type may be; `None` is anything.
    content: Option<ContentTypes>,
    schema: Option<BodySchema>,
    judge: Judge,
    enforce: bool,
    /// gRPC is not exempt when the route itself says what a body must be.
    grpc_too: bool,
}

impl ValidationLayer {
    /// A route's rules; `None` when it has none.
    #[must_use]
    pub fn from_config(route: &Route, judge: &Judge) -> Option<Self> {
        let config = route.validation.as_ref()?;
        let schema = config.body_schema.clone();
        Some(Self(Arc::new(Rules {
            parameters: Parameters::from_config(config),
            content: ContentTypes::from_config(&config.content_types, schema.is_some()),
            grpc_too: route.validation_is_own || schema.is_some(),
            schema,
            judge: judge.clone(),
            enforce: config.enforce,
        })))
    }
}

impl Layer<RouteService> for ValidationLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(Validate {
            rules: Arc::clone(&self.0),
            inner,
        })
    }
}

/// Refuses what is not as it should be.
struct Validate {
    rules: Arc<Rules>,
    inner: RouteService,
}

impl Handle for Validate {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let schema = match self.rules.check_head(&request, context) {
            Ok(schema) => schema.cloned(),
            Err(rejection) => {
                let refusal = rejection.respond(context);
                return Box::pin(std::future::ready(refusal));
            }
        };
        let Some(schema) = schema else {
            return self.inner.handle(request, context);
        };
        let (rules, inner) = (Arc::clone(&self.rules), self.inner.clone());
        let context = Arc::clone(context);
        Box::pin(async move {
            match rules.check_body(schema, request, &context).await {
                Ok(request) => inner.handle(request, &context).await,
                Err(rejection) => rejection.respond(&context),
            }
        })
    }
}

impl Rules {
    /// Checks what the head tells. The schema that the body is still to be judged by, if there is
    /// one and a body.
    fn check_head(
        &self,
        request: &Request,
        context: &Context,
    ) -> Result<Option<&BodySchema>, Rejection> {
        if let Err(faults) = self.parameters.check(request) {
            self.refuse(context, || {
                Rejection::new(Reason::Parameters).detail("faults", faults)
            })?;
        }
        if request.body().is_end_stream() {
            if self.schema.is_some() && content::needs_body(request.method()) {
                self.refuse(context, || faulty(vec![Fault::whole("a body is needed")]))?;
            }
            return Ok(None);
        }
        match self.check_content(request, context)? {
            true => Ok(self.schema.as_ref()),
            // In shadow mode: what is not JSON can't be judged.
            false => Ok(None),
        }
    }

    /// Whether the media type of a body is one that may be.
    fn check_content(&self, request: &Request, context: &Context) -> Result<bool, Rejection> {
        let exempt = context.head.grpc && !self.grpc_too;
        let Some(content) = self.content.as_ref().filter(|_| !exempt) else {
            return Ok(true);
        };
        let Err(what) = content.check(request.headers()) else {
            return Ok(true);
        };
        self.refuse(context, || {
            Rejection::new(Reason::ContentType)
                .detail("content_type", what)
                .header(ACCEPT, content.accepted())
        })?;
        Ok(false)
    }

    async fn check_body(
        &self,
        schema: BodySchema,
        request: Request,
        context: &Context,
    ) -> Result<Request, Rejection> {
        let (head, body) = request.into_parts();
        let (bytes, body) = match gather(body, &self.judge).await {
            Ok(Gathered::Whole { bytes, body }) => (bytes, body),
            Ok(Gathered::NoRoom(body)) => {
                self.refuse(context, busy)?;
                return Ok(Request::from_parts(head, body));
            }
            Err(error) => {
                let fault = BodyFault::in_chain(&*error);
                let reason = fault.map_or(Reason::BodyInvalid, |fault| fault.0);
                return Err(Rejection::new(reason).close());
            }
        };
        match self.judge.judge(schema, bytes).await {
            None => self.refuse(context, busy)?,
            Some(Err(faults)) => self.refuse(context, || faulty(faults))?,
            Some(Ok(())) => {}
        }
        Ok(Request::from_parts(head, body))
    }

    /// Refuses, or notes that it would have.
    fn refuse(
        &self,
        context: &Context,
        rejection: impl FnOnce() -> Rejection,
    ) -> Result<(), Rejection> {
        let rejection = rejection();
        if self.enforce {
            return Err(rejection);
        }
        context.would_refuse(rejection.reason());
        Ok(())
    }
}

fn faulty(faults: Vec<Fault>) -> Rejection {
    let faults: Vec<_> = faults.into_iter().map(Fault::into_json).collect();
    Rejection::new(Reason::Body).detail("faults", faults)
}

fn busy() -> Rejection {
    Rejection::new(Reason::ValidationBusy).header(RETRY_AFTER, HeaderValue::from_static("1"))
}
