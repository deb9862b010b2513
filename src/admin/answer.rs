//! Answers of the admin listener: the envelope of the gateway's own answers.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Value, json};

use crate::exchange::RequestId;

/// A whole answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// A value as plain JSON, without the envelope: what probes expect of `/health`.
pub(super) fn plain(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer(status, JSON, bytes),
        Err(error) => {
            tracing::error!(%error, "an admin answer could not be written as JSON");
            Refusal::internal().into()
        }
    }
}

/// Data in the envelope.
pub(super) fn data(value: &impl Serialize) -> Answer {
    plain(StatusCode::OK, &json!({ "success": true, "data": value }))
}

/// One page of a list in the envelope, with what there is to say of the list.
pub(super) fn page(items: &[impl Serialize], meta: &Value) -> Answer {
    let envelope = json!({ "success": true, "data": items, "meta": meta });
    plain(StatusCode::OK, &envelope)
}

/// Nothing to say: 204.
pub(super) fn nothing() -> Answer {
    let mut answer = answer(StatusCode::NO_CONTENT, JSON, Bytes::new());
    answer.headers_mut().remove(CONTENT_TYPE);
    answer
}

/// The text format of Prometheus.
pub(super) fn metrics(text: String) -> Answer {
    answer(StatusCode::OK, PROMETHEUS, text)
}

/// A refusal in the envelope.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    reason: &'static str,
    message: &'static str,
    details: Option<Value>,
    header: Option<(&'static str, &'static str)>,
}

impl Refusal {
    fn new(
        status: StatusCode,
        code: &'static str,
        reason: &'static str,
        message: &'static str,
    ) -> Self {
        Self {
            status,
            code,
            reason,
            message,
            details: None,
            header: None,
        }
    }

    pub(super) fn not_found() -> Self {
        let message = "There is no such admin resource.";
        Self::new(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "admin.not_found",
            message,
        )
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let message = "The admin resource does not have this method.";
        Self {
            header: Some(("allow", allow)),
            ..Self::new(
                status,
                "METHOD_NOT_ALLOWED",
                "admin.method_not_allowed",
                message,
            )
        }
    }

    pub(super) fn unauthorized() -> Self {
        let status = StatusCode::UNAUTHORIZED;
        let message = "The admin token is needed.";
        Self {
            header: Some(("www-authenticate", "Bearer")),
            ..Self::new(status, "UNAUTHORIZED", "admin.unauthorized", message)
        }
    }

    pub(super) fn host() -> Self {
        let message = "Without a token only localhost and addresses are taken as Host.";
        Self::new(
            StatusCode::FORBIDDEN,
            "FORBIDDEN",
            "admin.host_refused",
            message,
        )
    }

    pub(super) fn origin() -> Self {
        let message = "Without a token web pages may change nothing.";
        Self::new(
            StatusCode::FORBIDDEN,
            "FORBIDDEN",
            "admin.origin_refused",
            message,
        )
    }

    pub(super) fn query(fault: &str) -> Self {
        let message = "A query parameter is not valid.";
        Self {
            details: Some(json!({ "query": fault })),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                "VALIDATION_ERROR",
                "admin.query_invalid",
                message,
            )
        }
    }

    pub(super) fn body_too_large() -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        let message = "The request's body is too large.";
        Self::new(status, "PAYLOAD_TOO_LARGE", "admin.body_too_large", message)
    }

    pub(super) fn reload(diagnostics: &str) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let message = "The configuration was refused; the old one is still in force.";
        Self {
            details: Some(json!({ "diagnostics": diagnostics })),
            ..Self::new(status, "VALIDATION_ERROR", "config.invalid", message)
        }
    }

    pub(super) fn purge(fault: &str) -> Self {
        let message = "The purge is not valid.";
        Self {
            details: Some(json!({ "purge": fault })),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                "VALIDATION_ERROR",
                "admin.purge_invalid",
                message,
            )
        }
    }

    pub(super) fn no_cache() -> Self {
        let message = "No route has a cache.";
        Self::new(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "admin.no_cache",
            message,
        )
    }

    pub(super) fn store_away() -> Self {
        let message = "Redis, which counts this limit, does not answer now: try again.";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "UNAVAILABLE",
            "admin.store_unavailable",
            message,
        )
    }

    pub(super) fn held() -> Self {
        let message = "What is in flight can't be forgotten: it ends by itself.";
        Self::new(
            StatusCode::CONFLICT,
            "CONFLICT",
            "admin.limit_held",
            message,
        )
    }

    pub(super) fn timeout() -> Self {
        let message = "The gateway did not answer in time.";
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "TIMEOUT",
            "admin.timeout",
            message,
        )
    }

    pub(super) fn internal() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let message = "Something went wrong inside the gateway.";
        Self::new(status, "INTERNAL_ERROR", "admin.internal", message)
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let mut error = json!({
            "code": refusal.code,
            "reason": refusal.reason,
            "message": refusal.message,
        });
        if let Some(details) = refusal.details {
            error["details"] = details;
        }
        let id = RequestId::generate(std::time::SystemTime::now());
        let envelope = json!({ "success": false, "error": error, "request_id": id.as_str() });
        let mut answer = answer(refusal.status, JSON, envelope.to_string());
        if let Some((name, value)) = refusal.header {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}

fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
