//! CORS (Fetch standard, "CORS protocol"): which pages of other origins may call, and read answers.
//!
//! It stands outermost. A preflight is answered before anybody asks for credentials, which browsers
//! never send with one, and before limits count it. What other answers get, [`CorsHeaders`] adds to
//! all of them: an application that can't read the 401 it got sees only "network error".
//!
//! It is our own and not tower-http's: that one takes every OPTIONS request for a preflight, answers
//! 200, knows no wildcard subdomains without a closure, and lets an upstream's own fields stand
//! beside its own, which browsers refuse.
//!
//! - The gateway refuses nothing here: an origin that is not allowed gets its answer without the
//!   fields, and the browser keeps it from the page. A preflight of such an origin is 204 without
//!   them; it does not reach the upstream, whose own rules might allow what ours do not.
//! - What an upstream says itself is replaced: two values of one field are none to a browser.
//! - `Vary: Origin` stands on every answer whose fields depend on it, also when a request has no
//!   origin: a cache that kept that answer would hand it to pages.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, VARY,
    },
};
use tower::Layer;

use crate::{
    config::{Cors as Config, Fields, OriginSet},
    exchange::{
        Body, BoxFuture, Context, Decorate, Handle, Request, Response, RouteService,
        fields::{list, remove_where},
        preflight_method,
    },
};

/// Puts the answering of preflights around a service.
#[derive(Clone)]
pub struct CorsLayer(Arc<Policy>);

impl CorsLayer {
    /// A policy as configured.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self(Arc::new(Policy::new(config)))
    }
}

impl Layer<RouteService> for CorsLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        RouteService::new(Preflights {
            policy: Arc::clone(&self.0),
            inner,
        })
    }
}

/// Adds what CORS says to every answer of a route.
pub struct CorsHeaders(Policy);

impl CorsHeaders {
    /// A policy as configured.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self(Policy::new(config))
    }
}

impl Decorate for CorsHeaders {
    fn decorate(&self, context: &Context, response: &mut Response) {
        let ours = response.extensions_mut().remove::<Answered>().is_some();
        let headers = response.headers_mut();
        if !ours {
            remove_where(headers, |name| name.starts_with("access-control-"));
        }
        self.0.decorate(context.head.origin.as_ref(), headers);
    }
}

/// Answers preflights and hands everything else on.
struct Preflights {
    policy: Arc<Policy>,
    inner: RouteService,
}

impl Handle for Preflights {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        if preflight_method(request.method(), request.headers()).is_none() {
            return self.inner.handle(request, context);
        }
        let allowed = self.policy.allowed(context.head.origin.as_ref()).is_some();
        let response = self.policy.preflight(request.headers(), allowed);
        Box::pin(std::future::ready(response))
    }
}

/// Marks our own answer to a preflight, whose fields are to stay.
#[derive(Clone, Copy)]
struct Answered;

struct Policy {
    origins: OriginSet,
    credentials: bool,
    methods: HeaderValue,
    request_headers: RequestHeaders,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    private_network: bool,
}

enum RequestHeaders {
    None,
    These(HeaderValue),
    /// Whatever is asked for: with credentials browsers take `*` for a name.
    Asked,
}

impl Policy {
    fn new(config: &Config) -> Self {
        let methods: Vec<_> = config.methods.iter().map(Method::as_str).collect();
        Self {
            origins: OriginSet::new(&config.origins),
            credentials: config.credentials,
            methods: value(&methods).unwrap_or(HeaderValue::from_static("GET")),
            request_headers: match &config.request_headers {
                Fields::Any => RequestHeaders::Asked,
                Fields::List(names) => {
                    names_of(names).map_or(RequestHeaders::None, RequestHeaders::These)
                }
            },
            expose: match &config.expose_headers {
                Fields::Any => Some(HeaderValue::from_static("*")),
                Fields::List(names) => names_of(names),
            },
            max_age: config.max_age.map(|age| age.as_secs().into()),
            private_network: config.private_network,
        }
    }

    /// What `Access-Control-Allow-Origin` says to a request, if anything.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.origins.is_any() {
            return Some(HeaderValue::from_static("*"));
        }
        origin
            .filter(|origin| self.origins.contains(origin.as_bytes()))
            .cloned()
    }

    fn decorate(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if !self.origins.is_any() && !varies_by_origin(headers) {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(allowed) = self.allowed(origin) else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if let Some(expose) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// The answer to a preflight, but for what all answers get.
    fn preflight(&self, asked: &HeaderMap, allowed: bool) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.extensions_mut().insert(Answered);
        let headers = response.headers_mut();
        headers.insert(VARY, ASKED);
        if allowed {
            self.allow(asked, headers);
        }
        response
    }

    fn allow(&self, asked: &HeaderMap, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        let fields = match &self.request_headers {
            RequestHeaders::None => None,
            RequestHeaders::These(names) => Some(names.clone()),
            RequestHeaders::Asked => asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        };
        if let Some(fields) = fields {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields);
        }
        if let Some(age) = &self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
        }
        let into_private = asked.get(REQUEST_PRIVATE_NETWORK);
        if self.private_network && into_private.is_some_and(|value| value == "true") {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    list(headers, &VARY).any(|name| name == "*" || name.eq_ignore_ascii_case("origin"))
}

fn names_of(names: &[HeaderName]) -> Option<HeaderValue> {
    let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
    value(&names)
}

/// A list of tokens, which is a valid value; `None` when it is empty.
fn value(tokens: &[&str]) -> Option<HeaderValue> {
    let value = HeaderValue::try_from(tokens.join(", ")).ok();
    value.filter(|value| !value.is_empty())
}

/// What the answer to a preflight depends on, beside the origin.
const ASKED: HeaderValue = HeaderValue::from_static(
    "access-control-request-method, access-control-request-headers, \
     access-control-request-private-network",
);
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use proptest::prelude::*;

    fn origins(config: &[Origin]) -> impl Fn(&str) -> bool + use<> {
        let origins = OriginSet::new(config);
        move |text| origins.contains(text.as_bytes())
    }

    fn below(any_depth: bool) -> Origin {
        Origin::Below {
            scheme: "https://".into(),
            suffix: ".a.test".into(),
            any_depth,
        }
    }

    #[test]
    fn an_exact_origin_is_no_prefix_and_no_suffix() {
        let allowed = origins(&[
            Origin::Exact("https://b.test".into()),
            Origin::Exact("https://a.test".into()),
        ]);
        assert!(allowed("https://a.test") && allowed("https://b.test"));
        for other in [
            "",
            "null",
            "http://a.test",
            "https://a.test:8443",
            "https://a.test.evil.test",
            "https://evil-a.test",
            "https://A.test",
        ] {
            assert!(!allowed(other), "{other}");
        }
    }

    #[test]
    fn a_star_is_one_label_and_two_are_any_depth() {
        let (one, any) = (origins(&[below(false)]), origins(&[below(true)]));
        assert!(one("https://x.a.test") && any("https://x.a.test"));
        assert!(!one("https://x.y.a.test") && any("https://x.y.a.test"));
        for other in [
            "https://a.test",
            "https://.a.test",
            "http://x.a.test",
            "https://x.a.test:8443",
            "https://evil.test/.a.test",
            "https://evil.test?.a.test",
            "https://u@x.a.test",
            "https://x..a.test",
        ] {
            assert!(!one(other) && !any(other), "{other}");
        }
    }

    proptest! {
        /// Whatever stands before the host, only labels may.
        #[test]
        fn nothing_but_labels_goes_before_the_host(front in "[a-z./:@?#%-]{0,12}") {
            let origin = format!("https://{front}.a.test");
            let labels = front.split('.').all(|label| {
                !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            });
            prop_assert_eq!(origins(&[below(true)])(&origin), labels);
        }
    }
}
