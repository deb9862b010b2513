//! The request as a server gets it: its head, and its body's framing.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, SET_COOKIE, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE, VIA,
    },
    request::Parts,
};
use http_body::Body as _;

use super::super::{
    head::{HeadOptions, forwarded, forwarded_for, forwarded_host, host},
    server::Server,
};
use super::Head;
use crate::exchange::{
    Body, Context,
    fields::{
        KEEP_ALIVE, PROXY_CONNECTION, TRACEPARENT, X_FORWARDED_FOR, X_FORWARDED_HOST,
        X_FORWARDED_PROTO, X_REQUEST_ID, joined_cookies, remove_hop_by_hop,
    },
    http1::{Framing, line, named_trailers, told_length},
};

/// How the request's body is framed.
fn framing_of(headers: &HeaderMap, body: &Body) -> Framing {
    if body.is_end_stream() {
        return Framing::Empty;
    }
    match told_length(headers).or_else(|| body.size_hint().exact()) {
        Some(length) => Framing::Length(length),
        None => Framing::Chunked(named_trailers(headers)),
    }
}

/// Writes the head: Host first, what the client said, and what we say ourselves. The frame has taken
/// out forwarding fields and those of one hop; 100-continue we answer ourselves, when the body is
/// read. The client's head stays as it is, for a second try.
pub(in super::super) fn request_head(
    out: &mut Vec<u8>,
    (parts, body): (&Parts, &Body),
    context: &Context,
    server: &Server,
    options: &HeadOptions<'_>,
) -> Framing {
    out.clear();
    let target = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, &HOST, &host(context, server, options.host));
    client_fields(out, &parts.headers, options);
    our_fields(out, context, options);
    if options.upgrade
        && let Some(upgrade) = &context.head.upgrade
    {
        field(out, &CONNECTION, &HeaderValue::from_static("upgrade"));
        field(out, &UPGRADE, upgrade);
    }
    let framing = framing_of(&parts.headers, body);
    framing_field(out, parts, &framing);
    out.extend_from_slice(b"\r\n");
    framing
}

/// Writes an interim answer for the client: what it says, but for what is of one hop.
pub(in super::super) fn interim_head(head: Head) -> Vec<u8> {
    let mut headers = head.headers;
    remove_hop_by_hop(&mut headers, true);
    let mut out = b"HTTP/1.1 ".to_vec();
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    let usual = head.status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(usual.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &headers {
        if !WITHHELD.contains(name) {
            field(&mut out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn client_fields(out: &mut Vec<u8>, headers: &HeaderMap, options: &HeadOptions<'_>) {
    let mut cookies_written = false;
    for (name, value) in headers {
        match *name {
            // Of one hop, or written anew.
            HOST | EXPECT | CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | UPGRADE | TE => {}
            FORWARDED if options.forwarded => {}
            COOKIE if cookies_written => {}
            COOKIE => {
                cookies_written = true;
                if let Some(joined) = joined_cookies(headers) {
                    field(out, name, &joined);
                }
            }
            _ if is_ours(name) => {}
            _ => field(out, name, value),
        }
    }
}

/// What no client has a say in. Standard names have been told apart by then.
fn is_ours(name: &HeaderName) -> bool {
    [
        X_REQUEST_ID,
        TRACEPARENT,
        X_FORWARDED_FOR,
        X_FORWARDED_PROTO,
        X_FORWARDED_HOST,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ]
    .contains(name)
}

fn our_fields(out: &mut Vec<u8>, context: &Context, options: &HeadOptions<'_>) {
    field(out, &X_REQUEST_ID, context.id.header());
    line(out, &TRACEPARENT, &context.trace.text());
    field(out, &X_FORWARDED_FOR, &forwarded_for(context));
    line(out, &X_FORWARDED_PROTO, context.scheme.as_bytes());
    let host = forwarded_host(context);
    if let Some(host) = host {
        field(out, &X_FORWARDED_HOST, host);
    }
    if options.forwarded {
        field(out, &FORWARDED, &forwarded(context, host));
    }
    if context.head.trailers {
        // RFC 9110 10.1.4: the client takes trailers, and so do we.
        line(out, &TE, b"trailers");
    }
    field(out, &VIA, &options.via.of(context.head.version));
}

/// RFC 9110 8.6: no body says so where the method gives a meaning to one.
fn framing_field(out: &mut Vec<u8>, parts: &Parts, framing: &Framing) {
    match framing {
        Framing::Empty => {
            let expected = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
            if expected || parts.headers.contains_key(CONTENT_LENGTH) {
                line(out, &CONTENT_LENGTH, b"0");
            }
        }
        Framing::Length(length) => {
            let mut digits = itoa::Buffer::new();
            line(out, &CONTENT_LENGTH, digits.format(*length).as_bytes());
        }
        // A request can't end with its connection: nobody would read an answer (RFC 9112 6.3).
        Framing::Chunked(_) | Framing::UntilClose => line(out, &TRANSFER_ENCODING, b"chunked"),
    }
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    line(out, name, value.as_bytes());
}

/// What an interim answer has no business to say (RFC 9110 8.6), and what is ours or the cache's to
/// say or to keep.
const WITHHELD: [HeaderName; 6] = [
    CONTENT_LENGTH,
    TRAILER,
    SET_COOKIE,
    X_REQUEST_ID,
    HeaderName::from_static("x-cache-tags"),
    HeaderName::from_static("surrogate-key"),
];
