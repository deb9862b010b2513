//! The checks on every request's head, and what is taken out of it.
//!
//! Whatever arrives, what reaches the upstream has one meaning. Parsers are more lenient than
//! a gateway may be; what can still be seen here is refused, and the rest is framed anew by the
//! client side. Order matters: the fields that `Connection` nominates go first, so that no caller
//! can nominate what is added later.

use std::{net::IpAddr, time::SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};

use crate::exchange::{
    Reason, RequestId, TraceContext,
    fields::{is_ambiguous, is_forwarding, is_padded, list, remove_hop_by_hop, remove_where},
};

/// What one pass over the header names tells; most requests have none of it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hosts: u32,
    transfer_encoding: u32,
    content_length: u32,
    cookies: usize,
    connection: bool,
    hop_by_hop: bool,
    forwarding: bool,
    pub(super) told_more: bool,
    pub(super) ambiguous: bool,
    tracestate: bool,
    via: bool,
    pub(super) overrides: bool,
    pub(super) accept: Option<HeaderValue>,
    grpc: bool,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) origin: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
}

impl Seen {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "host" => seen.hosts += 1,
                "accept" => seen.accept = Some(value.clone()),
                "content-type" => seen.grpc = is_grpc(value.as_bytes()),
                "cookie" => seen.cookies += 1,
                "content-length" => seen.content_length += 1,
                "user-agent" => seen.user_agent = Some(value.clone()),
                "origin" => seen.origin = Some(seen.one_origin(value)),
                "connection" => seen.connection = true,
                "transfer-encoding" => seen.transfer_encoding += 1,
                "te"
                | "upgrade"
                | "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "proxy-authorization" => seen.hop_by_hop = true,
                "via" => seen.via = true,
                "traceparent" => seen.traceparent = Some(value.clone()),
                "tracestate" => seen.tracestate = true,
                "x-request-id" => seen.request_id = Some(value.clone()),
                "x-http-method-override"
                | "x-method-override"
                | "x-http-method"
                | "x-original-url"
                | "x-rewrite-url"
                | "x-host"
                | "x-http-host-override"
                | "x-backend-host"
                | "x-http-destinationurl"
                | "x-original-uri"
                | "x-original-host"
                | "x-envoy-original-path"
                | "x-middleware-subrequest"
                | "proxy" => seen.overrides = true,
                "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
                | "x-real-ip" => seen.forwarding = true,
                other => {
                    let told_more = is_forwarding(other);
                    seen.forwarding |= told_more;
                    seen.told_more |= told_more;
                    seen.ambiguous |= is_ambiguous(other);
                }
            }
        }
        seen
    }

    /// A page has one origin. Of two nobody knows which the server behind would believe.
    fn one_origin(&self, value: &HeaderValue) -> HeaderValue {
        match self.origin {
            None => value.clone(),
            Some(_) => HeaderValue::from_static(""),
        }
    }

    pub(super) fn has_one_host(&self) -> bool {
        self.hosts == 1
    }

    /// The caller's id when a trusted proxy sent a sane one, else a new one.
    pub(super) fn request_id(&self, trusted: bool, now: SystemTime) -> RequestId {
        let caller = self.request_id.as_ref().filter(|_| trusted);
        caller
            .and_then(RequestId::from_caller)
            .unwrap_or_else(|| RequestId::generate(now))
    }

    /// The caller's trace if it sent a valid one, else a new one.
    pub(super) fn trace(&self) -> TraceContext {
        let caller = self.traceparent.as_ref().map(HeaderValue::as_bytes);
        caller
            .and_then(TraceContext::from_caller)
            .unwrap_or_else(TraceContext::generate)
    }
}

/// The switch of protocols that a request asks for, if it is one that may pass.
///
/// `h2c` and TLS never may: behind such a tunnel requests would reach the upstream that no rule of
/// this gateway has seen.
pub(super) fn upgrade(seen: &Seen, version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    if !seen.connection || version != Version::HTTP_11 || !nominates(headers, "upgrade") {
        return None;
    }
    let mut values = headers.get_all(UPGRADE).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let text = value.to_str().ok()?;
    let allowed = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        !NEVER_UPGRADED.iter().any(|never| name.starts_with(never))
    };
    text.split(',').all(allowed).then(|| value.clone())
}

/// gRPC over HTTP/2, "Requests": `application/grpc`, perhaps with `+proto` or the like.
fn is_grpc(media_type: &[u8]) -> bool {
    let rest = media_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

impl Seen {
    /// Whether it is a gRPC call: they get other limits and refusals of another form, so the media
    /// type alone is not believed. A refusal to anything but a POST could end up in a cache.
    pub(super) fn is_grpc_call(&self, parts: &Parts) -> bool {
        self.grpc && parts.method == Method::POST && parts.version == Version::HTTP_2
    }
}

/// Whether the client takes trailers (RFC 9110 10.1.4).
pub(super) fn takes_trailers(seen: &Seen, headers: &HeaderMap) -> bool {
    seen.hop_by_hop
        && list(headers, &TE).any(|member| {
            let name = member.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("trailers")
        })
}

/// Refuses what has no single meaning, before anything is taken out.
pub(super) fn check(parts: &Parts, seen: &Seen, limits: &Checks) -> Result<(), Reason> {
    if parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len())
        > limits.target_bytes
    {
        return Err(Reason::TargetTooLong);
    }
    if parts.method == Method::CONNECT
        || parts.method == Method::TRACE
        || is_miswritten(&parts.method)
    {
        return Err(Reason::MethodRefused);
    }
    if parts
        .uri
        .scheme_str()
        .is_some_and(|scheme| scheme != "http" && scheme != "https")
    {
        return Err(Reason::TargetInvalid);
    }
    // The parser's limit is for HTTP/1 only; what HPACK repeats costs the client one byte. The
    // crumbs of a cookie are one field (RFC 9113 8.2.3).
    if parts.headers.len() - seen.cookies.saturating_sub(1) > limits.max_headers {
        return Err(Reason::HeadTooLarge);
    }
    if parts.version == Version::HTTP_2 && parts.headers.values().any(is_padded) {
        return Err(Reason::HeaderInvalid);
    }
    // h2 lets equal ones pass. One that sees the first and one that sees a list would differ.
    if seen.content_length > 1 {
        return Err(Reason::FramingInvalid);
    }
    if seen.transfer_encoding > 0 {
        check_coding(parts, seen)?;
    }
    if seen.via && loops(&parts.headers, &limits.pseudonym) {
        return Err(Reason::Loop);
    }
    Ok(())
}

/// RFC 9110 9.1: methods have a case, and `delete` is none of the standard ones. Some servers take it
/// for DELETE all the same: it would reach them by the rules for all other methods.
fn is_miswritten(method: &Method) -> bool {
    let name = method.as_str();
    name.bytes().any(|byte| byte.is_ascii_lowercase())
        && STANDARD
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
}

/// What [`check`] holds a head against.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) target_bytes: usize,
    pub(super) max_headers: usize,
    /// Our name in `Via`.
    pub(super) pseudonym: String,
}

/// RFC 9112 6.1 and 6.3: `chunked`, once, and no length beside it. The listener takes any list that
/// ends in `chunked` and would leave the other codings undone.
fn check_coding(parts: &Parts, seen: &Seen) -> Result<(), Reason> {
    let coding = parts
        .headers
        .get(TRANSFER_ENCODING)
        .map(HeaderValue::as_bytes);
    let chunked = coding.is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    let once = seen.transfer_encoding == 1 && seen.content_length == 0;
    if !once || !chunked || parts.version != Version::HTTP_11 {
        return Err(Reason::FramingInvalid);
    }
    Ok(())
}

/// RFC 9110 7.6.3: our own name in `Via` is a loop; so, sooner or later, are too many hops.
fn loops(headers: &HeaderMap, pseudonym: &str) -> bool {
    let mut hops = 0;
    list(headers, &http::header::VIA).any(|hop| {
        hops += 1;
        hops > MOST_HOPS || hop.split_whitespace().nth(1) == Some(pseudonym)
    })
}

/// Takes out what is of one hop and what claims to be forwarded. `client` is whom a trusted proxy told of;
/// `None` for a peer that is not trusted.
pub(super) fn clean(headers: &mut HeaderMap, seen: &Seen, client: Option<IpAddr>, continued: bool) {
    let named = seen.hop_by_hop || seen.transfer_encoding > 0;
    if seen.connection || named {
        remove_hop_by_hop(headers, named);
    }
    if seen.forwarding {
        remove_forwarding(headers, client);
    }
    if seen.tracestate && !continued {
        // W3C Trace Context 3.3.1.1: without a valid traceparent it means nothing.
        headers.remove("tracestate");
    }
}

/// Our own are written anew from the context when the request is forwarded. What else a trusted
/// proxy says (`X-Forwarded-Port`) passes; of an untrusted peer nothing does. `X-Real-IP` passes where
/// it is the client's address: many proxies don't write it, and let pass what the client says.
fn remove_forwarding(headers: &mut HeaderMap, client: Option<IpAddr>) {
    let real = client.is_some_and(|client| names(headers, &X_REAL_IP, client));
    remove_where(headers, |name| match name {
        "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => true,
        "x-real-ip" => !real,
        _ => client.is_none() && is_forwarding(name),
    });
}

/// Whether a field holds an address, and nothing else.
fn names(headers: &HeaderMap, name: &HeaderName, address: IpAddr) -> bool {
    let named = |value: &HeaderValue| value.to_str().ok()?.parse::<IpAddr>().ok();
    let mut values = headers.get_all(name).iter();
    values.all(|value| named(value).map(|it| it.to_canonical()) == Some(address))
}

fn nominates(headers: &HeaderMap, option: &str) -> bool {
    list(headers, &CONNECTION).any(|member| member.eq_ignore_ascii_case(option))
}

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// RFC 9110 9.3 and RFC 5789.
const STANDARD: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];

const NEVER_UPGRADED: [&str; 4] = ["h2c", "http/", "tls", "h3"];

/// More proxies than this in front of us are a loop.
const MOST_HOPS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::fields::OVERRIDES;

    fn seen(name: HeaderName) -> Seen {
        let value = HeaderValue::from_static("a");
        Seen::of(&HeaderMap::from_iter([(name, value)]))
    }

    #[test]
    fn a_field_that_makes_another_request_of_one_is_seen_alone() {
        for name in &OVERRIDES {
            assert!(seen(name.clone()).overrides, "{name}");
        }
    }

    #[test]
    fn a_field_that_tells_where_a_request_came_from_is_seen_alone() {
        for name in [
            "forwarded",
            "x-forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-anything",
            "x-real-ip",
            "x-scheme",
            "x-url-scheme",
            "front-end-https",
        ] {
            assert!(is_forwarding(name), "{name}");
            assert!(seen(HeaderName::from_static(name)).forwarding, "{name}");
        }
    }
}
