//! An answer as a server sends it: no panic, no byte made up, and the same body in whatever pieces it
//! comes.

#![no_main]

use bytes::BytesMut;
use http::Method;
use libfuzzer_sys::fuzz_target;
use tollgate::{exchange::http1::Decoded, upstream::http1::Head};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = read(bytes, usize::MAX);
    let parts = read(bytes, usize::from(piece).max(1));
    assert_eq!(whole, parts);
    assert!(whole.is_none_or(|body| body.len() <= bytes.len()));
});

/// The body, if there is an answer and it is whole.
fn read(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut pieces = bytes.chunks(piece);
    let mut buffer = BytesMut::new();
    let head = loop {
        match Head::take(&mut buffer).ok()? {
            Some(head) => break head,
            None => buffer.extend_from_slice(pieces.next()?),
        }
    };
    let mut decoder = head.decoder(&Method::GET).ok()?;
    let mut body = Vec::new();
    loop {
        match decoder.decode(&mut buffer).ok()? {
            Decoded::Data(data) => body.extend_from_slice(&data),
            Decoded::Trailers(_) | Decoded::End => return Some(body),
            Decoded::More => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => return decoder.close().is_ok().then_some(body),
            },
        }
    }
}
