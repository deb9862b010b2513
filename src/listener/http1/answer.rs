//! An answer's head, and its body's framing.

use std::time::SystemTime;

use bytes::Bytes;
use http::{
    StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING},
    response::Parts,
};
use http_body::Body;
use hyper::ext::ReasonPhrase;

use super::{
    date::Date,
    head::{Said, has_member},
};
use crate::exchange::{
    BringsFields,
    http1::{Framing, GATHERED, line, named_trailers, told_length},
};

/// Writes the head of an answer to what was [`Said`]; how its body is framed. Whether the connection
/// persists behind it is for the answer to say too, and is told the client here.
pub(super) fn write<B: Body<Data = Bytes> + BringsFields>(
    out: &mut Vec<u8>,
    said: &mut Said,
    head: &Parts,
    body: &B,
    date: &Date,
) -> Framing {
    out.reserve(room(body));
    status_line(out, head);
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let framing = match switches {
        true => Framing::Empty,
        false => framing(said, head, body),
    };
    let chunked = matches!(framing, Framing::Chunked(_));
    let mut dated = false;
    for (name, value) in &head.headers {
        match *name {
            CONNECTION if !switches => said.persistent &= !has_member(value, "close"),
            // Ours to say, and never said twice.
            CONTENT_LENGTH | TRANSFER_ENCODING => {}
            TRAILER if !chunked => {}
            _ if body.replaces(name) => {}
            _ => {
                dated |= *name == DATE;
                line(out, name, value.as_bytes());
            }
        }
    }
    body.write_fields(out);
    if !switches {
        framing_field(out, said, head, &framing, body);
        said.persistent &= framing != Framing::UntilClose;
        persistence_field(out, said);
    }
    if !dated {
        out.extend_from_slice(b"date: ");
        date.write(out, SystemTime::now());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    framing
}

/// RFC 9112 4. Whatever the client speaks, this is what we do (RFC 9110 6.2).
fn status_line(out: &mut Vec<u8>, head: &Parts) {
    let phrase = head.extensions.get::<ReasonPhrase>();
    if head.status == StatusCode::OK && phrase.is_none() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    let usual = || {
        head.status
            .canonical_reason()
            .unwrap_or_default()
            .as_bytes()
    };
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(phrase.map_or_else(usual, ReasonPhrase::as_bytes));
    out.extend_from_slice(b"\r\n");
}

/// RFC 9112 6.3, from the sender's side.
fn framing<B: Body>(said: &Said, head: &Parts, body: &B) -> Framing {
    if said.head || is_bodiless(head.status) || body.is_end_stream() {
        return Framing::Empty;
    }
    let told = || told_length(&head.headers);
    match body.size_hint().exact().or_else(told) {
        Some(length) => Framing::Length(length),
        None if said.old => Framing::UntilClose,
        None if said.trailers => Framing::Chunked(named_trailers(&head.headers)),
        None => Framing::Chunked(Default::default()),
    }
}

fn framing_field<B: Body>(
    out: &mut Vec<u8>,
    said: &Said,
    head: &Parts,
    framing: &Framing,
    body: &B,
) {
    let length = match framing {
        Framing::Length(length) => Some(*length),
        // RFC 9110 8.6: what a GET would have got, if that is known. Never beside 204; beside 304
        // it would be that of the representation, which we don't have.
        Framing::Empty if is_bodiless(head.status) => None,
        Framing::Empty if said.head => {
            let hint = body.size_hint().exact().filter(|length| *length > 0);
            told_length(&head.headers).or(hint)
        }
        Framing::Empty => Some(0),
        Framing::Chunked(_) => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            None
        }
        Framing::UntilClose => None,
    };
    if let Some(length) = length {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// RFC 9112 9.3 and 9.6.
fn persistence_field(out: &mut Vec<u8>, said: &Said) {
    match (said.persistent, said.old) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, false) => {}
    }
}

fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

/// For the head, and a small body behind it.
fn room<B: Body>(body: &B) -> usize {
    let exact = body.size_hint().exact();
    let exact = exact.and_then(|length| usize::try_from(length).ok());
    HEAD + exact.filter(|length| *length <= GATHERED).unwrap_or(0)
}

/// What most heads fit in.
const HEAD: usize = 512;
