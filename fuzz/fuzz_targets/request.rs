//! A request as a client sends it: no panic, no byte made up, and the same body in whatever pieces it
//! comes.

#![no_main]

use bytes::BytesMut;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use tollgate::{
    exchange::http1::Decoded,
    listener::http1::{Head, HeadLimits},
};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = read(bytes, usize::MAX);
    let parts = read(bytes, usize::from(piece).max(1));
    assert_eq!(whole, parts);
    assert!(whole.is_none_or(|body| body.len() <= bytes.len()));
});

/// The body, if there is a request and it is whole.
fn read(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
    let limits = HeadLimits {
        bytes: 64 << 10,
        fields: 100,
    };
    let mut pieces = bytes.chunks(piece);
    let mut buffer = BytesMut::new();
    let mut head = loop {
        match Head::take(&mut buffer, limits, &mut HeaderMap::new()).ok()? {
            Some(head) => break head,
            None => buffer.extend_from_slice(pieces.next()?),
        }
    };
    let mut body = Vec::new();
    loop {
        match head.decoder.decode(&mut buffer).ok()? {
            Decoded::Data(data) => body.extend_from_slice(&data),
            Decoded::Trailers(_) | Decoded::End => return Some(body),
            Decoded::More => buffer.extend_from_slice(pieces.next()?),
        }
    }
}
