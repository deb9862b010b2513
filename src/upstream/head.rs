//! Heads and trailers on their way through: what is made for the server, what is kept of its
//! answer.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{forward::Via, server::Server};
use crate::{
    config::HostRewrite,
    exchange::{
        Body, Context, Reason, Retry, UpstreamError,
        fields::{
            KEEP_ALIVE, PROXY_CONNECTION, TRACEPARENT, X_FORWARDED_FOR, X_FORWARDED_HOST,
            X_FORWARDED_PROTO, X_REQUEST_ID, is_padded, joined_cookies, take_hop_by_hop,
        },
        http1::told_length,
    },
};

/// What of the route bears on the head.
pub(super) struct HeadOptions<'a> {
    pub(super) host: &'a HostRewrite,
    pub(super) forwarded: bool,
    pub(super) upgrade: bool,
    pub(super) via: &'a Via,
}

/// The head that a server gets over HTTP/2: a new map, so that the client's stays for a second try.
pub(super) fn request(
    parts: &Parts,
    context: &Context,
    server: &Server,
    options: &HeadOptions<'_>,
    body: Body,
) -> Result<http::Request<Body>, UpstreamError> {
    let host = host(context, server, options.host);
    let mut request = http::Request::new(body);
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = absolute(&parts.uri, &host)?;
    *request.headers_mut() = copied(&parts.headers);
    let headers = request.headers_mut();
    add_our_own(headers, context, options);
    if context.head.trailers {
        // RFC 9110 10.1.4: the client takes trailers, and so do we.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

pub(super) fn host(context: &Context, server: &Server, rewrite: &HostRewrite) -> HeaderValue {
    let own = || HeaderValue::from_str(&server.authority()).ok();
    match rewrite {
        HostRewrite::Literal(host) => Some(host.clone()),
        HostRewrite::Server => own(),
        HostRewrite::Preserve => context.head.host.clone(),
    }
    .or_else(own)
    .unwrap_or(HeaderValue::from_static("localhost"))
}

/// RFC 9113 8.3.1: `:scheme` and `:authority` come from the URI.
fn absolute(uri: &Uri, host: &HeaderValue) -> Result<Uri, UpstreamError> {
    let refuse = |error| UpstreamError::new(Reason::HostInvalid, Retry::Never).because(error);
    let mut parts = uri.clone().into_parts();
    let authority = Authority::from_maybe_shared(Bytes::copy_from_slice(host.as_bytes()));
    parts.authority = Some(authority.map_err(|error| refuse(error.to_string()))?);
    parts.scheme = Some(Scheme::HTTP);
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    Uri::from_parts(parts).map_err(|error| refuse(error.to_string()))
}

/// What goes on to the server. The frame has taken out hop-by-hop and forwarding fields; 100-continue
/// we answer ourselves, when the body is read.
///
/// (A clone of the map hashes nothing, but grows with every field that is added: it measured dearer.)
fn copied(from: &HeaderMap) -> HeaderMap {
    let mut to = HeaderMap::with_capacity(from.len() + ADDED);
    for (name, value) in from {
        match *name {
            HOST | EXPECT => {}
            // RFC 9110 8.6: the number that we have read. `05`, or nothing at all, not all servers read so.
            CONTENT_LENGTH => {
                if let Some(length) = told_length(from) {
                    to.insert(CONTENT_LENGTH, length.into());
                }
            }
            COOKIE if to.contains_key(COOKIE) => {}
            COOKIE => {
                if let Some(joined) = joined_cookies(from) {
                    to.insert(COOKIE, joined);
                }
            }
            _ => {
                to.append(name, value.clone());
            }
        }
    }
    to
}

/// The host that the client asked for.
pub(super) fn forwarded_host(context: &Context) -> Option<&HeaderValue> {
    let told = context.forwarded_host.as_ref();
    told.or(context.head.host.as_ref())
}

fn add_our_own(headers: &mut HeaderMap, context: &Context, options: &HeadOptions<'_>) {
    headers.insert(X_REQUEST_ID, context.id.header().clone());
    headers.insert(TRACEPARENT, context.trace.header());
    headers.insert(X_FORWARDED_FOR, forwarded_for(context));
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(context.scheme));
    let host = forwarded_host(context);
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if options.forwarded {
        headers.insert(FORWARDED, forwarded(context, host));
    }
    headers.append(VIA, options.via.of(context.head.version));
}

/// The hops that a trusted proxy told, and the peer that told them.
pub(super) fn forwarded_for(context: &Context) -> HeaderValue {
    let peer = context.connection.peer_text();
    match &context.forwarded_for {
        None => peer.clone(),
        Some(hops) => {
            let all = [hops.as_bytes(), b", ", peer.as_bytes()].concat();
            HeaderValue::from_maybe_shared(Bytes::from(all)).unwrap_or_else(|_| peer.clone())
        }
    }
}

/// RFC 7239 4: one element for each hop, with the same facts as the `X-Forwarded` family.
pub(super) fn forwarded(context: &Context, host: Option<&HeaderValue>) -> HeaderValue {
    let hops = forwarded_for(context);
    let hops = hops.to_str().unwrap_or("unknown");
    let mut text = String::with_capacity(64);
    let mut elements = hops.split(',').map(str::trim).peekable();
    while let Some(hop) = elements.next() {
        push_node(&mut text, hop);
        if elements.peek().is_some() {
            text.push_str(", ");
        }
    }
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        let _ = write!(text, ";host=\"{host}\"");
    }
    let _ = write!(text, ";proto={}", context.scheme);
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or(HeaderValue::from_static("for=unknown"))
}

/// RFC 7239 6: IPv6 stands in brackets, and a colon needs quotes. What a hop claimed to be is never
/// copied: text that is no address could add parameters of its own.
fn push_node(text: &mut String, hop: &str) {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let _ = match (bare.unwrap_or(hop).parse(), hop.parse::<SocketAddr>()) {
        (Ok(IpAddr::V4(address)), _) => write!(text, "for={address}"),
        (Ok(IpAddr::V6(address)), _) => write!(text, "for=\"[{address}]\""),
        (Err(_), Ok(address)) => write!(text, "for=\"{address}\""),
        (Err(_), Err(_)) => write!(text, "for=unknown"),
    };
}

/// Checks an answer's head and takes out what belongs to the server's connection. Tells the names
/// that the server nominated, for the trailers behind it.
///
/// An answer whose length has two readings is refused: what we made of it might not be what a
/// client or a cache behind us makes of it.
pub(super) fn clean_answer(
    status: StatusCode,
    method: &Method,
    headers: &mut HeaderMap,
    seen: &Seen,
) -> Result<Vec<HeaderName>, UpstreamError> {
    seen.check()
        .map_err(|what| UpstreamError::new(Reason::UpstreamProtocol, Retry::Never).because(what))?;
    if seen.codings > 0 {
        headers.remove(TRANSFER_ENCODING);
    }
    // RFC 9110 8.6: no length in 204; hyper would send it on.
    if seen.lengths > 0 && status == StatusCode::NO_CONTENT && *method != Method::HEAD {
        headers.remove(CONTENT_LENGTH);
    }
    if !seen.connection && !seen.named {
        return Ok(Vec::new());
    }
    Ok(take_hop_by_hop(headers, seen.named))
}

/// What one pass over an answer's fields tells.
#[derive(Default)]
pub(super) struct Seen {
    lengths: u32,
    /// RFC 9112 6.3: even equal values in a list are refused.
    is_number: bool,
    codings: u32,
    /// RFC 9112 6.1: `chunked`, once, and no Content-Length beside it.
    is_chunked: bool,
    connection: bool,
    /// A field of one hop other than `Connection`.
    named: bool,
    /// Over HTTP/1.1 there is no such value: there blanks at its ends are none of it.
    padded: bool,
}

impl Seen {
    /// Of an answer over HTTP/2.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            seen.note(name, value);
            seen.padded |= is_padded(value);
        }
        seen
    }

    /// Whether a length or chunks tell where the body ends.
    pub(super) fn tells_the_end(&self) -> bool {
        self.lengths + self.codings > 0
    }

    /// Looks at one field.
    pub(super) fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        match *name {
            CONTENT_LENGTH => {
                self.lengths += 1;
                self.is_number = is_number(value.as_bytes());
            }
            TRANSFER_ENCODING => {
                self.codings += 1;
                self.is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            CONNECTION => self.connection = true,
            UPGRADE | TE | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION => self.named = true,
            _ => self.named |= *name == KEEP_ALIVE || *name == PROXY_CONNECTION,
        }
    }

    /// Whether the body has one length (RFC 9112 6.3) and every value is whole; what is wrong if not.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        // RFC 9113 8.2.1.
        if self.padded {
            return Err("a field's value has a blank at an end");
        }
        if self.lengths > 1 || (self.lengths == 1 && !self.is_number) {
            return Err("Content-Length is not one number");
        }
        if self.codings > 1 || (self.codings == 1 && !self.is_chunked) {
            return Err("Transfer-Encoding is not just chunked");
        }
        if self.codings > 0 && self.lengths > 0 {
            return Err("Content-Length stands beside Transfer-Encoding");
        }
        Ok(())
    }

    /// Whether there is a `Transfer-Encoding`.
    pub(super) fn has_coding(&self) -> bool {
        self.codings > 0
    }

    /// Whether there is a `Connection`.
    pub(super) fn has_connection(&self) -> bool {
        self.connection
    }
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// How many fields we add ourselves at most.
const ADDED: usize = 10;
