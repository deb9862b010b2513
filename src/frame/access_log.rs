//! One request as one line of JSON.
//!
//! Written by hand: `tracing` would take nine times as long. Every value that comes from outside
//! is escaped and capped, so a line is valid JSON whatever came over the wire. A field without a
//! value is left out. Credentials are never written: of the header fields only the user agent is,
//! and those that the configuration names.

use std::{io::Write, net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderName, Version};

use crate::{
    config::{AccessLog, QueryLogging},
    exchange::{Attempt, Context, LimitReport, LimitSaid},
    telemetry::{
        json::{Object, key},
        timestamp::rfc3339,
    },
};

/// How an exchange ended.
#[derive(Clone, Debug)]
pub struct End {
    /// The answer's status; 499 when the client left before there was one.
    pub status: u16,
    /// Bytes of the answer's body, or of a tunnel towards the client.
    pub bytes_out: u64,
    /// From the request's head to the answer's.
    pub first_byte: Option<Duration>,
    /// From the request's head to the last byte.
    pub duration: Duration,
    /// Whether the answer reached its end.
    pub complete: bool,
    /// Whether it was a tunnel.
    pub upgraded: bool,
}

/// What is logged, and how much of it.
#[derive(Clone, Debug)]
pub struct LineOptions {
    sample: f64,
    query: QueryLogging,
    headers: Box<[HeaderName]>,
}

impl From<&AccessLog> for LineOptions {
    fn from(config: &AccessLog) -> Self {
        Self {
            sample: config.sample,
            query: config.query,
            headers: config.request_headers.clone().into(),
        }
    }
}

impl LineOptions {
    /// Whether the request is logged: every error and refusal is, and what a rule in shadow
    /// mode would have refused; of the others the configured share.
    #[must_use]
    pub fn keep(&self, context: &Context, end: &End) -> bool {
        self.sample >= 1.0
            || end.status >= 500
            || context.reason().is_some()
            || context.is_shadowed()
            || fastrand::f64() < self.sample
    }

    /// Keeps the header fields that the configuration wants logged; to be called while the
    /// request's header fields are still there. Costs nothing when it wants none.
    ///
    /// What the gateway alone may say (`identity`) is left out: it is no client's word.
    pub fn capture(&self, headers: &HeaderMap, identity: &[HeaderName], context: &Context) {
        if self.headers.is_empty() {
            return;
        }
        let wanted = self.headers.iter().filter(|name| !identity.contains(name));
        context.log_headers(
            wanted
                .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())))
                .collect(),
        );
    }
}

/// Appends the line, without its line end.
///
/// Its timestamp is the exchange's end.
pub fn line(out: &mut Vec<u8>, context: &Context, end: &End, options: &LineOptions) {
    let mut object = Object::begin(out);
    let ended = context.started_at.checked_add(end.duration);
    let moment = rfc3339(ended.unwrap_or(context.started_at));
    object.text(key!("timestamp"), &moment, moment.len());
    object.word(key!("level"), level(context, end));
    object.word(key!("message"), "request");
    object.word(key!("request_id"), context.id.as_str());
    object.word(key!("trace_id"), context.trace.trace_id());
    write_request(&mut object, context, options);
    write_policies(&mut object, context);
    write_answer(&mut object, context, end);
    context.with_last_attempt(|last, made| write_attempts(&mut object, last, made));
    write_headers(&mut object, context);
    object.end();
}

fn level(context: &Context, end: &End) -> &'static str {
    let reason = context.reason();
    let failed = |status: u16| status >= 500;
    match reason {
        _ if failed(end.status) => "error",
        // An answer that broke off has the status of its head.
        Some(reason) if failed(reason.status().as_u16()) => "error",
        Some(_) => "warn",
        None => "info",
    }
}

fn write_request(object: &mut Object<'_>, context: &Context, options: &LineOptions) {
    let head = &context.head;
    write_client(object, context);
    object.text(
        key!("method"),
        head.method.as_str().as_bytes(),
        LONGEST_METHOD,
    );
    if let Some(host) = &head.host {
        object.text(key!("host"), without_user(host.as_bytes()), LONGEST_HOST);
    }
    write_path(object, context.target(), options.query);
    object.word(key!("protocol"), protocol(head.version));
    if let Some(agent) = &head.user_agent {
        object.text(key!("user_agent"), agent.as_bytes(), LONGEST_HEADER);
    }
    if let Some(route) = context.route() {
        object.text(key!("route"), route.as_bytes(), LONGEST_NAME);
    }
}

/// Who called, and what the route's policies decided.
fn write_policies(object: &mut Object<'_>, context: &Context) {
    if let Some(principal) = context.principal() {
        object.text(key!("auth"), principal.method.as_bytes(), LONGEST_NAME);
        object.text(key!("principal"), principal.name.as_bytes(), LONGEST_NAME);
    }
    if let Some(cache) = context.cache() {
        object.word(key!("cache"), cache.result);
        if let Some(detail) = cache.detail {
            object.word(key!("cache_detail"), detail);
        }
    }
    context.with_limits(|reports| {
        if let Some(report) = LimitReport::heaviest(reports) {
            write_limit(object, report);
        }
    });
    context.with_notes(|detail, shadow| {
        if let Some(detail) = detail {
            object.text(key!("detail"), detail.as_bytes(), LONGEST_HEADER);
        }
        if !shadow.is_empty() {
            let words: Vec<_> = shadow.iter().map(|reason| reason.as_str()).collect();
            object.word(key!("shadow"), &words.join(" "));
        }
    });
}

fn write_limit(object: &mut Object<'_>, report: &LimitReport) {
    object.text(key!("limit"), report.policy.limit.as_bytes(), LONGEST_NAME);
    object.word(key!("limit_decision"), report.said.as_str());
    if let LimitSaid::Allow { remaining, .. } = report.said {
        object.number(key!("limit_remaining"), remaining.into());
    }
}

/// `user:password@host` is refused, but it is logged, too.
fn without_user(host: &[u8]) -> &[u8] {
    memchr::memrchr(b'@', host).map_or(host, |at| &host[at + 1..])
}

/// Behind no trusted proxy the client is the peer, whose text the connection keeps.
fn write_client(object: &mut Object<'_>, context: &Context) {
    if context.connection.peer.ip() == context.client {
        // An address needs no escaping.
        let text = context.connection.peer_text().to_str();
        return object.word(key!("client"), text.unwrap_or("unknown"));
    }
    let mut text = [0; 64];
    let mut rest = &mut text[..];
    // No address is longer than 45 bytes.
    let _ = write_address(&mut rest, context.client);
    let length = 64 - rest.len();
    object.text(key!("client"), &text[..length], length);
}

fn write_address(out: &mut &mut [u8], address: IpAddr) -> std::io::Result<()> {
    write!(out, "{address}")
}

fn write_path(object: &mut Object<'_>, target: &str, query: QueryLogging) {
    let target = target.as_bytes();
    let Some(mark) = memchr::memchr(b'?', target) else {
        return object.text(key!("path"), target, LONGEST_PATH);
    };
    match query {
        QueryLogging::Keep => object.text(key!("path"), target, LONGEST_PATH),
        QueryLogging::Drop => object.text(key!("path"), &target[..mark], LONGEST_PATH),
        QueryLogging::Mask => {
            let mut masked = Vec::with_capacity(target.len().min(LONGEST_PATH) + 16);
            masked.extend_from_slice(&target[..=mark]);
            mask(&mut masked, &target[mark + 1..]);
            object.text(key!("path"), &masked, LONGEST_PATH);
        }
    }
}

/// Keeps the names of a query; each value becomes `***`. A part without `=` is a name.
fn mask(out: &mut Vec<u8>, query: &[u8]) {
    for (index, part) in query.split(|byte| *byte == b'&').enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        match memchr::memchr(b'=', part) {
            Some(equals) => {
                out.extend_from_slice(&part[..=equals]);
                out.extend_from_slice(b"***");
            }
            None => out.extend_from_slice(part),
        }
        if out.len() > LONGEST_PATH {
            return;
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn write_answer(object: &mut Object<'_>, context: &Context, end: &End) {
    object.number(key!("status"), end.status.into());
    if let Some(reason) = context.reason() {
        object.word(key!("reason"), reason.as_str());
    }
    object.number(key!("bytes_in"), context.bytes_in());
    object.number(key!("bytes_out"), end.bytes_out);
    object.millis(key!("duration_ms"), end.duration);
    if let Some(first_byte) = end.first_byte {
        object.millis(key!("ttfb_ms"), first_byte);
    }
    if !end.complete {
        object.name(key!("complete")).extend_from_slice(b"false");
    }
    if end.upgraded {
        object.name(key!("upgraded")).extend_from_slice(b"true");
    }
}

/// The last attempt is the one whose answer, or failure, the client saw.
fn write_attempts(object: &mut Object<'_>, last: &Attempt, made: u32) {
    object.text(key!("upstream"), last.upstream.as_bytes(), LONGEST_NAME);
    object.text(key!("server"), last.server.as_bytes(), LONGEST_NAME);
    if let Some(connect) = last.connect {
        object.millis(key!("upstream_connect_ms"), connect);
    }
    if let Some(response) = last.response {
        object.millis(key!("upstream_response_ms"), response);
    }
    object.number(key!("attempts"), made.into());
}

fn write_headers(object: &mut Object<'_>, context: &Context) {
    let headers = context.logged_headers();
    if headers.is_empty() {
        return;
    }
    let mut fields = Object::begin(object.name(key!("request_headers")));
    for (name, value) in headers {
        fields.text(name.as_str(), value.as_bytes(), LONGEST_HEADER);
    }
    fields.end();
}

const LONGEST_PATH: usize = 2 << 10;
const LONGEST_HEADER: usize = 512;
const LONGEST_HOST: usize = 255;
const LONGEST_NAME: usize = 255;
const LONGEST_METHOD: usize = 32;

#[cfg(test)]
mod tests;
